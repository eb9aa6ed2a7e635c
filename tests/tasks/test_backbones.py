"""Any timm backbone by name trains, saves and predicts like a FishNet; backbones without a usable pyramid raise."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.tasks.model import ModelSpec
from fishnet.tasks.trunk import Level, Trunk, Wants, build_backbone, pyramid
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import image
from tests.tasks.single import Single

STRIDES = (4, 8, 16, 32)
SIZE = 64
SWIN = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}  # a small one of the usual shape
SMALL: dict[str, dict[str, Any]] = {
    "swin_tiny_patch4_window7_224": {"img_size": SIZE, **SWIN},
    "swinv2_cr_tiny_ns_224": {"img_size": SIZE, **SWIN},
    "hiera_tiny_224": {"img_size": SIZE, "embed_dim": 24, "stages": (1, 1, 1, 1)},
}
CHANNELS = {
    "fishnet99": (320, 832, 1600, 2112),
    "fishnet_nano": (40, 112, 208, 304),
    "resnet18": (64, 128, 256, 512),
    "regnetx_002": (24, 56, 152, 368),
    "mobilenetv3_small_050": (8, 16, 24, 288),
    "convnext_atto": (40, 80, 160, 320),
    "swin_tiny_patch4_window7_224": (24, 48, 96, 192),
    "swinv2_cr_tiny_ns_224": (24, 48, 96, 192),
    "hiera_tiny_224": (24, 48, 96, 192),
    "densenet121": (256, 512, 1024, 1024),
}
TRAINED = [
    "resnet18",
    "regnetx_002",
    "mobilenetv3_small_050",
    "convnext_atto",
    pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
]
CLASSES = Classes.of(("blue", "green", "red"))


def spec_of(name: str, **args: Any) -> ModelSpec:
    return ModelSpec.single("classify", name, CLASSES, backbone_args={**SMALL.get(name, {}), **args})


def backbone(name: str, **args: Any) -> nn.Module:
    return build_backbone(name, Wants(), args={**SMALL.get(name, {}), **args})


def trunk_of(name: str, strides: tuple[int, ...] = STRIDES) -> Trunk:
    return Trunk(backbone(name), Wants(maps=strides)).eval()


# --- image level ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
def test_trained_kept_and_used(name: str, folder: Path, tmp_path: Path, run: Run) -> None:
    flags = fast("--backbone", name, "--size", SIZE, "--batch-size", 24)
    code, _, err = run("train", "classify", folder, "--out", tmp_path / "out", *flags)
    assert code == 0, err
    bundle = read_bundle(tmp_path / "out")
    assert (bundle.backbone, bundle.preprocess.size) == (name, (SIZE, SIZE))
    predictor = fishnet.load(tmp_path / "out", "cpu")
    result: Any = predictor.predict(image("red", 7), k=3)
    assert {row["name"] for row in result.rows()} == set(CLASSES.names)
    code, out, err = run("predict", tmp_path / "out", folder / "red/0.png", "--device", "cpu", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["predictions"]


@pytest.mark.parametrize("name", [*CHANNELS, "vit_tiny_patch16_224"])
def test_the_classifier_is_the_nets_own(name: str) -> None:
    """Features and score layer together compute the network's outputs, whatever the layout of its last map."""
    args = {"img_size": SIZE} if name.startswith("vit") else {}
    model = Single.build(spec_of(name, **args)).eval()
    images = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), model.backbone(images))
        assert model(images).shape == (1, len(CLASSES))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_other_channels(name: str, channels: int) -> None:
    spec = ModelSpec.single("classify", name, CLASSES, channels, backbone_args=SMALL.get(name, {}))
    model = Single.build(spec).eval()
    assert model(torch.zeros(1, channels, SIZE, SIZE)).shape == (1, 3)


