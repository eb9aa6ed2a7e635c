"""The report on a classifier: scores by class, confusion matrix, calibration, and the worst errors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.errors import WorkError
from fishnet.tasks.base import Report
from fishnet.tasks.classification.figures import BINS, Calibration, draw_reliability, error_cards
from fishnet.tasks.confusion import Confusion, draw_confusion, write_confusion
from fishnet.tasks.report_files import percent, table, worst_sheet, write_csv

WORST = 12  # images on the sheet
_MAX_SCORE = float(np.nextafter(np.float32(1), np.float32(0)))  # torchmetrics would put 1.0 into a bin of its own
_ROW = np.dtype([("true", "i8"), ("predicted", "i8"), ("index", "i8"), ("score", "f8"), ("loss", "f8")])


class ClassificationReport(Report):
    """A report on a classifier. Keeps five numbers per image and no scores, so that many classes cost no memory.

    Args:
        classes: the classes of the model's outputs.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self._buffer = bytearray()  # one block: many small arrays would fragment the memory

    def update(self, outputs: NDArray[np.float32], targets: NDArray[np.int64], indices: Sequence[int]) -> None:
        """See :class:`~fishnet.tasks.base.Report`. Outputs are (batch, classes) logits, targets (batch,) class indices.

        Raises:
            WorkError: logits that are not finite.
        """
        if not np.isfinite(outputs).all():
            raise WorkError("the model's scores are not finite (NaN or infinite): its weights are unusable")
        log_scores = torch.from_numpy(outputs).double().log_softmax(1)
        best, predicted = log_scores.max(1)
        rows = np.empty(len(indices), _ROW)
        rows["true"], rows["predicted"], rows["index"] = targets, predicted.numpy(), indices
        rows["score"] = best.exp().clamp(max=_MAX_SCORE).numpy()
        rows["loss"] = -log_scores.gather(1, torch.as_tensor(targets)[:, None])[:, 0].numpy()
        self._buffer += rows.tobytes()

    def _rows(self) -> NDArray[Any]:
        """One row per image: true class, predicted class, index, score of the predicted class, loss."""
        return np.frombuffer(bytes(self._buffer), _ROW)

    def metrics(self) -> dict[str, float]:
        """``ECE``: expected calibration error of the predicted class, over 15 bins of equal width, 0..1."""
        from torchmetrics.functional.classification import binary_calibration_error

        rows = self._rows()
        correct = torch.from_numpy((rows["true"] == rows["predicted"]).astype(np.int64))
        scores = torch.from_numpy(rows["score"].astype(np.float32))
        return {"ECE": float(binary_calibration_error(scores, correct, n_bins=BINS, norm="l1"))}

    def confusion(self) -> Confusion:
        """The confusion matrix, in images."""
        rows = self._rows()
        cells, counts = np.unique(rows["true"] * len(self.classes) + rows["predicted"], return_counts=True)
        return Confusion(self.classes.names, cells // len(self.classes), cells % len(self.classes), counts)

    def calibration(self) -> Calibration:
        """Images, accuracy and mean confidence of each bin."""
        rows = self._rows()
        bins = (rows["score"] * BINS).astype(np.int64)
        counts = np.bincount(bins, minlength=BINS)
        divisors = np.maximum(counts, 1)
        return Calibration(
            counts,
            np.bincount(bins, rows["true"] == rows["predicted"], BINS) / divisors,
            np.bincount(bins, rows["score"], BINS) / divisors,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row per class, in the model's order: its ``images``, ``recall`` and ``precision`` in percent (None where
        undefined), the class it is most often mistaken for (``mistaken_for``), and how many times (``mistaken``).
        """
        confusion, total = self.confusion(), len(self.classes)
        images = np.bincount(confusion.true, confusion.counts, total).astype(np.int64)
        predicted = np.bincount(confusion.predicted, confusion.counts, total).astype(np.int64)
        diagonal = confusion.true == confusion.predicted
        correct = np.bincount(confusion.true[diagonal], confusion.counts[diagonal], total).astype(np.int64)
        mistakes: dict[int, tuple[int, int]] = {}
        cells = (confusion.true[~diagonal], confusion.predicted[~diagonal], confusion.counts[~diagonal])
        for true, mistaken, count in zip(*(values.tolist() for values in cells), strict=True):
            if count > mistakes.get(true, (0, 0))[1]:
                mistakes[true] = mistaken, count
        return [
            {
                "class": name,
                "id": self.classes.ids[i],
                "images": int(images[i]),
                "recall": percent(correct[i], images[i]),
                "precision": percent(correct[i], predicted[i]),
                "mistaken_for": self.classes.names[mistakes[i][0]] if i in mistakes else None,
                "mistaken": mistakes[i][1] if i in mistakes else 0,
            }
            for i, name in enumerate(self.classes.names)
        ]

    def lines(self) -> list[str]:
        """See :func:`~fishnet.tasks.report_files.table`."""
        words = "most often mistaken for"
        rows = [
            {**row, words: f"{row['mistaken_for']} ({row['mistaken']:,})" if row["mistaken"] else "-"}
            for row in self.rows()
        ]
        return table(rows, "images", "recall", ["images", "recall", "precision"], words)

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. Writes ``per_class.csv``, ``confusion.csv`` (the cells that are not
        0), ``confusion.png``, ``reliability.png``, and where there are errors ``most_wrong.csv`` and
        ``most_wrong.png``.
        """
        rows, confusion = self.rows(), self.confusion()
        return [
            write_csv(folder / "per_class.csv", list(rows[0]), rows),
            write_confusion(folder / "confusion.csv", confusion),
            draw_confusion(folder / "confusion.png", confusion),
            draw_reliability(folder / "reliability.png", self.calibration(), self.metrics().get("ECE", 0.0)),
            *self._write_worst(folder, images),
        ]

    def worst(self, images: ImageDataset, count: int = WORST) -> list[dict[str, Any]]:
        """The wrongly classified images with the highest loss, worst first: ``index``, ``source``, the predicted class
        (``predicted``) and its ``score``, the ``true`` class and its ``true_score``, ``loss``.
        """
        rows = self._rows()
        wrong = rows[rows["true"] != rows["predicted"]]
        return [
            {
                "index": int(row["index"]),
                "source": images.source(int(row["index"])),
                "predicted": self.classes.names[row["predicted"]],
                "score": round(float(row["score"]), 6),
                "true": self.classes.names[row["true"]],
                "true_score": round(float(np.exp(-row["loss"])), 6),
                "loss": round(float(row["loss"]), 4),
            }
            for row in wrong[np.argsort(-wrong["loss"], kind="stable")][:count]
        ]

    def _write_worst(self, folder: Path, images: ImageDataset) -> list[Path]:
        path, rows = folder / "most_wrong.csv", self.worst(images)
        page = worst_sheet(folder / "most_wrong.png", images, ((row["index"], row) for row in rows), error_cards)
        if not page:  # no errors: removes the table of an earlier evaluation
            path.unlink(missing_ok=True)
            return []
        return [write_csv(path, [name for name in rows[0] if name != "index"], rows), *page]
