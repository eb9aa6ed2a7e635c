"""What reports share: the table of classes for people, CSV files, the sheet of the worst images, figures."""

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
from fishnet.files.writing import whole, write_bytes
from fishnet.images.decoding import as_view
from fishnet.prediction.drawing import sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")
SHOWN = 20  # rows of a printed table
WORST, SIDE = 6, 480  # images on the sheet, where each has more than one card, and px of a card
BLUE, RED = "#4895ef", "#c1292e"  # of figures
WRONG, RIGHT = (186, 32, 37), (22, 110, 60)  # of captions: what the model says, what is true


def percent(part: float, whole: float) -> float | None:
    """A share in percent, to four digits; None of nothing."""
    return round(100 * float(part) / float(whole), 4) if whole else None


def shares(parts: NDArray[Any], wholes: NDArray[Any]) -> NDArray[np.float64]:
    """Parts over wholes of the same shape; NaN where the whole is 0."""
    found = np.full(parts.shape, np.nan)
    np.divide(parts, wholes, out=found, where=wholes > 0)
    return found


def number(value: float | None) -> str:
    """A number for a table: whole ones are counts."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def short(name: str, most: int = 28) -> str:
    """A name of at most so many letters, control characters escaped."""
    name = printable(name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def table(
    rows: Sequence[Mapping[str, Any]], unit: str, score: str, columns: Sequence[str], words: str = ""
) -> list[str]:
    """The table of classes for people: all up to 20, beyond that the worst that are there.

    Args:
        rows: one a class, its name under ``class``.
        unit: key of how much there is of the class.
        score: key of what tells good classes from bad.
        columns: keys of the numbers that are shown.
        words: key of the text behind them, if there is one.
    """
    lines = []
    if len(rows) > SHOWN:
        there = [row for row in rows if row[unit]]
        worst = sorted(there, key=lambda row: (row[score], -row[unit]))[:SHOWN]
        lines.append(f"the {len(worst)} worst of {len(there):,} classes with {unit} (the model knows {len(rows):,}):")
        rows = worst
    width = min(40, max([5, *(len(printable(row["class"])) for row in rows)]))
    sizes = [max(8 if name == unit else 7, len(name)) for name in columns]

    def line(name: str, cells: Iterable[str], text: str) -> str:
        numbers = " ".join(f"{cell:>{size}}" for cell, size in zip(cells, sizes, strict=True))
        return f"{short(name, width):<{width}} {numbers}  {printable(text)}".rstrip()

    lines.append(line("class", columns, words))
    return lines + [line(row["class"], (number(row[name]) for name in columns), row.get(words, "")) for row in rows]


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Writes these columns of a table, whole or not at all, and gives back its path.

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
    """Draws the worst images on a sheet. Where there are none, a sheet that an earlier measurement left goes.

    Args:
        page: the PNG.
        images: the set.
        worst: of each its index in the set, and what is known of it.
        cards: an image as RGB, its target, its file's name and what is known of it -> what the sheet shows.
        columns: cards in a row.

    Returns:
        ``page``, or nothing.
    """
    drawn: list[Image.Image] = []
    for index, known in worst:
        try:
            image, target = images.read(index)
        except InputError:  # gone since it was measured
            continue
        drawn += cards(as_view(image), target, Path(images.source(index)).name, known)
    if not drawn:
        page.unlink(missing_ok=True)
        return []
    with whole(page) as partial:
        sheet(drawn, columns).save(partial)
    return [page]


def save(figure: "Figure", path: Path) -> Path:
    """Writes a figure as a PNG, whole or not at all, and gives back its path."""
    with whole(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of names in scripts that the font lacks
        figure.savefig(partial, dpi=110, format="png")
    return path
