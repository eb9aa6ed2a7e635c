"""Files that name the classes of masks, and which label each class has."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.findings import Finding
from fishnet.data.problems import complain
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import InputError, nearest
from fishnet.files.documents import parse_json
from fishnet.files.reading import MIB, read_bytes, read_text

FILES = (
    "label_colors.txt", "labelmap.txt", "class_dict.csv", "classes.csv", "_classes.csv", "classes.json", "classes.txt",
    "class_names.txt", "label_names.txt", "labels.txt", "codes.txt",
)  # fmt: skip
"""Of the files in a folder the first of these names the classes."""
LARGEST = 0xFFFFFF  # id: as many as there are colours
IGNORED = "__ignore__"  # how labelme names the px that are no class
SIZE = MIB  # bytes of a classes file, at most
LONGEST = 300  # characters of a line in it
_SHOWN = 60  # characters of a line in a message

# Possessive (++): a run of digits or gaps is taken whole, so that a hostile line costs no more than its length squared.
_PIECES = {"id": r"(?P<id>-?\d++)", "name": r"(?P<name>.+?)"} | {key: rf"(?P<{key}>\d++)" for key in "rgb"}
_FORMS = {
    form: re.compile(r"[\s,;:]++".join(_PIECES[word] for word in form.split()) + ("(:.*)?" if form[-1] == "b" else ""))
    for form in ("id r g b name", "r g b name", "id name r g b", "name r g b", "id name")
} | {"name: id": re.compile(r"(?P<name>.+?)\s*+[:=,;\t]\s*+(?P<id>-?\d++)"), "name": re.compile(r"(?P<name>.+)")}
_COLUMNS = {
    "name": ("name", "class", "label", "class_name", "class name"),
    "id": ("id", "index", "class_id", "label_id", "value", "pixel value", "pixel_value"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
}


@dataclass(frozen=True)
class Legend:
    """What the pixels of masks stand for.

    Attributes:
        place: where the classes are named, for messages.
        classes: their names and original ids.
        values: the numbers that stand for them in masks, one a class; as a rule their ids.
        colours: 0xRRGGBB, one a class; empty where masks have numbers only.
        ignored: further numbers that masks may hold, which stand for no class.
        ignored_colours: such colours.
        stated: whether the ids are stated, rather than counted; of masks with a palette its numbers count then, not its
            colours.
        given: whether a classes file states them: each is then expected in the masks that are trained on.
    """

    place: str
    classes: Classes
    values: tuple[int, ...]
    colours: tuple[int, ...] = ()
    ignored: tuple[int, ...] = ()
    ignored_colours: tuple[int, ...] = ()
    stated: bool = True
    given: bool = True


class _Row(NamedTuple):
    """A class as a file has it, and where."""

    place: str
    name: str
    id: int | None
    colour: int | None


def find_legend(*folders: Path) -> Legend | None:
    """What the classes file in the first of some folders that has one says; None without one.

    Raises:
        InputError: see :func:`read_legend`.
    """
    for folder in folders:
        inside = {path.name.lower(): path for path in sorted(folder.iterdir())} if folder.is_dir() else {}
        found = next((inside[name] for name in FILES if name in inside and not inside[name].is_dir()), None)
        if found is not None:
            return read_legend(found)
    return None


def read_legend(path: Path) -> Legend:
    """Reads a classes file.

    A text has a class a line, all alike: ``name`` (ids 0, 1, ...; from -1 where the first is ``__ignore__``), ``id
    name``, ``name: id``, ``r g b name`` or ``name r g b``, the last two also with an id in front; blanks, commas,
    colons and semicolons are gaps, and lines with ``#`` in front are not read. A table has a header with the columns
    name, id, r, g and b, or some of them, in any order. JSON is a list of names, or an object of names by id.

    Raises:
        InputError: anything else; an id, a name or a colour that comes twice; no regular file, or a larger one than 1
            MiB. The message says the file and the line.
    """
    rows = list(_json_rows(path) if path.suffix.lower() == ".json" else _text_rows(path))
    if not rows:
        raise InputError(f"{path}: names no class: give one a line")
    stated = rows[0].id is not None
    first = -1 if rows[0].name == IGNORED else 0
    rows = [row if stated else row._replace(id=first + i) for i, row in enumerate(rows)]
    for field in ("name", "id", "colour"):
        _check_once(field, rows)
    for row in rows:
        if not -1 <= (row.id or 0) <= LARGEST:
            raise InputError(f"{row.place}: id {str(row.id)[:_SHOWN]} of {row.name!r}: ids are 0 to {LARGEST}")
    none = [row for row in rows if row.name == IGNORED or row.id == -1]
    rows = [row for row in rows if row not in none]
    ids = tuple(row.id for row in rows if row.id is not None)
    colours = tuple(row.colour for row in rows if row.colour is not None)
    greys = [colour & 0xFF for colour in colours if colour == (colour & 0xFF) * 0x010101]
    return Legend(
        str(path),
        Classes(tuple(row.name for row in rows), ids),
        tuple(greys) if not stated and colours and len(greys) == len(rows) else ids,
        colours,
        tuple(row.id for row in none if row.id is not None),
        tuple(row.colour for row in none if row.colour is not None),
        stated,
    )


def _check_once(field: str, rows: Sequence[_Row]) -> None:
    seen: dict[Any, _Row] = {}
    for row in rows:
        value = getattr(row, field)
        if value is not None and value in seen:
            shown = colour_text(value) if field == "colour" else repr(value)
            raise InputError(f"{row.place}: {field} {shown} comes twice: {seen[value].place} has it too")
        seen[value] = row


def colour_text(colour: int) -> str:
    """A colour as its red, green and blue, 0..255."""
    return f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"


def _row(place: str, fields: dict[str, str]) -> _Row:
    name = fields.get("name", "").strip()
    try:
        values = {key: int(fields[key]) for key in ("id", "r", "g", "b") if key in fields}
    except ValueError:
        values_shown = ", ".join(value[:_SHOWN] for value in fields.values())
        raise InputError(f"{place}: an id or a colour that is no whole number: {values_shown}") from None
    colour = [values[key] for key in "rgb" if key in values]
    if not name or len(colour) not in (0, 3) or any(not 0 <= part <= 255 for part in colour):
        wrong = "no name" if not name else f"{name!r} has no red, green and blue of 0 to 255"
        raise InputError(f"{place}: {wrong}")
    return _Row(place, name, values.get("id"), colour[0] << 16 | colour[1] << 8 | colour[2] if colour else None)


def _text_rows(path: Path) -> Iterator[_Row]:
    lines = [(number, line) for number, line in class_lines(path) if not line.startswith("#")]
    if lines and (columns := _header(lines[0][1])):
        mark = next((mark for mark in ",;\t" if mark in lines[0][1]), " ")
        for number, line in lines[1:]:
            try:
                row = next(csv.reader([line], delimiter=mark, skipinitialspace=True))
            except csv.Error as error:
                raise InputError(f"{path} line {number}: not a row of a table ({error})") from None
            cells = [cell.strip() for cell in row]
            if len(cells) < len(columns):
                raise InputError(f"{path} line {number}: {len(cells)} values for {len(columns)} columns")
            yield _row(f"{path} line {number}", {key: cell for key, cell in zip(columns, cells, strict=False) if key})
        return
    form = next((form for number, line in lines[:1] for form in _FORMS if _FORMS[form].fullmatch(line)), "name")
    for number, line in lines:
        found = _FORMS[form].fullmatch(line)
        other = next(form for form in _FORMS if _FORMS[form].fullmatch(line))
        if found is None or (form == "name" and other != form):
            raise InputError(
                f"{path} line {number}: {line[:_SHOWN]!r} is no {form!r}, which line {lines[0][0]} is: write all lines "
                "alike"
            )
        yield _row(f"{path} line {number}", {key: cell for key, cell in found.groupdict().items() if cell is not None})


def class_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1. Raises InputError, see :func:`read_legend`."""
    for number, row in enumerate(read_text(path, SIZE, "classes file").splitlines(), 1):
        if len(row) > LONGEST:
            raise InputError(f"{path} line {number}: {len(row):,} characters: a class has at most {LONGEST}")
        if row.strip():
            yield number, row.strip()


