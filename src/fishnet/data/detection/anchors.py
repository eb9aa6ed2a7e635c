"""Anchors fitted to the boxes of the data. NumPy only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 50_000  # boxes that anchors are fitted to; of more, evenly spaced ones
LEAST_STRIDES = 2  # an anchor is at least so many of its level's strides large


@dataclass(frozen=True)
class Anchors:
    """The shapes that a detector's boxes start from.

    Attributes:
        sizes: of each level, fine to coarse, one or more: the square root of an anchor's area, px of the input.
        ratios: height / width, the same on all levels.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]

    def shapes(self) -> NDArray[np.float64]:
        """(all sizes x ratios, 2): width and height, px."""
        size = np.array([size for level in self.sizes for size in level])[:, None]
        root = np.sqrt(np.array(self.ratios))[None]
        return np.stack([size / root, size * root], -1).reshape(-1, 2)


def best_overlap(boxes: NDArray[np.floating], anchors: Anchors) -> NDArray[np.float64]:
    """(n,) the highest IoU of each box with an anchor, as if both had one centre.

    Args:
        boxes: (n, 4) x1, y1, x2, y2, px of the input, with areas above 0.
        anchors: to measure.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    best = np.zeros(len(sides))
    for shape in anchors.shapes():
        common = np.minimum(sides, shape).prod(1)
        best = np.maximum(best, common / (sides.prod(1) + shape.prod() - common))
    return best


def fit_anchors(
    boxes: NDArray[np.floating],
    levels: int,
    default: Anchors,
    per_level: int = 1,
    strides: Sequence[int] = (),
) -> tuple[Anchors, str]:
    """Sizes and ratios that lie close to the boxes of the data.

    Sizes are the centres of a k-means clustering (in one dimension, of logarithms, begun at quantiles, so that the
    outcome depends on the boxes alone), the smallest on the finest level; ratios, as many as the default has, likewise.
    Of the four combinations of these and the default's, the one with the highest mean best IoU is taken: it is never
    worse than the default by that measure.

    Args:
        boxes: (n, 4) x1, y1, x2, y2, in px of the input; those without area are passed over.
        levels: of the pyramid.
        default: what is taken where nothing is better.
        per_level: sizes of each level.
        strides: px between the anchors of each level, fine to coarse. With these no size is below two strides of its
            level: between anchors that lie further apart small objects would be missed, which IoU of shapes cannot see.

    Returns:
        The anchors, and a line about them with the mean best IoU and the share of boxes with 0.5 or more, for them and
        for the default.

    Raises:
        ValueError: the default or the strides are of another number of levels.
    """
    if len(default.sizes) != levels or len(strides) not in (0, levels):
        raise ValueError(f"{levels} levels, but {len(default.sizes)} of default sizes and {len(strides)} strides")
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    boxes = boxes[(sides > 0).all(1)]
    count = len(boxes)
    if not count:
        return default, f"anchors: the default, {_told(default)}: no boxes to fit to"
    boxes = boxes[:: -(-count // MOST)]
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    floors = np.repeat(LEAST_STRIDES * np.array(strides or (0,) * levels, np.float64), per_level)
    sizes = _centres(np.sqrt(width * height), levels * per_level, floors)
    ratios = _centres(height / width, len(default.ratios))
    by_level = tuple(tuple(sizes[level * per_level : (level + 1) * per_level]) for level in range(levels))
    choices = [Anchors(a, b) for a in (default.sizes, by_level) for b in (default.ratios, ratios)]
    found = max(choices, key=lambda anchors: best_overlap(boxes, anchors).mean())  # of equals the first
    figures = {
        name: f"{overlap.mean():.2f}, {100 * (overlap >= 0.5).mean():.0f} % of boxes at 0.5 or more"
        for name, overlap in (("fitted", best_overlap(boxes, found)), ("default", best_overlap(boxes, default)))
    }
    if found == default:
        return default, f"anchors: the default, {_told(default)}, fit best: mean best IoU {figures['default']}"
    return found, (
        f"anchors fitted to {count:,} boxes: {_told(found)}: mean best IoU {figures['fitted']} "
        f"(default: {figures['default']})"
    )


def _centres(values: NDArray[np.float64], count: int, floors: NDArray[np.float64] | None = None) -> tuple[float, ...]:
    """So many centres of positive values by k-means of their logarithms, in rising order, to three digits.

    Args:
        values: (n,).
        count: of centres.
        floors: below which each centre does not go, rising.
    """
    logs = np.sort(np.log(values))
    low = np.full(count, -np.inf) if floors is None else np.log(floors, out=np.full(count, -np.inf), where=floors > 0)
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


def _told(anchors: Anchors) -> str:
    sizes = " ".join("+".join(f"{size:g}" for size in level) for level in anchors.sizes)
    return f"sizes {sizes} px, height/width {' '.join(f'{ratio:g}' for ratio in anchors.ratios)}"
