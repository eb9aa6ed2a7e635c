"""FishNet's blocks: refining unit, stage, bridge and score layer (paper section 3.2, arXiv 1901.03495).

All blocks map (batch, channels, height, width) to the same layout. Convolutions outside the stem are pre-activated:
normalize, activate, convolve. Attribute names are this project's checkpoint keys.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from timm.layers import DropPath, GroupNorm, SelectAdaptivePool2d, create_act_layer, get_norm_layer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

LayerFn = Callable[..., nn.Module]


def resolve_norm(norm_layer: str | LayerFn) -> LayerFn:
    """A norm layer from timm's name for it, or from the layer itself.

    Group norm gets the largest number of groups, at most 32, that divides a map's channels.
    """
    try:
        norm = get_norm_layer(norm_layer)
    except KeyError:
        raise ValueError(
            f"norm_layer={norm_layer!r}: not one of timm's norms, such as batchnorm2d or groupnorm"
        ) from None
    if norm is GroupNorm:
        return lambda channels: GroupNorm(channels, math.gcd(channels, 32))
    return norm  # type: ignore[no-any-return]


def resolve_act(act_layer: str | LayerFn) -> LayerFn:
    """An activation from timm's name for it, or from the layer itself; called as ``act(inplace=...)``."""
    try:
        create_act_layer(act_layer)
    except KeyError:
        raise ValueError(f"act_layer={act_layer!r}: not one of timm's activations, such as relu or silu") from None
    return functools.partial(create_act_layer, act_layer)


class ConvNormAct(nn.Module):
    """3x3 convolution, normalization, activation: one layer of the stem."""

    def __init__(self, in_chans: int, out_chans: int, stride: int, norm_layer: LayerFn, act_layer: LayerFn) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, out_chans, 3, stride=stride, padding=1, bias=False)
        self.norm = norm_layer(out_chans)
        self.act = act_layer(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, H, W) -> (batch, out, H / stride, W / stride), rounded up."""
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]


def _can_overwrite(norm: nn.Module) -> bool:
    """Whether the activation may overwrite a norm's output. An identity's output is also the shortcut's input."""
    return not isinstance(norm, nn.Identity)


class NormActConv(nn.Module):
    """Normalization, activation, 1x1 convolution: a pre-activated change of width."""

    def __init__(
        self, in_chans: int, out_chans: int, norm_layer: LayerFn, act_layer: LayerFn, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.norm = norm_layer(in_chans)
        self.act = act_layer(inplace=_can_overwrite(self.norm))
        self.conv = nn.Conv2d(in_chans, out_chans, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, H, W) -> (batch, out, H, W)."""
        return self.conv(self.act(self.norm(x)))  # type: ignore[no-any-return]


def reduce_channels(x: Tensor, k: int) -> Tensor:
    """The paper's r(): sums each ``k`` consecutive channels, without weights.

    Adding slice by slice keeps the memory format; a sum over a reshaped axis would not. The gradient of a slice does
    not keep it either, so training on channels-last maps cuts the slices from the last axis.

    Args:
        x: (batch, channels, height, width); channels divisible by ``k``.
        k: number of channels that are summed to one; 1 returns ``x`` itself.

    Returns:
        (batch, channels / k, height, width).
    """
    if k == 1:
        return x
    if x.requires_grad and not torch.compiler.is_compiling() and x.is_contiguous(memory_format=torch.channels_last):
        slices: tuple[Tensor, ...] = x.permute(0, 2, 3, 1).unflatten(3, (-1, k)).unbind(4)  # type: ignore[no-untyped-call]
        return functools.reduce(torch.add, slices).permute(0, 3, 1, 2)
    return functools.reduce(torch.add, (x[:, i::k] for i in range(1, k)), x[:, ::k])


class RefiningUnit(nn.Module):
    """The paper's M: a pre-activated bottleneck (1x1, 3x3, 1x1) added to its shortcut.

    The shortcut is the input itself, the input with each ``k`` channels summed (``reduce``, in the body), or a
    pre-activated 1x1 convolution (where a stage of the tail or the bridge changes its width).

    Args:
        in_chans, out_chans: widths; they differ only with ``reduce`` or a shortcut that changes the width.
        inner: width of the bottleneck, divisible by ``groups``.
        dilation, groups: dilation and groups of the 3x3 convolution.
        reduce: change the width by :func:`reduce_channels` instead of a convolution; ``in_chans`` must be a multiple of
            ``out_chans``.
        drop_path: probability in [0, 1) that training skips the unit, for each image.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        inner: int,
        norm_layer: LayerFn,
        act_layer: LayerFn,
        *,
        dilation: int = 1,
        groups: int = 1,
        reduce: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if reduce and in_chans % out_chans:
            raise ValueError(f"cannot sum {in_chans} channels to {out_chans}: not a multiple")
        self.norm1 = norm_layer(in_chans)
        self.conv1 = nn.Conv2d(in_chans, inner, 1, bias=False)
        self.norm2 = norm_layer(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, groups=groups, bias=False)
        self.norm3 = norm_layer(inner)
        self.conv3 = nn.Conv2d(inner, out_chans, 1, bias=False)
        self.act = act_layer(inplace=_can_overwrite(self.norm1))
        self.k = in_chans // out_chans if reduce else 1
        widens = in_chans != out_chans and not reduce
        self.shortcut = NormActConv(in_chans, out_chans, norm_layer, act_layer) if widens else None
        self.drop_path: nn.Module = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, H, W) -> (batch, out, H, W)."""
        y = self.conv1(self.act(self.norm1(x)))
        y = self.conv2(self.act(self.norm2(y)))
        y = self.conv3(self.act(self.norm3(y)))
        identity = reduce_channels(x, self.k) if self.shortcut is None else self.shortcut(x)
        return identity + self.drop_path(y)  # type: ignore[no-any-return]


class Gate(nn.Module):
    """Channel weights of the bridge, between 0 and 1: (batch, in, H, W) -> (batch, out, 1, 1)."""

    def __init__(self, in_chans: int, inner: int, out_chans: int, norm_layer: LayerFn, act_layer: LayerFn) -> None:
        super().__init__()
        self.norm = norm_layer(in_chans)
        self.act = act_layer(inplace=_can_overwrite(self.norm))
        self.fc1 = nn.Conv2d(in_chans, inner, 1)
        self.fc2 = nn.Conv2d(inner, out_chans, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, H, W) -> (batch, out, 1, 1)."""
        pooled = self.act(self.norm(x)).mean((2, 3), keepdim=True)
        return torch.sigmoid(self.fc2(self.act(self.fc1(pooled))))


