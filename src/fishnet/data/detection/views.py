"""The objects that a view of an image shows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.data.views import View

VISIBLE = 0.3  # an object is kept if at least this share of it is inside the window
SMALLEST = 1.0  # px of the input; objects with a shorter side are dropped


@dataclass(frozen=True)
class DetectionView(View):
    """A view of an image with objects."""

    def boxes(self, boxes: NDArray[Any]) -> NDArray[np.float32]:
        """(n, 4) x1, y1, x2, y2 inside the window, from px of the image to px of the canvas."""
        left, top, right, bottom = self.window
        height, width = self.inner
        scale = np.array([width / (right - left), height / (bottom - top)] * 2)
        scaled = (boxes - np.array([left, top, left, top])) * scale
        if self.flip[0]:
            scaled[:, [0, 2]] = width - scaled[:, [2, 0]]
        if self.flip[1]:
            scaled[:, [1, 3]] = height - scaled[:, [3, 1]]
        scaled = scaled.clip(0, np.array([width, height, width, height]))  # against rounding errors
        placed: NDArray[np.float32] = (scaled + np.array([*self.corner, *self.corner])).astype(np.float32)
        return placed

    def masks(self, objects: Objects) -> NDArray[np.uint8]:
        """The objects' masks on the canvas: (n, *canvas) of 0 and 1, sampled at the centre of each px."""
        masks = np.zeros((len(objects), *self.canvas), np.uint8)
        inner = self.mirrored(masks)
        rows, columns = self.sampled()
        for i in range(len(objects)):
            bits, x1, y1 = objects.bits(i)
            across = slice(*np.searchsorted(columns, (x1, x1 + bits.shape[1])))
            down = slice(*np.searchsorted(rows, (y1, y1 + bits.shape[0])))
            inner[i, down, across] = bits[rows[down, None] - y1, columns[across] - x1]
        return masks

    def target(self, objects: Objects, with_masks: bool) -> DetectionTarget:
        """The objects inside the window, clipped to it, in px of the canvas.

        An object is dropped if less than 30 % of it is in the window (a crowd: if none of it is), if a side is below
        1 px of the canvas, or, with masks, if its mask has no px there. With masks, the share is measured on the mask,
        and the box of a clipped object is the tightest one around the rest of its mask. Without masks, both are
        computed from the box.
        """
        boxes, share = _clip(objects, self.window)
        if with_masks:
            for i in np.flatnonzero((share > 0) & (share < 1)):
                boxes[i], share[i] = _clip_mask(objects, int(i), self.window)
        placed = self.boxes(boxes)
        kept = (share >= VISIBLE) | (objects.crowd & (share > 0))
        kept &= ((placed[:, 2:] - placed[:, :2]) >= SMALLEST).all(1)
        masks = None
        if with_masks:
            masks = self.masks(objects.take(kept))
            visible = masks.any((1, 2))
            kept[kept] = visible
            masks = masks if visible.all() else masks[visible]
        return DetectionTarget(
            torch.from_numpy(placed[kept]),
            torch.from_numpy(objects.labels[kept]),
            torch.from_numpy(objects.crowd[kept]),
            None if masks is None else torch.from_numpy(masks),
        )


def _clip(objects: Objects, window: tuple[int, int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes clipped to a window, and the share of each that remains."""
    boxes = objects.boxes.astype(np.float64)
    clipped = boxes.clip(np.array(window[:2] * 2, np.float64), np.array(window[2:] * 2, np.float64))
    remaining, total = ((corners[:, 2:] - corners[:, :2]).prod(1) for corners in (clipped, boxes))
    return clipped, np.divide(remaining, total, out=np.zeros(len(boxes)), where=total > 0)


def _clip_mask(
    objects: Objects, index: int, window: tuple[int, int, int, int]
) -> tuple[tuple[int, int, int, int], float]:
    """The box around a mask's part inside a window, and that part's share; (0, 0, 0, 0) and 0 if there is none."""
    bits, x, y = objects.bits(index)
    left, top, right, bottom = window
    left, top = max(left, x), max(top, y)
    inside = bits[top - y : max(bottom - y, 0), left - x : max(right - x, 0)]
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    if not len(columns):
        return (0, 0, 0, 0), 0.0
    box = left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1
    return box, int(inside.sum()) / int(bits.sum())