# --- pyramids -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CHANNELS)
def test_pyramid(name: str) -> None:
    trunk = trunk_of(name)
    levels = trunk.levels.values()
    assert [(level.stride, level.channels) for level in levels] == list(zip(STRIDES, CHANNELS[name], strict=True))
    with torch.inference_mode():
        features = trunk(torch.randn(2, 3, SIZE, SIZE))
    assert tuple(features.maps) == STRIDES
    shapes = [tuple(level.shape) for level in features.maps.values()]
    assert shapes == [(2, level.channels, SIZE // level.stride, SIZE // level.stride) for level in levels]


@pytest.mark.parametrize("name", ["fishnet_nano", "resnet18", "swin_tiny_patch4_window7_224"])
def test_pyramid_of_some_strides(name: str) -> None:
    whole = trunk_of(name)
    some = Trunk(whole.backbone, Wants(maps=(8, 32))).eval()
    images = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        every = whole(images).maps
        torch.testing.assert_close(some(images).maps, {stride: every[stride] for stride in (8, 32)})


@pytest.mark.parametrize("name", ["fishnet_nano", "swin_tiny_patch4_window7_224"])
def test_the_pyramid_carries_gradients(name: str) -> None:
    trunk = trunk_of(name).train()
    maps = trunk(torch.randn(2, 3, SIZE, SIZE)).maps.values()
    torch.stack([one.mean() for one in maps]).sum().backward()
    gradient = next(trunk.parameters()).grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert gradient.any(), "down to the first layer"


def test_the_deepest_of_equal_strides() -> None:
    class Twice(nn.Module):
        feature_info = (
            {"num_chs": 8, "reduction": 4},
            {"num_chs": 16, "reduction": 4},
            {"num_chs": 32, "reduction": 8},
        )

        def forward_intermediates(self, images: Tensor) -> None: ...

    assert pyramid(Twice(), (4, 8)) == (Level(16, 4, 1), Level(32, 8, 2))


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("vit_tiny_patch16_224", {}, "no features at stride 4, 8, 32, only at 16"),
        ("mixer_s32_224", {}, "no features at stride 4, 8, 16, only at 32"),
        ("pit_ti_224", {}, "no features at stride 4, only at 8, 16, 32"),
        ("fishnet_nano", {"end": "body"}, "no features at stride 8, 16, 32, only at 4"),
        ("sequencer2d_s", {}, "no features at stride 4, 8, 16, 32, only at 7, 14"),
    ],
)
def test_no_usable_pyramid(name: str, args: dict[str, Any], words: str) -> None:
    with torch.device("meta"):
        own = build_backbone(name, Wants(), args=args)
    with pytest.raises(InputError, match=f"^{name} .*{words}.*: choose another backbone, e.g. fishnet99") as caught:
        Trunk(own, Wants(maps=STRIDES))
    assert "\n" not in str(caught.value)


def test_a_net_without_maps_on_its_way() -> None:
    with pytest.raises(InputError, match=r"^Sequential has no feature pyramid \(it has no feature_info\)"):
        Trunk(nn.Sequential(), Wants(maps=STRIDES))
    own = nn.Sequential()
    own.feature_info = [{"num_chs": 8, "reduction": 4}]
    with pytest.raises(InputError, match=r"\(it has no forward_intermediates\)"):
        Trunk(own, Wants(maps=STRIDES))


def test_what_the_refusal_offers_has_a_pyramid() -> None:
    for name in ("fishnet99", "resnet50", "convnext_tiny", "swin_tiny_patch4_window7_224"):
        with torch.device("meta"):
            assert len(pyramid(build_backbone(name, Wants()), STRIDES)) == 4


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in CHANNELS if not name.startswith("fish")])
def test_fish_only_options(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name} does not take end='body'$"):
        backbone(name, end="body")


@pytest.mark.parametrize("name", ["vgg11", "densenet121"])
def test_no_stochastic_depth(name: str, folder: Path, tmp_path: Path, run: Run) -> None:
    with pytest.raises(InputError, match=rf"^{name} does not take drop_path_rate=0\.1$"):
        backbone(name, drop_path_rate=0.1)
    flags = fast("--backbone", name, "--drop-path-rate", 0.1)
    says(run("train", "classify", folder, "--out", tmp_path / "out", *flags), 2, name, "drop_path_rate=0.1")


def test_fish_only_options_on_the_command_line(folder: Path, tmp_path: Path, run: Run) -> None:
    flags = fast("--backbone", "resnet18", "--end", "body")
    says(run("train", "classify", folder, "--out", tmp_path / "out", *flags), 2, "resnet18", "end")
