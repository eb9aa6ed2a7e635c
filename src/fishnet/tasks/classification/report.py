"""What a classifier gets right and wrong, class by class: tables, confusion matrix, calibration, the worst mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.errors import WorkError
from fishnet.prediction.drawing import card
from fishnet.tasks.base import Report
from fishnet.tasks.classification.figures import BINS, Calibration, draw_reliability
from fishnet.tasks.confusion import draw_confusion, write_confusion
from fishnet.tasks.report_files import RIGHT, WRONG, percent, table, worst_sheet, write_csv

WORST = 12  # images on the sheet
_CERTAIN = float(np.nextafter(np.float32(1), np.float32(0)))  # torchmetrics gives 1.0 a bin beyond the last
_ROW = np.dtype([("true", "i8"), ("said", "i8"), ("index", "i8"), ("score", "f8"), ("loss", "f8")])


class ClassificationReport(Report):
    """A report on a classifier. Keeps five numbers an image and no scores, so that many classes cost no memory.

    Args:
        classes: of the model's outputs.
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self._kept = bytearray()  # one block: small arrays kept between large ones that go would scatter the memory

    def update(self, outputs: NDArray[np.float32], targets: NDArray[np.int64], indices: Sequence[int]) -> None:
        """See :class:`~fishnet.tasks.base.Report`; outputs are (batch, classes) logits, targets (batch,) indices.

        Raises:
            WorkError: logits that are not finite.
        """
        if not np.isfinite(outputs).all():
            raise WorkError("the model's scores are not finite (NaN or infinite): its weights are of no use")
        logs = torch.from_numpy(outputs).double().log_softmax(1)
        best, said = logs.max(1)
        rows = np.empty(len(indices), _ROW)
        rows["true"], rows["said"], rows["index"] = targets, said.numpy(), indices
        rows["score"] = best.exp().clamp(max=_CERTAIN).numpy()
        rows["loss"] = -logs.gather(1, torch.as_tensor(targets)[:, None])[:, 0].numpy()
        self._kept += rows.tobytes()

    def _rows(self) -> NDArray[Any]:
        """The numbers of all images: true class, class said, its score, loss, index."""
        return np.frombuffer(bytes(self._kept), _ROW)

    def metrics(self) -> dict[str, float]:
        """``ECE``: expected calibration error of the class said, over 15 bins of equal width, 0..1."""
        from torchmetrics.functional.classification import binary_calibration_error

        rows = self._rows()
        right = torch.from_numpy((rows["true"] == rows["said"]).astype(np.int64))
        scores = torch.from_numpy(rows["score"].astype(np.float32))
        return {"ECE": float(binary_calibration_error(scores, right, n_bins=BINS, norm="l1"))}

    def confusion(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The cells of the confusion matrix that are not 0: true class, class said, images."""
        rows = self._rows()
        cells, counts = np.unique(rows["true"] * len(self.classes) + rows["said"], return_counts=True)
        return cells // len(self.classes), cells % len(self.classes), counts

    def calibration(self) -> Calibration:
        """Images, accuracy and mean confidence of each bin."""
        rows = self._rows()
        place = (rows["score"] * BINS).astype(np.int64)
        counts = np.bincount(place, minlength=BINS)
        some = np.maximum(counts, 1)
        return Calibration(
            counts,
            np.bincount(place, rows["true"] == rows["said"], BINS) / some,
            np.bincount(place, rows["score"], BINS) / some,
        )

    def rows(self) -> list[dict[str, Any]]:
        """One row a class, in the model's order: its images, ``recall`` and ``precision`` in percent, and the class
        that its images are most often taken for, with how many. None where there is nothing to divide by.
        """
        true, said, counts = self.confusion()
        total = len(self.classes)
        images = np.bincount(true, counts, total).astype(np.int64)
        given = np.bincount(said, counts, total).astype(np.int64)
        hit = true == said
        right = np.bincount(true[hit], counts[hit], total).astype(np.int64)
        taken: dict[int, tuple[int, int]] = {}
        for t, s, count in zip(true[~hit].tolist(), said[~hit].tolist(), counts[~hit].tolist(), strict=True):
            if count > taken.get(t, (0, 0))[1]:
                taken[t] = s, count
        return [
            {
                "class": name,
                "id": self.classes.ids[i],
                "images": int(images[i]),
                "recall": percent(right[i], images[i]),
                "precision": percent(right[i], given[i]),
                "taken_for": self.classes.names[taken[i][0]] if i in taken else None,
                "taken": taken[i][1] if i in taken else 0,
            }
            for i, name in enumerate(self.classes.names)
        ]

    def lines(self) -> list[str]:
        """See :func:`~fishnet.tasks.report_files.table`."""
        words = "most often taken for"
        rows = [
            {**row, words: f"{row['taken_for']} ({row['taken']:,})" if row["taken"] else "-"} for row in self.rows()
        ]
        return table(rows, "images", "recall", ["images", "recall", "precision"], words)

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. ``per_class.csv``, ``confusion.csv`` (the cells that are not 0),
        ``confusion.png``, ``reliability.png``; where there are mistakes ``most_wrong.csv`` and ``most_wrong.png``.
        """
        rows, names, cells = self.rows(), self.classes.names, self.confusion()
        return [
            write_csv(folder / "per_class.csv", list(rows[0]), rows),
            write_confusion(folder / "confusion.csv", names, *cells),
            draw_confusion(folder / "confusion.png", names, *cells),
            draw_reliability(folder / "reliability.png", self.calibration(), self.metrics().get("ECE", 0.0)),
            *self._write_worst(folder, images),
        ]

    def worst(self, images: ImageDataset, count: int = WORST) -> list[dict[str, Any]]:
        """The mistakes with the highest loss, worst first: index, source, class said and its score, true class and its
        score, loss.
        """
        rows = self._rows()
        wrong = rows[rows["true"] != rows["said"]]
        return [
            {
                "index": int(row["index"]),
                "source": images.source(int(row["index"])),
                "said": self.classes.names[row["said"]],
                "score": round(float(row["score"]), 6),
                "true": self.classes.names[row["true"]],
                "true_score": round(float(np.exp(-row["loss"])), 6),
                "loss": round(float(row["loss"]), 4),
            }
            for row in wrong[np.argsort(-wrong["loss"], kind="stable")][:count]
        ]

    def _write_worst(self, folder: Path, images: ImageDataset) -> list[Path]:
        path, rows = folder / "most_wrong.csv", self.worst(images)
        page = worst_sheet(folder / "most_wrong.png", images, ((row["index"], row) for row in rows), _mistake)
        if not page:  # nothing of an earlier measurement stays
            path.unlink(missing_ok=True)
            return []
        return [write_csv(path, [name for name in rows[0] if name != "index"], rows), *page]


def _mistake(image: Image.Image, _target: Any, _name: str, row: Mapping[str, Any]) -> list[Image.Image]:
    captions = [
        (f"says {row['said']}", f"{100 * row['score']:.1f} %", WRONG),
        (f"is {row['true']}", f"{100 * row['true_score']:.1f} %", RIGHT),
    ]
    return [card(image, captions)]
