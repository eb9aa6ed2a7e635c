"""The norms of task heads, by name."""

import math
from collections.abc import Callable
from typing import Literal

from torch import nn

Norm = Literal["group", "batch", "none"]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the largest number of groups, at most 32, that have two or more channels each."""
    groups = math.gcd(channels, 32)
    return nn.GroupNorm(groups // 2 if groups == channels else groups, channels)


def norm_layer(norm: Norm) -> Callable[[int], nn.Module] | None:
    """Builds a norm from its number of channels; None for ``none``."""
    layers: dict[str, Callable[[int], nn.Module] | None] = {"group": group_norm, "batch": nn.BatchNorm2d, "none": None}
    return layers[norm]


def replace_norms(module: nn.Module, norm: Norm) -> None:
    """Replaces a module's batch and group norms, at any depth."""
    layer = norm_layer(norm)
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.GroupNorm):
            setattr(module, name, nn.Identity() if layer is None else layer(child.weight.numel()))
        else:
            replace_norms(child, norm)
