"""Decodes a one-stage detector's raw outputs into detections, in numpy, for graphs that end with the head.

RetinaNet (arXiv 1708.02002) and FCOS (1904.01355) are decoded as torchvision 0.29 does (``postprocess_detections`` of
its ``RetinaNet`` and ``FCOS``), with anchors as its ``AnchorGenerator`` makes them. The raw outputs are named
``cls_logits`` (1, anchors, classes), ``bbox_regression`` (1, anchors, 4) and, for FCOS, ``bbox_ctrness``
(1, anchors, 1). They hold all levels in turn, the finest first. A level is stored row by row from the top, a row from
left to right, with all anchors of a position next to each other.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import HeadConfig
from fishnet.errors import InputError
from fishnet.runtime.exported import RAW

LOGITS, DELTAS, CENTRES = RAW["fcos"]

STRIDES = (8, 16, 32, 64, 128)  # of the feature maps
RATIOS = (0.5, 1.0, 2.0)  # of RetinaNet's default anchors: height / width
SIZES = tuple(tuple(4 * stride * 2 ** (i / 3) for i in range(3)) for stride in STRIDES)  # of the same anchors, px
NUMBERS = {"score_threshold": 0.05, "nms_iou": 0.5, "max_detections": 100}  # defaults if a bundle has none
BEST = 1000  # maximum number of boxes of a level that go into NMS
_MAX_GROWTH = math.log(1000 / 16)  # maximum logarithm of a side's change

Floats = NDArray[np.float32]


def is_raw(outputs: tuple[str, ...]) -> bool:
    """Whether these are the names of raw outputs."""
    return outputs in RAW.values()


def decode(raw: Mapping[str, NDArray[Any]], config: HeadConfig, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Decodes the detections of one image, best first.

    Args:
        raw: outputs by name, (anchors, values) each.
        config: of the head, whose ``head_args`` have ``anchors``, ``score_threshold``, ``nms_iou`` and
            ``max_detections``.
        size: height and width of the input, px, multiples of 32.

    Returns:
        ``boxes`` (n, 4) float32 x1, y1, x2, y2 in px of the input, ``scores`` (n,) float32 0..1, and ``labels`` (n,)
        int64 from 0.

    Raises:
        InputError: outputs of another head, or another number of values than anchors.
    """
    numbers = {**NUMBERS, **{name: config.head_args[name] for name in NUMBERS if name in config.head_args}}
    levels = _levels(config, size)
    count = sum(map(len, levels))
    for name in RAW[config.head]:
        if name not in raw or raw[name].shape[0] != count:
            values = raw[name].shape[0] if name in raw else "no"
            raise InputError(f"{name}: {values} values for the {count} anchors of an input of {size[0]} x {size[1]}")
    detections = []
    start = 0
    for anchors in levels:
        rows = slice(start, start + len(anchors))
        level = {name: raw[name][rows] for name in RAW[config.head]}
        detections.append(_decode_level(level, anchors, float(numbers["score_threshold"])))
        start = rows.stop
    boxes, scores, labels = map(np.concatenate, zip(*detections, strict=True))
    boxes = boxes.clip(0, np.array([size[1], size[0]] * 2, np.float32))
    kept = suppress(boxes, scores, labels, float(numbers["nms_iou"]), int(numbers["max_detections"]))
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def _decode_level(
    raw: Mapping[str, NDArray[Any]], anchors: Floats, score_threshold: float
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes, scores and labels of a level's best detections, best first."""
    logits = raw[LOGITS].astype(np.float32, copy=False)
    centres = raw[CENTRES].astype(np.float32, copy=False) if CENTRES in raw else None
    # Most classes and positions are too unlikely even with the best centre-ness, so their sigmoid is not computed.
    likely = np.flatnonzero(logits >= _logit(score_threshold if centres is None else score_threshold * score_threshold))
    rows, labels = np.divmod(likely, logits.shape[1])
    scores = _sigmoid(logits.ravel()[likely])
    if centres is not None:
        scores = np.sqrt(scores * _sigmoid(centres[rows, 0]))
    candidates = np.flatnonzero(scores > score_threshold)
    if len(candidates) > BEST:  # reduces the number of scores to sort
        candidates = candidates[scores[candidates] >= np.partition(scores[candidates], -BEST)[-BEST]]
    best = candidates[np.argsort(-scores[candidates], kind="stable")[:BEST]]
    chosen = rows[best]
    decode_boxes = _boxes_by_size if centres is None else _boxes_by_edges
    boxes = decode_boxes(raw[DELTAS][chosen].astype(np.float32, copy=False), anchors[chosen])
    return boxes, scores[best], labels[best].astype(np.int64)


def _logit(score: float) -> float:
    """Slightly less than the logit of a score, so that rounding loses no candidate."""
    return math.log(score / (1 - score)) - 1e-3 if 0 < score < 1 else (-math.inf if score <= 0 else math.inf)


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):  # very unlikely classes become exactly 0
        return np.float32(1) / (np.float32(1) + np.exp(-values))


