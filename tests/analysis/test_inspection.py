"""``fishnet inspect``: stages, isolated convolutions, gradients and activations."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fishnet.analysis.inspection.gradients import gradient_flow
from fishnet.analysis.inspection.isolated import find_isolated
from fishnet.analysis.inspection.stages import SCORE, count_stages, walk
from fishnet.analysis.inspection.subject import open_subject
from fishnet.analysis.profile import cost
from fishnet.backbone.registry import create_model
from fishnet.cli import main
from tests.conftest import Run, fast
from tests.detection_makers import coco_folder


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1)


class Sum(nn.Module):
    """A residual unit, with a projection where the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv(inputs, 4), nn.ReLU(), conv(4, 4), nn.ReLU(), conv(4, outputs))
        self.projection = conv(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.projection(x)
        return projected + self.branch(x)


class Concatenated(nn.Module):
    """A layer whose output is its input and something new."""

    def __init__(self, inputs: int, new: int) -> None:
        super().__init__()
        self.new = conv(inputs, new)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], 1)


class Tied(nn.Module):
    """Two ways of two and three convolutions, and none without."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8))
        self.long = nn.Sequential(conv(8, 8), conv(8, 8), conv(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.short(x) * torch.sigmoid(self.long(x))
        return x


class Parallel(nn.Module):
    """Two paths of one convolution each: neither has a detour without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(8, 8), nn.Sequential(conv(8, 8), conv(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        first: Tensor = self.first(x)
        return first + self.second(x)


class Network(nn.Module):
    """A stem, one stage and a linear layer."""

    def __init__(self, stage: nn.Module, width: int) -> None:
        super().__init__()
        self.stem, self.stage = conv(3, 8), stage
        self.fc = nn.Linear(width, 5)
        self.feature_info = [{"module": "stem", "num_chs": 8}, {"module": "stage", "num_chs": width}]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage(self.stem(x)).mean((2, 3))
        scores: Tensor = self.fc(x)
        return scores


@pytest.mark.parametrize(
    ("stage", "width", "isolated"),
    [
        (nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8)), 8, ["stage.0", "stage.2"]),
        (Sum(8, 8), 8, []),
        (Sum(8, 12), 12, ["stage.projection"]),
        (Concatenated(8, 4), 12, []),
        (nn.Sequential(Concatenated(8, 4), conv(12, 6), Sum(6, 6)), 6, ["stage.1"]),
        (Tied(), 8, ["stage.short.0", "stage.short.2"]),
        (Parallel(), 8, ["stage.first"]),
    ],
)
def test_isolated_convolutions_of_a_graph_made_by_hand(stage: nn.Module, width: int, isolated: list[str]) -> None:
    rows = find_isolated(Network(stage, width), (3, 8, 8))
    assert [row.stage for row in rows] == ["stem", "stage", SCORE]
    assert [list(row.isolated) for row in rows] == [["stem"], isolated, ["fc"]]
    assert [row.min_convolutions_to_score for row in rows] == [len(isolated), 0, None]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fishnet_nano", {"stem": 3, "tail": 3, "bridge": 3, "body": 0, "head": 0, "score": 2}),
        ("fishnet99", {"stem": 3, "tail": 3, "bridge": 3, "body": 0, "head": 0, "score": 2}),
        ("resnet50", {"act1": 1, "layer1": 1, "layer2": 1, "layer3": 1, "layer4": 1, "score": 1}),
        ("densenet121", {"features": 4, "score": 1}),  # three transitions, and the stem's
    ],
)
def test_isolated_convolutions_of_known_networks(name: str, expected: dict[str, int]) -> None:
    counts: dict[str, int] = {}
    for row in find_isolated(create_model(name), (3, 64, 64)):
        part = row.stage.partition(".")[0]
        counts[part] = counts.get(part, 0) + len(row.isolated)
    assert counts == expected


