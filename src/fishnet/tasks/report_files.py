"""What reports share: numbers and names for people, CSV files, figures."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20  # rows of a printed table
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
    """A number for a table."""
    return "-" if value is None else f"{value:.2f}"


def short(name: str, most: int = 28) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a table under its columns' names, and gives back its path."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)
    return path


def save(figure: "Figure", path: Path) -> Path:
    """Writes a figure as a PNG, and gives back its path."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of names in scripts that the font lacks
        figure.savefig(path, dpi=110, format="png")
    return path
