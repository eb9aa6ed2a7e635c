"""Figures of a detection report: precision and recall, and cards with an image's annotations and detections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.data.detection.objects import Segmentation
from fishnet.prediction.drawing import card, draw_objects
from fishnet.prediction.results import CroppedMask
from fishnet.tasks.detection.matches import THRESHOLDS, Counts, Matches, match_detections, precision_recall_f1
from fishnet.tasks.detection.metrics import RECALLS, CocoTable, EvaluationPair, Kind
from fishnet.tasks.report_files import BLUE, RED, RIGHT, SIDE, WRONG, save, short

_NAMED = 10  # with more classes, their curves have neither colours nor names
_GOOD, _BAD = 2, 4  # green and orange in the drawings' palette


@dataclass(frozen=True)
class KindMetrics:
    """The metrics of boxes or of masks.

    Attributes:
        table: COCO's metrics.
        matches: the matches at IoU 0.5.
        threshold: the score threshold from which detections count.
        counts: the counts of each class at that threshold.
    """

    table: CocoTable
    matches: Matches
    threshold: float
    counts: Counts


def draw_precision_recall(path: Path, kinds: Mapping[Kind, KindMetrics]) -> Path:
    """Draws precision over recall at IoU 0.5, and below it F1 over the score threshold; boxes and masks side by side.

    Args:
        path: the PNG file.
        kinds: the metrics of ``box`` and perhaps ``mask``. A star marks their threshold.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 6 * len(kinds), 9), layout="constrained")
    axes = figure.subplots(2, len(kinds), squeeze=False, height_ratios=[3, 1])
    for (kind, metrics), upper, lower in zip(kinds.items(), *axes, strict=True):
        precision, _ = metrics.table.curves(0.5)
        present = np.flatnonzero(metrics.table.objects)
        named = len(present) <= _NAMED
        for k in present.tolist():
            label = short(metrics.table.classes.names[k]).replace("$", r"\$") if named else None
            style = {"linewidth": 1.5} if named else {"linewidth": 0.5, "color": "#bbbbbb"}
            upper.plot(RECALLS, precision[k], label=label, **style)
        if len(present) > 1:
            upper.plot(RECALLS, precision[present].mean(0), color="black", linewidth=2.5, label="mean of the classes")
        values = {name: value or 0.0 for name, value in precision_recall_f1(*metrics.counts.total()).items()}
        label = f"all: F1 {100 * values['F1']:.1f} % at score {metrics.threshold:.2f}"
        upper.plot(values["recall"], values["precision"], "*", markersize=15, color=RED, zorder=9, label=label)
        ap = metrics.table.metrics().get("AP50", 0.0)
        upper.set_title(f"{'boxes' if kind == 'box' else 'masks'} at IoU 0.5: AP50 {100 * ap:.1f} %", fontsize=10)
        upper.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        lower.plot(THRESHOLDS, metrics.matches.f1(), color=BLUE)
        lower.plot(metrics.threshold, values["F1"], "*", markersize=15, color=RED)
        lower.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score threshold", ylabel="F1, all classes")
        for axis in (upper, lower):
            axis.grid(alpha=0.3)
        upper.legend(fontsize=9)
    return save(figure, path)


def error_cards(
    image: Image.Image, pair: EvaluationPair, kind: Kind, threshold: float, name: str
) -> tuple[Image.Image, Image.Image]:
    """Two cards for a sheet: the annotated objects, and the detections. Missed objects and false ones are orange.

    Args:
        image: in its own size.
        pair: its annotated objects and its detections.
        kind: whether boxes or masks are matched.
        threshold: detections with lower scores are left out.
        name: the image's name.
    """
    truth, detections = pair.truth, pair.detections
    scores, is_false = match_detections(pair, kind)
    missed = (scores < np.float32(threshold)) & ~truth.crowd
    shown = np.flatnonzero(detections.scores >= np.float32(threshold))
    is_false = is_false[shown]
    names = detections.classes.names
    truth_labels = [
        f"{names[label]}{', missed' if lost else ', group' if crowd else ''}"
        for label, lost, crowd in zip(truth.labels.tolist(), missed, truth.crowd, strict=True)
    ]
    detection_labels = [
        f"{names[label]}{', false' if false else ''}"
        for label, false in zip(detections.labels[shown], is_false, strict=True)
    ]
    truth_masks = None if pair.masks is None else [cropped_mask_of(shape) for shape in truth.segmentations or ()]
    masks = None if pair.masks is None else [cropped_mask_of(pair.masks[i]) for i in shown.tolist()]
    left = draw_objects(image, truth.boxes, truth_labels, _colours(missed), cropped_masks=truth_masks)
    right = draw_objects(
        image, detections.boxes[shown], detection_labels, _colours(is_false), detections.scores[shown], masks
    )
    captions = [
        (name, f"{int((~truth.crowd).sum())} objects, {int(missed.sum())} missed", RIGHT),
        (f"score from {threshold:.2f}", f"{len(shown)} detections, {int(is_false.sum())} false", WRONG),
    ]
    return card(left, captions[:1], SIDE), card(right, captions[1:], SIDE)


def cropped_mask_of(shape: Segmentation) -> CroppedMask:
    """A mask in compressed run lengths -> the mask cropped to its extent."""
    from faster_coco_eval.core import mask as coco

    bits = coco.decode(shape).astype(bool)
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    if not len(rows):
        return CroppedMask(0, 0, np.zeros((0, 0), bool))
    top, left = int(rows[0]), int(columns[0])
    return CroppedMask(left, top, bits[top : rows[-1] + 1, left : columns[-1] + 1].copy())


def _colours(wrong: NDArray[np.bool_]) -> Sequence[int]:
    return [_BAD if is_wrong else _GOOD for is_wrong in wrong.tolist()]