def _boxes_by_size(deltas: Floats, anchors: Floats) -> Floats:
    """(n, 4): moves the anchors' centres by shares of their sides and scales the sides (torchvision's ``BoxCoder``)."""
    sides = anchors[:, 2:] - anchors[:, :2]
    middle = anchors[:, :2] + np.float32(0.5) * sides + deltas[:, :2] * sides
    half = np.float32(0.5) * (np.exp(np.minimum(deltas[:, 2:], np.float32(_MAX_GROWTH))) * sides)
    return np.concatenate([middle - half, middle + half], 1)


def _boxes_by_edges(deltas: Floats, anchors: Floats) -> Floats:
    """(n, 4): distances from the anchors' centres to the edges, in anchor sides (torchvision's ``BoxLinearCoder``)."""
    sides = anchors[:, 2:] - anchors[:, :2]
    middle = np.float32(0.5) * (anchors[:, :2] + anchors[:, 2:])
    return np.concatenate([middle - deltas[:, :2] * sides, middle + deltas[:, 2:] * sides], 1)


def _levels(config: HeadConfig, size: tuple[int, int]) -> list[Floats]:
    """The anchors of each level, (n, 4) x1, y1, x2, y2 in px of the input."""
    if config.head not in RAW:
        raise InputError(f"{config.head}: raw outputs are only decoded for {', '.join(RAW)}")
    if config.head == "fcos":
        shapes: Any = [((stride,), (1.0,)) for stride in STRIDES]
    else:
        anchors = config.head_args.get("anchors") or {"sizes": SIZES, "ratios": RATIOS}
        shapes = [(sizes, anchors["ratios"]) for sizes in anchors["sizes"]]
    return [_anchors(sizes, ratios, stride, size) for (sizes, ratios), stride in zip(shapes, STRIDES, strict=True)]


def _anchors(sizes: tuple[float, ...], ratios: tuple[float, ...], stride: int, size: tuple[int, int]) -> Floats:
    """A level's anchors, in whole px. Their steps are whole px too, which differ from the stride for small inputs."""
    roots = np.sqrt(np.asarray(ratios, np.float32))[:, None]
    sides = np.asarray(sizes, np.float32)[None]
    across, down = ((np.float32(1) / roots) * sides).ravel(), (roots * sides).ravel()
    shapes = (np.stack([-across, -down, across, down], 1) / np.float32(2)).round()
    rows, columns = (-(-side // stride) for side in size)
    tops, lefts = np.arange(rows) * (size[0] // rows), np.arange(columns) * (size[1] // columns)
    y, x = np.meshgrid(tops, lefts, indexing="ij")
    places = np.stack([x, y, x, y], -1).reshape(-1, 1, 4).astype(np.float32)
    return (places + shapes).reshape(-1, 4).astype(np.float32, copy=False)


def suppress(
    boxes: Floats, scores: Floats, labels: NDArray[np.int64], nms_iou: float, max_detections: int
) -> NDArray[np.int64]:
    """Non-maximum suppression per class: if two boxes of a class overlap too much, the better one is kept.

    Args:
        boxes: (n, 4) x1, y1, x2, y2.
        scores: (n,).
        labels: (n,).
        nms_iou: IoU above which two boxes overlap too much, 0..1.
        max_detections: maximum number of boxes kept.

    Returns:
        Indices of the kept boxes, best first. Boxes with equal scores keep their order.
    """
    remaining: NDArray[np.int64] = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(remaining) and len(kept) < max_detections:
        first, remaining = int(remaining[0]), remaining[1:]
        kept.append(first)
        box, others = boxes[first], boxes[remaining]
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        common = sides.clip(0, None).prod(1)
        with np.errstate(invalid="ignore"):  # two boxes without an area do not overlap
            ious = (common / (areas[first] + areas[remaining] - common)).astype(np.float64)
        remaining = remaining[~((ious > nms_iou) & (labels[remaining] == labels[first]))]
    return np.array(kept, np.int64)
