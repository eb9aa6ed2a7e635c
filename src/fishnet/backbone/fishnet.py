"""FishNet: tail, body and head over one frozen Spec.

Sun, Pang, Shi, Yi, Ouyang: "FishNet: A Versatile Backbone for Image, Region, and Pixel Level Prediction",
NeurIPS 2018, arXiv 1901.03495. Built from the paper and the facts of the released network, not from its code.

The stages and their outputs, by index (S = stride of the output, widths of the published nets):

    0 stem    64 S4  | 1-3 tail 128 S8, 256 S16, 512 S32  | 4 bridge 512 S32
    5-7 body 768 S16, 512 S8, 320 S4                      | 8-10 head 832 S8, 1600 S16, 2112 S32

The pyramid that detectors and segmenters take is the end of the body and the three stages of the head.
"""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from timm.layers import GroupNorm, calculate_drop_path_rates, create_act_layer, get_norm_layer
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone.blocks import ConvNormAct, Gate, LayerFn, NormActConv, RefiningUnit, Score, recomputed
from fishnet.backbone.weights import check_name_hash, load_weights, rename_on_load
from fishnet.errors import InputError

_logger = logging.getLogger(__name__)

Three = tuple[int, int, int]
End = Literal["body", "head"]

STAGES = ("stem", "tail.0", "tail.1", "tail.2", "bridge", "body.0", "body.1", "body.2", "head.0", "head.1", "head.2")
STRIDES = (4, 8, 16, 32, 32, 16, 8, 4, 8, 16, 32)
# Which earlier stage each stage of body and head concatenates to its own output.
BRANCH = {5: 2, 6: 1, 7: 0, 8: 6, 9: 5, 10: 4}
LAST = {"body": 7, "head": 10}
EDGE = "stem.2"  # the stem's map at stride 2, before its pooling
_EDGE = -1  # its number


