"""How well the boundaries in label maps are met.

Source: Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013,
section 3.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.tasks.report_files import shares

TOLERANCE = 0.0075  # of the image's diagonal


def boundary_f1(truth: LabelMap, said: LabelMap, classes: int) -> NDArray[np.float64]:
    """The boundary F1 of each class in one image.

    A px is on its class's boundary where one of its four neighbours is of another class or ignored; what is said of
    ignored px does not count. Precision is the share of the boundary said that is within 0.75 % of the image's
    diagonal (at least 1 px) of the true one, in a straight line; recall the other way round.

    Args:
        truth: (height, width), with ignored px.
        said: of the same size.
        classes: how many.

    Returns:
        (classes,), 0..1: 0 where only one of the two has a boundary of the class, NaN where neither has.
    """
    radius = max(1.0, TOLERANCE * math.hypot(*truth.shape))
    rows, columns = (side + int(radius) for side in truth.shape)
    true, given = (_boundary(labels, rows, columns) for labels in (truth, np.where(truth == IGNORE, IGNORE, said)))
    met = []
    for one, other in ((given, true), (true, given)):
        labels = one // (rows * columns)
        near = labels[_near(one, other, columns, radius)]
        met.append(shares(np.bincount(near, minlength=classes), np.bincount(labels, minlength=classes)))
    precision, recall = np.nan_to_num(met)
    f1: NDArray[np.float64] = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(np.isnan(met).all(0), np.nan, f1)


def _boundary(labels: LabelMap, rows: int, columns: int) -> NDArray[np.int64]:
    """The boundary px of all classes, each as one number, rising: (class * rows + row) * columns + column.

    With more rows and columns than the map has, a step beyond its edge meets no px of another row or class.
    """
    edge = np.zeros(labels.shape, bool)
    for one, other in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        differs = labels[one] != labels[other]
        edge[one] |= differs
        edge[other] |= differs
    y, x = np.nonzero(edge & (labels != IGNORE))
    return np.sort((labels[y, x].astype(np.int64) * rows + y) * columns + x)


def _near(points: NDArray[np.int64], others: NDArray[np.int64], columns: int, radius: float) -> NDArray[np.bool_]:
    """(points,): whether one of the others, of the same class, is within the radius. Row by row of the disc."""
    others = np.append(others, np.iinfo(np.int64).max)
    near = np.zeros(len(points), bool)
    for step in sorted(range(-int(radius), int(radius) + 1), key=abs):
        half = int(math.sqrt(radius**2 - step**2))
        left = np.flatnonzero(~near)
        middle = points[left] + step * columns
        near[left] = others[np.searchsorted(others, middle - half)] <= middle + half
    return near
