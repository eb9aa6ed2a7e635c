"""Label maps of large images, from overlapping tiles. Torch-free.

Where tiles overlap their probabilities are averaged, with weights that fall linearly across a tile towards those of its
edges that lie within the image: what a model says near an edge, it says without seeing what is beyond.
"""

import numpy as np
from numpy.typing import NDArray

from fishnet.prediction.results.segmentation import bands, largest, resized
from fishnet.prediction.tiling import Tile


class Mosaic:
    """The likeliest class of each pixel of an image, whose tiles come row by row.

    Probabilities are kept for as many rows of pixels as a tile is high, and only the labels of the rows above.

    Args:
        size: height and width of the image, px.
        classes: how many.
    """

    def __init__(self, size: tuple[int, int], classes: int) -> None:
        self.size, self.classes, self.top = size, classes, 0
        self._labels = np.zeros(size, np.uint8)
        self._band = np.zeros((classes, 0, size[1]), np.float32)  # from row ``top`` on

    def add(self, tile: Tile, likely: NDArray[np.float32]) -> None:
        """One tile.

        Args:
            tile: as :func:`~fishnet.prediction.tiling.tiles` gives them: all of one size, and none further up than one
                before it.
            likely: (classes, height, width) probabilities over the tile, of any size.
        """
        top, left, bottom, right = tile
        size = bottom - top, right - left
        if not self._band.shape[1]:
            self._band = np.zeros((self.classes, size[0], self.size[1]), np.float32)
        self._settle(top)
        weights = _ramp(top, bottom, self.size[0])[:, None] * _ramp(left, right, self.size[1])
        for total, plane in zip(self._band[:, :, left:right], likely, strict=True):
            for rows in bands(size[0]):
                total[rows] += resized(plane, size, rows) * weights[rows]

    def labels(self) -> NDArray[np.uint8]:
        """(height, width) class indices, when all tiles were added."""
        self._settle(self.size[0])
        return self._labels

    def _settle(self, top: int) -> None:
        """What lies above a row is labelled and let go."""
        if top == self.top:
            return
        count = top - self.top
        done = self._labels[self.top : top]
        for rows in bands(count):
            largest(enumerate(self._band[:, rows]), done[rows])
        for total in self._band:
            rest = len(total) - count
            total[:rest] = total[count:]
            total[rest:] = 0
        self.top = top


def _ramp(start: int, stop: int, end: int) -> NDArray[np.float32]:
    """(stop - start,) weights from 0 to 1, of neither: 1 throughout for a tile that reaches from 0 to ``end``."""
    rising = (np.arange(stop - start, dtype=np.float32) + np.float32(0.5)) / np.float32(stop - start)
    weights = np.ones_like(rising)
    if start > 0:
        weights = np.minimum(weights, rising)
    if stop < end:
        weights = np.minimum(weights, rising[::-1])
    return weights
