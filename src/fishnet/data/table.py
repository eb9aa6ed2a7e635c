"""Tables of path and label: CSV, TSV and Parquet. Parquet may hold the pictures too, as Hugging Face writes it."""

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.data.base import EncodedSet
from fishnet.data.labels import Classes, Label, labelling, named
from fishnet.data.pictures import read_file
from fishnet.data.splits import SPELLED, in_order, split_named
from fishnet.errors import InputError, first_line

if TYPE_CHECKING:
    import pyarrow

SUFFIXES = (".csv", ".tsv", ".parquet")
PATH = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "picture")
LABEL = ("label", "class", "target", "class_name", "label_name", "labels", "category", "y")
SPLIT = ("split", "set", "subset", "partition")


@dataclass
class Rows:
    """What a table says, row by row.

    Attributes:
        file: the table.
        unit: ``line`` (of a text, counted from 1) or ``row`` (of Parquet, counted from 0).
        numbers: the row's line or number.
        paths: as the table has them; None for pictures in the table that have no name.
        labels: names or numbers.
        splits: as spelled; empty where the table has no such column.
        images: the pictures themselves, where they are in the table.
        names: what the numbers of a label column that has names mean.
    """

    file: Path
    unit: str
    numbers: Sequence[int] = ()
    paths: list[str | None] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    images: "pyarrow.ChunkedArray | None" = None
    names: tuple[str, ...] | None = None

    def where(self, row: int) -> str:
        """Such as ``data.csv line 7``."""
        return f"{self.file} {self.unit} {self.numbers[row]}"


