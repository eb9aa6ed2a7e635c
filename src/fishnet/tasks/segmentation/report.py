"""What a segmenter says of each px and what is true, class by class and image by image."""

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
from fishnet.tasks.confusion import draw_confusion, write_confusion
from fishnet.tasks.report_files import WORST, percent, shares, table, worst_sheet, write_csv
from fishnet.tasks.segmentation.boundaries import boundary_f1
from fishnet.tasks.segmentation.figures import truth_said_and_wrong
from fishnet.tasks.segmentation.metrics import class_scores, confusion_of, label_map_of, mean, truth_of


@dataclass(frozen=True)
class Counted:
    """One image's px.

    Attributes:
        index: of the image in its set.
        labelled: px that are not ignored.
        right: those of them that are said to be what they are.
        iou: mean IoU of the classes there or said, 0..1; None where no px is labelled.
    """

    index: int
    labelled: int
    right: int
    iou: float | None

    @property
    def wrong(self) -> float:
        """The share of the labelled px that is wrong, 0..1."""
        return 1 - self.right / self.labelled if self.labelled else 0.0


@dataclass(frozen=True, order=True)
class _Bad:
    """One of the worst images, with what was said of it, packed."""

    wrong: float
    order: int
    packed: bytes = field(compare=False)
    size: tuple[int, int] = field(compare=False)

    def labels(self) -> LabelMap:
        return np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.size)


class SegmentationReport(Report):
    """A report on a segmenter. Keeps a confusion matrix, some numbers an image, and what was said of the worst six.

    Args:
        classes: of the model's outputs.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.confusion = np.zeros((len(classes),) * 2, np.int64)
        self.images: list[Counted] = []
        self._boundaries = np.zeros((2, len(classes)))  # sums of F1, and images with a boundary
        self._worst: list[_Bad] = []
        self._pixels = self._ignored = 0

    def update(self, outputs: Sequence[Any], targets: Sequence[SegmentationTarget], indices: Sequence[int]) -> None:
        """See :class:`~fishnet.tasks.base.Report`; outputs and errors as in
        :func:`~fishnet.tasks.segmentation.metrics.label_map_of`.
        """
        for output, target, index in zip(outputs, targets, indices, strict=True):
            self._add(truth_of(target), label_map_of(output, target, self.classes), index)

    def _add(self, truth: LabelMap, said: LabelMap, index: int) -> None:
        found = confusion_of(truth, said, len(self.classes))
        self.confusion += found
        f1 = boundary_f1(truth, said, len(self.classes))
        self._boundaries += np.nan_to_num(f1), ~np.isnan(f1)
        counted = Counted(index, int(found.sum()), int(found.trace()), mean(class_scores(found)["IoU"]))
        self.images.append(counted)
        self._pixels += truth.size
        self._ignored += truth.size - counted.labelled
        bad = counted.wrong, -len(self.images)
        if counted.wrong and (len(self._worst) < WORST or bad > (self._worst[-1].wrong, self._worst[-1].order)):
            new = _Bad(*bad, zlib.compress(said.tobytes(), 1), truth.shape)
            self._worst = heapq.nlargest(WORST, [*self._worst, new])

    def boundaries(self) -> NDArray[np.float64]:
        """(classes,) mean boundary F1 of the images where the class has a boundary, true or said; NaN without any."""
        return shares(*self._boundaries)

    def metrics(self) -> dict[str, float]:
        """``mDice``, the mean Dice of the classes there or said, ``boundary_F1``, that of those with a boundary, and
        ``ignored``, the share of the pixels that were not measured, 0..1. What has nothing to divide by is left out.
        """
        values = {
            "mDice": mean(class_scores(self.confusion)["Dice"]),
            "boundary_F1": mean(self.boundaries()),
            "ignored": self._ignored / self._pixels if self._pixels else None,
        }
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        """One row a class, in the model's order: ``IoU``, ``Dice``, ``accuracy`` (of its px, the share found),
        ``precision`` and ``boundary_F1``; its ``pixels``, their ``share`` of all that are labelled, and the px ``said``
        to be it. Shares in percent, None where there is nothing to divide by.
        """
        scores = {**class_scores(self.confusion), "boundary_F1": self.boundaries()}
        true, said, total = self.confusion.sum(1), self.confusion.sum(0), self.confusion.sum()
        return [
            {
                "class": name,
                "id": self.classes.ids[k],
                **{key: None if np.isnan(values[k]) else percent(values[k], 1) for key, values in scores.items()},
                "pixels": int(true[k]),
                "share": percent(true[k], total),
                "said": int(said[k]),
            }
            for k, name in enumerate(self.classes.names)
        ]

    def lines(self) -> list[str]:
        """See :func:`~fishnet.tasks.report_files.table`."""
        columns = ["share", "IoU", "Dice", "accuracy", "precision", "boundary_F1"]
        return table(self.rows(), "pixels", "IoU", columns)

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. ``per_class.csv``, ``confusion.csv`` (the cells that are not 0),
        ``errors.csv`` (a row an image, the largest share of wrong px first), ``confusion.png``; where px are wrong
        ``worst.png``.
        """
        rows, names = self.rows(), self.classes.names
        true, said = np.nonzero(self.confusion)
        cells = true, said, self.confusion[true, said]
        worst = ((self.images[-bad.order - 1].index, bad) for bad in self._worst)
        return [
            write_csv(folder / "per_class.csv", list(rows[0]), rows),
            write_confusion(folder / "confusion.csv", names, *cells, "pixels"),
            write_csv(folder / "errors.csv", ["image", "pixels", "right", "mIoU"], self.errors(images)),
            draw_confusion(folder / "confusion.png", names, *cells, "pixels"),
            *worst_sheet(folder / "worst.png", images, worst, self._cards, columns=3),
        ]

    def errors(self, images: ImageDataset) -> list[dict[str, Any]]:
        """One row an image, the largest share of wrong px first: ``image`` (where it is from), its labelled
        ``pixels``, the share of them that is ``right`` and the ``mIoU`` of the classes there or said, in percent, None
        where no px is labelled.
        """
        return [
            {
                "image": images.source(it.index),
                "pixels": it.labelled,
                "right": percent(it.right, it.labelled),
                "mIoU": None if it.iou is None else percent(it.iou, 1),
            }
            for it in sorted(self.images, key=lambda it: -it.wrong)
        ]

    def _cards(self, image: Image.Image, truth: LabelMap, name: str, bad: _Bad) -> list[Image.Image]:
        return truth_said_and_wrong(image, truth, bad.labels(), self.classes.names, name)