def test_the_gradient_reaches_all_stages_of_a_fish_but_the_bridge_past_no_convolution() -> None:
    rows = find_isolated(create_model("fishnet_nano"), (3, 64, 64))
    far = {row.stage: row.min_convolutions_to_score for row in rows if row.min_convolutions_to_score}
    assert far == {"tail.2": 3}


@pytest.mark.parametrize(
    "name", ["fishnet_nano", "resnet18", "vit_tiny_patch16_224", "convnext_atto", "hrnet_w18_small", "tresnet_m"]
)
def test_the_costs_of_stages_add_up(name: str) -> None:
    """hrnet's stages are lists of branches that never run as a module; tresnet lists a module without a name."""
    stages = count_stages(create_model(name), (3, 224, 224))
    whole = cost(create_model(name))
    assert sum(stage.parameters for stage in stages) == whole.parameters
    assert sum(stage.macs for stage in stages) == whole.macs
    assert all(stage.shape and stage.name for stage in stages)
    assert min(min(stage.macs, stage.activation_bytes) for stage in stages) >= 0
    assert stages[-1].shape == (1000,)


def kept_on_the_cpu(network: nn.Module, batch: int) -> int:
    """What a forward pass in training really keeps besides parameters and buffers, in bytes."""
    own = {tensor.data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(torch.randn(batch, 3, 64, 64))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("name", ["fishnet_nano", "vgg11_bn", "mixer_s32_224", "nf_regnet_b0"])
def test_activation_memory_is_that_of_a_real_pass(name: str) -> None:
    """Of convolutions, linear layers (whose weights are transposed), and standardised weights, which one pass keeps."""
    more = {"img_size": 64} if name.startswith("mixer") else {}
    network = create_model(name, num_classes=10, **more)
    real = kept_on_the_cpu(network, 3) - kept_on_the_cpu(network, 2)
    counted = sum(stage.activation_bytes for stage in count_stages(network, (3, 64, 64)))
    assert counted == pytest.approx(real, rel=0.02), "kernels keep some small tensors on one device only"


def test_a_walk_follows_the_last_pass_only() -> None:
    network = create_model("resnet18").eval()
    steps = walk(network)
    with steps.follow(network), torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
        network(torch.zeros(2, 3, 32, 32))
    assert steps.outputs["layer4"].shape == (2, 512, 1, 1)
    assert steps.stage == SCORE
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


@pytest.fixture(scope="module")
def inspected(bundle: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A network and a bundle, inspected with data and an image."""
    out, printed = tmp_path_factory.mktemp("inspect") / "out", io.StringIO()
    photo = min(folder.rglob("*.png"))
    words = ["fishnet_nano", bundle, "--data", folder, "--image", photo, "--size", 64, "--batches", 2]
    with contextlib.redirect_stdout(printed):
        assert main(["inspect", *map(str, [*words, "--batch-size", 6, "--out", out, "--json"])]) == 0
    return json.loads(printed.getvalue()), out


def test_gradients_of_a_network_and_a_bundle(inspected: tuple[dict[str, Any], Path]) -> None:
    network, trained = inspected[0]["models"]
    assert (network["trained"], trained["trained"]) == (False, True)
    for facts in (network, trained):
        assert facts["images"] == 12
        gradients = [row["gradient"] for row in facts["stages"] if "gradient" in row]
        assert len(gradients) == 11
        assert all(value > 0 for value in gradients)
    zeros = [name for name, value in network["weight_gradients"].items() if value == 0]
    assert zeros, "units start as their shortcuts, so that their first convolutions have no gradient"
    assert not [name for name, value in trained["weight_gradients"].items() if value == 0]


def test_images_of_gradients_and_activations(inspected: tuple[dict[str, Any], Path], folder: Path) -> None:
    facts, out = inspected
    assert facts["files"] == [str(out / name) for name in ("gradients.png", "activations-1.png", "activations-2.png")]
    for name in facts["files"]:
        with Image.open(name) as image:
            assert image.width > 400
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 50
    network, trained = facts["models"]
    photo = min(folder.rglob("*.png"))
    assert trained["predicted"]["class"] == photo.parent.name
    assert "untrained" in network["predicted"]["class"]
    assert set(trained["strongest_channels"]) == {row["stage"] for row in trained["stages"]} - {SCORE}
    strengths = [row["rms"] for row in trained["strongest_channels"]["head.2"]]
    assert strengths == sorted(strengths, reverse=True)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "resnet10t"])
def test_activations_of_other_networks(run: Run, folder: Path, tmp_path: Path, name: str) -> None:
    """Maps with the channels last, rows of tokens, which are no maps, and ordinary maps."""
    photo = min(folder.rglob("*.png"))
    code, out, _ = run("inspect", name, "--size", 64, "--image", photo, "--out", tmp_path / "out", "--json")
    assert code == 0
    facts = json.loads(out)["models"][0]
    assert len(facts["strongest_channels"]) == {"swin": 4, "vit_": 0, "resn": 5}[name[:4]]
    assert "untrained" in facts["predicted"]["class"]
    assert (tmp_path / "out" / "activations.png").is_file()


def test_a_size_is_that_of_the_image_too(run: Run, bundle: Path, folder: Path, tmp_path: Path) -> None:
    subject = open_subject(str(bundle), 96)
    assert (subject.shape, subject.preprocess.size) == ((3, 96, 96), (96, 96))


def test_data_of_other_classes_than_a_bundle_s(run: Run, bundle: Path, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for number, source in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        shutil.copytree(source, other / f"kind{number}")
    code, _, err = run("inspect", bundle, "--data", other, "--batch-size", 4, "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "has other classes" in err


def test_the_total_counts_each_convolution_once(run: Run) -> None:
    """xception's listed stages do not lie on one path, so some of their convolutions are the same."""
    code, out, _ = run("inspect", "xception41", "--json")
    facts = json.loads(out)["models"][0]
    assert code == 0
    inner = [name for row in facts["stages"][1:-1] for name in row["isolated"]]
    assert facts["isolated"] == len(set(inner))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the name of a network or a bundle"),
        (["fishnet_nanoo"], "unknown backbone 'fishnet_nanoo'"),
        (["resnet18.none"], "resnet18.none"),
        ([""], "give the name of a network or a bundle"),
        (["crossvit_tiny_240"], "cannot be inspected at 224 x 224 px"),
        (["fishnet_nano", "--size", 8], "size=8: must be 32 or more"),
        (["fishnet_nano", "--batches", 0], "batches=0: must be 1 or more"),
        (["fishnet_nano", "--image", "none.png"], "none.png: no such file"),
        (["fishnet_nano", "--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(run: Run, tmp_path: Path, words: list[Any], message: str) -> None:
    code, _, err = run("inspect", *words, "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not list(tmp_path.glob("out/*"))


def test_gradients_of_a_detector_reach_the_whole_pyramid(run: Run, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=6, val=2)
    words = ["--head", "retinanet", "--epochs", 1, "--batch-size", 2, "--fpn-channels", 32, "--out", tmp_path / "run"]
    assert run("train", "detect", data, *fast(*words))[0] == 0
    flow = gradient_flow(open_subject(str(tmp_path / "run")), str(data), batches=2, batch_size=2)
    assert flow.images == 4
    assert list(flow.stages)[-4:] == ["body.2", "head.0", "head.1", "head.2"]
    assert all(value > 0 for value in flow.stages.values())


def test_models_of_several_heads_have_costs_but_no_gradients(run: Run) -> None:
    model = Path(__file__).parents[1] / "bundles" / "schema-4"
    code, out, _ = run("inspect", model, "--json")
    assert code == 0
    assert json.loads(out)["models"][0]["stages"][0]["stage"] == "stem"
    code, _, err = run("inspect", model, "--data", ".")
    assert (code, err.count("\n")) == (2, 1)
    assert "has several heads" in err
