"""What reports share: the table of classes for the terminal, CSV files, the sheet of the worst images, figures."""

import csv
import io
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.data.base import ImageDataset
from fishnet.errors import InputError
from fishnet.files.text import cell, printable
from fishnet.files.writing import atomic_path, write_bytes
from fishnet.images.decoding import as_view
from fishnet.prediction.drawing import sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
SHOWN = 20  # rows of a printed table
WORST, SIDE = 6, 480  # number of images on a sheet where each has several cards, and the side of a card in px
BLUE, RED = "#4895ef", "#c1292e"  # colours of figures
WRONG, RIGHT = (186, 32, 37), (22, 110, 60)  # colours of captions: the prediction, the truth


def percent(part: float, total: float) -> float | None:
    """A share in percent, to four digits; None if the total is 0."""
    return round(100 * float(part) / float(total), 4) if total else None


def shares(parts: NDArray[Any], totals: NDArray[Any]) -> NDArray[np.float64]:
    """Parts over totals of the same shape; NaN where the total is 0."""
    values = np.full(parts.shape, np.nan)
    np.divide(parts, totals, out=values, where=totals > 0)
    return values


def nan_mean(values: NDArray[np.float64]) -> float | None:
    """The mean of the values that are not NaN; None if there is none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def number(value: float | None) -> str:
    """A number for a table; integers are counts."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def short(name: str, length: int = 28) -> str:
    """A name of at most ``length`` letters, with control characters escaped."""
    name = printable(name)
    return name if len(name) <= length else f"{name[: length - 1]}…"


def table(
    rows: Sequence[Mapping[str, Any]], unit: str, score: str, columns: Sequence[str], words: str = ""
) -> list[str]:
    """The table of classes for the terminal: all of up to 20 classes, else the worst 20 that occur.

    Args:
        rows: one per class, its name under ``class``.
        unit: key of the class's number of images, objects or pixels.
        score: key of the score that orders the classes.
        columns: keys of the numbers that are shown.
        words: key of the text after the numbers; empty for none.
    """
    lines = []
    if len(rows) > SHOWN:
        present = [row for row in rows if row[unit]]
        worst = sorted(present, key=lambda row: (row[score], -row[unit]))[:SHOWN]
        lines.append(f"the {len(worst)} worst of {len(present):,} classes with {unit} (the model has {len(rows):,}):")
        rows = worst
    width = min(40, max([5, *(len(printable(row["class"])) for row in rows)]))
    sizes = [max(8 if name == unit else 7, len(name)) for name in columns]

    def line(name: str, cells: Iterable[str], text: str) -> str:
        numbers = " ".join(f"{cell:>{size}}" for cell, size in zip(cells, sizes, strict=True))
        return f"{short(name, width):<{width}} {numbers}  {printable(text)}".rstrip()

    lines.append(line("class", columns, words))
    return lines + [line(row["class"], (number(row[name]) for name in columns), row.get(words, "")) for row in rows]


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Writes these columns of a table atomically and returns its path.

    Texts that a spreadsheet would run as formulas are quoted, see :func:`~fishnet.files.text.cell`.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for row in ({name: name for name in names}, *rows):
        values = (row.get(name, "") for name in names)
        writer.writerow([cell(value) if isinstance(value, str) else value for value in values])
    write_bytes(path, text.getvalue().encode("utf-8", errors="backslashreplace"))
    return path


def worst_sheet(
    page: Path,
    images: ImageDataset,
    worst: Iterable[tuple[int, T]],
    cards: Callable[[Image.Image, Any, str, T], Iterable[Image.Image]],
    columns: int = 4,
) -> list[Path]:
    """Draws the worst images on a sheet. Where there are none, removes the sheet of an earlier evaluation.

    Args:
        page: the PNG file.
        images: the dataset.
        worst: the index of each image in the dataset, and its details.
        cards: makes the cards on the sheet from an image as RGB, its target, its file name and its details.
        columns: cards in a row.

    Returns:
        ``page`` in a list, or an empty list.
    """
    drawn: list[Image.Image] = []
    for index, details in worst:
        try:
            image, target = images.read(index)
        except InputError:  # the file was removed after it was evaluated
            continue
        drawn += cards(as_view(image), target, Path(images.source(index)).name, details)
    if not drawn:
        page.unlink(missing_ok=True)
        return []
    with atomic_path(page) as partial:
        sheet(drawn, columns).save(partial)
    return [page]


def save(figure: "Figure", path: Path) -> Path:
    """Writes a figure as a PNG atomically and returns its path."""
    with atomic_path(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # class names in scripts that the font lacks
        figure.savefig(partial, dpi=110, format="png")
    return path
