"""Segmenters over a trunk's maps: FishNet's own light decoder, and the decoders of segmentation-models-pytorch.

A decoder turns maps at strides 4 to 32 into one map at stride 4 or 2. A 1x1 convolution computes the logits, which
bilinear interpolation resizes to the input's size. The trunk pads inputs to multiples of 32 (at least 64 px), because
most decoders double sizes; the logits of the padding are cropped.

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
from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.spec import EDGE
from fishnet.bundle.bundle import HeadConfig
from fishnet.errors import InputError
from fishnet.images.preprocess import padded
from fishnet.tasks.head import ClassRows, Head
from fishnet.tasks.norms import Norm, norm_layer, replace_norms
from fishnet.tasks.trunk import Features, Level, MapName, Trunk, Wants

AUXILIARY_STRIDE = 16


@dataclass(frozen=True)
class SegmenterSpec:
    """All numbers that define a segmenter's head.

    Attributes:
        width: channels of the decoder.
        norm: ``group``, ``batch`` or ``none``.
        edges: for ``body`` and ``fish``: use the stem's map at stride 2 as well, and compute the logits there.
        auxiliary: compute auxiliary logits for training from the trunk's map at stride 16.
        drop_rate: dropout of whole channels before the logits, in [0, 1).
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
    def from_dict(cls, values: dict[str, Any]) -> "SegmenterSpec":
        """The inverse of :meth:`to_dict`. Raises InputError for an unknown key."""
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"head_args: {error}") from None


