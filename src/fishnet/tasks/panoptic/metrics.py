"""Panoptic quality, in px of the original images. NumPy only, torch-free.

Kirillov et al., "Panoptic Segmentation" (arXiv 1801.00868), section 4. The values are those of COCO's ``panopticapi``.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.panoptic import SegmentClass
from fishnet.errors import InputError
from fishnet.images.segment_ids import MAX_ID, check_range, dense_ids

if TYPE_CHECKING:
    from fishnet.data.panoptic.base import PanopticTruth
    from fishnet.prediction.results import Panoptic

_SUFFIXES = {"": (True, False), "_th": (True,), "_st": (False,)}  # things and stuff as in detectron2


class Segments(NamedTuple):
    """The segments of one image, as far as their quality depends on them.

    Attributes:
        ids: (height, width) segment ids, 0 where there is no segment (void).
        labels: segment id -> index of its class.
        crowds: ids of the segments that are groups of things; only annotations have them.
    """

    ids: NDArray[np.integer]
    labels: Mapping[int, int]
    crowds: Collection[int] = ()

    @classmethod
    def of_result(cls, result: "Panoptic") -> "Segments":
        """The segments of a prediction."""
        return cls(result.ids, {segment.id: segment.label for segment in result.segments})

    @classmethod
    def of_truth(cls, truth: "PanopticTruth") -> "Segments":
        """The annotated segments."""
        crowds = [segment.id for segment in truth.segments if segment.iscrowd]
        return cls(truth.ids, {segment.id: segment.category for segment in truth.segments}, crowds)


class PanopticQuality:
    """PQ, SQ and RQ over images: of all classes, of things, of stuff, and of each class.

    A predicted and an annotated segment of one class match if their IoU is above 0.5. Pixels of the predicted segment
    that are void in the annotation do not count in the union. An annotated segment without a match is a false negative,
    and a predicted one a false positive, with two exceptions. Crowds are never matched and never false negatives. A
    predicted segment is ignored if more than half of it is void in the annotation or belongs to the crowd of its class.
    COCO's format has one crowd per class and image; of several, the last one listed counts, as in ``panopticapi``.

    Args:
        classes: the classes of the segments.

    Attributes:
        sums: (classes, 4) float64: the sum of the IoU of the matches, and the numbers of matches, false positives and
            false negatives. The sums of several processes may be added.
    """

    def __init__(self, classes: Sequence[SegmentClass]) -> None:
        self.classes = tuple(classes)
        self.sums = np.zeros((len(self.classes), 4))

    def update(self, predicted: Segments, truth: Segments) -> None:
        """Adds an image.

        Raises:
            InputError: maps of different sizes, pixels with an id that no segment has, a class that does not exist, or
                a predicted segment without pixels.
        """
        if predicted.ids.shape != truth.ids.shape:
            sizes = [f"{each.ids.shape[1]}x{each.ids.shape[0]} px" for each in (predicted, truth)]
            raise InputError(f"predicted segments of {sizes[0]} and annotated ones of {sizes[1]}: sizes must be equal")
        rows, columns = self._labels(truth, "annotated"), self._labels(predicted, "predicted")
        true, pred, pixels = _intersections(truth, predicted)
        shape = len(rows), len(columns)
        true_areas, pred_areas = (np.bincount(i, pixels, n) for i, n in zip((true, pred), shape, strict=True))
        if not pred_areas[1:].all():
            empty = sorted(predicted.labels)[int(np.flatnonzero(pred_areas[1:] == 0)[0])]
            raise InputError(f"the predicted segment {empty} has no pixels: leave it out")
        void = np.bincount(pred[true == 0], pixels[true == 0], shape[1])
        crowd = np.array([False, *(id_ in truth.crowds for id_ in sorted(truth.labels))])
        alike = (true > 0) & (pred > 0) & (rows[true] == columns[pred]) & ~crowd[true]
        union = pred_areas[pred] + true_areas[true] - pixels - void[pred]
        iou = np.divide(pixels, union, out=np.zeros(len(pixels)), where=alike)
        match = iou > 0.5
        np.add.at(self.sums[:, 0], rows[true[match]], iou[match])  # in this order also the last bits are panopticapi's
        missed, wrong = ~crowd, np.ones(shape[1], bool)
        missed[0] = wrong[0] = False
        missed[true[match]] = wrong[pred[match]] = False
        ignored = void + _crowd_pixels(truth, (true, pred, pixels), columns)
        wrong[1:] &= ignored[1:] / pred_areas[1:] <= 0.5
        for column, labels in ((1, rows[true[match]]), (2, columns[wrong]), (3, rows[missed])):
            self.sums[:, column] += np.bincount(labels, minlength=len(self.classes))

    def merge_state(self, others: Sequence["PanopticQuality"]) -> None:
        """Adds the images of other processes."""
        for other in others:
            self.sums += other.sums

    def compute(self) -> dict[str, float]:
        """The means over the classes that are annotated or predicted, 0..1.

        Returns:
            ``PQ``, ``SQ`` and ``RQ`` of all classes, 0 where there is no segment; the same with ``_th`` for things and
            ``_st`` for stuff, left out where there is none.
        """
        scores = self.scores()
        counted = ~np.isnan(scores["PQ"])
        values = {}
        for suffix, kinds in _SUFFIXES.items():
            chosen = counted & np.array([one.is_thing in kinds for one in self.classes], bool)
            if chosen.any():
                values.update({f"{name}{suffix}": float(each[chosen].mean()) for name, each in scores.items()})
            elif not suffix:
                values.update(dict.fromkeys(scores, 0.0))
        return values

    def scores(self) -> dict[str, NDArray[np.float64]]:
        """``PQ``, ``SQ`` and ``RQ`` of each class, (classes,) 0..1, NaN for classes without segments."""
        iou, matches, wrong, missed = self.sums.T
        total = matches + wrong / 2 + missed / 2
        undefined = np.where(total > 0, 0.0, np.nan)  # SQ is 0, as in panopticapi, where nothing matches
        return {
            "PQ": np.divide(iou, total, out=undefined.copy(), where=total > 0),
            "SQ": np.divide(iou, matches, out=undefined.copy(), where=matches > 0),
            "RQ": np.divide(matches, total, out=undefined.copy(), where=total > 0),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per class: ``class``, ``id``, ``is_thing``; ``PQ``, ``SQ`` and ``RQ`` in percent, None for classes
        without segments; the number of annotated ``segments`` without crowds, and of ``matches``, ``false_positives``
        and ``false_negatives``.
        """
        scores = {name: [_percent(value) for value in each.tolist()] for name, each in self.scores().items()}
        counts = self.sums[:, 1:].astype(np.int64).tolist()
        return [
            {
                "class": one.name,
                "id": one.id,
                "is_thing": one.is_thing,
                **{name: values[i] for name, values in scores.items()},
                "segments": counts[i][0] + counts[i][2],
                **dict(zip(("matches", "false_positives", "false_negatives"), counts[i], strict=True)),
            }
            for i, one in enumerate(self.classes)
        ]

    def _labels(self, segments: Segments, kind: str) -> NDArray[np.int64]:
        """(segments + 1,) class indices, in the order of the ids, after -1 for void."""
        for id_, label in segments.labels.items():
            if not 0 <= label < len(self.classes):
                raise InputError(
                    f"the {kind} segment {id_} has the class index {label}: must be below {len(self.classes)}"
                )
        return np.array([-1, *(label for _, label in sorted(segments.labels.items()))], np.int64)


