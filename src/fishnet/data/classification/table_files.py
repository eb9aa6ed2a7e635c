"""Reads tables of paths and labels: CSV, TSV, and Parquet, which may contain the images, as Hugging Face writes it."""

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fishnet.bundle.classes import Label
from fishnet.data.classification.several import REFUSED, refuse_indicators
from fishnet.data.csv_rows import csv_rows
from fishnet.errors import InputError, first_line
from fishnet.files.reading import GIB, MIB, open_regular

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

SUFFIXES = (".csv", ".tsv", ".parquet")
PATH = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "picture",
    "image_name", "image_id", "imageid", "id_code", "img_id", "id",
)  # fmt: skip
LABEL = ("label", "class", "target", "class_name", "label_name", "labels", "category", "y")
SPLIT = ("split", "set", "subset", "partition")
VALID = ("is_valid", "is_val")
FOLD = ("fold", "kfold", "folds", "fold_id")
# Of tables with several labels per image. There, y may be a column of 0 and 1.
LABELS = ("labels", *(name for name in LABEL if name not in ("labels", "y")))
Cell = str | list[str]
"""The labels of an image as a table holds them: text, or a list of Parquet."""
_PEEK = 200  # rows read to see what the columns contain
_BATCH = 8  # rows of images read at once; in a hostile file each may be large
_MAX_TEXT = 1 << 16  # bytes of a path or a label
_LABEL_WORDS = ("label", "class", "target", "category", "split", "set", "subset", "partition", "fold", "valid", "test")


@dataclass(frozen=True)
class Columns:
    """The positions of a table's columns by their meaning; None for columns that it lacks.

    Attributes:
        path: the image.
        label: its class, or its labels; None only for tables with several labels per image.
        split: names of the splits.
        valid: true for images to validate with.
        fold: the number of the cross-validation fold.
        unread: names of further columns that look like labels or splits.
    """

    path: int
    label: int | None
    split: int | None
    valid: int | None
    fold: int | None
    unread: tuple[str, ...] = ()


@dataclass
class Rows:
    """A table's contents, one item a row in each list.

    Attributes:
        file: the table.
        unit: ``line`` (of a text, counted from 1) or ``row`` (of Parquet, counted from 0).
        numbers: the line or number of each row.
        paths: paths, as the table spells them; None for images in the table without a path.
        labels: names or numbers; empty if the table was read for several labels per image.
        cells: the labels of each row, if the table was read for several labels per image and has a column of them.
        others: otherwise all columns without another meaning, by name.
        splits, valid, folds: values as the table spells them; empty if it has no such column.
        images: the images, if they are in the table.
        names: the class names, if the labels are indices into them.
        columns: the names of the columns that were read.
        unread: names of further columns that look like labels or splits.
    """

    file: Path
    unit: str
    numbers: Sequence[int] = ()
    paths: list[str | None] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)
    splits: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    folds: list[str] = field(default_factory=list)
    images: "pyarrow.ChunkedArray | None" = None
    names: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def where(self, row: int) -> str:
        """The location of a row for messages, such as ``data.csv line 7``."""
        return f"{self.file} {self.unit} {self.numbers[row]}"


def read_rows(file: Path, *, multi_label: bool = False) -> Rows:
    """Reads a table of any supported format.

    Args:
        file: the table.
        multi_label: whether images may have several labels.

    Raises:
        InputError: no such table, one that cannot be read, or without columns for path and label; names the line.
        ModuleNotFoundError: Parquet needs pyarrow.
    """
    if not file.exists():
        raise InputError(f"{file}: no such table")
    return (_read_parquet if file.suffix.lower() == ".parquet" else _read_text)(file, multi_label)


def find_columns(
    names: Sequence[str], file: Path, peek: Callable[[], Sequence[Sequence[object]]], multi_label: bool = False
) -> Columns:
    """Finds the columns of a table by their names.

    Args:
        names: the names of the columns.
        file: the table, for messages.
        peek: returns some rows, for a better message about a table without a label column.
        multi_label: whether the label column may be missing, because other columns are the classes.

    Raises:
        InputError: no column for path or label, or two columns with the same name.
    """
    plain = [name.strip().lower() for name in names]

    def position(words: tuple[str, ...]) -> int | None:
        index = next((plain.index(word) for word in words if word in plain), None)
        if index is not None and (count := plain.count(plain[index])) > 1:
            raise InputError(f"{file}: {count} columns are called {names[index]!r}: rename all but one of them")
        return index

    path, label = position(PATH), position(LABELS if multi_label else LABEL)
    if path is None or (label is None and not multi_label):
        if path is not None:
            refuse_indicators(names, peek(), str(file))
        what, words = ("path", PATH) if path is None else ("label", LABEL)
        raise InputError(
            f"{file}: no column for the {what} ({', '.join(words[:4])}, ...) among its columns: "
            f"{', '.join(repr(name) for name in names[:8]) or 'none'}"
            + ("" if file.suffix.lower() == ".parquet" else ": the first line must name them")
        )
    split, valid, fold = position(SPLIT), position(VALID), position(FOLD)
    read = {path, label, split, valid, fold}
    unread = [name for i, name in enumerate(names) if i not in read and _suggests_label(plain[i])]
    return Columns(path, label, split, valid, fold, tuple(unread))


