"""The file that names the classes of masks, and the label of each class."""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import InputError, nearest
from fishnet.files.documents import parse_json
from fishnet.files.reading import MIB, read_bytes, read_text

CAMVID_FILE = "label_colors.txt"
FILES = (
    CAMVID_FILE, "labelmap.txt", "class_dict.csv", "classes.csv", "_classes.csv", "classes.json", "classes.txt",
    "class_names.txt", "label_names.txt", "labels.txt", "codes.txt",
)  # fmt: skip
"""Names of classes files, as tools and datasets use them. If a folder has several, the first in this order counts."""
MAX_ID = 0xFFFFFF  # the largest colour
MAX_BYTES = MIB
MAX_LINE = 300  # characters
IGNORED = "__ignore__"  # labelme's name for pixels without a class
_SHOWN = 60  # characters of a line in a message

_COLUMNS = {
    "name": ("name", "class", "label", "class_name", "class name"),
    "id": ("id", "index", "class_id", "label_id", "value", "pixel value", "pixel_value"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
    "rgb": ("rgb", "color_rgb"),  # CVAT: all three in one cell, with commas
}
_CAMVID_HEADER = ["r", "g", "b", "name"], " "
# An id before or after a name, or the numbers of a colour. Possessive (++), so that a hostile line takes little time.
_NOT_A_NAME = re.compile(
    r"^-?\d++[\s,;:]|[:=,;\t]\s*+-?\d++$|(?<!\d)\d++[\s,;:]++\d++[\s,;:]++\d|#[\da-f]{6}\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Legend:
    """What the values in masks mean.

    Attributes:
        location: the file that names the classes, for messages.
        classes: the classes' names and original ids.
        values: the number of each class in masks; usually its id.
        colours: the colour of each class, 0xRRGGBB; empty if masks hold numbers only.
        ignored: further numbers that masks may hold, of pixels without a class.
        ignored_colours: further colours of such pixels.
        has_ids: whether the ids come from the format or file; otherwise they were counted. With ids, masks with a
            palette are read by their numbers, not by their colours.
        from_file: whether a classes file names the classes. Each of them is then expected in the training masks.
    """

    location: str
    classes: Classes
    values: tuple[int, ...]
    colours: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    ignored_colours: tuple[int, ...] = ()
    has_ids: bool = True
    from_file: bool = True


class _Entry(NamedTuple):
    """One class in a file, and its location there."""

    location: str
    name: str
    id: int
    colour: int | None


_Cells = dict[str, str]
"""The texts in the row of one class, by column."""


def find_legend(*folders: Path) -> Legend | None:
    """Reads the classes file in the first of the folders that has one; None if there is none.

    Raises:
        InputError: see :func:`read_legend`.
    """
    for folder in folders:
        paths = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
        path = next((paths[name] for name in FILES if name in paths and not paths[name].is_dir()), None)
        if path is not None:
            return read_legend(path)
    return None


def read_legend(path: Path) -> Legend:
    """Reads a classes file: a table, or JSON.

    A table is a text whose first line names its columns: ``name`` and ``id``, or ``name``, ``r``, ``g`` and ``b``, or
    all five, in any order, with commas, semicolons or tabs between them. A text of names alone, one a line, needs no
    such line; neither does CamVid's ``label_colors.txt``. Lines that start with ``#`` are ignored, unless they name
    columns (CVAT's ``labelmap.txt``). Classes without ids are counted from 0, or from -1 if the first
    one is ``__ignore__``. JSON is an object of names by id.

    Raises:
        InputError: any other content; an id, a name or a colour that occurs twice; not a regular file, or more than 1
            MiB. The message names the file and the line.
    """
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _table_rows(path)
    if not rows:
        raise InputError(f"{path}: names no class: write one name a line")
    has_ids = "id" in rows[0][1]
    first = -1 if rows[0][1].get("name") == IGNORED else 0
    entries = [_entry(location, {"id": str(i), **cells}) for i, (location, cells) in enumerate(rows, first)]
    for field in ("name", "id", "colour"):
        _check_unique(field, entries)
    return _legend(str(path), entries, has_ids)


def _legend(location: str, entries: Sequence[_Entry], has_ids: bool) -> Legend:
    ignored = [entry for entry in entries if entry.name == IGNORED or entry.id == -1]
    named = [entry for entry in entries if entry not in ignored]
    ids = tuple(entry.id for entry in named)
    colours = tuple(entry.colour for entry in named if entry.colour is not None)
    greys = tuple(colour & 0xFF for colour in colours if colour == (colour & 0xFF) * 0x010101)
    all_grey = bool(greys) and len(greys) == len(named)
    return Legend(
        location,
        Classes(tuple(entry.name for entry in named), ids),
        greys if all_grey and not has_ids else ids,
        colours,
        tuple(entry.id for entry in ignored),
        tuple(entry.colour for entry in ignored if entry.colour is not None),
        has_ids,
    )


def _check_unique(field: str, entries: Sequence[_Entry]) -> None:
    seen: dict[Any, _Entry] = {}
    for entry in entries:
        value = getattr(entry, field)
        if value is not None and value in seen:
            shown = colour_text(value) if field == "colour" else repr(value)
            raise InputError(f"{entry.location}: {field} {shown} occurs twice: also at {seen[value].location}")
        seen[value] = entry


def colour_text(colour: int) -> str:
    """Red, green and blue of a colour, 0..255, for messages."""
    return f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"


def _entry(location: str, cells: _Cells) -> _Entry:
    """Checks and converts the cells of one class. Raises InputError."""
    name = cells.get("name", "").strip()
    if not name:
        raise InputError(f"{location}: no name")
    values: dict[str, int] = {}
    for column in ("id", "r", "g", "b"):
        try:
            values |= {column: int(cells[column])} if column in cells else {}
        except ValueError:
            shown = cells[column][:_SHOWN]
            raise InputError(f"{location}: {column} of {name!r} must be a whole number, not {shown!r}") from None
    if not -1 <= values["id"] <= MAX_ID:
        raise InputError(f"{location}: id {cells['id'][:_SHOWN]} of {name!r}: ids are 0 to {MAX_ID}")
    rgb = [values[column] for column in "rgb" if column in values]
    if len(rgb) not in (0, 3) or any(not 0 <= value <= 255 for value in rgb):
        raise InputError(f"{location}: {name!r} has no red, green and blue of 0 to 255")
    return _Entry(location, name, values["id"], rgb[0] << 16 | rgb[1] << 8 | rgb[2] if rgb else None)


def _table_rows(path: Path) -> list[tuple[str, _Cells]]:
    """The classes of a text, each with its file and line."""
    lines = [(f"{path} line {n}", line) for n, line in class_lines(path) if not line.startswith("#") or _header(line)]
    header = _header(lines[0][1]) if lines else None
    rows = lines[1:] if header else lines
    if header is None and path.name.lower() == CAMVID_FILE:
        header = _CAMVID_HEADER
    if header:
        return [(location, _split_row(location, line, *header)) for location, line in rows]
    for location, line in lines:
        if _NOT_A_NAME.search(line) or (path.suffix.lower() == ".csv" and "," in line):
            raise InputError(
                f"{location}: {line[:_SHOWN]!r} is more than a name: for ids or colours, begin the file with a line "
                "that names its columns, such as id,name (then 7,road) or name,r,g,b (then road,128,64,128)"
            )
    return [(location, {"name": line}) for location, line in lines]


def _header(line: str) -> tuple[list[str], str] | None:
    """The columns that a line names ("" for unknown ones) and the separator; None if the line is not a header."""
    mark = next((mark for mark in ",;\t:" if mark in line), "")
    words = [word.strip(' "').lower() for word in line.lstrip("# ").split(mark)] if mark else []
    columns = [next((column for column, names in _COLUMNS.items() if word in names), "") for word in words]
    known = [column for column in columns if column]
    return (columns, mark) if "name" in known and len(known) > 1 else None


def _split_row(location: str, line: str, columns: Sequence[str], mark: str) -> _Cells:
    """The cells of a table's row by column. Raises InputError."""
    try:
        row = line.split(maxsplit=3) if mark == " " else next(csv.reader([line], delimiter=mark, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{location}: not a row of a table ({error})") from None
    if len(row) < len(columns):
        raise InputError(
            f"{location}: {len(row)} values for {len(columns)} columns: {', '.join(filter(None, columns))}"
        )
    cells = {column: cell.strip() for column, cell in zip(columns, row, strict=False) if column}
    if "rgb" in cells:
        cells |= dict(zip("rgb", cells.pop("rgb").split(","), strict=False))
    return cells


def class_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1. Raises InputError, see :func:`read_legend`."""
    lines = []
    for number, line in enumerate(read_text(path, MAX_BYTES, "classes file").splitlines(), 1):
        if len(line) > MAX_LINE:
            raise InputError(f"{path} line {number}: {len(line):,} characters: a class has at most {MAX_LINE}")
        if line.strip():
            lines.append((number, line.strip()))
    return lines


def _json_rows(path: Path) -> list[tuple[str, _Cells]]:
    """The classes of a JSON file, each with its file and id."""
    content = parse_json(read_bytes(path, MAX_BYTES, "classes file"), str(path))
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content.values()):
        raise InputError(f'{path}: expected an object of names by id, such as {{"0": "road", "1": "sky"}}')
    return [(f"{path} {id_[:_SHOWN]!r}", {"id": id_, "name": name}) for id_, name in content.items()]


def assign_labels(
    data_classes: Classes,
    location: str,
    *,
    ignore: Sequence[int] = (),
    void: Sequence[str] = (),
    only: Sequence[str] = (),
    classes: Classes | None = None,
) -> tuple[Classes, tuple[int, ...]]:
    """Decides which classes are learned, and the label of each class of the data.

    Classes that a model lacks are reported, and their label is 255.

    Args:
        data_classes: the classes of the data.
        location: the file that names them, for messages.
        ignore: ids of classes that are not learned.
        void: names of classes that are not learned.
        only: names of the classes that are learned; empty for all.
        classes: the classes of a model, matched by name; by default all classes that are learned.

    Returns:
        (the model's or the learned classes, for each class of the data its index among them, or 255).

    Raises:
        InputError: fewer than two classes or more than 255; a class of ``void`` or ``only`` that the data lacks, unless
            ``classes`` are given; a class that the model lacks.
    """
    if classes is None:
        _check_named("void", void, data_classes, location)
        _check_named("classes", only, data_classes, location)
    kept = [
        i
        for i, (name, id_) in enumerate(zip(data_classes.names, data_classes.ids, strict=True))
        if id_ not in ignore and name not in void and (not only or name in only)
    ]
    learned = Classes(tuple(data_classes.names[i] for i in kept), tuple(data_classes.ids[i] for i in kept))
    if classes is None:
        _check_count(learned, location)
        classes = learned
    try:
        learned.indices_in(classes)
    except InputError as error:
        report(f"{location}: {error}")
    index = {name: i for i, name in enumerate(classes.names)}
    labels = {name: index.get(name, IGNORE) for name in learned.names}
    return classes, tuple(labels.get(name, IGNORE) for name in data_classes.names)


def _check_named(option: str, names: Sequence[str], data_classes: Classes, location: str) -> None:
    for name in names:
        if name not in data_classes.names:
            raise InputError(f"{option} {name!r}: {location} names no such class: {nearest(name, data_classes.names)}")


def _check_count(learned: Classes, location: str) -> None:
    if len(learned) < 2:
        number = f"one class only ({learned.names[0]})" if len(learned) else "no class"
        raise InputError(f"{location}: has {number}: segmentation needs two or more, with the background")
    if len(learned) > IGNORE:
        raise InputError(f"{location}: has {len(learned)} classes: segmentation can learn at most {IGNORE}")
