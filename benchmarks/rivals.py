"""Networks that the benchmarks compare, registered with timm: importing this registers them.

Rivals of matched MACs (at 64 px, within 5 % of the FishNet of the same size) with at least as many parameters:

    resnet_nano, resnet_tiny, resnet_small          pre-activation bottleneck ResNets (He et al. 2016), timm's ResNetV2
    densenet_nano, densenet_tiny, densenet_small    DenseNet-BC (Huang et al. 2017), timm's DenseNet

All have a stem of three 3x3 convolutions and a max-pooling, as FishNet has; the ResNets' stems have its width too, and
their units start as their shortcuts, as those of the small FishNets do.

Variants of fishnet_nano, each with one change, for the ablations: see :data:`VARIANTS`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from timm.models import register_model
from timm.models.densenet import DenseNet
from timm.models.resnetv2 import ResNetV2, create_conv2d
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone import SPECS, FishNet
from fishnet.backbone.blocks import Bridge, NormActConv, RefiningUnit, Stage, resolve_act, resolve_norm

SIZES = ("nano", "tiny", "small")
FAMILIES = ("fishnet", "resnet", "densenet")
# Units of each stage, width of the first stage (that of each next one is double), width of the stem.
RESNETS = {"nano": ((2, 3, 4, 2), 40, 16), "tiny": ((3, 4, 6, 3), 72, 24), "small": ((3, 4, 6, 3), 132, 48)}
# Layers of each block, growth rate.
DENSENETS = {"nano": ((4, 8, 16, 16), 8), "tiny": ((3, 6, 16, 16), 16), "small": ((6, 12, 24, 16), 20)}


def _configuration(name: str, **more: Any) -> dict[str, Any]:
    return {
        "architecture": name, "num_classes": 1000, "input_size": (3, 224, 224), "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225), "interpolation": "bilinear", "crop_pct": 0.875, **more,
    }  # fmt: skip


def _build(build: Callable[..., nn.Module], name: str, options: dict[str, Any], **more: Any) -> nn.Module:
    """Builds a network with the arguments that timm's own entry points take, and the configuration they set."""
    for key in ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "features_only", "out_indices"):
        if options.pop(key, None):
            raise ValueError(f"{name}: {key} is not supported")
    model = build(**options)
    model.pretrained_cfg = model.default_cfg = _configuration(name, **more)  # type: ignore[assignment]
    return model


def _resnet(size: str, options: dict[str, Any]) -> nn.Module:
    layers, width, stem = RESNETS[size]
    return _build(
        lambda **kwargs: ResNetV2(
            layers=list(layers), channels=tuple(width * 2**i for i in range(4)), stem_chs=stem, stem_type="deep",
            norm_layer=BatchNormAct2d, conv_layer=create_conv2d, zero_init_last=True, **kwargs,
        ),
        f"resnet_{size}", options, first_conv="stem.conv1", classifier="head.fc",
    )  # fmt: skip


def _densenet(size: str, options: dict[str, Any]) -> nn.Module:
    blocks, growth = DENSENETS[size]
    return _build(
        lambda **kwargs: DenseNet(growth_rate=growth, block_config=blocks, stem_type="deep", **kwargs),
        f"densenet_{size}", options, first_conv="features.conv0", classifier="classifier",
    )  # fmt: skip


class ThreePooling(Stage):
    """Max-pooling over 3x3 with stride 2 instead of 2x2."""

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """As :meth:`Stage.forward`."""
        assert self.transfer is not None
        assert branch is not None
        pooled = F.max_pool2d(self.refine(x), 3, stride=2, padding=1)
        return torch.cat((pooled, self.transfer(branch)), dim=1)


class AveragePooling(Stage):
    """Average pooling instead of max-pooling."""

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """As :meth:`Stage.forward`."""
        assert self.transfer is not None
        assert branch is not None
        return torch.cat((F.avg_pool2d(self.refine(x), 2), self.transfer(branch)), dim=1)


class Strided(Stage):
    """A 3x3 convolution with stride 2 instead of pooling."""

    down: nn.Module

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """As :meth:`Stage.forward`."""
        assert self.transfer is not None
        assert branch is not None
        return torch.cat((self.down(self.refine(x)), self.transfer(branch)), dim=1)


