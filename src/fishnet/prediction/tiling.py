"""Detection in overlapping tiles of a large image: where the tiles lie, and how their objects are merged. Torch-free.

Several tiles see an object on a seam, some of them only in part. Three steps decide which boxes are one object. They
compare boxes of one class from different tiles; within one tile the model's own NMS has decided.

1. A box that its tile cuts off is dropped if it lies within a box that is not cut off, whatever the scores: it is a
   part of that object.
2. Two boxes are pieces of an object that is larger than the overlap if each is cut off where the other continues, and
   if they agree where both tiles see. They become one box with the higher score.
3. One of the boxes that cover the same place is kept: one that is not cut off if there is any, then the best score.
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

_SAME_IOU = 0.5  # of two boxes of one object, and of two pieces where both tiles see
_PART_SHARE = 0.5  # a cut-off box with this share of its area within another box is a part of that object
# A box is cut off if its distance to its tile's edge is at most _EDGE px plus _EDGE_SHARE of its side. The share allows
# for boxes of parts of objects, which are not exact.
_EDGE, _EDGE_SHARE = 2.0, 0.05


def tiles(height: int, width: int, size: int, overlap: float = 0.2) -> list[Tile]:
    """Squares that cover an image, row by row. They are evenly spaced, and the last ones end at the image's edges.

    Args:
        height, width: sides of the image, px. If one is shorter than ``size``, tiles have its length.
        size: side of a tile, px.
        overlap: the smallest share of a tile that the next tile covers too, 0 to 0.9.

    Raises:
        InputError: a size below 1, or an overlap out of range.
    """
    tops, lefts = (_starts(side, size, overlap) for side in (height, width))
    return [(top, left, min(top + size, height), min(left + size, width)) for top in tops for left in lefts]


def tile_count(height: int, width: int, size: int, overlap: float = 0.2) -> int:
    """The number of :func:`tiles`, without listing them. Raises as that function does."""
    return len(_starts(height, size, overlap)) * len(_starts(width, size, overlap))


def _starts(side: int, size: int, overlap: float) -> list[int]:
    if size < 1 or not 0 <= overlap <= 0.9:
        raise InputError(f"tiles of {size} px, overlap {overlap}: tiles must be 1 px or more, the overlap 0 to 0.9")
    step = max(1, math.floor(size * (1 - overlap)))
    gaps = math.ceil(max(0, side - size) / step)
    return [round(i * (side - size) / gaps) for i in range(gaps + 1)] if gaps else [0]


def merge(tile_detections: Sequence[tuple[Tile, Detections]], size: tuple[int, int]) -> Detections:
    """Merges the objects of an image's tiles: each object once, best first.

    Args:
        tile_detections: each tile and its objects, in px of the tile; at least one tile.
        size: height and width of the image.
    """
    objects = _Objects.of(tile_detections, size)
    objects = objects.take(np.flatnonzero(~_is_part_of_other(objects)))
    objects = _unite_pieces(objects)
    objects = objects.take(_suppress_duplicates(objects))
    objects = objects.take(np.argsort(-objects.scores, kind="stable"))
    classes = tile_detections[0][1].classes
    boxes = objects.boxes.astype(np.float32)
    return Detections(boxes, objects.labels, objects.scores, classes, size, objects.cropped_masks)


@dataclass(frozen=True)
class _Objects:
    """Objects in px of the image.

    Attributes:
        boxes: (n, 4).
        labels, scores, cropped_masks: as in Detections.
        cut: (n, 4) bool: whether left, top, right, bottom of the box lie at an edge of its tile within the image.
        views: (n, 4) left, top, right, bottom of the tile, or for united pieces of the smallest box around their tiles.
        tiles: (n,) numbers of the tiles that saw the object.
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    cropped_masks: tuple[CroppedMask, ...] | None
    cut: NDArray[np.bool_]
    views: NDArray[np.float64]
    tiles: tuple[frozenset[int], ...]

    @classmethod
    def of(cls, tile_detections: Sequence[tuple[Tile, Detections]], size: tuple[int, int]) -> "_Objects":
        """The objects of all tiles."""
        detections = [objects for _, objects in tile_detections]
        number = np.arange(len(detections)).repeat([len(objects) for objects in detections])
        corners = [(left, top, right, bottom) for (top, left, bottom, right), _ in tile_detections]
        views = np.array(corners, np.float64)[number]
        boxes = np.concatenate([objects.boxes for objects in detections]).astype(np.float64) + views[:, [0, 1, 0, 1]]
        tolerance = _EDGE + _EDGE_SHARE * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        inner = views != np.array([0, 0, size[1], size[0]])
        cropped_masks = None
        if all(objects.cropped_masks is not None for objects in detections):
            cropped_masks = tuple(
                CroppedMask(cropped_mask.left + left, cropped_mask.top + top, cropped_mask.bits)
                for (top, left, _, _), objects in tile_detections
                for cropped_mask in objects.cropped_masks or ()
            )
        return cls(
            boxes,
            np.concatenate([objects.labels for objects in detections]),
            np.concatenate([objects.scores for objects in detections]),
            cropped_masks,
            inner & (np.abs(boxes - views) <= tolerance),
            views,
            tuple(frozenset([i]) for i in number.tolist()),
        )

    def take(self, which: NDArray[np.int64]) -> "_Objects":
        """Some of the objects, by index."""
        return _Objects(
            self.boxes[which],
            self.labels[which],
            self.scores[which],
            None if self.cropped_masks is None else tuple(self.cropped_masks[i] for i in which.tolist()),
            self.cut[which],
            self.views[which],
            tuple(self.tiles[i] for i in which.tolist()),
        )

    def areas(self) -> NDArray[np.float64]:
        """(n,) areas of the boxes, px, more than 0."""
        areas: NDArray[np.float64] = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(1).clip(min=1e-9)
        return areas

    def spans(self) -> NDArray[np.float64]:
        """(n, 4) the boxes, extended to the edge of the tile where they are cut off."""
        return np.where(self.cut, self.views, self.boxes)

    def any_cut(self) -> NDArray[np.bool_]:
        """(n,) whether the box is cut off at any side."""
        return np.asarray(self.cut.any(1))


