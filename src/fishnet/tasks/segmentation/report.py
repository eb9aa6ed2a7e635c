"""The report on a segmenter: predicted and true labels of px, by class and by image."""

import heapq
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.segmentation.base import LabelMap, SegmentationTarget
from fishnet.tasks.base import Report
from fishnet.tasks.confusion import Confusion, draw_confusion, write_confusion
from fishnet.tasks.report_files import WORST, nan_mean, percent, shares, table, worst_sheet, write_csv
from fishnet.tasks.segmentation.boundaries import boundary_f1
from fishnet.tasks.segmentation.figures import error_cards
from fishnet.tasks.segmentation.metrics import class_scores, confusion_matrix, predicted_labels, true_labels


@dataclass(frozen=True)
class ImageScores:
    """The scores of one image.

    Attributes:
        index: the image's index in its dataset.
        labelled: number of px that are not ignored.
        correct: number of labelled px with the correct prediction.
        iou: mean IoU of the classes that are annotated or predicted, 0..1; None where no px is labelled.
    """

    index: int
    labelled: int
    correct: int
    iou: float | None

    @property
    def error(self) -> float:
        """The share of the labelled px with a wrong prediction, 0..1."""
        return 1 - self.correct / self.labelled if self.labelled else 0.0


@dataclass(frozen=True, order=True)
class _WorstImage:
    """One of the worst images, with its predicted label map, compressed."""

    error: float
    order: int
    compressed: bytes = field(compare=False)
    size: tuple[int, int] = field(compare=False)

    def labels(self) -> LabelMap:
        return np.frombuffer(zlib.decompress(self.compressed), np.uint8).reshape(self.size)


class SegmentationReport(Report):
    """A report on a segmenter. Keeps a confusion matrix, some numbers per image, and the label maps of the worst six.

    Args:
        classes: the classes of the model's outputs.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes),) * 2, np.int64)
        self.images: list[ImageScores] = []
        self._boundaries = np.zeros((2, len(classes)))  # sum of F1, and number of images with a boundary
        self._worst: list[_WorstImage] = []
        self._pixels = self._ignored = 0

    def update(self, outputs: Sequence[Any], targets: Sequence[SegmentationTarget], indices: Sequence[int]) -> None:
        """See :class:`~fishnet.tasks.base.Report`. Outputs and errors as in
        :func:`~fishnet.tasks.segmentation.metrics.predicted_labels`.
        """
        for output, target, index in zip(outputs, targets, indices, strict=True):
            self._add(true_labels(target), predicted_labels(output, target, self.classes), index)

    def _add(self, truth: LabelMap, predicted: LabelMap, index: int) -> None:
        confusion = confusion_matrix(truth, predicted, len(self.classes))
        self.confusion += confusion
        f1 = boundary_f1(truth, predicted, len(self.classes))
        self._boundaries += np.nan_to_num(f1), ~np.isnan(f1)
        iou = nan_mean(class_scores(confusion)["IoU"])
        scores = ImageScores(index, int(confusion.sum()), int(confusion.trace()), iou)
        self.images.append(scores)
        self._pixels += truth.size
        self._ignored += truth.size - scores.labelled
        rank = scores.error, -len(self.images)
        if scores.error and (len(self._worst) < WORST or rank > (self._worst[-1].error, self._worst[-1].order)):
            image = _WorstImage(*rank, zlib.compress(predicted.tobytes(), 1), truth.shape)
            self._worst = heapq.nlargest(WORST, [*self._worst, image])

    def boundaries(self) -> NDArray[np.float64]:
        """(classes,) mean boundary F1 of the images where the class has a true or predicted boundary; NaN if none."""
        return shares(*self._boundaries)

    def metrics(self) -> dict[str, float]:
        """``mDice``, the mean Dice of the classes that are annotated or predicted; ``boundary_F1``, the mean boundary
        F1 of the classes with a boundary; ``ignored``, the share of ignored pixels. All 0..1; undefined ones are left
        out.
        """
        values = {
            "mDice": nan_mean(class_scores(self.confusion)["Dice"]),
            "boundary_F1": nan_mean(self.boundaries()),
            "ignored": self._ignored / self._pixels if self._pixels else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        """One row per class, in the model's order: ``IoU``, ``Dice``, ``accuracy``, ``precision`` and ``boundary_F1``;
        the number of its ``pixels``, their ``share`` of all labelled pixels, and the number of pixels predicted as the
        class (``predicted``). Scores and shares are in percent, None where undefined.
        """
        scores = {**class_scores(self.confusion), "boundary_F1": self.boundaries()}
        true, predicted, total = self.confusion.sum(1), self.confusion.sum(0), self.confusion.sum()
        return [
            {
                "class": name,
                "id": self.classes.ids[k],
                **{key: None if np.isnan(values[k]) else percent(values[k], 1) for key, values in scores.items()},
                "pixels": int(true[k]),
                "share": percent(true[k], total),
                "predicted": int(predicted[k]),
            }
            for k, name in enumerate(self.classes.names)
        ]

    def lines(self) -> list[str]:
        """See :func:`~fishnet.tasks.report_files.table`."""
        columns = ["share", "IoU", "Dice", "accuracy", "precision", "boundary_F1"]
        return table(self.rows(), "pixels", "IoU", columns)

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. Writes ``per_class.csv``, ``confusion.csv`` (the cells that are not
        0), ``errors.csv`` (one row per image, the largest share of wrong px first), ``confusion.png``, and where px are
        wrong ``worst.png``.
        """
        rows, names = self.rows(), self.classes.names
        true, predicted = np.nonzero(self.confusion)
        confusion = Confusion(names, true, predicted, self.confusion[true, predicted], "pixels")
        worst = ((self.images[-image.order - 1].index, image) for image in self._worst)
        return [
            write_csv(folder / "per_class.csv", list(rows[0]), rows),
            write_confusion(folder / "confusion.csv", confusion),
            write_csv(folder / "errors.csv", ["image", "pixels", "right", "mIoU"], self.errors(images)),
            draw_confusion(folder / "confusion.png", confusion),
            *worst_sheet(folder / "worst.png", images, worst, self._cards, columns=3),
        ]

    def errors(self, images: ImageDataset) -> list[dict[str, Any]]:
        """One row per image, the largest share of wrong px first: ``image`` (its source), the number of its labelled
        ``pixels``, the share of them with the correct prediction (``right``), and the ``mIoU`` of the classes that are
        annotated or predicted. In percent, None where no px is labelled.
        """
        return [
            {
                "image": images.source(scores.index),
                "pixels": scores.labelled,
                "right": percent(scores.correct, scores.labelled),
                "mIoU": None if scores.iou is None else percent(scores.iou, 1),
            }
            for scores in sorted(self.images, key=lambda scores: -scores.error)
        ]

    def _cards(self, image: Image.Image, truth: LabelMap, name: str, worst: _WorstImage) -> list[Image.Image]:
        return error_cards(image, truth, worst.labels(), self.classes.names, name)
