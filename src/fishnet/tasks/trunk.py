"""The trunk: a timm network, pruned once to the feature maps that its heads want, and run once for all heads."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.registry import create_model
from fishnet.backbone.spec import EDGE, STAGES, STRIDES
from fishnet.errors import InputError
from fishnet.images.preprocess import padded

MapName = int | str
"""A feature map: its stride, or the name of one of FishNet's stages (``body.2``)."""

_OTHERS = "choose another backbone, e.g. fishnet99, resnet50, convnext_tiny, swin_tiny_patch4_window7_224"


@dataclass(frozen=True)
class Wants:
    """What a head needs from its trunk.

    Attributes:
        maps: feature maps by stride, or by the name of one of FishNet's stages.
        scores: number of outputs of the backbone's own score layer; 0 if the head does not use it.
        padding: whether images are padded to multiples of 32 px (at least 64) before the trunk.
        output_stride: stride of the backbone's last stage, where the backbone supports it; None for its default.
    """

    maps: tuple[MapName, ...] = ()
    scores: int = 0
    padding: bool = False
    output_stride: int | None = None

    @classmethod
    def union(cls, wants: Iterable["Wants"]) -> "Wants":
        """The wants of several heads of one trunk.

        The trunk keeps its default output stride unless all heads want the same other one.

        Raises:
            InputError: two heads want score layers of different sizes.
        """
        all_wants = list(wants)
        scores = {want.scores for want in all_wants if want.scores}
        if len(scores) > 1:
            raise InputError(
                f"heads with {' and '.join(map(str, sorted(scores)))} classes cannot share the backbone's score layer"
            )
        strides = {want.output_stride for want in all_wants}
        return cls(
            maps=tuple(dict.fromkeys(name for want in all_wants for name in want.maps)),
            scores=max(scores, default=0),
            padding=any(want.padding for want in all_wants),
            output_stride=strides.pop() if len(strides) == 1 else None,
        )


@dataclass(frozen=True)
class Level:
    """What a decoder must know about a feature map.

    Attributes:
        channels: number of channels of the map.
        stride: input px per px of the map.
        index: the map's index in the backbone's ``feature_info``.
    """

    channels: int
    stride: int
    index: int


@dataclass(frozen=True)
class Features:
    """A trunk's outputs for its heads.

    Attributes:
        maps: (batch, channels, height, width) each, by the names in the heads' wants.
        size: height and width of the images, px.
        padded_size: height and width of the backbone's input, px.
        last: input of the backbone's own score layer; None where no head wants scores.
        score: the backbone's pooling and score layer, called with ``last``.
    """

    maps: Mapping[MapName, Tensor] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    padded_size: tuple[int, int] = (0, 0)
    last: Tensor | None = None
    score: Callable[..., Tensor] | None = None

    def take(self, indices: Sequence[int]) -> "Features":
        """The features of some of the batch's images; without a copy if these are all images in order."""
        tensors = [*self.maps.values(), *(() if self.last is None else (self.last,))]
        if tensors and list(indices) == list(range(len(tensors[0]))):
            return self
        maps = {name: value[indices] for name, value in self.maps.items()}
        return replace(self, maps=maps, last=None if self.last is None else self.last[indices])

    def logits(self) -> Tensor:
        """(batch, scores) logits of the backbone's own score layer."""
        assert self.last is not None
        assert self.score is not None
        return self.score(self.last)

    def pooled(self) -> Tensor:
        """(batch, dims): the input of the backbone's last linear layer."""
        assert self.last is not None
        assert self.score is not None
        return self.score(self.last, pre_logits=True).flatten(1)


def build_backbone(
    name: str,
    wants: Wants,
    *,
    channels: int = 3,
    args: Mapping[str, Any] | None = None,
    pretrained: bool = False,
) -> nn.Module:
    """Builds a backbone for the wants of its heads.

    Args:
        name: a timm model name.
        wants: the wants of all heads.
        channels: number of input channels.
        args: keyword arguments of the backbone.
        pretrained: start from published weights.

    Raises:
        InputError: see :func:`~fishnet.backbone.registry.create_model`; or an argument that the backbone does not have.
    """
    args = dict(args or {})
    if wants.output_stride is not None:
        try:
            return build_backbone(
                name,
                replace(wants, output_stride=None),
                channels=channels,
                args={**args, "output_stride": wants.output_stride},
                pretrained=pretrained,
            )
        except (InputError, AssertionError, NotImplementedError):
            pass  # this backbone does not support it and keeps its own stride
    try:
        return create_model(name, pretrained, num_classes=wants.scores, in_chans=channels, **args)
    except TypeError as error:
        wrong = [f"{key}={value!r}" for key, value in args.items() if f"'{key}'" in str(error)]
        what = ", ".join(wrong) or f"these options: {error}"
        raise InputError(f"{name} does not take {what}") from error


