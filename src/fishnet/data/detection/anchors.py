"""Anchors fitted to the boxes of a dataset. NumPy only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_BOXES = 50_000  # anchors are fitted to so many boxes at most, evenly spaced if there are more
MIN_STRIDES = 2  # minimum size of a level's anchors, in strides


@dataclass(frozen=True)
class Anchors:
    """The shapes of a detector's anchor boxes.

    Attributes:
        sizes: square roots of the anchors' areas, px of the input; one or more for each level, fine to coarse.
        ratios: height / width, the same for all levels.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]

    def shapes(self) -> NDArray[np.float64]:
        """(all sizes x ratios, 2): width and height, px."""
        size = np.array([size for level in self.sizes for size in level])[:, None]
        root = np.sqrt(np.array(self.ratios))[None]
        return np.stack([size / root, size * root], -1).reshape(-1, 2)


def best_overlap(boxes: NDArray[np.floating], anchors: Anchors) -> NDArray[np.float64]:
    """(n,) the highest IoU of each box with an anchor of the same centre.

    Args:
        boxes: (n, 4) x1, y1, x2, y2, px of the input, with areas above 0.
        anchors: the anchors to compare with.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    best = np.zeros(len(sides))
    for shape in anchors.shapes():
        intersection = np.minimum(sides, shape).prod(1)
        best = np.maximum(best, intersection / (sides.prod(1) + shape.prod() - intersection))
    return best


def fit_anchors(
    boxes: NDArray[np.floating],
    levels: int,
    default: Anchors,
    per_level: int = 1,
    strides: Sequence[int] = (),
) -> tuple[Anchors, str]:
    """Fits sizes and ratios to the boxes of a dataset.

    Sizes are the centres of a one-dimensional k-means clustering of logarithms, with the smallest on the finest level.
    The clustering starts at quantiles, so the result depends only on the boxes. Ratios, as many as the default has,
    are fitted likewise. Of the four combinations of fitted and default sizes and ratios, the one with the highest mean
    best IoU is returned, so the result is never worse than the default by that measure.

    Args:
        boxes: (n, 4) x1, y1, x2, y2, in px of the input; boxes without area are ignored.
        levels: number of pyramid levels.
        default: the anchors that are returned if fitted ones are not better.
        per_level: number of sizes per level.
        strides: px between the anchors of each level, fine to coarse; optional. If given, each size is at least two
            strides of its level: smaller anchors would miss objects between them, which the IoU of shapes does not
            measure.

    Returns:
        The anchors; and a line with the mean best IoU and the share of boxes with an IoU of 0.5 or more, for these
        anchors and for the default.

    Raises:
        ValueError: the default or the strides have another number of levels.
    """
    if len(default.sizes) != levels or len(strides) not in (0, levels):
        raise ValueError(f"{levels} levels, but {len(default.sizes)} of default sizes and {len(strides)} strides")
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    boxes = boxes[(sides > 0).all(1)]
    count = len(boxes)
    if not count:
        return default, f"anchors: the default, {_described(default)}: no boxes to fit to"
    boxes = boxes[:: -(-count // MAX_BOXES)]
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    minima = np.repeat(MIN_STRIDES * np.array(strides or (0,) * levels, np.float64), per_level)
    sizes = _centres(np.sqrt(width * height), levels * per_level, minima)
    ratios = _centres(height / width, len(default.ratios))
    by_level = tuple(tuple(sizes[level * per_level : (level + 1) * per_level]) for level in range(levels))
    choices = [Anchors(a, b) for a in (default.sizes, by_level) for b in (default.ratios, ratios)]
    fitted = max(choices, key=lambda anchors: best_overlap(boxes, anchors).mean())  # the first one if several are equal
    scores = {
        name: f"{overlap.mean():.2f}, {100 * (overlap >= 0.5).mean():.0f} % of boxes at 0.5 or more"
        for name, overlap in (("fitted", best_overlap(boxes, fitted)), ("default", best_overlap(boxes, default)))
    }
    if fitted == default:
        return default, f"anchors: the default, {_described(default)}, fit best: mean best IoU {scores['default']}"
    return fitted, (
        f"anchors fitted to {count:,} boxes: {_described(fitted)}: mean best IoU {scores['fitted']} "
        f"(default: {scores['default']})"
    )


def _centres(values: NDArray[np.float64], count: int, minima: NDArray[np.float64] | None = None) -> tuple[float, ...]:
    """The centres of positive values by k-means of their logarithms, in ascending order, rounded to three digits.

    Args:
        values: (n,) positive values.
        count: number of centres.
        minima: lower bound of each centre, in ascending order.
    """
    logs = np.sort(np.log(values))
    low = np.full(count, -np.inf)
    if minima is not None:
        np.log(minima, out=low, where=minima > 0)
    centres = np.maximum(np.quantile(logs, (np.arange(count) + 0.5) / count), low)
    sums = np.concatenate([[0.0], np.cumsum(logs)])
    for _ in range(100):
        edges = np.searchsorted(logs, (centres[1:] + centres[:-1]) / 2)
        ends = np.concatenate([[0], edges, [len(logs)]])
        members = np.diff(ends)
        means = np.divide(np.diff(sums[ends]), members, out=centres.copy(), where=members > 0)
        moved = np.maximum.accumulate(np.maximum(means, low))
        if np.allclose(moved, centres, rtol=0, atol=1e-6):
            break
        centres = moved
    return tuple(float(f"{math.exp(centre):.3g}") for centre in centres)


def _described(anchors: Anchors) -> str:
    sizes = " ".join("+".join(f"{size:g}" for size in level) for level in anchors.sizes)
    return f"sizes {sizes} px, height/width {' '.join(f'{ratio:g}' for ratio in anchors.ratios)}"
