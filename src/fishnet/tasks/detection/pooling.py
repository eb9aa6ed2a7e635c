"""Pooling of boxes from a pyramid: RoIAlign (Mask R-CNN, arXiv 1703.06870, section 3), and its gradient on CPUs.

The forward pass is torchvision's operator. Its gradient on CPUs visits the four neighbours of each sampled point in
each channel one after the other; here it is one product of a sparse matrix, whose rows are the pixels, with the
gradients of the bins, whose columns are the channels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

SAMPLES = 2  # sampled points of a bin along each axis
_FAR = 1e6  # px
_CANONICAL = (224, 4)  # FPN (arXiv 1612.03144), equation 1: boxes of 224 px are pooled at stride 2 ** 4


class PyramidRoIAlign(nn.Module):
    """Pools each box from the level of a pyramid that suits its size: equation 1 of FPN (arXiv 1612.03144).

    Args:
        levels: name and stride of the maps to pool from; strides rise by factors of two.
        size: bins of a box along each axis.
    """

    def __init__(self, levels: dict[str, int], size: int) -> None:
        super().__init__()
        self.levels, self.size = dict(levels), size

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], sizes: Sequence[Any] = ()) -> Tensor:
        """Pools all boxes of a batch.

        Args:
            maps: (batch, channels, height, width) of each level.
            boxes: for each image (n, 4): x1, y1, x2, y2 in px of the input.
            sizes: not used; torchvision's heads give the images' sizes.

        Returns:
            (number of all boxes, channels, size, size)
        """
        images = [torch.full_like(each[:, :1], number) for number, each in enumerate(boxes)]
        # torchvision's operator reads anywhere for boxes that are not numbers; the loss says that there are some
        rois = torch.cat([torch.cat(images), torch.cat(boxes).nan_to_num(0.0, _FAR, -_FAR)], 1)
        if len(self.levels) == 1:
            ((name, stride),) = self.levels.items()
            return pool(maps[name], rois, 1 / stride, self.size)
        level_of = self._level_of(rois)
        places = [torch.where(level_of == number)[0] for number in range(len(self.levels))]
        pooled = [
            pool(maps[name], rois[indices], 1 / stride, self.size)
            for (name, stride), indices in zip(self.levels.items(), places, strict=True)
        ]
        return torch.cat(pooled)[torch.cat(places).argsort()]

    def _level_of(self, rois: Tensor) -> Tensor:
        """(n,) the place of each box's level among :attr:`levels`."""
        side, level = _CANONICAL
        strides = torch.tensor(list(self.levels.values()), dtype=torch.float32).log2()
        lengths = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).clamp_min(0).sqrt()
        wanted = torch.floor(level + torch.log2(lengths / side) + 1e-6)
        return (wanted.clamp(float(strides[0]), float(strides[-1])) - strides[0].item()).long()

    def extra_repr(self) -> str:
        """The module's numbers."""
        return f"levels={self.levels}, size={self.size}"


def pool(features: Tensor, rois: Tensor, scale: float, size: int) -> Tensor:
    """RoIAlign without the half-pixel shift of its ``aligned`` mode, with :data:`SAMPLES` points a bin and axis.

    Args:
        features: (batch, channels, height, width)
        rois: (n, 5): number of the image in the batch, x1, y1, x2, y2 in px of the input.
        scale: width of ``features`` divided by that of the input.
        size: bins of a box along each axis.

    Returns:
        (n, channels, size, size)
    """
    if features.device.type == "cpu" and features.requires_grad and torch.is_grad_enabled():
        pooled: Tensor = _RoIAlign.apply(features, rois, scale, size)
        return pooled
    aligned: Tensor = roi_align(features, rois, size, scale, SAMPLES)
    return aligned


class _RoIAlign(torch.autograd.Function):
    """torchvision's RoIAlign with the gradient of this module; boxes get none, as in torchvision."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rois: Tensor, scale: float, size: int) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.shape, ctx.dtype, ctx.scale = features.shape, features.dtype, scale
        pooled: Tensor = roi_align(features, rois, size, scale, SAMPLES)
        return pooled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (rois,) = ctx.saved_tensors
        return feature_gradient(gradients[0], rois, ctx.scale, ctx.shape).to(ctx.dtype), None, None, None


def feature_gradient(gradient: Tensor, rois: Tensor, scale: float, shape: Sequence[int]) -> Tensor:
    """The gradient of :func:`pool` with respect to its features.

    Args:
        gradient: (n, channels, size, size)
        rois, scale: as in :func:`pool`.
        shape: (batch, channels, height, width) of the features.

    Returns:
        Tensor of that shape, float32 or, if ``gradient`` is, float64; each position's channels are next to each other.
    """
    batch, channels, height, width = shape
    count, size = gradient.shape[0], gradient.shape[-1]
    wide = gradient.dtype if gradient.dtype == torch.float64 else torch.float32
    corners = rois[:, 1:].to(wide) * scale
    columns, column_weights = _neighbours(corners[:, 0], corners[:, 2], size, width)
    lines, line_weights = _neighbours(corners[:, 1], corners[:, 3], size, height)
    lines = lines + (rois[:, 0].long() * height)[:, None, None]
    pixels = lines[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = line_weights[:, :, None, :, None] * column_weights[:, None, :, None, :] / SAMPLES**2
    bins = torch.arange(count * size * size).repeat_interleave(pixels.shape[-1] * pixels.shape[-2])
    matrix = torch.sparse_coo_tensor(
        torch.stack([pixels.flatten(), bins]),
        weights.flatten(),
        (batch * height * width, count * size * size),
        check_invariants=False,
    )
    by_bin = gradient.to(wide).permute(0, 2, 3, 1).reshape(-1, channels)
    by_pixel: Tensor = torch.sparse.mm(matrix, by_bin)
    return by_pixel.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _neighbours(start: Tensor, end: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """The pixels along one axis between which the points of each bin lie, and their weights.

    Returns:
        Two tensors (n, size, 2 * SAMPLES). Points more than one pixel outside the map have the weight 0.
    """
    point = torch.arange(size * SAMPLES, dtype=start.dtype)
    offset = torch.div(point, SAMPLES, rounding_mode="floor") + (point % SAMPLES + 0.5) / SAMPLES
    at = start[:, None] + ((end - start).clamp_min(1) / size)[:, None] * offset
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.long().clamp(0, length - 1)
    part = at - low
    weights = torch.stack([1 - part, part], -1) * inside[..., None]
    indices = torch.stack([low, (low + 1).clamp_max(length - 1)], -1)
    return indices.view(-1, size, 2 * SAMPLES), weights.view(-1, size, 2 * SAMPLES)