@dataclass(frozen=True)
class Spec:
    """All numbers that define one network. Widths that follow from others are properties, never fields.

    Attributes:
        tail: widths of the tail's three stages (strides 4, 8, 16 before their pooling).
        body: widths the body's stages refine to, before concatenation. Each must divide its stage's input width.
        tail_depths, bridge_depth, body_depths, head_depths: refining units in each stage's trunk.
        body_transfers, head_transfers: refining units in each stage's transfer branch.
        stem: width at stride 4; the stem's first two convolutions have half of it.
        reduction: a unit's inner width is its output width / reduction ...
        min_inner, max_inner: ... but at least and at most this, and never more than the output width.
        group_widths: channels per group of the 3x3 convolutions at strides 4, 8, 16, 32; None for plain ones.
            Inner widths are rounded down to a multiple of it.
        dilations: of the body's 3x3 convolutions, from stride 32 to stride 8.
        zero_init: start each unit's last convolution at zero, so that every unit starts as its shortcut.

    Raises:
        ValueError: if a body width does not divide what comes in.
    """

    tail: Three = (128, 256, 512)
    body: Three = (512, 384, 256)
    tail_depths: Three = (2, 2, 6)
    bridge_depth: int = 2
    body_depths: Three = (1, 1, 1)
    body_transfers: Three = (1, 1, 1)
    head_depths: Three = (1, 2, 2)
    head_transfers: Three = (1, 1, 4)
    stem: int = 64
    reduction: int = 4
    min_inner: int = 1
    max_inner: int | None = None
    group_widths: tuple[int, int, int, int] | None = None
    dilations: Three = (1, 2, 4)
    zero_init: bool = False

    def __post_init__(self) -> None:
        for i, (width, out) in enumerate(zip(self.body_inputs, self.body, strict=True)):
            if width % out:
                raise ValueError(f"body[{i}]={out} must divide the stage's {width} input channels")

    @property
    def body_inputs(self) -> Three:
        """Widths that enter the body's stages."""
        return self.tail[2], self.body[0] + self.tail[1], self.body[1] + self.tail[0]

    @property
    def channels(self) -> tuple[int, ...]:
        """Output width of every stage, in the order of ``STAGES``."""
        widths = [self.stem, *self.tail, self.tail[2]]
        for stage in (5, 6, 7):
            widths.append(self.body[stage - 5] + widths[BRANCH[stage]])
        for stage in (8, 9, 10):
            widths.append(widths[stage - 1] + widths[BRANCH[stage]])
        return tuple(widths)

    def inner(self, width: int, stride: int) -> tuple[int, int]:
        """Inner width and number of groups of a refining unit of ``width`` output channels at ``stride``."""
        inner = min(width, max(width // self.reduction, self.min_inner), self.max_inner or width)
        if self.group_widths is None:
            return inner, 1
        per_group = min(self.group_widths[(4, 8, 16, 32).index(stride)], inner)
        return inner // per_group * per_group, inner // per_group


UnitFn = Callable[..., RefiningUnit]


class Stage(nn.Module):
    """One stage: refine the trunk, resample it, and concatenate a refined earlier feature (body and head).

    Args:
        refine: the trunk's units.
        transfer: the branch's units; None in the tail, which has no branch.
        up: nearest up-sampling (body) instead of 2x2 max-pooling (tail, head).
    """

    def __init__(self, refine: Iterable[nn.Module], transfer: Iterable[nn.Module] | None, *, up: bool) -> None:
        super().__init__()
        self.refine = nn.Sequential(*refine)
        self.transfer = None if transfer is None else nn.Sequential(*transfer)
        self.up = up

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """Trunk at this stage's stride, branch at the next one's -> both at the next stride, trunk's channels first."""
        x = self.refine(x)
        if not self.up:
            x = F.max_pool2d(x, 2)
        if self.transfer is None or branch is None:
            return x
        branch = self.transfer(branch)
        if self.up:
            x = F.interpolate(x, size=branch.shape[-2:], mode="nearest")
        return torch.cat((x, branch), dim=1)


class Bridge(nn.Module):
    """Between tail and body: squeeze, widen, refine, and gate the channels as ``R(s) * a + a``.

    The added ``a`` is what the released weights were trained with, and stays.
    """

    def __init__(self, width: int, refine: Iterable[nn.Module], norm_layer: LayerFn, act_layer: LayerFn) -> None:
        super().__init__()
        self.squeeze = NormActConv(width, width // 2, norm_layer, act_layer)
        self.expand = NormActConv(width // 2, 2 * width, norm_layer, act_layer, bias=True)
        self.refine = nn.Sequential(*refine)
        self.gate = Gate(2 * width, max(width // 16, 1), width, norm_layer, act_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, H, W) -> the same shape."""
        s = self.expand(self.squeeze(x))
        a = self.gate(s)
        return self.refine(s) * a + a  # type: ignore[no-any-return]


def _listed(indices: int | Sequence[int] | None) -> int | list[int] | None:
    return indices if indices is None or isinstance(indices, int) else list(indices)


def _norm_layer(wanted: str | LayerFn) -> LayerFn:
    """A norm by timm's name or as it is; group norm takes the most groups, up to 32, that divide a map's channels."""
    try:
        norm = get_norm_layer(wanted)
    except KeyError:
        raise ValueError(f"norm_layer={wanted!r}: no norm of timm's, such as batchnorm2d or groupnorm") from None
    if norm is GroupNorm:
        return lambda channels: GroupNorm(channels, math.gcd(channels, 32))
    return norm  # type: ignore[no-any-return]


def _act_layer(wanted: str | LayerFn) -> LayerFn:
    """An activation by timm's name or as it is, called as ``act(inplace=...)``."""
    try:
        create_act_layer(wanted)
    except KeyError:
        raise ValueError(f"act_layer={wanted!r}: no activation of timm's, such as relu or silu") from None
    return partial(create_act_layer, wanted)


class FishNet(nn.Module):
    """The trunk, with its score layer, to timm's model contract.

    Input is (batch, in_chans, height, width), any float range (the published nets expect ImageNet-normalized
    pixels), of any size from 32 x 32 up. Sizes need not be multiples of 32: pooling rounds down, and in the body a
    map is resized by nearest neighbour to the exact size of the branch it meets. Where the size is a multiple of 32
    that is the paper's plain doubling, bit for bit.

    Args:
        spec: the network's numbers.
        num_classes: classes; 0 builds no classifier.
        in_chans: channels of the input.
        global_pool: timm pooling name; ``""`` for none (only without a classifier).
        drop_rate: dropout before the classifier, in [0, 1).
        drop_path_rate: stochastic depth of the last unit, in [0, 1); earlier units have less, linearly.
        norm_layer, act_layer: timm layer names or classes; called as ``norm_layer(channels)`` and
            ``act_layer(inplace=True)``, or ``act_layer()`` where a class knows no ``inplace``.
        end: ``"head"`` for the whole fish, ``"body"`` to stop at the stride-4 feature: the fish's head, three
            quarters of the cost, is then never built.

    Raises:
        ValueError: unknown ``end``, norm or activation. In forward, as InputError: input smaller than 32 px, or one
            image in training whose stride-32 map is a single pixel, since batch statistics of one value do not exist.
    """

    def __init__(
        self,
        spec: Spec,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: str | LayerFn = "batchnorm2d",
        act_layer: str | LayerFn = "relu",
        end: End = "head",
    ) -> None:
        super().__init__()
        if end not in LAST:
            raise ValueError(f"end={end!r}: choose from {', '.join(LAST)}")
        self.spec, self.end = spec, end
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        norm, act = _norm_layer(norm_layer), _act_layer(act_layer)
        self._build_trunk(spec, in_chans, norm, act, drop_path_rate)
        self.num_features = spec.channels[LAST[end]]
        score = Score(self.num_features, num_classes, norm, act, global_pool=global_pool, drop_rate=drop_rate)
        self.score: Score | nn.Identity = score
        self.head_hidden_size = score.hidden
        pyramid = [7] if end == "body" else [7, 8, 9, 10]
        self.feature_info = [
            {"num_chs": spec.channels[i], "reduction": STRIDES[i], "module": STAGES[i]} for i in pyramid
        ]
        self._init_weights(spec.zero_init)
        self.register_load_state_dict_pre_hook(rename_on_load)  # type: ignore[no-untyped-call]

    def _build_trunk(self, spec: Spec, in_chans: int, norm: LayerFn, act: LayerFn, drop_path_rate: float) -> None:
        has_head = self.end == "head"
        depths = [*spec.tail_depths, spec.bridge_depth]
        depths += [a + b for a, b in zip(spec.body_depths, spec.body_transfers, strict=True)]
        if has_head:
            depths += [a + b for a, b in zip(spec.head_depths, spec.head_transfers, strict=True)]
        rates: Iterator[Any] = iter(calculate_drop_path_rates(drop_path_rate, sum(depths)))

        def units(
            depth: int, in_chans: int, width: int, stride: int, dilation: int = 1, reduce: bool = False
        ) -> Iterator[RefiningUnit]:
            inner, groups = spec.inner(width, stride)
            for i in range(depth):
                yield RefiningUnit(
                    in_chans if i == 0 else width, width, inner, norm, act,
                    dilation=dilation, groups=groups, reduce=reduce and i == 0, drop_path=next(rates),
                )  # fmt: skip

        c = spec.channels
        half = spec.stem // 2
        self.stem = nn.Sequential(
            ConvNormAct(in_chans, half, 2, norm, act),
            ConvNormAct(half, half, 1, norm, act),
            ConvNormAct(half, spec.stem, 1, norm, act),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.tail = nn.ModuleList(
            Stage(units(spec.tail_depths[i], c[i], c[i + 1], STRIDES[i]), None, up=False) for i in range(3)
        )
        self.bridge = Bridge(c[4], units(spec.bridge_depth, 2 * c[4], c[4], 32), norm, act)
        self.body = nn.ModuleList()
        for i in range(3):
            stage, branch = 5 + i, BRANCH[5 + i]
            refine = units(
                spec.body_depths[i], c[stage - 1], spec.body[i], STRIDES[stage - 1], spec.dilations[i], reduce=True
            )
            transfer = units(spec.body_transfers[i], c[branch], c[branch], STRIDES[branch])
            self.body.append(Stage(refine, transfer, up=True))
        self.head = nn.ModuleList()
        if has_head:
            for i in range(3):
                stage, branch = 8 + i, BRANCH[8 + i]
                refine = units(spec.head_depths[i], c[stage - 1], c[stage - 1], STRIDES[stage - 1])
                transfer = units(spec.head_transfers[i], c[branch], c[branch], STRIDES[branch])
                self.head.append(Stage(refine, transfer, up=False))

    def _init_weights(self, zero_init: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if zero_init:
            for module in self.modules():
                if isinstance(module, RefiningUnit):
                    nn.init.zeros_(module.conv3.weight)

    @property
    def stages(self) -> list[nn.Module]:
        """The built stages, in the order of ``STAGES``."""
        return [self.stem, *self.tail, self.bridge, *self.body, *self.head]

    @property
    def last_stage(self) -> str:
        """Name of the stage whose map the score layer takes."""
        return STAGES[self._last]

    @property
    def _last(self) -> int:
        return 7 + len(self.head)

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise InputError(f"expected input of shape (batch, {self.in_chans}, height, width), got {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if height < 32 or width < 32:
            raise InputError(f"input of {height}x{width} px is too small: FishNet needs at least 32x32")
        norm = self.bridge.squeeze.norm
        if norm.training and isinstance(norm, nn.BatchNorm2d) and x.shape[0] == 1 and height <= 60 and width <= 60:
            raise InputError(
                f"training on one image of {height}x{width} px has no batch statistics at 1/32: "
                "use a batch of 2 or more, or more than 60 px"
            )

    def _run(self, x: Tensor, wanted: Collection[int]) -> dict[int, Tensor]:
        """Runs the stages up to the last one wanted; gives the outputs of the wanted ones by index."""
        self._check_input(x)
        last = max(0, *wanted)
        waiting: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}
        later = set(BRANCH.values())
        for i, stage in enumerate(self.stages[: last + 1]):
            inputs = (x, waiting[BRANCH[i]]) if i in BRANCH else (x,)
            if i == 0 and _EDGE in wanted:
                outputs[_EDGE] = self.stem[:-1](x)
                x = self.stem[-1](outputs[_EDGE])
            elif self.grad_checkpointing and self.training and i > 0 and torch.is_grad_enabled():
                x = recomputed(stage, *inputs)
            else:
                x = stage(*inputs)
            if i in later:
                waiting[i] = x
            if i in wanted:
                outputs[i] = x
        return outputs

    def forward_features(self, x: Tensor) -> Tensor:
        """The trunk's last map: (batch, num_features, height // 32, width // 32), or stride 4 with ``end="body"``."""
        last = self._last
        return self._run(x, (last,))[last]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """timm's "head", the score layer: the last map -> (batch, num_classes), or what pooling gives before it.

        Where the score layer was pruned, the map itself.
        """
        return self.score(x, pre_logits) if isinstance(self.score, Score) else x

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_chans, height, width) -> (batch, num_classes) logits."""
        return self.forward_head(self.forward_features(x))

    def forward_stages(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Outputs of any stages of the fish by name (``STAGES``: stem, tail.0 ... head.2), nothing computed beyond.

        ``stem.2`` is the stem's map at stride 2, before its pooling: (batch, spec.stem, height / 2, width / 2), rounded
        up.

        Raises:
            ValueError: a name that this network does not have.
        """
        known = (*STAGES[: self._last + 1], EDGE)
        for name in names:
            if name not in known:
                raise ValueError(f"no stage {name!r}: choose from {', '.join(known)}")
        number = {name: _EDGE if name == EDGE else STAGES.index(name) for name in names}
        outputs = self._run(x, set(number.values())) if names else {}
        return {name: outputs[number[name]] for name in names}

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """timm's feature interface: indices 0..3 are the pyramid at strides 4, 8, 16, 32.

        Args:
            x: the input.
            indices: which; an int for the last n, None for all.
            norm: accepted for the contract; the maps carry no norm of their own.
            stop_early: compute nothing beyond the last wanted map (the first result is then that map).
            output_fmt: only ``"NCHW"``.
            intermediates_only: leave out the final map; implies nothing beyond the last wanted one is computed.

        Returns:
            The list of maps, or (final map, list of maps).
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r}: FishNet gives NCHW maps only")
        take, deepest = feature_take_indices(len(self.feature_info), _listed(indices))
        final = 7 + deepest if stop_early or intermediates_only else self._last
        outputs = self._run(x, {final, *(7 + i for i in take)})
        maps = [outputs[7 + i] for i in take]
        return maps if intermediates_only else (outputs[final], maps)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the stages beyond the deepest wanted map and, if asked, the score layer; gives absolute indices."""
        take, deepest = feature_take_indices(len(self.feature_info), _listed(indices))
        del self.head[deepest:], self.feature_info[deepest + 1 :]
        self.num_features = self.spec.channels[7 + deepest]
        if prune_head:
            self.score = nn.Identity()
            self.num_classes = 0
        return list(take)

    def load_pretrained(self, checkpoint_path: str) -> None:
        """timm's loader for published files: checks the hash in the name, adapts classes and channels, and says so."""
        check_name_hash(checkpoint_path)
        for note in load_weights(self, checkpoint_path, adapt=True):
            _logger.warning("%s: %s", checkpoint_path, note)

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or an identity where there are no classes."""
        return self.score.fc if isinstance(self.score, Score) else self.score

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier by a new one with ``num_classes`` outputs; 0 removes it.

        Raises:
            ValueError: classes without pooling, or a network whose score layer was pruned. Nothing is changed then.
        """
        if not isinstance(self.score, Score):
            raise ValueError("the score layer was pruned: there is no classifier to reset")
        self.score.reset(num_classes, global_pool)
        self.num_classes = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades time for memory: each stage after the stem is computed again in the backward pass."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """timm's parameter groups, shallow to deep, for layer-wise learning rates: by stage, or by unit."""
        units = {
            "tail": r"^tail\.(\d+)\.refine\.(\d+)",
            "bridge": r"^bridge",
            "body": r"^body\.(\d+)\.\w+\.(\d+)",
            "head": r"^head\.(\d+)\.\w+\.(\d+)",
        }
        stages = {"tail": r"^tail\.(\d+)", "bridge": r"^bridge", "body": r"^body\.(\d+)", "head": r"^head\.(\d+)"}
        return {"stem": r"^stem", **(stages if coarse else units)}
