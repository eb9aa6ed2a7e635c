"""What a detector finds, misses and makes up, class by class and image by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.plausibility import beyond_cap
from fishnet.tasks.base import Report
from fishnet.tasks.detection.figures import Measured, draw_precision_recall, truth_and_found
from fishnet.tasks.detection.matches import Matches, ratios
from fishnet.tasks.detection.metrics import MOST, Compared, Kind, compared, table_of
from fishnet.tasks.report_files import WORST, percent, table, worst_sheet, write_csv


class DetectionReport(Report):
    """A report on a detector: counts at one score threshold beside COCO's table. Keeps no pixels but run lengths.

    Found, missed and false go by IoU 0.5 and the class, the best score first; groups are not counted, nor what lies on
    them. With masks, masks decide.

    Args:
        classes: of the model's outputs.
        masks: whether masks are measured too.
        threshold: detections of that score and above count; None for the threshold, of 0.01, 0.02, ..., 0.99, with the
            best F1 on these images.
        max_detections: see :class:`~fishnet.tasks.detection.metrics.CocoTable`.
    """

    def __init__(
        self, classes: Classes, masks: bool = False, threshold: float | None = None, max_detections: int = MOST
    ) -> None:
        self.classes, self.masks, self._asked, self.max_detections = classes, masks, threshold, max_detections
        self.kind: Kind = "mask" if masks else "box"
        self.pairs: list[Compared] = []
        self.indices: list[int] = []
        self._measured: dict[Kind, Measured] = {}

    def update(
        self, outputs: Sequence[dict[str, Any]], targets: Sequence[DetectionTarget], indices: Sequence[int]
    ) -> None:
        """See :class:`~fishnet.tasks.base.Report`; outputs and errors as in
        :func:`~fishnet.tasks.detection.metrics.compared`.
        """
        self._measured = {}
        pairs = zip(outputs, targets, strict=True)
        self.pairs += [compared(raw, target, self.classes, self.masks) for raw, target in pairs]
        self.indices += indices

    @property
    def threshold(self) -> float:
        """The score from which detections count, 0..1."""
        return self.measured()[self.kind].threshold

    def measured(self) -> dict[Kind, Measured]:
        """What was measured of ``box`` and, with masks, of ``mask``; computed once for the images so far."""
        if not self._measured:
            kinds: tuple[Kind, ...] = ("box", "mask") if self.masks else ("box",)
            matches = {kind: Matches.of(self.pairs, kind) for kind in kinds}
            threshold = matches[self.kind].best_threshold() if self._asked is None else self._asked
            for kind, it in matches.items():
                counts = it.counts(threshold, "label", len(self.classes))
                self._measured[kind] = Measured(
                    table_of(self.pairs, self.classes, kind, self.max_detections), it, threshold, counts
                )
        return self._measured

    def metrics(self) -> dict[str, float]:
        """``F1``, ``precision`` and ``recall`` of boxes at the threshold over all classes together, 0..1; with masks
        also ``mask_F1``, ``mask_precision`` and ``mask_recall``. What has nothing to divide by is left out.
        """
        values = {
            f"{_prefix(kind)}{name}": value
            for kind, it in self.measured().items()
            for name, value in ratios(*it.counts.total()).items()
        }
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        """One row a class, in the model's order: its annotated ``objects``; ``AP``, ``AP50``, ``AP75`` and ``AR100``;
        ``found``, ``false``, ``precision``, ``recall`` and ``F1`` at the ``threshold``; the class's own
        ``best_threshold``. Shares in percent, None where there is nothing to divide by. With masks the same again,
        with ``mask_`` before it.
        """
        rows: list[dict[str, Any]] = [
            {"class": name, "id": self.classes.ids[k], "threshold": self.threshold}
            for k, name in enumerate(self.classes.names)
        ]
        for kind, it in self.measured().items():
            for k, (row, coco) in enumerate(zip(rows, it.table.per_class(), strict=True)):
                objects, found, false = it.counts.at(k)
                own = it.matches.label(k)
                shares = {name: coco[name] for name in ("AP", "AP50", "AP75", f"AR{self.max_detections}")} | ratios(
                    objects, found, false
                )
                values: dict[str, Any] = {
                    **{name: value if value is None else percent(value, 1) for name, value in shares.items()},
                    "found": found,
                    "false": false,
                    "best_threshold": own.best_threshold() if objects else None,
                }
                row["objects"] = objects
                row.update({f"{_prefix(kind)}{name}": value for name, value in values.items()})
        return rows

    def lines(self) -> list[str]:
        """The threshold, and below it :func:`~fishnet.tasks.report_files.table`."""
        kind = _prefix(self.kind)
        columns = ["objects", "AP", "AP50", *["mask_AP", "mask_AP50"] * self.masks]
        columns += [f"{kind}{name}" for name in ("precision", "recall", "F1")]
        return [self._title(), *table(self.rows(), "objects", f"{kind}AP", columns)]

    def remarks(self) -> list[str]:
        """A line where images have more objects of a class than COCO's metrics count, and where they have none."""
        if not any(len(pair.truth.labels) for pair in self.pairs):
            return ["no object is annotated in these images: the metrics say nothing of the model"]
        counts = [np.bincount(pair.truth.labels[~pair.truth.crowd]).tolist() for pair in self.pairs]
        line = beyond_cap([count for some in counts for count in some], self.max_detections)
        return [line] if line else []

    def _title(self) -> str:
        objects, found, false = self.measured()[self.kind].counts.total()
        how = "which makes F1 best on these images" if self._asked is None else "as asked for"
        what = "masks" if self.masks else "boxes"
        return (
            f"at a score of {self.threshold:.2f} and more, {how}: "
            f"{found:,} of {objects:,} objects found, {false:,} false ({what}, IoU 0.5)"
        )

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. ``per_class.csv``, ``errors.csv`` (a row an image, most errors
        first), ``precision_recall.png``; where there are errors ``worst.png``.
        """
        rows, errors = self.rows(), self.errors(images)
        worst = [row["place"] for row in errors[:WORST] if row["missed"] + row["false"]]
        return [
            write_csv(folder / "per_class.csv", list(rows[0]), rows),
            write_csv(folder / "errors.csv", ["image", "objects", "found", "missed", "false"], errors),
            draw_precision_recall(folder / "precision_recall.png", self.measured()),
            *worst_sheet(folder / "worst.png", images, ((self.indices[i], i) for i in worst), self._cards),
        ]

    def errors(self, images: ImageDataset) -> list[dict[str, Any]]:
        """One row an image, most errors first: ``image`` (where it is from), ``objects``, ``found``, ``missed`` and
        ``false`` at the threshold, and ``place`` among the images that were measured.
        """
        counts = self.measured()[self.kind].matches.counts(self.threshold, "image", len(self.pairs))
        missed = counts.objects - counts.found
        order = np.argsort(-(missed + counts.false), kind="stable")
        return [
            {
                "image": images.source(self.indices[i]),
                "objects": int(counts.objects[i]),
                "found": int(counts.found[i]),
                "missed": int(missed[i]),
                "false": int(counts.false[i]),
                "place": i,
            }
            for i in order.tolist()
        ]

    def _cards(self, image: Image.Image, _target: Any, name: str, place: int) -> tuple[Image.Image, Image.Image]:
        return truth_and_found(image, self.pairs[place], self.kind, self.threshold, name)


def _prefix(kind: Kind) -> str:
    return "mask_" if kind == "mask" else ""