def _header(line: str) -> list[str]:
    """What each column is of a table with such a first line, "" for what is not wanted; none where it is no header."""
    words = [
        word.strip().strip('"').lower() for word in re.split(r"[,;\t]" if re.search(r"[,;\t]", line) else " ", line)
    ]
    columns = [next((key for key, known in _COLUMNS.items() if word in known), "") for word in words]
    return columns if "name" in columns and len([column for column in columns if column]) > 1 else []


def _json_rows(path: Path) -> Iterator[_Row]:
    content = parse_json(read_bytes(path, SIZE, "classes file"), str(path))
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return iter([_row(f"{path} entry {i}", {"name": name}) for i, name in enumerate(content)])
    if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
        return iter([_row(f"{path} {id_[:_SHOWN]!r}", {"id": id_, "name": name}) for id_, name in content.items()])
    raise InputError(f'{path}: expected a list of names, or an object of names by id: {{"0": "road", "1": "sky"}}')


def labels_of(
    named: Classes,
    place: str,
    *,
    ignore: Sequence[int] = (),
    void: Sequence[str] = (),
    only: Sequence[str] = (),
    classes: Classes | None = None,
    problems: list[Finding] | None = None,
) -> tuple[Classes, tuple[int, ...]]:
    """Which label each class of the data has.

    Args:
        named: the data's classes.
        place: where they are named, for messages.
        ignore: ids of classes that are not learnt.
        void: names of such.
        only: names of the classes that are learnt; empty for all.
        classes: the classes a model knows, matched by name; by default all that are learnt.
        problems: collects that the model lacks classes, whose label is 255 then; None raises.

    Returns:
        (the classes that are learnt, the index in them of each class of the data: 255 for one that is not).

    Raises:
        InputError: fewer than two classes or more than 255; a class of ``void`` or ``only`` that the data lacks (which
            the data of a model may); a class that the model lacks.
    """
    for flag, names in (("void", void), ("classes", only)):
        unknown = [name for name in names if name not in named.names]
        if unknown and classes is None:
            raise InputError(f"{flag} {unknown[0]!r}: {place} names no such class: {nearest(unknown[0], named.names)}")
    kept = [
        i
        for i, id_ in enumerate(named.ids)
        if id_ not in ignore and named.names[i] not in void and (not only or named.names[i] in only)
    ]
    learnt = Classes(tuple(named.names[i] for i in kept), tuple(named.ids[i] for i in kept))
    if classes is None:
        if len(learnt) < 2:
            only = f"one class only ({learnt.names[0]})" if len(learnt) else "no class"
            raise InputError(f"{place}: has {only}: segmentation needs two or more, with the background")
        if len(learnt) > IGNORE:
            raise InputError(f"{place}: has {len(learnt)} classes: no more than {IGNORE} can be learnt")
        classes = learnt
    try:
        learnt.indices_in(classes)
    except InputError as error:
        complain(f"{place}: {error}", problems)
    index = {name: i for i, name in enumerate(classes.names)}
    labels = {i: index.get(named.names[i], IGNORE) for i in kept}
    return classes, tuple(labels.get(i, IGNORE) for i in range(len(named)))
