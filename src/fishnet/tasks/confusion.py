"""The confusion matrix of a report: its cells as a table, and drawn by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.report_files import save, short, write_csv

_NAMED, _NUMBERED, _CELLS = 40, 20, 1000  # classes: axes with names, cells with numbers, cells a side at most
Unit = Literal["images", "pixels"]


def write_confusion(
    path: Path,
    names: Sequence[str],
    true: NDArray[np.int64],
    said: NDArray[np.int64],
    counts: NDArray[np.int64],
    unit: Unit = "images",
) -> Path:
    """Writes the cells of a confusion matrix as a CSV file; see :func:`draw_confusion`."""
    cells = zip(true.tolist(), said.tolist(), counts.tolist(), strict=True)
    rows = ({"true": names[t], "said": names[s], unit: count} for t, s, count in cells)
    return write_csv(path, ["true", "said", unit], rows)


def draw_confusion(
    path: Path,
    names: Sequence[str],
    true: NDArray[np.int64],
    said: NDArray[np.int64],
    counts: NDArray[np.int64],
    unit: Unit = "images",
) -> Path:
    """Draws a confusion matrix over the classes that occur, coloured by the share of each true class.

    Args:
        path: the PNG.
        names: of all classes.
        true, said, counts: its cells that are not 0, all of shape (cells,).
        unit: what is counted; pixels, being many, are written in the cells as percent of the true class's.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    there = np.union1d(true, said)
    kept = [names[i] for i in there.tolist()]
    side = min(max(1, len(kept)), _CELLS)
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
    bar = figure.colorbar(image, ax=axis, shrink=0.8, label=f"share of the true class's {unit}")
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
        for r, c in np.argwhere(matrix > 0 if unit == "images" else shares >= 0.0005).tolist():
            colour = "white" if shares[r, c] > 0.55 else "black"
            text = f"{int(matrix[r, c]):,}" if unit == "images" else f"{100 * shares[r, c]:.1f}"
            axis.text(c, r, text, ha="center", va="center", fontsize=8, color=colour)
    absent = len(names) - len(kept)
    title = f"{int(counts.sum()):,} {unit}, {len(kept):,} classes"
    axis.set_title(
        (f"{title}, percent of the true class" if unit == "pixels" and len(kept) <= _NUMBERED else title)
        + (f" (the other {absent:,} neither there nor said)" if absent else ""),
        fontsize=10,
    )
    return save(figure, path)
