"""From a one-stage detector's raw outputs to its objects, in numpy: what a graph that ends with its head leaves to do.

RetinaNet (arXiv 1708.02002) and FCOS (1904.01355) as torchvision 0.29 decodes them (``postprocess_detections`` of its
``RetinaNet`` and ``FCOS``), with anchors as its ``AnchorGenerator`` makes them. A file names the raw outputs
``cls_logits`` (1, anchors, classes), ``bbox_regression`` (1, anchors, 4) and, of FCOS, ``bbox_ctrness``
(1, anchors, 1): all levels one after the other, the finest first, of each the rows from above, the columns from the
left, and at each place its anchors.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError
from fishnet.runtime.exported import RAW

LOGITS, DELTAS, CENTRES = RAW["fcos"]

STRIDES = (8, 16, 32, 64, 128)  # of the maps that the heads look at
RATIOS = (0.5, 1.0, 2.0)  # of RetinaNet's own anchors: height / width
SIZES = tuple(tuple(4 * stride * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)  # and their sizes, px
NUMBERS = {"score_threshold": 0.05, "nms_iou": 0.5, "max_detections": 100}  # of a head, where a bundle says nothing
BEST = 1000  # boxes of a level that are looked at
_LONGEST = math.log(1000 / 16)  # the most that a side grows by, as a logarithm

Floats = NDArray[np.float32]


def is_raw(outputs: tuple[str, ...]) -> bool:
    """Whether these are the names of raw outputs."""
    return outputs in RAW.values()


def decode(raw: Mapping[str, NDArray[Any]], bundle: Bundle, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """The objects in one image, best first.

    Args:
        raw: by name, (anchors, values) each.
        bundle: its head, and ``head_args``: ``anchors``, ``score_threshold``, ``nms`` and ``detections``.
        size: height and width of the input, px, multiples of 32.

    Returns:
        ``boxes`` (n, 4) float32 x1, y1, x2, y2 in px of the input, ``scores`` (n,) float32 0..1, and ``labels`` (n,)
        int64 from 0.

    Raises:
        InputError: another head's, or not as many values as anchors.
    """
    numbers = {**NUMBERS, **{name: bundle.head_args[name] for name in NUMBERS if name in bundle.head_args}}
    levels = _levels(bundle, size)
    count = sum(map(len, levels))
    for name in RAW[bundle.head]:
        if name not in raw or raw[name].shape[0] != count:
            having = raw[name].shape[0] if name in raw else "no"
            raise InputError(f"{name}: {having} values for the {count} anchors of an input of {size[0]} x {size[1]}")
    parts = []
    start = 0
    for anchors in levels:
        here = slice(start, start + len(anchors))
        parts.append(
            _level({name: raw[name][here] for name in RAW[bundle.head]}, anchors, float(numbers["score_threshold"]))
        )
        start = here.stop
    boxes, scores, labels = (np.concatenate(some) for some in zip(*parts, strict=True))
    boxes = boxes.clip(0, np.array([size[1], size[0]] * 2, np.float32))
    kept = suppress(boxes, scores, labels, float(numbers["nms_iou"]), int(numbers["max_detections"]))
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def _level(
    raw: Mapping[str, NDArray[Any]], anchors: Floats, score_threshold: float
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes, scores and labels of a level's best, best first."""
    logits = raw[LOGITS].astype(np.float32, copy=False)
    centres = raw[CENTRES].astype(np.float32, copy=False) if CENTRES in raw else None
    # what is below this even in the middle of an object needs no sigmoid: most of many classes and places
    likely = np.flatnonzero(logits >= _logit(score_threshold if centres is None else score_threshold * score_threshold))
    places, labels = np.divmod(likely, logits.shape[1])
    scores = _sigmoid(logits.ravel()[likely])
    if centres is not None:
        scores = np.sqrt(scores * _sigmoid(centres[places, 0]))
    good = np.flatnonzero(scores > score_threshold)
    if len(good) > BEST:  # before all are sorted
        good = good[scores[good] >= np.partition(scores[good], -BEST)[-BEST]]
    best = good[np.argsort(-scores[good], kind="stable")[:BEST]]
    chosen = places[best]
    turn = _boxes_by_size if centres is None else _boxes_by_edges
    boxes = turn(raw[DELTAS][chosen].astype(np.float32, copy=False), anchors[chosen])
    return boxes, scores[best], labels[best].astype(np.int64)