def _suggests_label(name: str) -> bool:
    """Whether a column's name sounds like a label or a split."""
    return name in (*LABEL, *SPLIT, *VALID, *FOLD) or bool(set(re.split(r"[\s_-]+", name)) & set(_LABEL_WORDS))


# CSV and TSV


def _read_text(file: Path, multi_label: bool) -> Rows:
    with open_regular(file, "table") as stream:
        lines = csv_rows(stream, file)
        _, names = next(lines, (0, []))
        columns = find_columns(names, file, lambda: _peek_text(lines, len(names)), multi_label)
        return _text_rows(file, lines, names, columns, multi_label)


def _text_rows(
    file: Path, lines: Iterator[tuple[int, list[str]]], names: Sequence[str], columns: Columns, multi_label: bool
) -> Rows:
    numbers: list[int] = []
    rows = Rows(file, "line", numbers, columns=tuple(names), unread=columns.unread)
    texts: list[list[str]] = [rows.splits, rows.valid, rows.folds]
    optional = list(zip((columns.split, columns.valid, columns.fold), texts, strict=True))
    if multi_label and columns.label is None:
        others = _others(names, columns, file)
        rows.others = {names[position]: [] for position in others}
        optional += [(position, rows.others[names[position]]) for position in others]
    labels: list[Any] = rows.cells if multi_label else rows.labels
    optional.append((columns.label, labels))
    for number, values in lines:
        if len(values) != len(names):
            raise InputError(f"{file} line {number}: {len(values)} values, but {len(names)} columns")
        numbers.append(number)
        rows.paths.append(values[columns.path].strip())
        for position, column in optional:
            if position is not None:
                column.append(values[position].strip())
    return rows


def _others(names: Sequence[str], columns: Columns, file: Path) -> list[int]:
    """The positions of the columns without a meaning of their own. Raises InputError if two have the same name."""
    read = {columns.path, columns.split, columns.valid, columns.fold}
    others = [position for position in range(len(names)) if position not in read]
    plain = [names[position].strip() for position in others]
    double = next((name for name in plain if plain.count(name) > 1), None)
    if double is not None:
        raise InputError(f"{file}: {plain.count(double)} columns are called {double!r}: rename all but one of them")
    return others


def _peek_text(lines: Iterator[tuple[int, list[str]]], width: int) -> list[list[str]]:
    rows = (values for _, (_, values) in zip(range(_PEEK), lines, strict=False))
    return [values for values in rows if len(values) == width]


# Parquet


def _read_parquet(file: Path, multi_label: bool) -> Rows:
    import pyarrow.parquet

    with open_regular(file, "table") as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream)
            schema = table.schema_arrow
            names = schema.names
            columns = find_columns(names, file, lambda: _peek_parquet(table), multi_label)
            positions = (columns.path, columns.label, columns.split, columns.valid, columns.fold)
            path, label, split, valid, fold = (None if position is None else names[position] for position in positions)
            assert path is not None
            has_images = _holds_images(schema.field(path).type)
            texts = [name for name in (None if has_images else path, label, split, valid, fold) if name is not None]
            others = [names[i] for i in _others(names, columns, file)] if label is None else []
            texts += (others := [name for name in others if not _is_nested(schema.field(name).type)])
            lists = label if multi_label and label is not None and _is_nested(schema.field(label).type) else None
            _check_size(table, file, texts, path if has_images else None, lists)
            stream.seek(0)
            values = _columns_of(stream, texts, file, lists)
            rows = Rows(file, "row", range(table.metadata.num_rows), columns=tuple(names), unread=columns.unread)
            rows.names = _huggingface_names(schema, label) if label is not None else None
            rows.others = {name: [_text(value) for value in values[name]] for name in others}
            if multi_label and label is not None:
                rows.cells = [_cell(value) for value in values[label]]
            elif label is not None:
                rows.labels = [_label(value) for value in values[label]]
            rows.splits, rows.valid, rows.folds = (
                [_text(value) for value in values[name]] if name else [] for name in (split, valid, fold)
            )
            if has_images:
                rows.images = _images(table, path, file)
                rows.paths = _names_inside(rows.images)
            else:
                rows.paths = [_text(value) for value in values[path]]
            return rows
        except InputError:
            raise
        except Exception as error:  # pyarrow raises nearly every exception for a damaged file
            raise InputError(f"{file}: not a Parquet file that can be read ({first_line(error)[:200]})") from None


