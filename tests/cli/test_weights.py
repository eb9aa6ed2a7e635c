"""``fishnet weights``: what a file is, and its way to safetensors or to a bundle that predicts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config
from torch import nn

import fishnet
from fishnet.backbone import SPECS, FishNet
from tests.backbone.helpers import MICRO, filled, net
from tests.backbone.layouts import LAYOUTS, State, to_layout
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.makers import image

NAMES = ("ant", "bee", "cat", "dog", "elk")
OTHER = "mobilenetv3_small_050"


@pytest.fixture(scope="session")
def nano() -> FishNet:
    """A registered FishNet of five classes with drawn weights. Not to be changed by a test."""
    return net("fishnet_nano", num_classes=5)


@pytest.fixture(scope="session")
def mobile() -> Any:
    """Another timm network of five classes with drawn weights. Not to be changed by a test."""
    return filled(timm.create_model(OTHER, num_classes=5))


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("".join(f"{name}\n" for name in NAMES) + "\n")
    return path


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Square ones, of a size at which the shorter side's rounding cannot matter."""
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{name}.png" for name in ("red", "green", "blue")]
    for i, path in enumerate(paths):
        image(path.stem, i, (64, 64)).resize((512, 512)).save(path)
    return paths


def saved(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def renamed(state: State) -> State:
    return {f"layer{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(state.items())}


# --- inspect --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inspect(layout: str, nano: FishNet, tmp_path: Path, run: Run) -> None:
    state = to_layout(nano.state_dict(), layout)
    path = saved({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "net.tar")
    code, text, err = run("weights", "inspect", path)
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    parameters = sum(p.numel() for p in nano.parameters()) - (32 if layout == "C" else 0)
    assert rows == {
        "file": f"{path} ({path.stat().st_size:,} bytes)",
        "layout": layout,
        "network": "fishnet_nano",
        "classes": "5",
        "channels": "3",
        "parameters": f"{parameters:,}",
        "tensors": f"{len(state):,}",
    }
    code, text, err = run("weights", "inspect", path, "--json")
    assert (code, err, len(text.splitlines())) == (0, "", 1)
    assert json.loads(text) == {
        "file": str(path), "layout": layout, "variant": "fishnet_nano", "near": None, "num_classes": 5, "in_chans": 3,
        "parameters": parameters, "tensors": len(state), "not_finite": 0,
    }  # fmt: skip


def test_inspect_what_is_no_fishnet(mobile: Any, tmp_path: Path, run: Run) -> None:
    path = saved(mobile.state_dict(), tmp_path / "mobile.pth")
    code, text, _ = run("weights", "inspect", path)
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert rows["network"] == "no FishNet of a known layout"
    assert (rows["layout"], rows["classes"], rows["channels"]) == ("unknown", "unknown", "unknown")
    assert rows["parameters"] == f"{sum(p.numel() for p in mobile.parameters()):,}"
    values = json.loads(run("weights", "inspect", path, "--json")[1])
    assert (values["layout"], values["variant"], values["num_classes"]) == ("unknown", None, None)


def test_inspect_a_damaged_one(nano: FishNet, tmp_path: Path, run: Run) -> None:
    state = dict(nano.state_dict())
    del state["bridge.gate.fc1.bias"]
    path = saved(to_layout(state, "B"), tmp_path / "damaged.pth")
    assert "fishnet_nano but for 1 missing (bridge.gate.fc1.bias)" in run("weights", "inspect", path)[1]


def test_inspect_without_a_classifier(tmp_path: Path, run: Run) -> None:
    path = saved(FishNet(SPECS["fishnet_nano"], num_classes=0, end="body").state_dict(), tmp_path / "trunk.pth")
    text = run("weights", "inspect", path)[1]
    assert "none: it has no classifier" in text
    assert "fishnet_nano" in text


# --- to safetensors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convert(layout: str, nano: FishNet, tmp_path: Path, run: Run) -> None:
    path = saved({"model": to_layout(nano.state_dict(), layout)}, tmp_path / "net.pth")
    out = tmp_path / "new" / "net.safetensors"
    code, text, err = run("weights", "convert", path, out)
    assert (code, err) == (0, "")
    assert text.startswith(f"{out}: fishnet_nano in layout native, 5 classes, 3 input channels, ")
    state = load_file(out)
    model = FishNet(SPECS["fishnet_nano"], num_classes=5)
    assert state.keys() == model.state_dict().keys()
    nn.Module.load_state_dict(model, state, strict=True)
    for key, value in nano.state_dict().items():
        if layout != "C" or not key.startswith("tail.0.refine.0.shortcut.norm"):
            assert torch.equal(state[key], value), key
    assert [file.name for file in out.parent.iterdir()] == [out.name], "nothing half-written stays"
    again = run("weights", "inspect", out, "--json")[1]
    assert json.loads(again)["layout"] == "native"


@pytest.mark.parametrize("kwargs", [{"end": "body"}, {"num_classes": 0}, {"in_chans": 4}], ids=str)
def test_convert_takes_every_form_of_a_registered_net(kwargs: dict[str, Any], tmp_path: Path, run: Run) -> None:
    model = FishNet(SPECS["fishnet_nano"], **{"num_classes": 5, **kwargs})
    path, out = saved(model.state_dict(), tmp_path / "net.pth"), tmp_path / "net.safetensors"
    code, _, err = run("weights", "convert", path, out)
    assert code == 0, err
    state = load_file(out)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_convert_overwrites_only_when_told(nano: FishNet, tmp_path: Path, run: Run) -> None:
    path, out = saved(nano.state_dict(), tmp_path / "net.pth"), tmp_path / "net.safetensors"
    out.write_text("precious")
    says(run("weights", "convert", path, out), 2, "net.safetensors", "already exists", "--force")
    assert out.read_text() == "precious"
    assert run("weights", "convert", path, out, "--force")[0] == 0
    assert len(load_file(out)) == len(nano.state_dict())
    assert run("weights", "convert", out, out, "--force")[0] == 0, "even onto itself"
    assert torch.equal(load_file(out)["score.fc.weight"], nano.state_dict()["score.fc.weight"])


def _lose_one(state: State) -> State:
    return {key: value for key, value in state.items() if key != "score.fc.bias"}


def _lose_one_inside(state: State) -> State:
    return {key: value for key, value in state.items() if key != "stem.1.norm.bias"}


def _under_a_task(state: State) -> State:
    return {f"trunk.{key}": value for key, value in state.items()} | {"neck.weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_lose_one, ("does not fit", "1 missing (score.fc.bias)")),
        (_lose_one_inside, ("incomplete", "fishnet_nano but for 1 missing (stem.1.norm.bias)")),
        (lambda s: s | {"more": torch.zeros(1)}, ("incomplete", "1 unexpected (more)")),
        (lambda _: net(MICRO).state_dict(), ("no registered network", "no registered variant")),
        (_under_a_task, ("holds a model with a task head", "as weights")),
        (lambda _: nn.Linear(2, 2).state_dict(), ("no FishNet of a known layout", "--backbone NAME --bundle DIR")),
    ],
)
def test_convert_writes_whole_nets_only(
    make: Callable[[State], State], words: tuple[str, ...], nano: FishNet, tmp_path: Path, run: Run
) -> None:
    path = saved(make(dict(nano.state_dict())), tmp_path / "net.pth")
    says(run("weights", "convert", path, tmp_path / "out.safetensors"), 2, "net.pth", *words)
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


# --- to a bundle ----------------------------------------------------------------------------------------------------


def scores(text: str) -> dict[str, dict[str, float]]:
    """Printed JSON lines -> {file: {class: score}}."""
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["source"]: {p["name"]: p["score"] for p in row["predictions"]} for row in rows}


@torch.no_grad()
def wanted_scores(model: Any, paths: list[Path], names: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """timm's model under timm's own transform."""
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    batch = torch.stack([transform(Image.open(path)) for path in paths])
    found = model.eval()(batch).softmax(1).tolist()
    return {str(path): dict(zip(names, row, strict=True)) for path, row in zip(paths, found, strict=True)}


@pytest.mark.parametrize("by_order", [False, True])
def test_bundle_of_another_network(
    by_order: bool, mobile: Any, classes: Path, images: list[Path], tmp_path: Path, run: Run
) -> None:
    state = mobile.state_dict()
    path = saved(renamed(state) if by_order else {"state_dict": state}, tmp_path / "mobile.pth")
    out = tmp_path / "bundle"
    command = ["weights", "convert", path, "--backbone", OTHER, "--bundle", out, "--classes", classes]
    code, text, err = run(*command, *(["--by-order"] if by_order else []))
    assert (code, err) == (0, "")
    assert text == f"bundle: {out} ({OTHER} at 224x224 px, 5 classes, first 'ant')\n"

    wanted = wanted_scores(mobile, images, NAMES)
    found = scores(run("predict", out, *images, "--json")[1])
    predictor = fishnet.load(out)
    for path in map(str, images):
        # Scores are printed with six digits; float32 batches of other sizes may differ in the seventh.
        assert found[path] == pytest.approx(wanted[path], abs=5e-6)
        result = predictor.predict(path).to_dict()["predictions"]
        assert {p["name"]: p["score"] for p in result} == pytest.approx(wanted[path], abs=5e-6)
    spread = [max(row.values()) - min(row.values()) for row in wanted.values()]
    assert min(spread) > 1e-3, "scores that say nothing would agree by chance"


def test_bundle_with_imagenet_names(tmp_path: Path, images: list[Path], run: Run) -> None:
    path = saved(filled(timm.create_model(OTHER)).state_dict(), tmp_path / "mobile.pth")
    out = tmp_path / "bundle"
    assert run("weights", "convert", path, "--backbone", OTHER, "--bundle", out)[0] == 0
    table = json.loads((out / "config.json").read_text())["heads"]["classify"]["classes"]
    assert [table[i]["name"] for i in (0, 1, 207, 999)] == ["tench", "goldfish", "golden retriever", "toilet tissue"]
    assert [row["id"] for row in table] == list(range(1000))
    cranes = [row["name"] for row in table if row["name"].startswith("crane")]
    assert len(set(cranes)) == 2, "a bird and a machine"
    assert run("predict", out, images[0])[0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bundle_of_a_fishnet_needs_no_name(
    layout: str, nano: FishNet, classes: Path, images: list[Path], tmp_path: Path, run: Run
) -> None:
    state = to_layout(nano.state_dict(), layout)
    path, out = saved(state, tmp_path / "net.tar"), tmp_path / "bundle"
    code, _, err = run("weights", "convert", path, "--bundle", out, "--classes", classes)
    assert code == 0, err
    model = timm.create_model("fishnet_nano", num_classes=5)
    model.load_state_dict(state)
    wanted = wanted_scores(model, images, NAMES)
    found = scores(run("predict", out, *images, "--json")[1])
    for path in map(str, images):
        assert found[path] == pytest.approx(wanted[path], abs=5e-6)


def test_bundle_of_a_trunk_that_ends_with_the_body(classes: Path, images: list[Path], tmp_path: Path, run: Run) -> None:
    model = net("fishnet_nano", num_classes=5, end="body", in_chans=1)
    path, out = saved(model.state_dict(), tmp_path / "net.pth"), tmp_path / "bundle"
    code, _, err = run("weights", "convert", path, "--bundle", out, "--classes", classes)
    assert code == 0, err
    config = json.loads((out / "config.json").read_text())
    assert config["backbone_args"] == {"end": "body"}
    assert len(config["preprocess"]["mean"]) == 1, "one channel, from the file"
    assert scores(run("predict", out, images[0], "--json")[1])[str(images[0])].keys() == set(NAMES)


def test_preprocessing_can_be_said(mobile: Any, classes: Path, tmp_path: Path, run: Run) -> None:
    path, out = saved(mobile.state_dict(), tmp_path / "mobile.pth"), tmp_path / "bundle"
    command = ["weights", "convert", path, "--backbone", OTHER, "--bundle", out, "--classes", classes]
    said = ["--mean", 0.5, "--std", 0.2, 0.3, 0.4, "--size", 160, "--crop-pct", 1, "--interpolation", "lanczos"]
    assert run(*command, *said)[0] == 0
    found = json.loads((out / "config.json").read_text())["preprocess"]
    assert found == {
        "size": [160, 160], "crop_pct": 1.0, "interpolation": "lanczos", "mean": [0.5] * 3, "std": [0.2, 0.3, 0.4],
        "fit": "crop", "sixteen_bit": "shift",
    }  # fmt: skip
    says(run(*command), 2, "config.json", "already exists", "--force")
    assert run(*command, "--force")[0] == 0
    found = json.loads((out / "config.json").read_text())["preprocess"]
    assert found["mean"] == list(mobile.pretrained_cfg["mean"])
    assert found["size"] == [224, 224]
    assert {key: found[key] for key in ("crop_pct", "interpolation")} == {
        key: mobile.pretrained_cfg[key] for key in ("crop_pct", "interpolation")
    }


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--backbone", OTHER], ("no class names for 5 outputs", "--classes FILE")),
        (["--backbone", OTHER, "--classes", "four.txt"], ("5 outputs but 4 class names",)),
        (["--backbone", OTHER, "--classes", "twice.txt"], ("not unique", "ant")),
        (["--backbone", OTHER, "--classes", "empty.txt"], ("empty.txt", "no class names")),
        (["--backbone", OTHER, "--classes", "nowhere.txt"], ("nowhere.txt", "cannot read")),
        (["--classes", "five.txt"], ("mobile.pth", "no FishNet of a known layout", "--backbone NAME")),
        (["--backbone", "mobilenetv3_smal_050", "--classes", "five.txt"], ("unknown backbone", OTHER)),
        (["--backbone", "resnet18", "--classes", "five.txt"], ("no classifier of resnet18",)),
        (["--backbone", "mobilenetv3_small_075", "--classes", "five.txt"], ("does not fit", "misshapen")),
        (["--backbone", "resnet18", "--by-order", "--classes", "five.txt"], ("cannot match by order",)),
        (["--backbone", OTHER, "--classes", "five.txt", "--size", 8], ("size=8",)),
        (["--backbone", OTHER, "--classes", "five.txt", "--mean", 0.5, 0.5], ("mean", "2 values for 3 channels")),
        (["--backbone", OTHER, "--classes", "five.txt", "--mean"], ("mean", "0 values for 3 channels")),
        (["--backbone", OTHER, "--classes", "five.txt", "--std", 0], ("std=0", "more than 0")),
        (["--backbone", OTHER, "--classes", "five.txt", "--crop-pct", 0], ("crop_pct", "from 0.01 to 1", "not 0")),
        (["--backbone", OTHER, "--classes", "five.txt", "--interpolation", "cubist"], ("cubist", "bicubic")),
    ],
    ids=lambda value: "_".join(map(str, value))[11:60] if isinstance(value, list) else "",
)
def test_bad_input_of_bundles(
    more: list[str], words: tuple[str, ...], mobile: Any, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(mobile.state_dict(), Path("mobile.pth"))
    Path("five.txt").write_text("\n".join(NAMES))
    Path("four.txt").write_text("\n".join(NAMES[:4]))
    Path("twice.txt").write_text("\n".join([*NAMES[:4], "ant"]))
    Path("empty.txt").write_text("\n\n")
    says(run("weights", "convert", "mobile.pth", "--bundle", "out", *more), 2, *words)
    assert not Path("out").exists()


def test_a_fixed_input_size_stays(classes: Path, tmp_path: Path, run: Run) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=5)
    path = saved(vit.state_dict(), tmp_path / "vit.pth")
    command = ["weights", "convert", path, "--backbone", "vit_tiny_patch16_224", "--bundle", tmp_path / "out"]
    says(run(*command, "--classes", classes, "--size", 96), 2, "size=96", "only 224 px")
    assert run(*command, "--classes", classes, "--size", 224)[0] == 0


def test_what_images_cannot_be(classes: Path, tmp_path: Path, run: Run) -> None:
    path = saved(FishNet(SPECS["fishnet_nano"], num_classes=5, in_chans=4).state_dict(), tmp_path / "four.pth")
    says(run("weights", "convert", path, "--bundle", tmp_path / "out", "--classes", classes), 2, "4 input channels")
    path = saved(FishNet(SPECS["fishnet_nano"], num_classes=0).state_dict(), tmp_path / "none.pth")
    says(run("weights", "convert", path, "--bundle", tmp_path / "out", "--classes", classes), 2, "no classifier")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nowhere.pth"], ("nowhere.pth", "no such checkpoint file")),
        (["inspect", "."], ("is a folder",)),
        (["inspect", "text.pth"], ("text.pth", "not a readable checkpoint")),
        (["inspect", "model.pth"], ("model.pth", "refused", "more than tensors")),
        (["inspect", "twice.pth"], ("twice.pth", "are both the tensor")),
        (["convert", "nowhere.pth", "out.safetensors"], ("nowhere.pth", "no such checkpoint file")),
        (["convert", "nowhere.pth", "--bundle", "out"], ("nowhere.pth", "no such checkpoint file")),
        (["convert", "net.pth", "out.pth"], ("out.pth", "must end in .safetensors")),
        (["convert", "net.pth"], ("OUT.safetensors", "--bundle DIR")),
        (["convert", "net.pth", "out.safetensors", "--bundle", "out"], ("OUT.safetensors", "--bundle DIR")),
        (["convert", "net.pth", "out.safetensors", "--size", "64"], ("--size is only for --bundle DIR",)),
        (["convert", "net.pth", "out.safetensors", "--by-order"], ("--by-order is only for --bundle DIR",)),
        (["convert", "net.pth", "out.safetensors", "--crop-pct", "1"], ("--crop-pct is only for --bundle DIR",)),
        (["convert", "net.safetensors", "--bundle", "out", "--by-order"], ("net.safetensors", "order of layers")),
        (["convert", "twice.pth", "out.safetensors"], ("twice.pth", "are both the tensor")),
    ],
    ids=lambda value: "_".join(value)[:50] if isinstance(value, list) else "",
)
def test_bad_input(
    arguments: list[str], words: tuple[str, ...], nano: FishNet, tmp_path: Path, run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    state = nano.state_dict()
    saved(state, Path("net.pth"))
    save_file(state, Path("net.safetensors"))
    saved({**to_layout(state, "A"), "score.fc.bias": torch.zeros(5)}, Path("twice.pth"))
    saved(nano, Path("model.pth"))
    Path("text.pth").write_text("these are no weights")
    before = sorted(Path().iterdir())
    says(run("weights", *arguments), 2, *words)
    assert sorted(Path().iterdir()) == before


def test_a_bundle_s_own_weights_are_no_checkpoint_to_convert(bundle: Path, tmp_path: Path, run: Run) -> None:
    """Without its config they would get other preprocessing, and predict something else."""
    (tmp_path / "names.txt").write_text("blue\ngreen\nred\n")
    weights, classes = bundle / "model.safetensors", tmp_path / "names.txt"
    says(run("weights", "convert", weights, "--bundle", tmp_path / "b", "--classes", classes), 2, "is already a bundle")
    assert not (tmp_path / "b").exists()
