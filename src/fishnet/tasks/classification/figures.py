"""The reliability diagram of a classifier's report, by matplotlib."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.report_files import BLUE, RED, save

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy go together, by bins of confidence of equal width.

    Attributes:
        counts: (bins,) images.
        accuracy: (bins,) share of them that is right, 0..1; 0 where a bin is empty.
        confidence: (bins,) their mean score of the class said, 0..1; 0 where a bin is empty.
    """

    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]


def draw_reliability(path: Path, calibration: Calibration, ece: float) -> Path:
    """Draws accuracy against confidence, with the images of each bin below.

    Args:
        path: the PNG.
        calibration: the bins.
        ece: expected calibration error, 0..1.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    counts, there = calibration.counts, calibration.counts > 0
    width = 1 / BINS
    centres = (np.arange(BINS) + 0.5) * width
    figure = Figure(figsize=(6, 7), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.bar(centres[there], calibration.accuracy[there], width * 0.94, color=BLUE, label="accuracy")
    gap = calibration.confidence - calibration.accuracy
    upper.bar(
        centres[there], gap[there], width * 0.94, bottom=calibration.accuracy[there],
        color=RED, alpha=0.25, edgecolor=RED, hatch="//", label="gap to the mean confidence",
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], "--", color="grey", label="as sure as right")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    total = max(1, int(counts.sum()))
    right, sure = (float((counts * share).sum()) / total for share in (calibration.accuracy, calibration.confidence))
    upper.set_title(
        f"ECE {100 * ece:.2f} %: right {100 * right:.1f} %, sure {100 * sure:.1f} % of {int(counts.sum()):,} images",
        fontsize=10,
    )
    upper.grid(alpha=0.3)
    upper.legend(loc="upper left")
    bars = lower.bar(centres, counts, width * 0.94, color="#777777")
    lower.bar_label(bars, [f"{count:,}" if count else "" for count in counts.tolist()], fontsize=7, padding=1)
    lower.set(xlabel="confidence (score of the class said)", ylabel="images")
    lower.margins(y=0.2)
    return save(figure, path)
