"""Large images in overlapping tiles: where these lie, and how their objects become the image's. Torch-free.

An object on a seam is seen by several tiles, by some of them only in part. Which boxes are one object is decided
between boxes of one class from different tiles (within one tile the model's own suppression has decided), in three
steps:

1. A box that its tile cuts off, and that lies within a box that is not cut off, is a part of that: it goes, whatever
   the scores.
2. Boxes that are both cut off where the other goes on, and that agree where both tiles see, are pieces of an object
   that is larger than the overlap: they become one, with the higher score.
3. Of boxes that cover the same place one remains: one that is not cut off before one that is, then the better score.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError
from fishnet.prediction.results import CroppedMask, Detections

Tile = tuple[int, int, int, int]
"""Top, left, bottom and right, px of the image."""

_SAME = 0.5  # IoU of two boxes that are one object, and of two pieces where both tiles see
_PART = 0.5  # share of a cut box within another, of which it is then a part
_NEAR = 2.0  # px from its tile's edge at which a box counts as cut off, and
_NEAR_SHARE = 0.05  # of its side: boxes of parts of objects are not exact


def tiles(height: int, width: int, size: int, overlap: float = 0.2) -> list[Tile]:
    """Squares that cover an image, evenly spaced, the last ones flush with its edges; row by row.

    Args:
        height, width: of the image, px; a side that is shorter than a tile makes tiles as short.
        size: a tile's side, px.
        overlap: the least share of a tile that the next one sees too, 0 to 0.9.

    Raises:
        InputError: a size below 1 or another overlap.
    """
    if size < 1 or not 0 <= overlap <= 0.9:
        raise InputError(f"tiles of {size} px with an overlap of {overlap}: must be 1 px or more, and 0 to 0.9")
    step = max(1, math.floor(size * (1 - overlap)))
    tops, lefts = (_starts(side, size, step) for side in (height, width))
    return [(top, left, min(top + size, height), min(left + size, width)) for top in tops for left in lefts]


def _starts(side: int, size: int, step: int) -> list[int]:
    gaps = math.ceil(max(0, side - size) / step)
    return [round(i * (side - size) / gaps) for i in range(gaps + 1)] if gaps else [0]


def merge(parts: Sequence[tuple[Tile, Detections]], size: tuple[int, int]) -> Detections:
    """The objects of an image's tiles as the image's, each once, best first.

    Args:
        parts: each tile and what was found in it, in px of the tile; one at least.
        size: height and width of the image.
    """
    found = _Found.of(parts, size)
    found = found.take(np.flatnonzero(~_parts_of_whole_ones(found)))
    found = _united(found)
    found = found.take(_without_doubles(found))
    best = np.argsort(-found.scores, kind="stable")
    kept = found.take(best)
    return Detections(
        kept.boxes.astype(np.float32), kept.labels, kept.scores, parts[0][1].classes, size, kept.cropped_masks
    )


@dataclass(frozen=True)
class _Found:
    """Boxes in px of the image.

    Attributes:
        boxes: (n, 4).
        labels, scores, cropped_masks: as in Detections.
        cut: (n, 4) bool: left, top, right, bottom lie at an edge of the box's tile within the image.
        views: (n, 4) left, top, right, bottom of the tile; of united ones the smallest box around theirs.
        tiles: (n) which tiles found it.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    cropped_masks: tuple[CroppedMask, ...] | None
    cut: NDArray[np.bool_]
    views: NDArray[np.float64]
    tiles: tuple[frozenset[int], ...]

    @classmethod
    def of(cls, parts: Sequence[tuple[Tile, Detections]], size: tuple[int, int]) -> "_Found":
        """All that was found."""
        counts = [len(found) for _, found in parts]
        number = np.arange(len(parts)).repeat(counts)
        views = np.array([(left, top, right, bottom) for (top, left, bottom, right), _ in parts], np.float64)[number]
        boxes = np.concatenate([found.boxes for _, found in parts]).astype(np.float64) + views[:, [0, 1, 0, 1]]
        near = _NEAR + _NEAR_SHARE * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        inner = views != np.array([0, 0, size[1], size[0]])
        cropped_masks = None
        if all(found.cropped_masks is not None for _, found in parts):
            cropped_masks = tuple(
                CroppedMask(cropped_mask.left + left, cropped_mask.top + top, cropped_mask.bits)
                for (top, left, _, _), found in parts
                for cropped_mask in found.cropped_masks or ()
            )
        return cls(
            boxes,
            np.concatenate([found.labels for _, found in parts]),
            np.concatenate([found.scores for _, found in parts]),
            cropped_masks,
            inner & (np.abs(boxes - views) <= near),
            views,
            tuple(frozenset([i]) for i in number.tolist()),
        )

    def take(self, which: NDArray[np.int64]) -> "_Found":
        """Some of them, by index."""
        return _Found(
            self.boxes[which],
            self.labels[which],
            self.scores[which],
            None if self.cropped_masks is None else tuple(self.cropped_masks[i] for i in which.tolist()),
            self.cut[which],
            self.views[which],
            tuple(self.tiles[i] for i in which.tolist()),
        )

    def areas(self) -> NDArray[np.float64]:
        """(n,) px, more than 0."""
        areas: NDArray[np.float64] = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(1).clip(min=1e-9)
        return areas

    def spans(self) -> NDArray[np.float64]:
        """(n, 4) the boxes, where they are cut off up to the very edge of the tile."""
        return np.where(self.cut, self.views, self.boxes)

    def any_cut(self) -> NDArray[np.bool_]:
        """(n,) whether anywhere."""
        return np.asarray(self.cut.any(1))