class TableSet(EncodedSet):
    """Some rows of a table: pictures by path (relative to the table's folder, or absolute) or in the table.

    Args:
        rows: the whole table.
        members: which rows.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes; by default those of these rows.

    Raises:
        InputError: see :func:`~fishnet.data.labels.labelling`.
    """

    def __init__(self, rows: Rows, members: Sequence[int], channels: int, classes: Classes | None = None) -> None:
        self.rows, self.members, self.channels = rows, list(members), channels
        labels = [rows.labels[row] for row in self.members]

        def where(i: int) -> str:
            return rows.where(self.members[i])

        try:
            if rows.names is None:
                self.classes, self.labels = labelling(labels, where, classes)
            else:
                self.classes, self.labels = named(rows.names, labels, where, classes)
        except InputError as error:
            raise InputError(str(error) if str(rows.file) in str(error) else f"{rows.file}: {error}") from None

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedSet`."""
        row = self.members[index]
        if self.rows.images is not None and (content := _content(self.rows.images[row].as_py())) is not None:
            return content
        if not self.rows.paths[row]:
            raise InputError(f"{self.rows.where(row)}: no picture in this row")
        try:
            return read_file(self.rows.file.parent / str(self.rows.paths[row]))
        except InputError as error:
            raise InputError(f"{error} ({self.rows.file.name} {self.rows.unit} {self.rows.numbers[row]})") from None

    def source(self, index: int) -> str:
        """The picture's path; for pictures in the table, the table and row."""
        row = self.members[index]
        path = self.rows.paths[row]
        return (
            self.rows.where(row) if self.rows.images is not None or path is None else str(self.rows.file.parent / path)
        )

    def key(self, index: int) -> str:
        """The path as the table has it, or the row's number."""
        row = self.members[index]
        return self.rows.paths[row] or str(row)


def open_table(file: Path, channels: int, classes: Classes | None = None) -> dict[str, TableSet]:
    """The parts of a table: ``all``, or those that its split column names.

    Raises:
        InputError: no such file, a table that cannot be read, without the columns for path and label, or without rows;
            an empty label or path, or an unknown split, with its line.
        ModuleNotFoundError: Parquet needs pyarrow.
    """
    rows = read_rows(file)
    if not rows.labels:
        raise InputError(f"{file}: has no rows below its column names")
    members: dict[str, list[int]] = {}
    for row in range(len(rows.labels)):
        label, path = rows.labels[row], rows.paths[row]
        if label == "":
            raise InputError(f"{rows.where(row)}: empty label: give one, or remove the row")
        if path == "" and rows.images is None:
            raise InputError(f"{rows.where(row)}: empty path: give one, or remove the row")
        split = split_named(rows.splits[row]) if rows.splits else "all"
        if split is None:
            raise InputError(f"{rows.where(row)}: unknown split {rows.splits[row]!r}: choose from {', '.join(SPELLED)}")
        members.setdefault(split, []).append(row)
    sets: dict[str, TableSet] = {}
    for split in in_order(members):
        sets[split] = TableSet(rows, members[split], channels, classes)
        classes = sets[split].classes
    return sets


def read_rows(file: Path) -> Rows:
    """A table's rows, whatever its format. Errors as in :func:`open_table`."""
    if not file.exists():
        raise InputError(f"{file}: no such table")
    return _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_text(file)


def columns(found: Sequence[str], file: Path) -> tuple[int, int, int | None]:
    """Where path, label and perhaps split are among a table's columns.

    Raises:
        InputError: no column for path or label; names those that there are.
    """
    plain = [name.strip().lower() for name in found]

    def place(names: tuple[str, ...]) -> int | None:
        return next((plain.index(name) for name in names if name in plain), None)

    path, label = place(PATH), place(LABEL)
    if path is None or label is None:
        what, names = ("path", PATH) if path is None else ("label", LABEL)
        raise InputError(
            f"{file}: no column for the {what} ({', '.join(names[:4])}, ...) among its columns: "
            f"{', '.join(repr(name) for name in found[:8]) or 'none'}"
            + ("" if file.suffix.lower() == ".parquet" else ": the first line must name them")
        )
    return path, label, place(SPLIT)


def _read_text(file: Path) -> Rows:
    content = read_file(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{file} line {line}: not UTF-8: save the table as UTF-8") from None
    head = text.splitlines()[0] if text.strip() else ""
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    numbers: list[int] = []
    rows = Rows(file, "line", numbers)
    lines = _lines(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), file)
    _, found = next(lines, (0, []))
    path, label, split = columns(found, file)
    for number, values in lines:
        if len(values) != len(found):
            raise InputError(f"{file} line {number}: {len(values)} values, but {len(found)} columns")
        numbers.append(number)
        rows.paths.append(values[path].strip())
        rows.labels.append(values[label].strip())
        if split is not None:
            rows.splits.append(values[split].strip())
    return rows


def _lines(reader: Any, file: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, values) of every line that is not empty."""
    while True:
        begin = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{file} line {begin}: cannot be read ({error})") from None
        if values is None:
            return
        if any(value.strip() for value in values):
            yield begin, values


def _read_parquet(file: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(file)
        places = columns(schema.names, file)
        path, label, split = (None if place is None else schema.names[place] for place in places)
        table = pyarrow.parquet.read_table(file, columns=list(dict.fromkeys(n for n in (path, label, split) if n)))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a Parquet file that can be read ({first_line(error)})") from None
    rows = Rows(file, "row", range(len(table)), names=_huggingface_names(schema, str(label)))
    rows.labels = [_label(value) for value in table[label].to_pylist()]
    if split:
        rows.splits = ["" if value is None else str(value) for value in table[split].to_pylist()]
    kind = table[path].type
    if pyarrow.types.is_struct(kind) or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind):
        rows.images = table[path]
        rows.paths = _names_inside(table[path])
    else:
        rows.paths = ["" if value is None else str(value) for value in table[path].to_pylist()]
    return rows


def _names_inside(images: "pyarrow.ChunkedArray") -> list[str | None]:
    """The paths of Hugging Face's image structs."""
    import pyarrow

    if not pyarrow.types.is_struct(images.type) or images.type.get_field_index("path") < 0:
        return [None] * len(images)
    import pyarrow.compute

    return [None if path is None else str(path) for path in pyarrow.compute.struct_field(images, "path").to_pylist()]


def _content(value: Any) -> bytes | None:
    """The bytes of a picture in a table; None where the table has its path only."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None


def _label(value: Any) -> Label:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _huggingface_names(schema: "pyarrow.Schema", label: str) -> tuple[str, ...] | None:
    """The class names that Hugging Face's library writes beside a table."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return None