class Trunk(nn.Module):
    """A backbone and the feature maps that heads want from it.

    Layers that no wanted map needs are pruned when the trunk is built.

    Args:
        backbone: any timm network.
        wants: the wants of all heads; see :meth:`Wants.union`.

    Attributes:
        levels: the wanted maps, by name.

    Raises:
        InputError: a backbone without one of the maps.
    """

    def __init__(self, backbone: nn.Module, wants: Wants) -> None:
        super().__init__()
        self.wants = wants
        self.levels: dict[MapName, Level] = _levels(backbone, wants.maps)
        if self.levels and not wants.scores and hasattr(backbone, "prune_intermediate_layers"):
            indices: Any = sorted({level.index for level in self.levels.values()})
            backbone.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)  # type: ignore[operator]
        self.backbone = backbone

    def forward(self, images: Tensor) -> Features:
        """(batch, channels, height, width), normalized -> the wanted features."""
        height, width = images.shape[-2:]
        if self.wants.padding:
            right, below = padded(width) - width, padded(height) - height
            if (padded(height), padded(width)) != (height, width):
                images = F.pad(images, (0, right, 0, below))
        maps, last = self._run(images)
        score: Any = self.backbone.forward_head if self.wants.scores else None
        return Features(maps, (height, width), (images.shape[-2], images.shape[-1]), last, score)

    def _run(self, images: Tensor) -> tuple[dict[MapName, Tensor], Tensor | None]:
        """The wanted maps and, for a score layer, the last map, from one forward pass."""
        if not self.levels:
            return {}, self.backbone.forward_features(images)  # type: ignore[operator]
        if isinstance(self.backbone, FishNet):
            return self._run_fish(self.backbone, images)
        indices = sorted({level.index for level in self.levels.values()})
        last, maps = None, None
        if self.wants.scores:
            last, maps = self.backbone.forward_intermediates(images, indices=indices, output_fmt="NCHW")  # type: ignore[operator]
        else:
            maps = self.backbone.forward_intermediates(  # type: ignore[operator]
                images, indices=indices, output_fmt="NCHW", intermediates_only=True
            )
        by_index = dict(zip(indices, maps, strict=True))
        return {name: by_index[level.index] for name, level in self.levels.items()}, last

    def _run_fish(self, fish: FishNet, images: Tensor) -> tuple[dict[MapName, Tensor], Tensor | None]:
        stages = {name: _stage(fish, name) for name in self.levels}
        final = [fish.last_stage] if self.wants.scores else []
        outputs = fish.forward_stages(images, list(dict.fromkeys([*stages.values(), *final])))
        return {name: outputs[stage] for name, stage in stages.items()}, outputs[final[0]] if final else None


def _levels(backbone: nn.Module, names: Sequence[MapName]) -> dict[MapName, Level]:
    """The levels of these maps by name."""
    strides = [name for name in names if isinstance(name, int)]
    by_stride = dict(zip(strides, pyramid(backbone, strides) if strides else (), strict=True))
    return {name: by_stride[name] if isinstance(name, int) else _stage_level(backbone, name) for name in names}


def pyramid(backbone: nn.Module, strides: Sequence[int]) -> tuple[Level, ...]:
    """A backbone's levels at these strides, from its ``feature_info``; the deepest where several have one stride.

    Raises:
        InputError: a backbone without intermediate maps, or without a map at one of the strides.
    """
    name = _name_of(backbone)
    rows: Any = getattr(backbone, "feature_info", None)
    if not rows or not hasattr(backbone, "forward_intermediates"):
        missing_attribute = "feature_info" if not rows else "forward_intermediates"
        raise InputError(f"{name} has no feature pyramid (it has no {missing_attribute}): {_OTHERS}")
    available = {row["reduction"]: Level(row["num_chs"], row["reduction"], i) for i, row in enumerate(rows)}
    missing = [stride for stride in strides if stride not in available]
    if missing:
        raise InputError(
            f"{name} has no usable pyramid: no features at stride {_listed(missing)}, only at {_listed(available)}: "
            f"{_OTHERS}"
        )
    return tuple(available[stride] for stride in strides)


def _stage_level(backbone: nn.Module, stage: str) -> Level:
    """The level of one of FishNet's stages. Its index is that of the first map of the pyramid that needs the stage."""
    if not isinstance(backbone, FishNet):
        raise InputError(f"{_name_of(backbone)} has no stage {stage}: only FishNets have named stages")
    if stage == EDGE:
        return Level(backbone.spec.stem, 2, 0)
    number = STAGES.index(stage)
    if number > STAGES.index(backbone.last_stage):
        raise InputError(
            f"{_name_of(backbone)} has no usable pyramid: it ends with {backbone.last_stage}, before {stage}: {_OTHERS}"
        )
    return Level(backbone.spec.channels[number], STRIDES[number], max(0, number - STAGES.index("body.2")))


def _stage(fish: FishNet, name: MapName) -> str:
    """The name of the stage whose output is a wanted map."""
    if isinstance(name, str):
        return name
    (level,) = pyramid(fish, [name])
    return STAGES[STAGES.index("body.2") + level.index]


def _name_of(backbone: nn.Module) -> str:
    config: Any = getattr(backbone, "default_cfg", None) or {}
    return config.get("architecture") or type(backbone).__name__


def _listed(strides: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(strides)))