def _pairs(found: _Found) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both indices of all pairs of one class from different tiles whose boxes meet, in either order."""
    boxes = found.spans()
    order = np.argsort(boxes[:, 0], kind="stable")
    boxes, labels = boxes[order], found.labels[order]
    ends = np.searchsorted(boxes[:, 0], boxes[:, 2], side="right")
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, end in enumerate(ends.tolist()):  # those that begin within this one's width
        others = boxes[i + 1 : end]
        meet = (others[:, 1] <= boxes[i, 3]) & (others[:, 3] >= boxes[i, 1]) & (labels[i + 1 : end] == labels[i])
        js = np.flatnonzero(meet) + i + 1
        firsts.append(np.full(len(js), i))
        seconds.append(js)
    one, two = order[np.concatenate(firsts)], order[np.concatenate(seconds)]
    apart = [not found.tiles[i] & found.tiles[j] for i, j in zip(one.tolist(), two.tolist(), strict=True)]
    one, two = one[np.array(apart, bool)], two[np.array(apart, bool)]
    return np.concatenate([one, two]), np.concatenate([two, one])


def _common(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) px that the boxes of each pair have in common."""
    sides = np.minimum(one[:, 2:], two[:, 2:]) - np.maximum(one[:, :2], two[:, :2])
    areas: NDArray[np.float64] = sides.clip(min=0).prod(1)
    return areas


def _parts_of_whole_ones(found: _Found) -> NDArray[np.bool_]:
    """(n,) bool: cut off, and within one that is not."""
    one, two = _pairs(found)
    cut = found.any_cut()
    share = _common(found.boxes[one], found.boxes[two]) / found.areas()[one]
    parts = np.zeros(len(found.boxes), bool)
    parts[one[cut[one] & ~cut[two] & (share >= _PART)]] = True
    return parts


def _united(found: _Found) -> _Found:
    """With the pieces of each object as one."""
    one, two = _pairs(found)
    some = found.any_cut()
    kept = some[one] & some[two] & (one < two)
    one, two = one[kept], two[kept]
    fits = _agreement(found, one, two)
    fits[~(_goes_on(found, one, two) & _goes_on(found, two, one))] = 0
    groups = {i: [i] for i in range(len(found.boxes))}  # of each, the pieces it is one with; shared by these
    tiles = list(found.tiles)  # of each, the tiles of its group
    for pair in np.argsort(-fits, kind="stable").tolist():
        i, j = int(one[pair]), int(two[pair])
        if fits[pair] < _SAME:
            break
        if tiles[i] & tiles[j]:  # its own tile has told these apart
            continue
        together, seen = groups[i] + groups[j], tiles[i] | tiles[j]
        for k in together:
            groups[k], tiles[k] = together, seen
    return _joined(found, [groups[i] for i in range(len(found.boxes)) if min(groups[i]) == i])