def _pairs(objects: _Objects) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of all pairs of boxes of one class from different tiles that touch, each pair in both orders."""
    boxes = objects.spans()
    order = np.argsort(boxes[:, 0], kind="stable")
    boxes, labels = boxes[order], objects.labels[order]
    ends = np.searchsorted(boxes[:, 0], boxes[:, 2], side="right")
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for i, end in enumerate(ends.tolist()):  # boxes that begin within the width of box i
        others = boxes[i + 1 : end]
        meet = (others[:, 1] <= boxes[i, 3]) & (others[:, 3] >= boxes[i, 1]) & (labels[i + 1 : end] == labels[i])
        js = np.flatnonzero(meet) + i + 1
        firsts.append(np.full(len(js), i))
        seconds.append(js)
    first, second = order[np.concatenate(firsts)], order[np.concatenate(seconds)]
    apart = [not objects.tiles[i] & objects.tiles[j] for i, j in zip(first.tolist(), second.tolist(), strict=True)]
    first, second = first[np.array(apart, bool)], second[np.array(apart, bool)]
    return np.concatenate([first, second]), np.concatenate([second, first])


def _intersections(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) areas of the intersections of boxes, pair by pair, px."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    areas: NDArray[np.float64] = sides.clip(min=0).prod(1)
    return areas


def _is_part_of_other(objects: _Objects) -> NDArray[np.bool_]:
    """(n,) bool: the box is cut off and lies within one that is not."""
    first, second = _pairs(objects)
    cut = objects.any_cut()
    share = _intersections(objects.boxes[first], objects.boxes[second]) / objects.areas()[first]
    is_part = np.zeros(len(objects.boxes), bool)
    is_part[first[cut[first] & ~cut[second] & (share >= _PART_SHARE)]] = True
    return is_part


def _unite_pieces(objects: _Objects) -> _Objects:
    """Unites the pieces of each object."""
    first, second = _pairs(objects)
    cut = objects.any_cut()
    kept = cut[first] & cut[second] & (first < second)
    first, second = first[kept], second[kept]
    fits = _agreements(objects, first, second)
    fits[~(_continues_beyond(objects, first, second) & _continues_beyond(objects, second, first))] = 0
    groups = {i: [i] for i in range(len(objects.boxes))}  # the pieces united with each box, in a shared list
    tiles = list(objects.tiles)  # the tiles of each box's group
    for pair in np.argsort(-fits, kind="stable").tolist():
        i, j = int(first[pair]), int(second[pair])
        if fits[pair] < _SAME_IOU:
            break
        if tiles[i] & tiles[j]:  # within one tile the model detected them as two objects
            continue
        group, group_tiles = groups[i] + groups[j], tiles[i] | tiles[j]
        for k in group:
            groups[k], tiles[k] = group, group_tiles
    return _join(objects, [groups[i] for i in range(len(objects.boxes)) if min(groups[i]) == i])


def _continues_beyond(objects: _Objects, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(pairs,) bool: the first box is cut off at an edge of its tile, and the second continues beyond that edge."""
    spans, views = objects.spans()[second], objects.views[first]
    beyond = np.hstack([spans[:, :2] < views[:, :2], spans[:, 2:] > views[:, 2:]])
    return np.asarray((objects.cut[first] & beyond).any(1))


