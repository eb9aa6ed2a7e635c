"""Blends the label maps of overlapping tiles of a large image. Torch-free.

Where tiles overlap, their probabilities are averaged. The weights fall linearly across a tile towards its edges within
the image, because near an edge the model does not see what lies beyond.
"""

import numpy as np
from numpy.typing import NDArray

from fishnet.prediction.results.segmentation import bands, fill_argmax, resized
from fishnet.prediction.tiling import Tile


class Mosaic:
    """The likeliest class of each pixel of an image whose tiles are added row by row.

    Probabilities are kept only for as many rows of pixels as a tile is high. For the rows above, only labels are kept.

    Args:
        size: height and width of the image, px.
        classes: number of classes.
    """

    def __init__(self, size: tuple[int, int], classes: int) -> None:
        self.size, self.classes, self.top = size, classes, 0
        self._labels = np.zeros(size, np.uint8)
        self._band = np.zeros((classes, 0, size[1]), np.float32)  # from row ``top`` on

    def add(self, tile: Tile, planes: NDArray[np.float32]) -> None:
        """Adds a tile.

        Args:
            tile: from :func:`~fishnet.prediction.tiling.tiles`: all have one size, and none lies above an earlier one.
            planes: (classes, height, width) probabilities over the tile, of any size.
        """
        top, left, bottom, right = tile
        size = bottom - top, right - left
        if not self._band.shape[1]:
            self._band = np.zeros((self.classes, size[0], self.size[1]), np.float32)
        self._settle(top)
        weights = _ramp(top, bottom, self.size[0])[:, None] * _ramp(left, right, self.size[1])
        for total, plane in zip(self._band[:, :, left:right], planes, strict=True):
            for rows in bands(size[0]):
                total[rows] += resized(plane, size, rows) * weights[rows]

    def labels(self) -> NDArray[np.uint8]:
        """(height, width) class indices, after all tiles were added."""
        self._settle(self.size[0])
        return self._labels

    def _settle(self, top: int) -> None:
        """Labels the rows above ``top`` and drops their probabilities."""
        if top == self.top:
            return
        count = top - self.top
        labels = self._labels[self.top : top]
        for rows in bands(count):
            fill_argmax(enumerate(self._band[:, rows]), labels[rows])
        for total in self._band:
            remaining = len(total) - count
            total[:remaining] = total[count:]
            total[remaining:] = 0
        self.top = top


def _ramp(start: int, stop: int, end: int) -> NDArray[np.float32]:
    """(stop - start,) weights between 0 and 1, falling towards edges within the image.

    Args:
        start, stop: the tile's range, px.
        end: side of the image, px. The weights of a tile that reaches from 0 to ``end`` are all 1.
    """
    rising = (np.arange(stop - start, dtype=np.float32) + np.float32(0.5)) / np.float32(stop - start)
    weights = np.ones_like(rising)
    if start > 0:
        weights = np.minimum(weights, rising)
    if stop < end:
        weights = np.minimum(weights, rising[::-1])
    return weights