def _goes_on(found: _Found, one: NDArray[np.int64], two: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(pairs,) bool: the first is cut off at an edge of its tile beyond which the second goes on."""
    spans, views = found.spans()[two], found.views[one]
    beyond = np.hstack([spans[:, :2] < views[:, :2], spans[:, 2:] > views[:, 2:]])
    return np.asarray((found.cut[one] & beyond).any(1))


def _agreement(found: _Found, one: NDArray[np.int64], two: NDArray[np.int64]) -> NDArray[np.float64]:
    """(pairs,) 0..1: how alike the pair's boxes are in the part of the image that both tiles see.

    The smaller of the IoUs of their widths and of their heights there; tiles that only touch see the boxes end in one
    line, of which the other direction says nothing.
    """
    low = np.maximum(found.views[one, :2], found.views[two, :2])
    high = np.minimum(found.views[one, 2:], found.views[two, 2:])
    spans = found.spans()
    a, b = (np.stack([spans[k, :2].clip(low, high), spans[k, 2:].clip(low, high)]) for k in (one, two))
    common = (np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])).clip(min=0)
    ious = common / (np.maximum(a[1], b[1]) - np.minimum(a[0], b[0])).clip(min=1e-9)
    touching = high == low
    ious[touching] = 1
    ious[touching.all(1) | (high < low).any(1)] = 0
    alike: NDArray[np.float64] = ious.min(1)
    return alike


def _joined(found: _Found, groups: Sequence[list[int]]) -> _Found:
    """One box for each group: around its pieces, cut off where its outermost piece is."""
    single = found.take(np.array([group[0] for group in groups], np.int64))
    boxes, scores, cut, views = single.boxes.copy(), single.scores.copy(), single.cut.copy(), single.views.copy()
    seen, cropped_masks = list(single.tiles), list(single.cropped_masks or ())
    for k, group in enumerate(groups):
        if len(group) == 1:
            continue
        pieces = found.boxes[group]
        outermost = np.concatenate([pieces[:, :2].argmin(0), pieces[:, 2:].argmax(0)])
        boxes[k], cut[k] = pieces[outermost, range(4)], found.cut[group][outermost, range(4)]
        around = found.views[group]
        views[k] = np.concatenate([around[:, :2].min(0), around[:, 2:].max(0)])
        scores[k] = found.scores[group].max()
        seen[k] = frozenset().union(*(found.tiles[i] for i in group))
        if found.cropped_masks is not None:
            cropped_masks[k] = _all_of(found.cropped_masks[i] for i in group)
    return _Found(
        boxes,
        single.labels,
        scores,
        None if found.cropped_masks is None else tuple(cropped_masks),
        cut,
        views,
        tuple(seen),
    )


def _all_of(pieces: Iterable[CroppedMask]) -> CroppedMask:
    """One mask of several."""
    pieces = list(pieces)
    left, top = min(piece.left for piece in pieces), min(piece.top for piece in pieces)
    bottom = max(piece.top + piece.bits.shape[0] for piece in pieces)
    right = max(piece.left + piece.bits.shape[1] for piece in pieces)
    bits = np.zeros((bottom - top, right - left), bool)
    for piece in pieces:
        height, width = piece.bits.shape
        y, x = piece.top - top, piece.left - left
        bits[y : y + height, x : x + width] |= piece.bits
    return CroppedMask(left, top, bits)


def _without_doubles(found: _Found) -> NDArray[np.int64]:
    """Indices of one box for each place."""
    one, two = _pairs(found)
    areas, cut = found.areas(), found.any_cut()
    common = _common(found.boxes[one], found.boxes[two])
    iou = common / (areas[one] + areas[two] - common)
    same = (iou >= _SAME) | (cut[two] & (common / areas[two] >= _PART))  # the first may take the second's place
    rivals: dict[int, list[int]] = {}
    for i, j in zip(one[same].tolist(), two[same].tolist(), strict=True):
        rivals.setdefault(i, []).append(j)
    alive = np.ones(len(areas), bool)
    for i in np.lexsort((np.where(cut, -areas, -found.scores), cut)).tolist():  # of cut ones the largest first
        if alive[i]:
            alive[rivals.get(i, [])] = False
            alive[i] = True
    return np.flatnonzero(alive)
