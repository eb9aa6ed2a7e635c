"""The report on a detector: objects found, objects missed and false detections, by class and by image."""

import itertools
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
from fishnet.tasks.detection.figures import KindMetrics, draw_precision_recall, error_cards
from fishnet.tasks.detection.matches import Matches, precision_recall_f1
from fishnet.tasks.detection.metrics import MAX_DETECTIONS, EvaluationPair, Kind, evaluate_pairs
from fishnet.tasks.report_files import WORST, percent, table, worst_sheet, write_csv


class DetectionReport(Report):
    """A report on a detector: counts at one score threshold, and COCO's metrics. Keeps masks as run lengths.

    Detections are matched to objects of their class with an IoU of at least 0.5, best score first. Crowds and
    detections on them are not counted. With masks, masks are matched instead of boxes.

    Args:
        classes: the classes of the model's outputs.
        masks: whether masks are evaluated, too.
        threshold: detections with at least this score count; None for the threshold, of 0.01, 0.02, ..., 0.99, with the
            best F1 on these images.
        max_detections: see :class:`~fishnet.tasks.detection.metrics.CocoTable`.
    """

    def __init__(
        self,
        classes: Classes,
        masks: bool = False,
        threshold: float | None = None,
        max_detections: int = MAX_DETECTIONS,
    ) -> None:
        self.classes, self.masks, self._given_threshold, self.max_detections = classes, masks, threshold, max_detections
        self.kind: Kind = "mask" if masks else "box"
        self.pairs: list[EvaluationPair] = []
        self.indices: list[int] = []
        self._kind_metrics: dict[Kind, KindMetrics] = {}

    def update(
        self, outputs: Sequence[dict[str, Any]], targets: Sequence[DetectionTarget], indices: Sequence[int]
    ) -> None:
        """See :class:`~fishnet.tasks.base.Report`. Outputs and errors as in
        :meth:`~fishnet.tasks.detection.metrics.EvaluationPair.from_outputs`.
        """
        self._kind_metrics = {}
        for raw, target in zip(outputs, targets, strict=True):
            self.pairs.append(EvaluationPair.from_outputs(raw, target, self.classes, self.masks))
        self.indices += indices

    @property
    def threshold(self) -> float:
        """The score threshold from which detections count, 0..1."""
        return self.kind_metrics()[self.kind].threshold

    def kind_metrics(self) -> dict[Kind, KindMetrics]:
        """The metrics of ``box`` and, with masks, of ``mask``; computed once for the images so far."""
        if not self._kind_metrics:
            kinds: tuple[Kind, ...] = ("box", "mask") if self.masks else ("box",)
            matches = {kind: Matches.of(self.pairs, kind) for kind in kinds}
            threshold = self._given_threshold
            if threshold is None:
                threshold = matches[self.kind].best_threshold()
            for kind in kinds:
                table = evaluate_pairs(self.pairs, self.classes, kind, self.max_detections)
                counts = matches[kind].counts(threshold, "label", len(self.classes))
                self._kind_metrics[kind] = KindMetrics(table, matches[kind], threshold, counts)
        return self._kind_metrics

    def metrics(self) -> dict[str, float]:
        """``F1``, ``precision`` and ``recall`` of boxes at the threshold over all classes together, 0..1; with masks
        also ``mask_F1``, ``mask_precision`` and ``mask_recall``. Undefined metrics are left out.
        """
        values = {
            f"{_prefix(kind)}{name}": value
            for kind, metrics in self.kind_metrics().items()
            for name, value in precision_recall_f1(*metrics.counts.total()).items()
        }
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> list[dict[str, Any]]:
        """One row per class, in the model's order: its annotated ``objects``; ``AP``, ``AP50``, ``AP75`` and ``AR100``;
        ``found``, ``false``, ``precision``, ``recall`` and ``F1`` at the ``threshold``; the class's own
        ``best_threshold``. Metrics are in percent, None where undefined. With masks the same columns again, with the
        prefix ``mask_``.
        """
        rows: list[dict[str, Any]] = [
            {"class": name, "id": self.classes.ids[k], "threshold": self.threshold}
            for k, name in enumerate(self.classes.names)
        ]
        for kind, metrics in self.kind_metrics().items():
            for k, (row, coco) in enumerate(zip(rows, metrics.table.per_class(), strict=True)):
                objects, true_positives, false_positives = metrics.counts.at(k)
                shares = {name: coco[name] for name in ("AP", "AP50", "AP75", f"AR{self.max_detections}")}
                shares |= precision_recall_f1(objects, true_positives, false_positives)
                values: dict[str, Any] = {
                    **{name: value if value is None else percent(value, 1) for name, value in shares.items()},
                    "found": true_positives,
                    "false": false_positives,
                    "best_threshold": metrics.matches.label(k).best_threshold() if objects else None,
                }
                row["objects"] = objects
                row.update({f"{_prefix(kind)}{name}": value for name, value in values.items()})
        return rows

    def lines(self) -> list[str]:
        """The threshold, and below it :func:`~fishnet.tasks.report_files.table`."""
        prefix = _prefix(self.kind)
        columns = ["objects", "AP", "AP50", *["mask_AP", "mask_AP50"] * self.masks]
        columns += [f"{prefix}{name}" for name in ("precision", "recall", "F1")]
        return [self._title(), *table(self.rows(), "objects", f"{prefix}AP", columns)]

    def warnings(self) -> list[str]:
        """A line where images have more objects of a class than COCO's metrics count, or where there are no objects."""
        if not any(len(pair.truth.labels) for pair in self.pairs):
            return ["no object is annotated in these images: the metrics say nothing about the model"]
        counts = [np.bincount(pair.truth.labels[~pair.truth.crowd]).tolist() for pair in self.pairs]
        line = beyond_cap(list(itertools.chain.from_iterable(counts)), self.max_detections)
        return [line] if line else []

    def _title(self) -> str:
        objects, true_positives, false_positives = self.kind_metrics()[self.kind].counts.total()
        how = "as given" if self._given_threshold is not None else "which gives the best F1 on these images"
        what = "masks" if self.masks else "boxes"
        return (
            f"at scores from {self.threshold:.2f}, {how}: "
            f"{true_positives:,} of {objects:,} objects found, {false_positives:,} false ({what}, IoU 0.5)"
        )

    def write(self, folder: Path, images: ImageDataset) -> list[Path]:
        """See :class:`~fishnet.tasks.base.Report`. Writes ``per_class.csv``, ``errors.csv`` (one row per image, most
        errors first), ``precision_recall.png``, and where there are errors ``worst.png``.
        """
        rows, errors = self.rows(), self.errors(images)
        worst = [row["pair"] for row in errors[:WORST] if row["missed"] + row["false"]]
        return [
            write_csv(folder / "per_class.csv", list(rows[0]), rows),
            write_csv(folder / "errors.csv", ["image", "objects", "found", "missed", "false"], errors),
            draw_precision_recall(folder / "precision_recall.png", self.kind_metrics()),
            *worst_sheet(folder / "worst.png", images, ((self.indices[i], i) for i in worst), self._cards),
        ]

    def errors(self, images: ImageDataset) -> list[dict[str, Any]]:
        """One row per image, most errors first: ``image`` (its source), ``objects``, ``found``, ``missed`` and
        ``false`` at the threshold, and ``pair``, its index in :attr:`pairs`.
        """
        counts = self.kind_metrics()[self.kind].matches.counts(self.threshold, "image", len(self.pairs))
        missed = counts.objects - counts.true_positives
        order = np.argsort(-(missed + counts.false_positives), kind="stable")
        return [
            {
                "image": images.source(self.indices[i]),
                "objects": int(counts.objects[i]),
                "found": int(counts.true_positives[i]),
                "missed": int(missed[i]),
                "false": int(counts.false_positives[i]),
                "pair": i,
            }
            for i in order.tolist()
        ]

    def _cards(self, image: Image.Image, _target: Any, name: str, pair: int) -> tuple[Image.Image, Image.Image]:
        return error_cards(image, self.pairs[pair], self.kind, self.threshold, name)


def _prefix(kind: Kind) -> str:
    return "mask_" if kind == "mask" else ""
