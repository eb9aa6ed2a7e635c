"""What the formats with objects share beside their image files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.base import DetectionDataset
from fishnet.data.files import FileDataset


class FileDetection(FileDataset, DetectionDataset):
    """A region set of image files: each entry has a ``path``."""

    def named_in(self, index: int) -> str:
        """Where it is annotated."""
        return self.place(index, -1)


def outline_area(polygon: NDArray[Any]) -> float:
    """The area inside one ring of (n, 2) corners, in px (the shoelace formula)."""
    x, y = polygon[:, 0].astype(np.float64), polygon[:, 1].astype(np.float64)
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)
