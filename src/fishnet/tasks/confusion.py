"""The confusion matrix of a report, as a table and as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.report_files import save, short, write_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Maximum numbers of classes that are named on the axes, have numbers in their cells, and have their own cells.
_MAX_NAMED, _MAX_NUMBERED, _MAX_SIDE = 40, 20, 1000


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix by its cells that are not 0.

    Attributes:
        names: the names of all classes.
        true, predicted: (cells,) indices of the classes.
        counts: (cells,) number of images or pixels.
        unit: what is counted.
    """

    names: Sequence[str]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    counts: NDArray[np.int64]
    unit: Literal["images", "pixels"] = "images"


def write_confusion(path: Path, confusion: Confusion) -> Path:
    """Writes the cells of a confusion matrix as a CSV file and returns its path."""
    names, unit = confusion.names, confusion.unit
    cells = zip(confusion.true.tolist(), confusion.predicted.tolist(), confusion.counts.tolist(), strict=True)
    rows = ({"true": names[true], "predicted": names[predicted], unit: count} for true, predicted, count in cells)
    return write_csv(path, ["true", "predicted", unit], rows)


def draw_confusion(path: Path, confusion: Confusion) -> Path:
    """Draws a confusion matrix over the classes that occur, coloured by the share of each true class.

    With up to 20 classes the cells show numbers: of images, or of pixels in percent of the true class.

    Args:
        path: the PNG file.
        confusion: the matrix.

    Returns:
        ``path``.
    """
    from matplotlib.figure import Figure

    present = np.union1d(confusion.true, confusion.predicted)
    count, unit = len(present), confusion.unit
    matrix = _matrix(confusion, present)
    totals = matrix.sum(1, keepdims=True)
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)

    named = count <= _MAX_NAMED
    inches = min(14.0, max(5.0, 2.5 + 0.42 * count)) if named else 10.0
    figure = Figure(figsize=(inches + 1, inches), layout="constrained")
    axis = figure.add_subplot()
    axis.set_facecolor("#dddddd")
    # The square root of the share makes confusions of one in a hundred visible among many classes.
    image = axis.imshow(
        shares if named else np.sqrt(shares), cmap="Blues" if named else "magma", vmin=0, vmax=1, interpolation="none"
    )
    bar = figure.colorbar(image, ax=axis, shrink=0.8, label=f"share of the true class's {unit}")
    if not named:
        ticks = np.sqrt([0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]).tolist()
        bar.set_ticks(ticks, labels=["0", "1%", "5%", "10%", "25%", "50%", "all"])
    _label_axes(axis, [confusion.names[i] for i in present.tolist()], present, len(matrix))
    if count <= _MAX_NUMBERED:
        _write_numbers(axis, matrix, shares, unit)
    absent = len(confusion.names) - count
    title = f"{int(confusion.counts.sum()):,} {unit}, {count:,} classes"
    axis.set_title(
        (f"{title}, percent of the true class" if unit == "pixels" and count <= _MAX_NUMBERED else title)
        + (f" (the other {absent:,} neither true nor predicted)" if absent else ""),
        fontsize=10,
    )
    return save(figure, path)


def _matrix(confusion: Confusion, present: NDArray[np.int64]) -> NDArray[np.float64]:
    """(side, side): the cells over the classes that occur; neighbours are merged where they are too many to draw."""
    side = min(max(1, len(present)), _MAX_SIDE)
    rows, columns = (
        np.searchsorted(present, axis) * side // len(present) for axis in (confusion.true, confusion.predicted)
    )
    matrix = np.zeros((side, side))
    np.add.at(matrix, (rows, columns), confusion.counts)
    return matrix


def _label_axes(axis: "Axes", names: Sequence[str], present: NDArray[np.int64], side: int) -> None:
    """Names on the axes, or the indices of some classes where there are too many names."""
    if len(names) <= _MAX_NAMED:
        axis.set(xlabel="predicted class", ylabel="true class")
        ticks = np.arange(len(names))
        axis.set_xticks(ticks, [short(name) for name in names], rotation=90, fontsize=9, parse_math=False)
        axis.set_yticks(ticks, [short(name) for name in names], fontsize=9, parse_math=False)
        return
    axis.set(xlabel="predicted class (index of the output)", ylabel="true class (index of the output)")
    places = np.linspace(0, side - 1, 6).round().astype(np.int64)
    labels = [f"{present[place * len(names) // side]:,}" for place in places.tolist()]
    axis.set_xticks(places, labels)
    axis.set_yticks(places, labels)


def _write_numbers(axis: "Axes", matrix: NDArray[np.float64], shares: NDArray[np.float64], unit: str) -> None:
    for row, column in np.argwhere(matrix > 0 if unit == "images" else shares >= 0.0005).tolist():
        colour = "white" if shares[row, column] > 0.55 else "black"
        text = f"{int(matrix[row, column]):,}" if unit == "images" else f"{100 * shares[row, column]:.1f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
