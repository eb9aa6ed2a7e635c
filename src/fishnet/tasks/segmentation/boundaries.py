"""How well the boundaries of predicted label maps match the true ones.

Source: Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013,
section 3.
"""

import math

import numpy as np
from numpy.typing import NDArray

from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.tasks.report_files import shares

TOLERANCE = 0.0075  # of the image's diagonal


def boundary_f1(truth: LabelMap, predicted: LabelMap, classes: int) -> NDArray[np.float64]:
    """The boundary F1 of each class in one image.

    A px is on its class's boundary where one of its four neighbours is of another class or ignored. Predictions for
    ignored px do not count. Precision is the share of the predicted boundary px whose Euclidean distance to the true
    boundary is at most 0.75 % of the image's diagonal (at least 1 px); recall is the same with the two exchanged.

    Args:
        truth: (height, width), with ignored px.
        predicted: (height, width), of the same size.
        classes: number of classes.

    Returns:
        (classes,), 0..1: 0 where only one of the two has a boundary of the class, NaN where neither has.
    """
    radius = max(1.0, TOLERANCE * math.hypot(*truth.shape))
    rows, columns = (side + int(radius) for side in truth.shape)
    predicted = np.where(truth == IGNORE, IGNORE, predicted)
    true_edge, predicted_edge = (_boundary(labels, rows, columns) for labels in (truth, predicted))
    matched = []
    for points, targets in ((predicted_edge, true_edge), (true_edge, predicted_edge)):
        labels = points // (rows * columns)
        near = labels[_is_near(points, targets, columns, radius)]
        matched.append(shares(np.bincount(near, minlength=classes), np.bincount(labels, minlength=classes)))
    precision, recall = np.nan_to_num(matched)
    f1: NDArray[np.float64] = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.where(np.isnan(matched).all(0), np.nan, f1)


def _boundary(labels: LabelMap, rows: int, columns: int) -> NDArray[np.int64]:
    """The boundary px of all classes as sorted numbers: (class * rows + row) * columns + column.

    ``rows`` and ``columns`` exceed the map's size, so that a step beyond its edge reaches no other row or class.
    """
    edge = np.zeros(labels.shape, bool)
    for ahead, behind in (np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]):
        differs = labels[ahead] != labels[behind]
        edge[ahead] |= differs
        edge[behind] |= differs
    y, x = np.nonzero(edge & (labels != IGNORE))
    return np.sort((labels[y, x].astype(np.int64) * rows + y) * columns + x)


def _is_near(points: NDArray[np.int64], targets: NDArray[np.int64], columns: int, radius: float) -> NDArray[np.bool_]:
    """(points,): whether a target of the point's class lies within the radius. Searches the disc row by row."""
    targets = np.append(targets, np.iinfo(np.int64).max)
    near = np.zeros(len(points), bool)
    for step in sorted(range(-int(radius), int(radius) + 1), key=abs):
        half = int(math.sqrt(radius**2 - step**2))
        remaining = np.flatnonzero(~near)
        middle = points[remaining] + step * columns
        near[remaining] = targets[np.searchsorted(targets, middle - half)] <= middle + half
    return near
