"""Adaptive average pooling as matrix products, which ONNX exporters write for feature maps of any size.

torch's own (https://docs.pytorch.org/docs/stable/generated/torch.nn.AdaptiveAvgPool2d.html) averages bins whose borders
depend on the map's size. ONNX only has an operation for a single bin. Exporters write several bins for the traced size
only, or not at all. Bin i of n over a side of L px goes from floor(i L / n) to ceil((i + 1) L / n).
"""

from typing import Any

import torch
from torch import Tensor, nn


class AdaptivePool(nn.Module):
    """The same as :class:`torch.nn.AdaptiveAvgPool2d`, to rounding.

    Args:
        size: height and width of the output.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels, height, width) to (batch, channels, *size)."""
        rows, columns = (_bin_weights(length, bins, x) for length, bins in zip(x.shape[-2:], self.size, strict=True))
        return rows @ x @ columns.T


def _bin_weights(length: int, bins: int, like: Tensor) -> Tensor:
    """Returns the weight of each px in each bin, (bins, length)."""
    position = torch.arange(length, device=like.device)
    number = torch.arange(bins, device=like.device)[:, None]
    first, end = number * length // bins, ((number + 1) * length + bins - 1) // bins
    inside = (position >= first) & (position < end)
    return inside.to(like.dtype) / (end - first).to(like.dtype)


def replace_pools(model: nn.Module) -> nn.Module:
    """Replaces each adaptive average pooling to more than one px with :class:`AdaptivePool`, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = _pair(child.output_size)
                if None not in size and size != (1, 1):
                    setattr(module, name, AdaptivePool(size))
    return model


def _pair(size: Any) -> tuple[Any, Any]:
    return (size, size) if isinstance(size, int) or size is None else (size[0], size[1])
