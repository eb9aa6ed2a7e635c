"""Figures of a detector's report: precision and recall, and the worst images with truth beside found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.data.detection.objects import Segmentation
from fishnet.prediction.drawing import card, draw_objects
from fishnet.prediction.results import CroppedMask
from fishnet.tasks.detection.matches import THRESHOLDS, Counts, Matches, matched, ratios
from fishnet.tasks.detection.metrics import RECALLS, CocoTable, Compared, Kind
from fishnet.tasks.report_files import BLUE, RED, RIGHT, SIDE, WRONG, save, short

_NAMED = 10  # classes with a curve in a colour of its own
_GOOD, _BAD = 2, 4  # green and orange in the drawings' palette


@dataclass(frozen=True)
class Measured:
    """What was measured of boxes, or of masks.

    Attributes:
        table: by COCO's rules.
        matches: at IoU 0.5.
        threshold: the score from which detections count.
        counts: of each class, at that threshold.
    """

    table: CocoTable
    matches: Matches
    threshold: float
    counts: Counts


def draw_precision_recall(path: Path, kinds: Mapping[Kind, Measured]) -> Path:
    """Draws precision over recall at IoU 0.5, and F1 over the score threshold below it; boxes and masks side by side.

    Args:
        path: the PNG.
        kinds: ``box`` and perhaps ``mask``; the point at their threshold gets a star.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 6 * len(kinds), 9), layout="constrained")
    axes = figure.subplots(2, len(kinds), squeeze=False, height_ratios=[3, 1])
    for (kind, it), upper, lower in zip(kinds.items(), *axes, strict=True):
        precision, _ = it.table.curves(0.5)
        there = np.flatnonzero(it.table.objects)
        named = len(there) <= _NAMED
        for k in there.tolist():
            label = short(it.table.classes.names[k]).replace("$", r"\$") if named else None
            style = {"linewidth": 1.5} if named else {"linewidth": 0.5, "color": "#bbbbbb"}
            upper.plot(RECALLS, precision[k], label=label, **style)
        if len(there) > 1:
            upper.plot(RECALLS, precision[there].mean(0), color="black", linewidth=2.5, label="mean of the classes")
        share = {name: value or 0.0 for name, value in ratios(*it.counts.total()).items()}
        told = f"F1 {100 * share['F1']:.1f} % at score {it.threshold:.2f}"
        upper.plot(share["recall"], share["precision"], "*", markersize=15, color=RED, zorder=9, label=f"all: {told}")
        ap = it.table.metrics().get("AP50", 0.0)
        upper.set_title(f"{'boxes' if kind == 'box' else 'masks'} at IoU 0.5: AP50 {100 * ap:.1f} %", fontsize=10)
        upper.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        lower.plot(THRESHOLDS, it.matches.f1(), color=BLUE)
        lower.plot(it.threshold, share["F1"], "*", markersize=15, color=RED)
        lower.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score threshold", ylabel="F1, all classes")
        for axis in (upper, lower):
            axis.grid(alpha=0.3)
        upper.legend(fontsize=9)
    return save(figure, path)


def truth_and_found(
    image: Image.Image, pair: Compared, kind: Kind, threshold: float, name: str
) -> tuple[Image.Image, Image.Image]:
    """Two cards for a sheet: the annotated objects with the missed ones in orange, the found with the false in orange.

    Args:
        image: in its own size.
        pair: what is annotated and found.
        kind: what decides, boxes or masks.
        threshold: detections below it are left out.
        name: of the image.
    """
    truth, found = pair.truth, pair.found
    scores, wrong = matched(pair, kind)
    missed = (scores < np.float32(threshold)) & ~truth.crowd
    shown = np.flatnonzero(found.scores >= np.float32(threshold))
    wrong = wrong[shown]
    names = found.classes.names
    said = [
        f"{names[label]}{', missed' if lost else ', group' if crowd else ''}"
        for label, lost, crowd in zip(truth.labels.tolist(), missed, truth.crowd, strict=True)
    ]
    given = [f"{names[label]}{', false' if bad else ''}" for label, bad in zip(found.labels[shown], wrong, strict=True)]
    shapes = None if pair.masks is None else [cropped_mask_of(shape) for shape in truth.segmentations or ()]
    masks = None if pair.masks is None else [cropped_mask_of(pair.masks[i]) for i in shown.tolist()]
    left = draw_objects(image, truth.boxes, said, _colours(missed), cropped_masks=shapes)
    right = draw_objects(image, found.boxes[shown], given, _colours(wrong), found.scores[shown], masks)
    captions = [
        (name, f"{int((~truth.crowd).sum())} objects, {int(missed.sum())} missed", RIGHT),
        (f"score from {threshold:.2f}", f"{len(shown)} given, {int(wrong.sum())} false", WRONG),
    ]
    return card(left, captions[:1], SIDE), card(right, captions[1:], SIDE)


def cropped_mask_of(shape: Segmentation) -> CroppedMask:
    """A mask in compressed run lengths -> the part of the image that it lies in."""
    from faster_coco_eval.core import mask as coco

    bits = coco.decode(shape).astype(bool)
    rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
    if not len(rows):
        return CroppedMask(0, 0, np.zeros((0, 0), bool))
    top, left = int(rows[0]), int(columns[0])
    return CroppedMask(left, top, bits[top : rows[-1] + 1, left : columns[-1] + 1].copy())


def _colours(bad: NDArray[np.bool_]) -> Sequence[int]:
    return [_BAD if it else _GOOD for it in bad.tolist()]