def _agreements(objects: _Objects, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """(pairs,) 0..1: how well the boxes of each pair agree in the part of the image that both tiles see.

    This is the smaller of the IoUs of their widths and of their heights there. Where tiles only touch, both see a mere
    line, so the direction across this line is left out.
    """
    low = np.maximum(objects.views[first, :2], objects.views[second, :2])
    high = np.minimum(objects.views[first, 2:], objects.views[second, 2:])
    spans = objects.spans()
    a, b = (np.stack([spans[k, :2].clip(low, high), spans[k, 2:].clip(low, high)]) for k in (first, second))
    common = (np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])).clip(min=0)
    ious = common / (np.maximum(a[1], b[1]) - np.minimum(a[0], b[0])).clip(min=1e-9)
    touching = high == low
    ious[touching] = 1
    ious[touching.all(1) | (high < low).any(1)] = 0
    smaller: NDArray[np.float64] = ious.min(1)
    return smaller


def _join(objects: _Objects, groups: Sequence[list[int]]) -> _Objects:
    """One box per group: the smallest box around its pieces, cut off where its outermost piece is."""
    single = objects.take(np.array([group[0] for group in groups], np.int64))
    boxes, scores, cut, views = single.boxes.copy(), single.scores.copy(), single.cut.copy(), single.views.copy()
    seen, cropped_masks = list(single.tiles), list(single.cropped_masks or ())
    for k, group in enumerate(groups):
        if len(group) == 1:
            continue
        pieces = objects.boxes[group]
        outermost = np.concatenate([pieces[:, :2].argmin(0), pieces[:, 2:].argmax(0)])
        boxes[k], cut[k] = pieces[outermost, range(4)], objects.cut[group][outermost, range(4)]
        around = objects.views[group]
        views[k] = np.concatenate([around[:, :2].min(0), around[:, 2:].max(0)])
        scores[k] = objects.scores[group].max()
        seen[k] = frozenset().union(*(objects.tiles[i] for i in group))
        if objects.cropped_masks is not None:
            cropped_masks[k] = _union(objects.cropped_masks[i] for i in group)
    return _Objects(
        boxes,
        single.labels,
        scores,
        None if objects.cropped_masks is None else tuple(cropped_masks),
        cut,
        views,
        tuple(seen),
    )


def _union(pieces: Iterable[CroppedMask]) -> CroppedMask:
    """One mask that covers several."""
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


def _suppress_duplicates(objects: _Objects) -> NDArray[np.int64]:
    """Indices of the boxes that remain: one for each place."""
    first, second = _pairs(objects)
    areas, cut = objects.areas(), objects.any_cut()
    common = _intersections(objects.boxes[first], objects.boxes[second])
    iou = common / (areas[first] + areas[second] - common)
    # Whether the first box of each pair replaces the second.
    replaces = (iou >= _SAME_IOU) | (cut[second] & (common / areas[second] >= _PART_SHARE))
    rivals: dict[int, list[int]] = {}
    for i, j in zip(first[replaces].tolist(), second[replaces].tolist(), strict=True):
        rivals.setdefault(i, []).append(j)
    alive = np.ones(len(areas), bool)
    for i in np.lexsort((np.where(cut, -areas, -objects.scores), cut)).tolist():  # cut-off boxes last, by area
        if alive[i]:
            alive[rivals.get(i, [])] = False
            alive[i] = True
    return np.flatnonzero(alive)