class Added(Stage):
    """Both inputs changed to the width of their concatenation, and added."""

    trunk_width: nn.Module
    branch_width: nn.Module

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """As :meth:`Stage.forward`."""
        assert self.transfer is not None
        assert branch is not None
        x, branch = self.refine(x), self.branch_width(self.transfer(branch))
        x = F.interpolate(x, size=branch.shape[-2:], mode="nearest") if self.up else F.max_pool2d(x, 2)
        summed: Tensor = self.trunk_width(x) + branch
        return summed


class Ungated(Bridge):
    """The bridge without its channel weights."""

    def forward(self, x: Tensor) -> Tensor:
        """As :meth:`Bridge.forward`."""
        refined: Tensor = self.refine(self.expand(self.squeeze(x)))
        return refined


_NORM, _ACT = resolve_norm("batchnorm2d"), resolve_act("relu")


def _pooled(kind: type[Stage]) -> Callable[[FishNet], None]:
    def change(fish: FishNet) -> None:
        for stage in fish.head:
            stage.__class__ = kind  # type: ignore[assignment]

    return change


def _strided(fish: FishNet) -> None:
    for i, stage in enumerate(fish.head):
        width = fish.spec.channels[7 + i]
        stage.down = nn.Sequential(_NORM(width), _ACT(inplace=True), nn.Conv2d(width, width, 3, 2, 1, bias=False))
        stage.__class__ = Strided  # type: ignore[assignment]


def _added(fish: FishNet) -> None:
    widths = fish.spec.channels
    for i, stage in enumerate((*fish.body, *fish.head)):
        out = widths[5 + i]
        trunk = fish.spec.body[i] if i < 3 else widths[4 + i]
        stage.trunk_width = NormActConv(trunk, out, _NORM, _ACT)  # type: ignore[assignment]
        stage.branch_width = NormActConv(out - trunk, out, _NORM, _ACT)  # type: ignore[assignment]
        stage.__class__ = Added  # type: ignore[assignment]


def _ungated(fish: FishNet) -> None:
    fish.bridge.__class__ = Ungated  # type: ignore[assignment]
    del fish.bridge.gate


def _convolved(fish: FishNet) -> None:
    for unit in fish.modules():
        if isinstance(unit, RefiningUnit) and unit.k > 1:
            unit.shortcut = NormActConv(unit.conv1.in_channels, unit.conv3.out_channels, _NORM, _ACT)
            unit.k = 1


VARIANTS: dict[str, tuple[str, Callable[[FishNet], None] | None, dict[str, Any]]] = {
    "nano": ("fishnet_nano", None, {}),
    "nano_pool3": ("head: max-pooling over 3x3 with stride 2", _pooled(ThreePooling), {}),
    "nano_average": ("head: average pooling", _pooled(AveragePooling), {}),
    "nano_strided": ("head: 3x3 convolution with stride 2", _strided, {}),
    "nano_dilated": ("body: dilations 1, 2, 4, as published", None, {"dilations": (1, 2, 4)}),
    "nano_added": ("body and head: 1x1 convolutions and addition instead of concatenation", _added, {}),
    "nano_ungated": ("bridge without channel weights", _ungated, {}),
    "nano_headless": ("without the fish's head", None, {"end": "body"}),
    "nano_convolved": ("body: 1x1 convolutions instead of r()", _convolved, {}),
}
"""Variants of fishnet_nano by name: what they are, a change of the built network, and other numbers."""


def _variant(name: str, options: dict[str, Any]) -> nn.Module:
    _, change, numbers = VARIANTS[name]
    numbers = dict(numbers)
    end = {"end": numbers.pop("end")} if "end" in numbers else {}

    def build(**kwargs: Any) -> nn.Module:
        fish = FishNet(replace(SPECS["fishnet_nano"], **numbers), **end, **kwargs)
        if change is not None:
            change(fish)
            fish._init_weights(fish.spec.zero_init)  # the new convolutions by the same rule
        return fish

    return _build(build, name, options, first_conv="stem.0.conv", classifier="score.fc")


def _register(name: str, build: Callable[[dict[str, Any]], nn.Module]) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return build({"pretrained": pretrained, **kwargs})

    entry.__name__, entry.__module__ = name, __name__
    globals()[name] = entry  # timm lists it in this module's __all__
    register_model(entry)


for _size in SIZES:
    _register(f"resnet_{_size}", lambda options, size=_size: _resnet(size, options))
    _register(f"densenet_{_size}", lambda options, size=_size: _densenet(size, options))
for _name in VARIANTS:
    _register(_name, lambda options, name=_name: _variant(name, options))