def _logit(score: float) -> float:
    """A little below the logit of a score."""
    return math.log(score / (1 - score)) - 1e-3 if 0 < score < 1 else (-math.inf if score <= 0 else math.inf)


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):  # of what is very unlikely: exactly 0
        return np.float32(1) / (np.float32(1) + np.exp(-values))


def _boxes_by_size(deltas: Floats, anchors: Floats) -> Floats:
    """(n, 4): the anchors' centres moved by shares of their sides, the sides scaled (torchvision's ``BoxCoder``)."""
    sides = anchors[:, 2:] - anchors[:, :2]
    middle = anchors[:, :2] + np.float32(0.5) * sides + deltas[:, :2] * sides
    half = np.float32(0.5) * (np.exp(np.minimum(deltas[:, 2:], np.float32(_LONGEST))) * sides)
    return np.concatenate([middle - half, middle + half], 1)


def _boxes_by_edges(deltas: Floats, anchors: Floats) -> Floats:
    """(n, 4): from the anchors' centres to each edge, in sides of the anchor (torchvision's ``BoxLinearCoder``)."""
    sides = anchors[:, 2:] - anchors[:, :2]
    middle = np.float32(0.5) * (anchors[:, :2] + anchors[:, 2:])
    return np.concatenate([middle - deltas[:, :2] * sides, middle + deltas[:, 2:] * sides], 1)


def _levels(bundle: Bundle, size: tuple[int, int]) -> list[Floats]:
    """The anchors of each level, (n, 4) x1, y1, x2, y2 in px of the input."""
    if bundle.head not in RAW:
        raise InputError(f"{bundle.head}: its raw outputs are not decoded here, only those of {', '.join(RAW)}")
    if bundle.head == "fcos":
        shapes: Any = [((stride,), (1.0,)) for stride in STRIDES]
    else:
        given = bundle.head_args.get("anchors") or {"sizes": SIZES, "ratios": RATIOS}
        shapes = [(sizes, given["ratios"]) for sizes in given["sizes"]]
    return [_anchors(sizes, ratios, stride, size) for (sizes, ratios), stride in zip(shapes, STRIDES, strict=True)]


def _anchors(sizes: tuple[float, ...], ratios: tuple[float, ...], stride: int, size: tuple[int, int]) -> Floats:
    """A level's anchors: whole px, at steps of whole px, which of small inputs are not the level's stride."""
    roots = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    sides = np.asarray(sizes, np.float32)[None]
    across, down = ((np.float32(1) / roots) * sides).ravel(), (roots * sides).ravel()
    shapes = (np.stack([-across, -down, across, down], 1) / np.float32(2)).round()
    high, wide = (-(-side // stride) for side in size)
    y, x = np.meshgrid(np.arange(high) * (size[0] // high), np.arange(wide) * (size[1] // wide), indexing="ij")
    places = np.stack([x, y, x, y], -1).reshape(-1, 1, 4).astype(np.float32)
    return (places + shapes).reshape(-1, 4).astype(np.float32, copy=False)


def suppress(
    boxes: Floats, scores: Floats, labels: NDArray[np.int64], nms_iou: float, max_detections: int
) -> NDArray[np.int64]:
    """Non-maximum suppression class by class: of two boxes of a class that overlap too much, the better one stays.

    Args:
        boxes: (n, 4) x1, y1, x2, y2.
        scores: (n,).
        labels: (n,).
        nms_iou: IoU above which they do, 0..1.
        max_detections: boxes that are kept.

    Returns:
        The kept boxes' numbers, best first; of equal scores the first one first.
    """
    left: NDArray[np.int64] = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(left) and len(kept) < max_detections:
        first, left = int(left[0]), left[1:]
        kept.append(first)
        box, others = boxes[first], boxes[left]
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        common = sides.clip(0, None).prod(1)
        with np.errstate(invalid="ignore"):  # two boxes without an area do not overlap
            shares = (common / (areas[first] + areas[left] - common)).astype(np.float64)
        left = left[~((shares > nms_iou) & (labels[left] == labels[first]))]
    return np.array(kept, np.int64)