class Segmenter(Head):
    """A decoder and a 1x1 convolution for (batch, classes, height, width) logits.

    Args:
        levels: the trunk's maps, by name.
        classes: number of classes.
        spec: the decoder's numbers.

    Raises:
        InputError: maps or a width that the decoder does not support.
    """

    class_row_layers: ClassVar = {"scores": ClassRows(), "auxiliary.4": ClassRows()}
    pooled: ClassVar[bool] = False  # whether it normalizes maps of one px; batch norm then needs at least two images

    def __init__(self, levels: Mapping[MapName, Level], classes: int, spec: SegmenterSpec) -> None:
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
        """See :class:`~fishnet.tasks.head.Head`: the decoder's maps, of images padded to multiples of 32 px."""
        spec = SegmenterSpec.from_dict(dict(config.head_args))
        return Wants(maps=cls.map_names(spec), padding=True)

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> Self:
        """See :class:`~fishnet.tasks.head.Head`."""
        return cls(trunk.levels, len(config.classes), SegmenterSpec.from_dict(dict(config.head_args)))

    @classmethod
    @abstractmethod
    def map_names(cls, spec: SegmenterSpec) -> tuple[MapName, ...]:
        """The names of the decoder's input maps, in its order."""

    @abstractmethod
    def make_decoder(self, spec: SegmenterSpec) -> tuple[nn.Module, int]:
        """The decoder, a module from a list of maps to one map, and that map's number of channels."""

    @property
    def auxiliary_map(self) -> MapName:
        """The name of the trunk's map at stride 16."""
        return next(name for name, level in self.levels.items() if level.stride == AUXILIARY_STRIDE)

    @property
    def min_batch_size(self) -> int:
        """See :class:`~fishnet.tasks.head.Head`."""
        return 2 if self.pooled and self.spec.norm == "batch" else 1

    def check_batch(self, size: int) -> None:
        """Raises InputError for a single image where the decoder's batch norms need two."""
        if size < self.min_batch_size:
            raise InputError(
                "batch_size=1: this head's batch norms of pooled features need at least two images in each process: "
                "increase batch_size, or use head_norm=group"
            )

    def maps(self, features: Features) -> list[Tensor]:
        """The decoder's input maps in its order, resized where their size is not exactly the input's size / stride."""
        height, width = features.padded_size
        maps = []
        for name, level in self.levels.items():
            size = torch.Size((height // level.stride, width // level.stride))
            feature_map = features.maps[name]
            maps.append(feature_map if feature_map.shape[-2:] == size else _resized(feature_map, size))
        return maps

    def decode(self, features: Features, targets: Any = None) -> Any:
        """Features -> logits (batch, classes, height, width) of the images' size.

        With targets the result is a dict: ``logits``, and with auxiliary logits ``auxiliary``, of the same shape.
        """
        maps = self.maps(features)
        logits = self._to_image_size(self.scores(self.drop(self.decoder(maps))), features.size)
        if targets is None:
            return logits
        if self.auxiliary is None:
            return {"logits": logits}
        auxiliary = self.auxiliary(maps[list(self.levels).index(self.auxiliary_map)])
        return {"logits": logits, "auxiliary": self._to_image_size(auxiliary, features.size)}

    @staticmethod
    def _to_image_size(logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Resizes logits to the padded input and crops the padding. Float32 avoids the ties that bf16 would cause."""
        padded_size = padded(size[0]), padded(size[1])
        return F.interpolate(logits.float(), size=padded_size, mode="bilinear")[..., : size[0], : size[1]]


def _auxiliary(channels: int, classes: int, spec: SegmenterSpec) -> nn.Module:
    """A 3x3 convolution and a 1x1 convolution for the logits."""
    module = nn.Sequential(
        nn.Conv2d(channels, spec.width, 3, padding=1, bias=False),
        nn.BatchNorm2d(spec.width),
        nn.ReLU(inplace=True),
        nn.Dropout2d(spec.drop_rate),
        nn.Conv2d(spec.width, classes, 1),
    )
    replace_norms(module, spec.norm)
    return module


# FishNet's own decoder


class LightDecoder(nn.Module):
    """Sums FishNet's maps at stride 4, adds context from strides 16 and 32, and refines the sum.

    Optionally refines it again with the stem's map at stride 2. Apart from the sum, all modules are refining units, as
    in the trunk. benchmarks/segment_heads.md measures the effect of each.

    Args:
        channels: numbers of channels of the maps, from stride 4 on.
        edge_channels: number of channels of the map at stride 2; 0 for no such map.
        width: channels of the decoder.
        norm: builds a norm from its number of channels.
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
        """Maps, first the one at stride 2 if it is used -> (batch, width, H / 2 or H / 4, W / 2 or W / 4)."""
        edge, maps = (None, maps) if self.edge is None else (maps[0], maps[1:])
        size = maps[0].shape[-2:]
        x, *coarser = (lateral(feature_map) for lateral, feature_map in zip(self.laterals, maps, strict=True))
        for feature_map in coarser:
            x = x + _resized(feature_map, size)
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


class _FishNetSegmenter(Segmenter):
    """The base of FishNet's own heads.

    Attributes:
        stages: the stages whose maps the decoder sums, from stride 4 on.
        name: the head's name.
    """

    stages: ClassVar[tuple[str, ...]]
    name: ClassVar[str]

    @classmethod
    def map_names(cls, spec: SegmenterSpec) -> tuple[MapName, ...]:
        """See :class:`Segmenter`."""
        return (*([EDGE] if spec.edges else []), *cls.stages)

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """See :class:`~fishnet.tasks.head.Head`: only FishNets have the stages."""
        if not isinstance(backbone, FishNet):
            raise InputError(
                f"head={cls.name}: needs a FishNet as backbone (see fishnet list): change the backbone, or use head=fpn"
            )

    def make_decoder(self, spec: SegmenterSpec) -> tuple[nn.Module, int]:
        """See :class:`LightDecoder`."""
        channels = [self.levels[stage].channels for stage in self.stages]
        edges = self.levels[EDGE].channels if spec.edges else 0
        return LightDecoder(channels, edges, spec.width, norm_layer(spec.norm) or nn.Identity), spec.width


class BodySegmenter(_FishNetSegmenter):
    """Decodes the maps of the body's three stages and of the bridge; the trunk ends after the body.

    The body's last map keeps the bridge's output only in a fraction of its channels, each a sum of several. Decoding
    that map alone would train the deep layers slowly.
    """

    name = "body"
    stages = ("body.2", "body.1", "body.0", "bridge")


class FishSegmenter(_FishNetSegmenter):
    """Decodes the body's last map and the maps of the fish's head."""

    name = "fish"
    stages = ("body.2", "head.0", "head.1", "head.2")


# The decoders of segmentation-models-pytorch


class SMPDecoder(nn.Module):
    """A decoder of segmentation-models-pytorch. Its input is a list that begins with the image itself.

    Args:
        decoder: the decoder.
        arrange: turns the trunk's maps into the decoder's input.
    """

    def __init__(self, decoder: nn.Module, arrange: Callable[[Sequence[Tensor]], list[Tensor]]) -> None:
        super().__init__()
        self.decoder, self.arrange = decoder, arrange

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps -> (batch, channels, H / 4, W / 4)."""
        return self.decoder(self.arrange(maps))  # type: ignore[no-any-return]


class _PyramidSegmenter(Segmenter):
    """The base of the segmenters that use the feature pyramid of any backbone."""

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    @classmethod
    def map_names(cls, spec: SegmenterSpec) -> tuple[MapName, ...]:
        """See :class:`Segmenter`."""
        return cls.strides

    @property
    def channels(self) -> list[int]:
        """Channels of the maps."""
        return [level.channels for level in self.levels.values()]


class FPN(_PyramidSegmenter):
    """Panoptic FPN's semantic branch."""

    def make_decoder(self, spec: SegmenterSpec) -> tuple[nn.Module, int]:
        """See :class:`Segmenter`. Its pyramid and its branches have the same width."""
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        if spec.width % 32:
            raise InputError(f"decoder_channels={spec.width}: must be a multiple of 32 for head fpn")
        decoder = FPNDecoder(
            self.channels, encoder_depth=4, pyramid_channels=spec.width, segmentation_channels=spec.width,
            dropout=0.0,
        )  # fmt: skip
        return SMPDecoder(decoder, list), spec.width


class UPerNet(_PyramidSegmenter):
    """UPerNet: pyramid pooling over an FPN."""

    pooled = True

    def make_decoder(self, spec: SegmenterSpec) -> tuple[nn.Module, int]:
        """See :class:`Segmenter`."""
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        decoder = UPerNetDecoder([0, 0, *self.channels], decoder_channels=spec.width)
        return SMPDecoder(decoder, partial(_with_placeholders, 2)), spec.width


class SegFormer(_PyramidSegmenter):
    """SegFormer's all-MLP decoder."""

    def make_decoder(self, spec: SegmenterSpec) -> tuple[nn.Module, int]:
        """See :class:`Segmenter`."""
        from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder

        decoder = SegformerDecoder([0, *self.channels], segmentation_channels=spec.width)
        return SMPDecoder(decoder, partial(_with_placeholders, 1)), spec.width


class DeepLabV3Plus(_PyramidSegmenter):
    """DeepLabV3+: atrous pooling at stride 16, and a skip connection at stride 4.

    Backbones with an ``output_stride`` argument are built with their last stage at stride 16, as published. With other
    backbones, the existing map at stride 16 is used.
    """

    pooled = True
    strides = (4, 16)

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.head.Head`."""
        return replace(super().wants(config), output_stride=16)

    def make_decoder(self, spec: SegmenterSpec) -> tuple[nn.Module, int]:
        """See :class:`Segmenter`. The dilation rates are the published ones."""
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        fine, coarse = self.channels
        decoder = DeepLabV3PlusDecoder(
            [0, 0, fine, coarse], encoder_depth=4, out_channels=spec.width, atrous_rates=(12, 24, 36), output_stride=16,
            aspp_separable=True, aspp_dropout=0.0,
        )  # fmt: skip
        return SMPDecoder(decoder, partial(_with_placeholders, 2)), spec.width


def _with_placeholders(count: int, maps: Sequence[Tensor]) -> list[Tensor]:
    """Maps from stride 4 on, after ``count`` maps without channels that stand for finer strides."""
    height, width = maps[0].shape[-2:]
    shape = maps[0].shape[0], 0, 4 * height, 4 * width  # not len(): exporters would record it as a constant
    return [*(torch.empty(shape, dtype=maps[0].dtype, device=maps[0].device) for _ in range(count)), *maps]