def _percent(value: float) -> float | None:
    return None if np.isnan(value) else round(100 * value, 4)


def _intersections(truth: Segments, predicted: Segments) -> tuple[NDArray[np.int64], ...]:
    """The pairs of segments that share pixels, in the order of their ids.

    Returns:
        The number of the annotated and of the predicted segment of each pair, in the order of the ids, from 1, or 0 for
        void; and the number of its pixels.
    """
    for each in (truth.ids, predicted.ids):
        check_range(each)
    shift = MAX_ID.bit_length()
    cells, pixels = np.unique((truth.ids.astype(np.int64) << shift) | predicted.ids, return_counts=True)
    true = dense_ids(cells >> shift, sorted(truth.labels)).astype(np.int64)
    pred = dense_ids(cells & MAX_ID, sorted(predicted.labels)).astype(np.int64)
    return true, pred, pixels


def _crowd_pixels(
    truth: Segments, pairs: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(predicted segments + 1,) pixels of each predicted segment that belong to the crowd of its class."""
    true, pred, pixels = pairs
    numbers = {id_: number for number, id_ in enumerate(sorted(truth.labels), 1)}
    crowds = {truth.labels[id_]: numbers[id_] for id_ in truth.labels if id_ in truth.crowds}  # the last of each class
    totals = np.zeros(len(columns), np.int64)
    for label, number in crowds.items():
        inside = (true == number) & (columns[pred] == label)
        totals[pred[inside]] = pixels[inside]
    return totals
