"""Figures of a classifier's report: confusion matrix and reliability diagram, by matplotlib."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.report_files import BLUE, RED, save, short

BINS = 15
_NAMED, _NUMBERED, _CELLS = 40, 20, 1000  # classes: axes with names, cells with numbers, cells a side at most


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy go together, by bins of confidence of equal width.

    Attributes:
        counts: (bins,) pictures.
        accuracy: (bins,) share of them that is right, 0..1; 0 where a bin is empty.
        confidence: (bins,) their mean score of the class said, 0..1; 0 where a bin is empty.
    """

    counts: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    confidence: NDArray[np.float64]


def draw_confusion(
    path: Path,
    names: Sequence[str],
    true: NDArray[np.int64],
    said: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> Path:
    """Draws a confusion matrix over the classes that occur, coloured by the share of each true class.

    Args:
        path: the PNG.
        names: of all classes.
        true, said, counts: its cells that are not 0, all of shape (cells,).

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    there = np.union1d(true, said)
    kept = [names[i] for i in there.tolist()]
    side = min(len(kept), _CELLS)
    rows, columns = (np.searchsorted(there, axis) * side // len(kept) for axis in (true, said))
    matrix = np.zeros((side, side))
    np.add.at(matrix, (rows, columns), counts)
    totals = matrix.sum(1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)

    named = len(kept) <= _NAMED
    inches = min(14.0, max(5.0, 2.5 + 0.42 * len(kept))) if named else 10.0
    figure = Figure(figsize=(inches + 1, inches), layout="constrained")
    axis = figure.add_subplot()
    axis.set_facecolor("#dddddd")
    # The square root of the share makes confusions of one in a hundred visible among many classes.
    image = axis.imshow(
        shares if named else np.sqrt(shares), cmap="Blues" if named else "magma", vmin=0, vmax=1, interpolation="none"
    )
    bar = figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class's pictures")
    if not named:
        bar.set_ticks(
            np.sqrt([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]).tolist(), labels=["0", "1%", "5%", "10%", "25%", "50%", "all"]
        )
    axis.set(xlabel="class said", ylabel="true class")
    if named:
        ticks = np.arange(len(kept))
        axis.set_xticks(ticks, [short(name) for name in kept], rotation=90, fontsize=9, parse_math=False)
        axis.set_yticks(ticks, [short(name) for name in kept], fontsize=9, parse_math=False)
    else:
        places = np.linspace(0, side - 1, 6).round().astype(np.int64)
        labels = [f"{there[place * len(kept) // side]:,}" for place in places.tolist()]
        axis.set_xticks(places, labels)
        axis.set_yticks(places, labels)
        axis.set(xlabel="class said (number of the output)", ylabel="true class (number of the output)")
    if len(kept) <= _NUMBERED:
        for r, c in np.argwhere(matrix > 0).tolist():
            colour = "white" if shares[r, c] > 0.55 else "black"
            axis.text(c, r, f"{int(matrix[r, c]):,}", ha="center", va="center", fontsize=8, color=colour)
    absent = len(names) - len(kept)
    axis.set_title(
        f"{int(counts.sum()):,} pictures, {len(kept):,} classes"
        + (f" (the other {absent:,} neither there nor said)" if absent else ""),
        fontsize=10,
    )
    return save(figure, path)


def draw_reliability(path: Path, calibration: Calibration, ece: float) -> Path:
    """Draws accuracy against confidence, with the pictures of each bin below.

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
        f"ECE {100 * ece:.2f} %: right {100 * right:.1f} %, sure {100 * sure:.1f} % of {int(counts.sum()):,} pictures",
        fontsize=10,
    )
    upper.grid(alpha=0.3)
    upper.legend(loc="upper left")
    bars = lower.bar(centres, counts, width * 0.94, color="#777777")
    lower.bar_label(bars, [f"{count:,}" if count else "" for count in counts.tolist()], fontsize=7, padding=1)
    lower.set(xlabel="confidence (score of the class said)", ylabel="pictures")
    lower.margins(y=0.2)
    return save(figure, path)
