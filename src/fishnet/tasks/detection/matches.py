"""Which annotated objects were found, which detections are false, and what F1 that makes at any score threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.detection.metrics import Compared, Kind, wide

IOU = 0.5
THRESHOLDS = (np.arange(1, 100) / 100).astype(np.float32)
"""Where the best threshold is looked for: numbers that a person types."""
_ROW = np.dtype([("image", "i8"), ("label", "i8"), ("score", "f4")])


@dataclass(frozen=True)
class Counts:
    """Counts by class or by image, each of shape (n,).

    Attributes:
        objects: annotated, groups left out.
        found: of these, found.
        false: detections that found no object; those on a group are not counted.
    """

    objects: NDArray[np.int64]
    found: NDArray[np.int64]
    false: NDArray[np.int64]

    def at(self, place: int) -> tuple[int, int, int]:
        """Objects, found and false of one class or image."""
        return int(self.objects[place]), int(self.found[place]), int(self.false[place])

    def total(self) -> tuple[int, int, int]:
        """Objects, found and false of all."""
        return int(self.objects.sum()), int(self.found.sum()), int(self.false.sum())


@dataclass(frozen=True)
class Matches:
    """Detections matched to annotated objects of their class, IoU 0.5 or more, the best score first.

    A detection's match does not depend on those of lower score, so that one matching serves all thresholds.

    Attributes:
        objects: rows of image, label and score of the annotated objects, groups left out; the score is that of the
            detection that found it, -1 where none did.
        false: the same of the detections that found none.
    """

    objects: NDArray[Any]
    false: NDArray[Any]

    @classmethod
    def of(cls, pairs: Sequence[Compared], kind: Kind) -> "Matches":
        """Matches a set's detections by boxes or by masks."""
        objects, false = [np.empty(0, _ROW)], [np.empty(0, _ROW)]
        for i, pair in enumerate(pairs):
            scores, wrong = matched(pair, kind)
            single = ~pair.truth.crowd
            objects.append(_rows(i, pair.truth.labels[single], scores[single]))
            false.append(_rows(i, pair.found.labels[wrong], pair.found.scores[wrong]))
        return cls(np.concatenate(objects), np.concatenate(false))

    def counts(self, threshold: float, by: Literal["image", "label"], length: int) -> Counts:
        """What is found with detections of that score and above, for each of ``length`` images or classes."""
        return Counts(
            np.bincount(self.objects[by], minlength=length),
            np.bincount(self.objects[by][self.objects["score"] >= np.float32(threshold)], minlength=length),
            np.bincount(self.false[by][self.false["score"] >= np.float32(threshold)], minlength=length),
        )

    def label(self, label: int) -> "Matches":
        """Those of one class."""
        return Matches(self.objects[self.objects["label"] == label], self.false[self.false["label"] == label])

    def f1(self) -> NDArray[np.float64]:
        """F1 of all classes together at each of :data:`THRESHOLDS`, 0..1; 0 where there is nothing to count."""
        found, false = (
            len(rows) - np.searchsorted(np.sort(rows["score"]), THRESHOLDS) for rows in (self.objects, self.false)
        )
        result: NDArray[np.float64] = 2 * found / np.maximum(1, len(self.objects) + found + false)
        return result

    def best_threshold(self) -> float:
        """The threshold with the best F1; the middle one of several."""
        values = self.f1()
        best = np.flatnonzero(values == values.max())
        return round(float(THRESHOLDS[best[len(best) // 2]]), 2)


def ratios(objects: int, found: int, false: int) -> dict[str, float | None]:
    """``precision``, ``recall`` and ``F1``, 0..1; None where there is nothing to divide by."""
    parts = {
        "precision": (found, found + false),
        "recall": (found, objects),
        "F1": (2 * found, objects + found + false),
    }
    return {name: float(part) / float(whole) if whole else None for name, (part, whole) in parts.items()}


def matched(pair: Compared, kind: Kind) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """COCO's matching in one image.

    Returns:
        The score at which each annotated object is found, (objects,), -1 where it is missed, and for each detection,
        (detections,), whether it is false: finds neither an object that none of higher score finds nor a group.
    """
    truth, found = pair.truth, pair.found
    scores = np.full(len(truth), -1, np.float32)
    false = np.ones(len(found.boxes), bool)
    overlaps = _overlaps(pair, kind) * (found.labels[:, None] == truth.labels)
    order = np.argsort(-found.scores, kind="stable")
    for i in order[(overlaps[order] >= IOU).any(1)].tolist():
        free = np.where((scores < 0) & ~truth.crowd, overlaps[i], 0)
        if free.max() >= IOU:
            scores[len(free) - 1 - free[::-1].argmax()] = found.scores[i]  # COCO's choice among equals: the last
            false[i] = False
        else:
            false[i] = not (overlaps[i][truth.crowd] >= IOU).any()
    return scores, false


def _overlaps(pair: Compared, kind: Kind) -> NDArray[np.float64]:
    """(detections, objects) IoU; with a group the share of the detection that lies in it."""
    from faster_coco_eval.core import mask as coco

    shape = len(pair.found.boxes), len(pair.truth)
    if not all(shape):
        return np.zeros(shape)
    crowd = pair.truth.crowd.astype(int).tolist()
    if kind == "box":
        sides: tuple[Any, Any] = wide(pair.found.boxes), wide(pair.truth.boxes)
    else:
        sides = list(pair.masks or ()), list(pair.truth.segmentations or ())
    return np.asarray(coco.iou(*sides, crowd), np.float64).reshape(shape)


def _rows(image: int, labels: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[Any]:
    rows = np.empty(len(labels), _ROW)
    rows["image"], rows["label"], rows["score"] = image, labels, scores
    return rows
