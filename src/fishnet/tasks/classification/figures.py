"""Figures of a classification report: the reliability diagram, and the card of a wrongly classified image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.prediction.drawing import card
from fishnet.tasks.report_files import BLUE, RED, RIGHT, WRONG, save

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Accuracy by confidence, in bins of confidence of equal width.

    Attributes:
        counts: (bins,) number of images.
        accuracy: (bins,) share of them that is classified correctly, 0..1; 0 where a bin is empty.
        confidence: (bins,) their mean score of the predicted class, 0..1; 0 where a bin is empty.
    """

    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]


def draw_reliability(path: Path, calibration: Calibration, ece: float) -> Path:
    """Draws accuracy over confidence, and below it the number of images in each bin.

    Args:
        path: the PNG file.
        calibration: the bins.
        ece: expected calibration error, 0..1.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    counts, filled = calibration.counts, calibration.counts > 0
    width = 1 / BINS
    centres = (np.arange(BINS) + 0.5) * width
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.bar(centres[filled], calibration.accuracy[filled], width * 0.94, color=BLUE, label="accuracy")
    gap = calibration.confidence - calibration.accuracy
    upper.bar(
        centres[filled], gap[filled], width * 0.94, bottom=calibration.accuracy[filled],
        color=RED, alpha=0.25, edgecolor=RED, hatch="//", label="gap to the mean confidence",
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], "--", color="grey", label="perfect calibration")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    total = max(1, int(counts.sum()))
    accuracy, confidence = (
        float((counts * share).sum()) / total for share in (calibration.accuracy, calibration.confidence)
    )
    upper.set_title(
        f"ECE {100 * ece:.2f} %: accuracy {100 * accuracy:.1f} %, mean confidence {100 * confidence:.1f} % "
        f"({int(counts.sum()):,} images)",
        fontsize=10,
    )
    upper.grid(alpha=0.3)
    upper.legend(loc="upper left")
    bars = lower.bar(centres, counts, width * 0.94, color="#777777")
    lower.bar_label(bars, [f"{count:,}" if count else "" for count in counts.tolist()], fontsize=7, padding=1)
    lower.set(xlabel="confidence (score of the predicted class)", ylabel="images")
    lower.margins(y=0.2)
    return save(figure, path)


def error_cards(image: Image.Image, _target: Any, _name: str, row: Mapping[str, Any]) -> list[Image.Image]:
    """One card for a sheet: the image above its predicted and its true class, with their scores.

    Args:
        image: in its own size.
        row: a row of :meth:`~fishnet.tasks.classification.report.ClassificationReport.worst`.
    """
    captions = [
        (f"predicted {row['predicted']}", f"{100 * row['score']:.1f} %", WRONG),
        (f"true {row['true']}", f"{100 * row['true_score']:.1f} %", RIGHT),
    ]
    return [card(image, captions)]
