"""Detections matched to annotated objects, and the precision, recall and F1 of any score threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.detection.metrics import EvaluationPair, Kind, xyxy_to_xywh

IOU = 0.5
THRESHOLDS = (np.arange(1, 100) / 100).astype(np.float32)
"""The candidates for the best threshold: numbers that a person types."""
_ROW = np.dtype([("image", "i8"), ("label", "i8"), ("score", "f4")])


@dataclass(frozen=True)
class Counts:
    """Counts by class or by image, each of shape (n,).

    Attributes:
        objects: annotated objects, without crowds.
        true_positives: objects with a matching detection.
        false_positives: detections that match no object. Detections on a crowd are not counted.
    """

    objects: NDArray[np.int64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]

    def at(self, index: int) -> tuple[int, int, int]:
        """Objects, true positives and false positives of one class or image."""
        return int(self.objects[index]), int(self.true_positives[index]), int(self.false_positives[index])

    def total(self) -> tuple[int, int, int]:
        """Objects, true positives and false positives of all."""
        return int(self.objects.sum()), int(self.true_positives.sum()), int(self.false_positives.sum())


@dataclass(frozen=True)
class Matches:
    """Detections matched to annotated objects of their class with an IoU of at least 0.5, best score first.

    A detection's match does not depend on detections with lower scores, so one matching serves all thresholds.

    Attributes:
        objects: rows of image, label and score of the annotated objects, without crowds; the score is that of the
            matching detection, -1 where there is none.
        false_positives: rows of image, label and score of the detections that match no object.
    """

    objects: NDArray[Any]
    false_positives: NDArray[Any]

    @classmethod
    def of(cls, pairs: Sequence[EvaluationPair], kind: Kind) -> "Matches":
        """Matches a dataset's detections by boxes or by masks."""
        objects, false_positives = [np.empty(0, _ROW)], [np.empty(0, _ROW)]
        for i, pair in enumerate(pairs):
            scores, is_false = match_detections(pair, kind)
            single = ~pair.truth.crowd
            objects.append(_rows(i, pair.truth.labels[single], scores[single]))
            false_positives.append(_rows(i, pair.detections.labels[is_false], pair.detections.scores[is_false]))
        return cls(np.concatenate(objects), np.concatenate(false_positives))

    def counts(self, threshold: float, by: Literal["image", "label"], length: int) -> Counts:
        """Counts of detections with at least that score, for each of ``length`` images or classes."""
        matched = self.objects[by][self.objects["score"] >= np.float32(threshold)]
        unmatched = self.false_positives[by][self.false_positives["score"] >= np.float32(threshold)]
        return Counts(
            np.bincount(self.objects[by], minlength=length),
            np.bincount(matched, minlength=length),
            np.bincount(unmatched, minlength=length),
        )

    def label(self, label: int) -> "Matches":
        """The matches of one class."""
        objects, false_positives = (rows[rows["label"] == label] for rows in (self.objects, self.false_positives))
        return Matches(objects, false_positives)

    def f1(self) -> NDArray[np.float64]:
        """F1 of all classes together at each of :data:`THRESHOLDS`, 0..1; 0 where there is nothing to count."""
        true_positives, false_positives = (
            len(rows) - np.searchsorted(np.sort(rows["score"]), THRESHOLDS)
            for rows in (self.objects, self.false_positives)
        )
        f1: NDArray[np.float64] = (
            2 * true_positives / np.maximum(1, len(self.objects) + true_positives + false_positives)
        )
        return f1

    def best_threshold(self) -> float:
        """The threshold with the best F1; the middle one where several are equally good."""
        values = self.f1()
        best = np.flatnonzero(values == values.max())
        return round(float(THRESHOLDS[best[len(best) // 2]]), 2)


def precision_recall_f1(objects: int, true_positives: int, false_positives: int) -> dict[str, float | None]:
    """``precision``, ``recall`` and ``F1``, 0..1; None where the denominator is 0."""
    fractions = {
        "precision": (true_positives, true_positives + false_positives),
        "recall": (true_positives, objects),
        "F1": (2 * true_positives, objects + true_positives + false_positives),
    }
    return {name: above / below if below else None for name, (above, below) in fractions.items()}


def match_detections(pair: EvaluationPair, kind: Kind) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Matches the detections in one image by COCO's rules.

    Returns:
        (objects,) the score of the detection that matches each annotated object, -1 where there is none; and
        (detections,) whether each detection is a false positive: it matches neither an object that no detection with a
        higher score matches, nor a crowd.
    """
    truth, detections = pair.truth, pair.detections
    scores = np.full(len(truth), -1, np.float32)
    is_false = np.ones(len(detections.boxes), bool)
    overlaps = _overlaps(pair, kind) * (detections.labels[:, None] == truth.labels)
    order = np.argsort(-detections.scores, kind="stable")
    for i in order[(overlaps[order] >= IOU).any(1)].tolist():
        free = np.where((scores < 0) & ~truth.crowd, overlaps[i], 0)
        if free.max() >= IOU:
            scores[len(free) - 1 - free[::-1].argmax()] = detections.scores[i]  # COCO takes the last of equals
            is_false[i] = False
        else:
            is_false[i] = not (overlaps[i][truth.crowd] >= IOU).any()
    return scores, is_false


def _overlaps(pair: EvaluationPair, kind: Kind) -> NDArray[np.float64]:
    """(detections, objects) IoU; for a crowd the share of the detection that lies in it."""
    from faster_coco_eval.core import mask as coco

    shape = len(pair.detections.boxes), len(pair.truth)
    if not all(shape):
        return np.zeros(shape)
    crowd = pair.truth.crowd.astype(int).tolist()
    if kind == "box":
        sides: tuple[Any, Any] = xyxy_to_xywh(pair.detections.boxes), xyxy_to_xywh(pair.truth.boxes)
    else:
        sides = list(pair.masks or ()), list(pair.truth.segmentations or ())
    return np.asarray(coco.iou(*sides, crowd), np.float64).reshape(shape)


def _rows(image: int, labels: NDArray[np.int64], scores: NDArray[np.float32]) -> NDArray[Any]:
    rows = np.empty(len(labels), _ROW)
    rows["image"], rows["label"], rows["score"] = image, labels, scores
    return rows