def _holds_images(kind: "pyarrow.DataType") -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(kind) or pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _peek_parquet(table: "pyarrow.parquet.ParquetFile") -> list[list[object]]:
    import pyarrow

    schema = table.schema_arrow
    numbers = [
        name
        for name in schema.names[:1000]
        if pyarrow.types.is_boolean(kind := schema.field(name).type)
        or pyarrow.types.is_integer(kind)
        or pyarrow.types.is_floating(kind)
    ]
    batch = next(table.iter_batches(_PEEK, columns=numbers), None)
    rows = batch.to_pylist() if batch is not None and numbers else []
    return [[row.get(name, "") for name in schema.names] for row in rows]


def _is_nested(kind: "pyarrow.DataType") -> bool:
    import pyarrow

    return bool(pyarrow.types.is_nested(kind))


def _check_size(
    table: "pyarrow.parquet.ParquetFile", file: Path, texts: Sequence[str], images: str | None, lists: str | None
) -> None:
    """Raises InputError for a file that declares more rows or bytes than it can contain, or lists where none may be.

    Args:
        table, file: the file.
        texts: the columns of texts and numbers that are read.
        images: the column of images, if any.
        lists: the column of texts that may hold lists of them, if any.
    """
    size, metadata = file.stat().st_size, table.metadata
    if metadata.num_rows > size:
        raise InputError(f"{file}: declares {metadata.num_rows:,} rows, but has only {size:,} bytes")
    declared = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.row_group(group).num_columns):
            chunk = metadata.row_group(group).column(column)
            root = chunk.path_in_schema.partition(".")[0]
            if root in texts and not chunk.path_in_schema == root and root != lists:
                raise InputError(f"{file}: the column {root!r} holds lists or structs: {REFUSED}")
            if root in texts or root == images:
                declared += chunk.total_uncompressed_size
    limit = GIB if images is None else 4 * size + 64 * MIB
    if declared > limit:
        raise InputError(f"{file}: declares {declared:,} bytes in the columns that are read (at most {limit:,})")


def _columns_of(stream: BinaryIO, names: Sequence[str], file: Path, lists: str | None) -> dict[str, list[Any]]:
    """The values of some columns. Equal texts share one object."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    texts = [name for name in names if name != lists]
    table = pyarrow.parquet.ParquetFile(stream, read_dictionary=texts).read(list(names), use_threads=False)
    values: dict[str, list[Any]] = {}
    for name in names:
        values[name] = []
        for chunk in table[name].chunks:
            if not isinstance(chunk, pyarrow.DictionaryArray):
                values[name] += chunk.to_pylist()
                continue
            words = chunk.dictionary
            if len(words) and (pyarrow.compute.max(pyarrow.compute.binary_length(words)).as_py() or 0) > _MAX_TEXT:
                raise InputError(f"{file}: the column {name!r} holds texts of more than {_MAX_TEXT:,} bytes")
            known = words.to_pylist()
            values[name] += [None if index is None else known[index] for index in chunk.indices.to_pylist()]
    return values


def _images(table: "pyarrow.parquet.ParquetFile", name: str, file: Path) -> "pyarrow.ChunkedArray":
    """Reads the image column into memory. Raises InputError if it unpacks to far more bytes than its file has."""
    import pyarrow

    limit = 4 * file.stat().st_size + 64 * MIB
    chunks: list[Any] = []
    total = 0
    for batch in table.iter_batches(_BATCH, columns=[name], use_threads=False):
        total += batch.nbytes
        if total > limit:
            raise InputError(f"{file}: the images unpack to more than {limit:,} bytes, far more than the file has")
        chunks.append(batch.column(0))
    return pyarrow.chunked_array(chunks, table.schema_arrow.field(name).type)


def _names_inside(images: "pyarrow.ChunkedArray") -> list[str | None]:
    """The paths of Hugging Face's image structs."""
    import pyarrow

    if not pyarrow.types.is_struct(images.type) or images.type.get_field_index("path") < 0:
        return [None] * len(images)
    import pyarrow.compute

    return [None if path is None else str(path) for path in pyarrow.compute.struct_field(images, "path").to_pylist()]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace").strip()
    return "" if value is None else str(value).strip()


def _label(value: Any) -> Label:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return int(value) if isinstance(value, float) and value.is_integer() else _text(value)


def _cell(value: Any) -> Cell:
    """The labels of a row: a list if the column holds lists. Raises InputError for lists of lists and the like."""
    if not isinstance(value, list | dict):
        return str(_label(value))
    if isinstance(value, dict) or any(isinstance(item, list | dict) for item in value):
        raise InputError(f"labels: {str(value)[:60]} is not a list of names")
    return [text for item in value if (text := str(_label(item)))]


def _huggingface_names(schema: "pyarrow.Schema", label: str) -> tuple[str, ...] | None:
    """The class names that Hugging Face's library writes into a table's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        feature = features[label]
        return tuple(str(name) for name in feature.get("feature", feature)["names"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