class Stage(nn.Module):
    """One stage: refines the trunk, resamples it, and in body and head concatenates a refined earlier map.

    Args:
        refine: units of the trunk.
        transfer: units of the branch; None in the tail, which has no branch.
        up: nearest-neighbour up-sampling (body) instead of 2x2 max-pooling (tail, head).
    """

    def __init__(self, refine: Iterable[nn.Module], transfer: Iterable[nn.Module] | None, *, up: bool) -> None:
        super().__init__()
        self.refine = nn.Sequential(*refine)
        self.transfer = None if transfer is None else nn.Sequential(*transfer)
        self.up = up

    def forward(self, x: Tensor, branch: Tensor | None = None) -> Tensor:
        """Trunk at this stage's stride, branch at the next -> both at the next stride, the trunk's channels first."""
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
    """The bridge between tail and body: squeezes, expands, refines, and gates the channels as ``R(s) * a + a``.

    The released weights were trained with the added ``a``.
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


class Score(nn.Module):
    """The score layer: halves the width, pools, classifies.

    ``num_classes=0`` builds no classifier. The output is then the pooled feature of ``hidden`` channels, or with
    ``global_pool=""`` the unpooled map.

    Args:
        in_chans: width of the trunk's last map.
        num_classes: outputs of the classifier; 0 for no classifier.
        global_pool: a timm pooling name (``avg``, ``max``, ``avgmax``, ``catavgmax``), or ``""`` for no pooling, which
            is only possible without a classifier.
        drop_rate: dropout before the classifier, in [0, 1).
    """

    def __init__(
        self,
        in_chans: int,
        num_classes: int,
        norm_layer: LayerFn,
        act_layer: LayerFn,
        *,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden = in_chans // 2
        self.drop_rate = drop_rate
        self.squeeze = NormActConv(in_chans, self.hidden, norm_layer, act_layer)
        self.norm = norm_layer(self.hidden)
        self.act = act_layer(inplace=True)
        self.pool: SelectAdaptivePool2d
        self.fc: nn.Module
        self.reset(num_classes, global_pool)

    def reset(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the classifier (new weights, variance 2 / classes, at most the published 2 / 1000)."""
        pooling = self.pool.pool_type if global_pool is None else global_pool
        if num_classes and not pooling:
            raise ValueError("a classifier needs pooled features: give global_pool a name, or num_classes=0")
        self.pool = SelectAdaptivePool2d(pool_type=pooling, flatten=bool(pooling))
        device, dtype = self.squeeze.conv.weight.device, self.squeeze.conv.weight.dtype
        width = self.hidden * self.pool.feat_mult()
        if num_classes:
            fc = nn.Linear(width, num_classes, device=device, dtype=dtype)
            nn.init.normal_(fc.weight, std=(2.0 / max(num_classes, 1000)) ** 0.5)
            nn.init.zeros_(fc.bias)
            self.fc = fc
        else:
            self.fc = nn.Identity()

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(batch, in, H, W) -> (batch, classes) logits, or the classifier's input with ``pre_logits``."""
        x = self.pool(self.act(self.norm(self.squeeze(x))))
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)


@contextmanager
def _frozen_running_stats(module: nn.Module) -> Iterator[None]:
    """Batch norms normalize by the batch as usual, but do not update their running statistics.

    They must save the same tensors for the backward pass, so they keep tracking: with momentum 0, and on a copy of the
    counter.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    originals = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, counter) in zip(norms, originals, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if counter is None else counter.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, originals, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, counter


def run_checkpointed(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Runs ``module`` with gradient checkpointing: the backward pass computes its activations again.

    The second computation does not update batch statistics, so training is the same with and without checkpointing. A
    compiled graph updates them once by itself, and torch.compile supports no checkpoint contexts.
    """
    if torch.compiler.is_compiling():
        return checkpoint(module, *inputs, use_reentrant=False)  # type: ignore[no-any-return]

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _frozen_running_stats(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)  # type: ignore[no-any-return]
