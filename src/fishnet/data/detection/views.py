"""What a view shows of an image's objects."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.data.views import View

VISIBLE = 0.3  # share of an object that a window must leave of it
SMALLEST = 1.0  # px of the input: either side of an object that is trained on


@dataclass(frozen=True)
class DetectionView(View):
    """A view of an image with objects."""

    def boxes(self, boxes: NDArray[Any]) -> NDArray[np.float32]:
        """(n, 4) x1, y1, x2, y2 within the window, px of the image -> in px of the page."""
        left, top, right, bottom = self.window
        height, width = self.inner
        across, down = width / (right - left), height / (bottom - top)
        found = (boxes - np.array([left, top, left, top])) * np.array([across, down, across, down])
        if self.flip[0]:
            found[:, [0, 2]] = width - found[:, [2, 0]]
        if self.flip[1]:
            found[:, [1, 3]] = height - found[:, [3, 1]]
        found = found.clip(0, np.array([width, height, width, height]))  # of what multiplication rounded
        placed: NDArray[np.float32] = (found + np.array([*self.corner, *self.corner])).astype(np.float32)
        return placed

    def masks(self, objects: Objects) -> NDArray[np.uint8]:
        """The objects' masks in the page: (n, *page) of 0 and 1, each px that of the image at its centre."""
        found = np.zeros((len(objects), *self.page), np.uint8)
        part = self.mirrored(found)
        rows, columns = self.sampled()
        for i in range(len(objects)):
            bits, x1, y1 = objects.bits(i)
            across = slice(*np.searchsorted(columns, (x1, x1 + bits.shape[1])))
            down = slice(*np.searchsorted(rows, (y1, y1 + bits.shape[0])))
            part[i, down, across] = bits[rows[down, None] - y1, columns[across] - x1]
        return found

    def target(self, objects: Objects, with_masks: bool) -> DetectionTarget:
        """The objects as the window shows them, cut off at its edges, in px of the page.

        Left out are those of which less than 30 % is in the window (crowds stay while anything of them is), those
        with a side below 1 px of the page, and with masks those whose mask has no px there. With masks, the box of an
        object that is cut is the smallest around what is left of its mask, and the share is the mask's; otherwise the
        box is cut, and the share is the box's.
        """
        boxes, share = _cut(objects, self.window)
        if with_masks:
            for i in np.flatnonzero((share > 0) & (share < 1)):
                boxes[i], share[i] = _cut_mask(objects, int(i), self.window)
        placed = self.boxes(boxes)
        kept = (share >= VISIBLE) | (objects.crowd & (share > 0))
        kept &= ((placed[:, 2:] - placed[:, :2]) >= SMALLEST).all(1)
        masks = None
        if with_masks:
            masks = self.masks(objects.take(kept))
            some = masks.any((1, 2))
            kept[kept] = some
            masks = masks if some.all() else masks[some]
        return DetectionTarget(
            torch.from_numpy(placed[kept]),
            torch.from_numpy(objects.labels[kept]),
            torch.from_numpy(objects.crowd[kept]),
            None if masks is None else torch.from_numpy(masks),
        )


def _cut(objects: Objects, window: tuple[int, int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes cut off at a window's edges, and the share that is left of each."""
    whole = objects.boxes.astype(np.float64)
    low, high = np.array(window[:2] * 2, np.float64), np.array(window[2:] * 2, np.float64)
    boxes = whole.clip(low, high)
    areas = [(sides[:, 2:] - sides[:, :2]).prod(1) for sides in (boxes, whole)]
    return boxes, np.divide(areas[0], areas[1], out=np.zeros(len(whole)), where=areas[1] > 0)


def _cut_mask(
    objects: Objects, index: int, window: tuple[int, int, int, int]
) -> tuple[tuple[int, int, int, int], float]:
    """The box around what a window leaves of a mask, and the share that is left; (0, 0, 0, 0) and 0 where nothing."""
    bits, x, y = objects.bits(index)
    left, top, right, bottom = window
    left, top = max(left, x), max(top, y)
    part = bits[top - y : max(bottom - y, 0), left - x : max(right - x, 0)]
    across, down = np.flatnonzero(part.any(0)), np.flatnonzero(part.any(1))
    if not len(across):
        return (0, 0, 0, 0), 0.0
    box = left + int(across[0]), top + int(down[0]), left + int(across[-1]) + 1, top + int(down[-1]) + 1
    return box, int(part.sum()) / int(bits.sum())
