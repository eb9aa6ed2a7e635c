"""The report on a classifier of images with any number of labels: scores by class, curves, and the worst errors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.errors import WorkError
from fishnet.prediction.drawing import card
from fishnet.prediction.results.classification import sigmoid
from fishnet.tasks.base import Report
from fishnet.tasks.classification.labels import LabelScores, macro, stacked
from fishnet.tasks.report_files import RIGHT, WRONG, percent, table, worst_sheet, write_csv

WORST = 12  # images on the sheet
_COLUMNS = ("images", "AP", "precision", "recall", "F1", "threshold")
_SMALLEST = 1e-12  # score whose logarithm is still finite


class MultiLabelReport(Report):
    """A report on scores of labels. Keeps the scores of all images.

    Args:
        classes: the classes of the model's outputs.
        thresholds: the lowest score of each label, 0..1.
    """

    def __init__(self, classes: Classes, thresholds: Sequence[float]) -> None:
        self.classes, self.thresholds = classes, np.asarray(thresholds, np.float64)
        self._parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._indices: list[int] = []

    def update(self, outputs: NDArray[np.float32], targets: NDArray[np.int8], indices: Sequence[int]) -> None:
        """See :class:`~fishnet.tasks.base.Report`. Outputs are (batch, classes) logits, targets 1, 0 or -1 (unknown).

        Raises:
            WorkError: logits that are not finite.
        """
        if not np.isfinite(outputs).all():
            raise WorkError("the model's scores are not finite (NaN or infinite): its weights are unusable")
        self._parts.append((sigmoid(outputs), np.asarray(targets, np.int8)))
        self._indices += indices

    @property
    def scores(self) -> LabelScores:
        """The scores and labels of all images."""
        return stacked(self._parts, len(self.classes))

    def metrics(self) -> dict[str, float]:
        """``F1`` at the thresholds of the report: the mean of the classes that have a positive image, 0..1."""
        return {"F1": macro(self.scores.f1(self.thresholds))}

    def warnings(self) -> list[str]:
        """What the metrics leave out: classes without a positive image, and unknown labels."""
        scores = self.scores
        lacking = [self.classes.names[i] for i in np.flatnonzero(scores.positives == 0).tolist()]
        shown = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        lines = [f"{len(lacking):,} of {len(self.classes):,} classes have no positive image and do not count: {shown}"]
        unknown = int((scores.labels < 0).sum())
        return [*(lines if lacking else ()), *([f"{unknown:,} unknown labels do not count"] if unknown else ())]

    def rows(self) -> list[dict[str, Any]]:
        """One row per class, in the model's order: ``images`` that have the label; ``AP``, and at the ``threshold``
        ``precision``, ``recall`` and ``F1``, in percent (None where undefined); images for which it is ``unknown``.
        """
        scores = self.scores
        positives, unknown = scores.positives, (scores.labels < 0).sum(0)
        chosen, correct = scores.counts(self.thresholds)
        average, f1 = scores.average_precisions(), scores.f1(self.thresholds)
        return [
            {
                "class": name,
                "id": self.classes.ids[i],
                "images": int(positives[i]),
                "AP": percent(average[i], 1) if positives[i] else None,
                "precision": percent(correct[i], chosen[i]),
                "recall": percent(correct[i], positives[i]),
                "F1": percent(f1[i], 1) if positives[i] else None,
                "threshold": round(float(self.thresholds[i]), 6),
                "unknown": int(unknown[i]),
            }
            for i, name in enumerate(self.classes.names)
        ]

    def lines(self) -> list[str]:
        """See :func:`~fishnet.tasks.report_files.table`."""
        return table(self.rows(), "images", "AP", _COLUMNS)

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. Writes ``per_class.csv``, and where there are errors
        ``most_wrong.csv`` and ``most_wrong.png``.
        """
        rows, worst = self.rows(), self.worst(images)
        path = folder / "most_wrong.csv"
        files = [write_csv(folder / "per_class.csv", list(rows[0]), rows)]
        page = worst_sheet(folder / "most_wrong.png", images, ((row["index"], row) for row in worst), _cards)
        if not page:  # no errors: removes the table of an earlier evaluation
            path.unlink(missing_ok=True)
            return files
        return [*files, write_csv(path, [name for name in worst[0] if name != "index"], worst), *page]

    def worst(self, images: ImageDataset, count: int = WORST) -> list[dict[str, Any]]:
        """The images with wrong labels whose loss (mean binary cross-entropy) is highest, worst first: ``index``,
        ``source``, the labels that were ``missed``, those that are ``wrong``, the ``true`` ones, and ``loss``.
        """
        scores = self.scores
        predicted, positive, known = scores.scores >= self.thresholds, scores.labels == 1, scores.labels >= 0
        rated = np.where(positive, scores.scores, 1 - scores.scores.astype(np.float64)).clip(_SMALLEST)
        losses = (-np.log(rated) * known).sum(1) / known.sum(1).clip(1)
        wrong = np.flatnonzero((known & (predicted != positive)).any(1))
        order = wrong[np.argsort(-losses[wrong], kind="stable")][:count]
        return [
            {
                "index": self._indices[i],
                "source": images.source(self._indices[i]),
                "missed": self._names(positive[i] & ~predicted[i]),
                "wrong": self._names(predicted[i] & ~positive[i] & known[i]),
                "true": self._names(positive[i]),
                "loss": round(float(losses[i]), 4),
            }
            for i in order.tolist()
        ]

    def _names(self, chosen: NDArray[np.bool_]) -> str:
        return "; ".join(self.classes.names[i] for i in np.flatnonzero(chosen).tolist())


def _cards(image: Image.Image, _target: Any, _name: str, row: Mapping[str, Any]) -> list[Image.Image]:
    """One card for a sheet: the image above the labels that are wrong, missed and true."""
    captions = [
        (f"wrong: {row['wrong'] or '-'}", "", WRONG),
        (f"missed: {row['missed'] or '-'}", "", WRONG),
        (f"true: {row['true'] or '-'}", "", RIGHT),
    ]
    return [card(image, captions)]
