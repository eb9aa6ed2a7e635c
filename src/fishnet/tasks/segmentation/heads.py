"""Segmenters over a trunk's maps: FishNet's own light decoder, and those of segmentation-models-pytorch.

A decoder takes maps at strides 4 to 32 and gives one at stride 4 or 2; a 1x1 convolution scores the classes, and
bilinear resizing brings the scores to the input's size. The trunk pads inputs to multiples of 32 (at least 64 px),
since most decoders double sizes; what was added is cut off again.

Sources: FishNet (arXiv 1901.03495), panoptic FPN's semantic branch (1901.02446), UPerNet (1807.10221), DeepLabV3+
(1802.02611), SegFormer (2105.15203); auxiliary scores as in PSPNet (1612.01105).
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone.blocks import RefiningUnit
from fishnet.backbone.fishnet import EDGE, FishNet
from fishnet.bundle.bundle import HeadConfig
from fishnet.errors import InputError
from fishnet.images.preprocess import padded
from fishnet.tasks.base import ClassRows, Head
from fishnet.tasks.norms import Norm, norm_layer, replace_norms
from fishnet.tasks.trunk import Features, Level, MapName, Trunk, Wants

AUXILIARY_STRIDE = 16


@dataclass(frozen=True)
class DecoderSpec:
    """All numbers of a segmenter's decoder.

    Attributes:
        width: channels of the decoder.
        norm: ``group``, ``batch`` or ``none``.
        edges: ``body`` and ``fish``: also look at the stem's map at stride 2, and score the classes there.
        auxiliary: further scores from the trunk's map at stride 16, which training learns by as well.
        drop_rate: dropout of whole channels before the scores, in [0, 1).
    """

    width: int = 256
    norm: Norm = "batch"
    edges: bool = False
    auxiliary: bool = False
    drop_rate: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "DecoderSpec":
        """The inverse of :meth:`to_dict`. Raises InputError for a key that does not belong."""
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"head_args: {error}") from None


class Segmenter(Head):
    """A decoder and a score for each class and pixel: (batch, classes, height, width) logits.

    Args:
        levels: of the trunk's maps, by name.
        classes: how many.
        spec: the decoder's numbers.

    Raises:
        InputError: maps that the decoder cannot take, or a width that it cannot have.
    """

    rows_of_classes: ClassVar = {"scores": ClassRows(), "auxiliary.4": ClassRows()}
    pooled: ClassVar[bool] = False  # norms of maps of one px, which batch statistics of one image cannot have

    def __init__(self, levels: Mapping[MapName, Level], classes: int, spec: DecoderSpec) -> None:
        super().__init__()
        self.spec = spec
        self.levels = {name: levels[name] for name in self.map_names(spec)}
        self.decoder, width = self.make_decoder(spec)
        replace_norms(self.decoder, spec.norm)
        self.drop = nn.Dropout2d(spec.drop_rate)
        self.scores = nn.Conv2d(width, classes, 1)
        self.auxiliary = None
        if spec.auxiliary:
            self.auxiliary = _auxiliary(self.levels[self.auxiliary_map].channels, classes, spec)

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.base.Head`: the decoder's maps, of images padded to multiples of 32 px."""
        spec = DecoderSpec.from_dict(dict(config.head_args))
        return Wants(maps=cls.map_names(spec), padding=True)

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> Self:
        """See :class:`~fishnet.tasks.base.Head`."""
        return cls(trunk.levels, len(config.classes), DecoderSpec.from_dict(dict(config.head_args)))

    @classmethod
    @abstractmethod
    def map_names(cls, spec: DecoderSpec) -> tuple[MapName, ...]:
        """The maps that the decoder takes, in its order."""

    @abstractmethod
    def make_decoder(self, spec: DecoderSpec) -> tuple[nn.Module, int]:
        """The decoder, a module from the maps to one map, and that map's channels."""

    @property
    def auxiliary_map(self) -> MapName:
        """The trunk's map at stride 16."""
        return next(name for name, level in self.levels.items() if level.stride == AUXILIARY_STRIDE)

    @property
    def min_batch_size(self) -> int:
        """See :class:`~fishnet.tasks.base.Head`."""
        return 2 if self.pooled and self.spec.norm == "batch" else 1

    def check_batch(self, size: int) -> None:
        """Raises InputError for one image, for a decoder whose batch norms need two."""
        if size < self.min_batch_size:
            raise InputError(
                "one image a step: this head's batch norms of pooled features need two in each process: give a "
                "larger --batch-size, or --head-norm group"
            )

    def maps(self, features: Features) -> list[Tensor]:
        """The decoder's maps in its order, resized where a trunk's own are not exactly the input's size / stride."""
        height, width = features.padded_size
        maps = []
        for name, level in self.levels.items():
            size = torch.Size((height // level.stride, width // level.stride))
            own = features.maps[name]
            maps.append(own if own.shape[-2:] == size else _resized(own, size))
        return maps

    def decode(self, features: Features, targets: Any = None) -> Any:
        """Features -> logits (batch, classes, height, width) of the images' size.

        With targets a dict: ``logits``, and where the head has them ``auxiliary``, of the same shape.
        """
        maps = self.maps(features)
        logits = self._sized(self.scores(self.drop(self.decoder(maps))), features.size)
        if targets is None:
            return logits
        if self.auxiliary is None:
            return {"logits": logits}
        further = self.auxiliary(maps[list(self.levels).index(self.auxiliary_map)])
        return {"logits": logits, "auxiliary": self._sized(further, features.size)}

    @staticmethod
    def _sized(scores: Tensor, size: tuple[int, int]) -> Tensor:
        whole = padded(size[0]), padded(size[1])  # in float32: between two px bf16 would have steps, and equal scores
        return F.interpolate(scores.float(), size=whole, mode="bilinear")[..., : size[0], : size[1]]


def _auxiliary(channels: int, classes: int, spec: DecoderSpec) -> nn.Module:
    """A 3x3 convolution and scores."""
    module = nn.Sequential(
        nn.Conv2d(channels, spec.width, 3, padding=1, bias=False),
        nn.BatchNorm2d(spec.width),
        nn.ReLU(inplace=True),
        nn.Dropout2d(spec.drop_rate),
        nn.Conv2d(spec.width, classes, 1),
    )
    replace_norms(module, spec.norm)
    return module


# FishNet's own


class LightDecoder(nn.Module):
    """Adds up FishNet's maps at stride 4, looks around at strides 16 and 32, and refines once; on request edges, too.

    All parts but the sum are refining units as the trunk's. What each gives: benchmarks/segment_heads.md.

    Args:
        channels: of the maps, the one at stride 4 first.
        edge_channels: of the map at stride 2; 0 for none.
        width: of the decoder.
        norm: what makes a norm.
    """

    def __init__(
        self, channels: Sequence[int], edge_channels: int, width: int, norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()

        def unit(*, light: bool = False) -> RefiningUnit:
            inner = max(width // 2, 1)
            return RefiningUnit(width, width, inner, norm, nn.ReLU, groups=inner if light else 1)

        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.sixteenth = unit()
        self.thirtysecond = nn.Sequential(unit(), unit())
        self.refine = unit(light=True)
        self.edge = nn.Conv2d(edge_channels, width, 1, bias=False) if edge_channels else None
        self.sharpen = unit(light=True) if edge_channels else None
        self.last = nn.Sequential(norm(width), nn.ReLU())

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps, the one at stride 2 first where there is to be one -> (batch, width, H / 2 or H / 4, ...)."""
        edge, maps = (None, maps) if self.edge is None else (maps[0], maps[1:])
        size = maps[0].shape[-2:]
        x, *others = (lateral(it) for lateral, it in zip(self.laterals, maps, strict=True))
        for it in others:
            x = x + _resized(it, size)
        near = self.sixteenth(F.avg_pool2d(x, 4))
        far = self.thirtysecond(F.avg_pool2d(near, 2))
        x = self.refine(x + _resized(near + _resized(far, near.shape[-2:]), size))
        if self.edge is not None and self.sharpen is not None and edge is not None:
            x = _resized(x, edge.shape[-2:])
            x = self.sharpen(x + self.edge(edge))
        last: Tensor = self.last(x)
        return last


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear")


class _Fish(Segmenter):
    """What both of FishNet's own heads share.

    Attributes:
        stages: whose maps the decoder adds up, from stride 4 on.
    """

    stages: ClassVar[tuple[str, ...]]
    name: ClassVar[str]

    @classmethod
    def map_names(cls, spec: DecoderSpec) -> tuple[MapName, ...]:
        """See :class:`Segmenter`."""
        return (*([EDGE] if spec.edges else []), *cls.stages)

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """See :class:`~fishnet.tasks.base.Head`: FishNets alone have stages."""
        if not isinstance(backbone, FishNet):
            raise InputError(
                f"--head {cls.name} is made for FishNets: give one as --backbone (fishnet list), or --head fpn"
            )

    def make_decoder(self, spec: DecoderSpec) -> tuple[nn.Module, int]:
        """A light one."""
        channels = [self.levels[stage].channels for stage in self.stages]
        edges = self.levels[EDGE].channels if spec.edges else 0
        return LightDecoder(channels, edges, spec.width, norm_layer(spec.norm) or nn.Identity), spec.width


class Body(_Fish):
    """Over the trunk cut after the body: the maps of its three stages and of the bridge, brought up to stride 4.

    The body's last map holds what the bridge has seen in a fraction of its channels, each a sum of several; decoded
    alone, the deep layers learn slowly.
    """

    name = "body"
    stages = ("body.2", "body.1", "body.0", "bridge")


class Fish(_Fish):
    """Over the whole fish: the maps of its head brought back up to the body's."""

    name = "fish"
    stages = ("body.2", "head.0", "head.1", "head.2")


# segmentation-models-pytorch's


class Adapted(nn.Module):
    """One of segmentation-models-pytorch's decoders, which take lists that begin with the image itself.

    Args:
        decoder: theirs.
        arrange: the trunk's maps -> what it takes.
    """

    def __init__(self, decoder: nn.Module, arrange: Callable[[Sequence[Tensor]], list[Tensor]]) -> None:
        super().__init__()
        self.decoder, self.arrange = decoder, arrange

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps -> (batch, channels, H / 4, W / 4)."""
        return self.decoder(self.arrange(maps))  # type: ignore[no-any-return]


class _Pyramid(Segmenter):
    """What the decoders of other networks share."""

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    @classmethod
    def map_names(cls, spec: DecoderSpec) -> tuple[MapName, ...]:
        """See :class:`Segmenter`."""
        return cls.strides

    @property
    def channels(self) -> list[int]:
        """Of the maps."""
        return [level.channels for level in self.levels.values()]


class Fpn(_Pyramid):
    """Panoptic FPN's semantic branch."""

    def make_decoder(self, spec: DecoderSpec) -> tuple[nn.Module, int]:
        """As wide at its branches as in its pyramid."""
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        if spec.width % 32:
            raise InputError(f"decoder_channels={spec.width}: head fpn takes multiples of 32")
        decoder = FPNDecoder(
            self.channels, encoder_depth=4, pyramid_channels=spec.width, segmentation_channels=spec.width,
            dropout=0.0,
        )  # fmt: skip
        return Adapted(decoder, list), spec.width


class UPerNet(_Pyramid):
    """UPerNet: pyramid pooling over an FPN."""

    pooled = True

    def make_decoder(self, spec: DecoderSpec) -> tuple[nn.Module, int]:
        """Of one width."""
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        decoder = UPerNetDecoder([0, 0, *self.channels], decoder_channels=spec.width)
        return Adapted(decoder, partial(_behind, 2)), spec.width


class SegFormer(_Pyramid):
    """SegFormer's all-MLP decoder."""

    def make_decoder(self, spec: DecoderSpec) -> tuple[nn.Module, int]:
        """Of one width."""
        from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder

        decoder = SegformerDecoder([0, *self.channels], segmentation_channels=spec.width)
        return Adapted(decoder, partial(_behind, 1)), spec.width


class DeepLabV3Plus(_Pyramid):
    """DeepLabV3+: atrous pooling at stride 16, and a skip at stride 4.

    Backbones that know ``output_stride`` are built with their last stage at stride 16, as published; of others the map
    that they have there is taken.
    """

    pooled = True
    strides = (4, 16)

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.base.Head`."""
        return replace(super().wants(config), output_stride=16)

    def make_decoder(self, spec: DecoderSpec) -> tuple[nn.Module, int]:
        """With the published rates of dilation."""
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        fine, coarse = self.channels
        decoder = DeepLabV3PlusDecoder(
            [0, 0, fine, coarse], encoder_depth=4, out_channels=spec.width, atrous_rates=(12, 24, 36), output_stride=16,
            aspp_separable=True, aspp_dropout=0.0,
        )  # fmt: skip
        return Adapted(decoder, partial(_behind, 2)), spec.width


def _behind(places: int, maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps from stride 4 on, behind as many that only have the sizes of finer ones, and no channel."""
    height, width = maps[0].shape[-2:]
    shape = maps[0].shape[0], 0, 4 * height, 4 * width  # not len(), which exporters take for a constant
    return [*(torch.empty(shape, dtype=maps[0].dtype, device=maps[0].device) for _ in range(places)), *maps]
