"""Datasets from tables of paths and labels: CSV, TSV and Parquet."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fishnet.bundle.classes import Classes, index_labels, index_named_labels
from fishnet.data.base import EncodedDataset
from fishnet.data.classification.several import REFUSED, refuse_several
from fishnet.data.classification.table_files import FOLD, LABEL, PATH, SUFFIXES, VALID, Rows, read_rows
from fishnet.data.findings import Finding
from fishnet.data.resolving import Resolver
from fishnet.data.splits import SPELLED, in_order, split_named
from fishnet.errors import InputError
from fishnet.images.decoding import read_file

__all__ = ["LABEL", "PATH", "SUFFIXES", "TableDataset", "open_table"]
_TRUTH = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}
_SEVERAL = 0.1  # share of images with several labels above which the table is refused


class ImageFiles:
    """The image files of a table's rows.

    Args:
        rows: the table.

    Attributes:
        paths: the image's path for each row; None for images that were not found. Empty if images are in the table.
        missing: why an image was not found, by row.

    Raises:
        InputError: none of the images is found; the message names the first.
    """

    def __init__(self, rows: Rows) -> None:
        self.resolver = Resolver(rows.file.parent)
        self.paths: list[Path | None] = []
        self.missing: dict[int, str] = {}
        for row, name in enumerate(rows.paths if rows.images is None else ()):
            try:
                self.paths.append(self.resolver.find(str(name)))
            except InputError as error:
                self.paths.append(None)
                self.missing[row] = str(error)
        if self.paths and len(self.missing) == len(self.paths):
            raise InputError(f"{rows.file}: none of its {len(self.paths):,} images found; first: {self.missing[0]}")

    def find(self, rows: Rows, row: int) -> Path:
        """The path of a row's image. Raises InputError if there is none."""
        if rows.images is not None:
            return self.resolver.find(str(rows.paths[row]))
        path = self.paths[row]
        if path is None:
            raise InputError(self.missing[row])
        return path


class TableImages:
    """The images of some rows of a table: by path (relative to the table's folder, or absolute) or in the table.

    Args:
        rows: the table.
        members: the rows.
        files: the image files of all rows.
    """

    def __init__(self, rows: Rows, members: Sequence[int], files: ImageFiles) -> None:
        self.rows, self.members, self.files = rows, list(members), files

    def __len__(self) -> int:
        return len(self.members)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedDataset`."""
        row = self.members[index]
        if self.rows.images is not None and (content := _content(self.rows.images[row].as_py())) is not None:
            return content
        if not self.rows.paths[row]:
            raise InputError(f"{self.rows.where(row)}: no image in this row")
        try:
            return read_file(self.files.find(self.rows, row))
        except InputError as error:
            raise InputError(f"{error} ({self.rows.file.name} {self.rows.unit} {self.rows.numbers[row]})") from None

    def source(self, index: int) -> str:
        """The image's path; for an image in the table, the table and row."""
        row = self.members[index]
        name = self.rows.paths[row]
        if self.rows.images is not None or name is None:
            return self.rows.where(row)
        return str(self.files.paths[row] or self.rows.file.parent / name)

    def key(self, index: int) -> str:
        """The path as in the table, or relative to the table if found elsewhere; without a path, the row's number."""
        row = self.members[index]
        name, path = self.rows.paths[row], None if self.rows.images is not None else self.files.paths[row]
        if name and path is not None and path != self.rows.file.parent / name:
            return Path(os.path.relpath(path, self.rows.file.parent)).as_posix()
        return name or str(row)


class TableDataset(TableImages, EncodedDataset):
    """Some rows of a table with one label each, see :class:`TableImages`.

    Args:
        rows: the table.
        members: the rows of this dataset.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes; by default those of these rows.
        files: the image files of all rows; by default they are searched for.

    Raises:
        InputError: see :func:`~fishnet.bundle.classes.index_labels`; or none of the images is found.
    """

    def __init__(
        self,
        rows: Rows,
        members: Sequence[int],
        channels: int,
        classes: Classes | None = None,
        files: ImageFiles | None = None,
    ) -> None:
        super().__init__(rows, members, files or ImageFiles(rows))
        self.channels = channels
        labels = [rows.labels[row] for row in self.members]

        def where(i: int) -> str:
            return rows.where(self.members[i])

        try:
            if rows.names is None:
                self.classes, self.labels = index_labels(labels, where, classes)
            else:
                self.classes, self.labels = index_named_labels(rows.names, labels, where, classes)
        except InputError as error:
            raise InputError(str(error) if str(rows.file) in str(error) else f"{rows.file}: {error}") from None


def open_table(file: Path, channels: int, classes: Classes | None = None, fold: int = -1) -> dict[str, TableDataset]:
    """The splits of a table: ``all``, or those that its columns name.

    Args:
        file: the table.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes.
        fold: the cross-validation fold that becomes val; -1 for none.

    Raises:
        InputError: no such file, a table that cannot be read, without the columns for path and label, or without rows;
            an empty label or path, or an unknown split, with its line; several labels per image; no image found;
            a ``fold`` that the table does not have, or with a table that already has a val split.
        ModuleNotFoundError: Parquet needs pyarrow.
    """
    rows = read_rows(file)
    if not rows.labels:
        raise InputError(f"{file}: has no rows below its column names")
    members = rows_by_split(rows, fold)
    if rows.names is None:
        refuse_several((label for label in rows.labels if isinstance(label, str)), str(file))
    files = ImageFiles(rows)
    _refuse_several_rows(rows, files)
    splits: dict[str, TableDataset] = {}
    for split in in_order(members):
        splits[split] = TableDataset(rows, members[split], channels, classes, files)
        classes = splits[split].classes
    next(iter(splits.values())).notes = list(table_notes(rows, files, fold))
    return splits


def rows_by_split(rows: Rows, fold: int) -> dict[str, list[int]]:
    """The rows of each split; ``all`` if the table has no splits.

    Args:
        rows: the table.
        fold: the cross-validation fold that becomes val; -1 for none.

    Raises:
        InputError: an empty label or path, an unknown split, or a fold that the table does not have; names the line.
    """
    members: dict[str, list[int]] = {}
    for row in range(len(rows.paths)):
        if rows.labels and rows.labels[row] == "":
            raise InputError(f"{rows.where(row)}: empty label: give one, or remove the row")
        if rows.paths[row] == "" and rows.images is None:
            raise InputError(f"{rows.where(row)}: empty path: give one, or remove the row")
        members.setdefault(_split_of(rows, row), []).append(row)
    if fold >= 0:
        _hold_out(rows, members, fold)
    return members


def _split_of(rows: Rows, row: int) -> str:
    """The split of a row. Raises InputError for an unknown word."""
    if rows.splits:
        split = split_named(rows.splits[row])
        if split is None:
            raise InputError(f"{rows.where(row)}: unknown split {rows.splits[row]!r}: choose from {', '.join(SPELLED)}")
        return split
    if rows.valid:
        valid = _TRUTH.get(rows.valid[row].lower())
        if valid is None:
            raise InputError(f"{rows.where(row)}: {VALID[0]} is {rows.valid[row]!r}: must be True or False")
        return "val" if valid else "train"
    return "all"


def _hold_out(rows: Rows, members: dict[str, list[int]], fold: int) -> None:
    """Moves one fold from the training rows to the val split."""
    if not rows.folds:
        raise InputError(f"{rows.file}: has no column for the fold ({', '.join(FOLD)}), but fold={fold} was given")
    if "val" in members:
        raise InputError(
            f"{rows.file}: a column already defines the val split: leave out fold={fold}, or remove that column"
        )
    name = "train" if "train" in members else "all"
    held = [row for row in members.get(name, ()) if _fold_number(rows.folds[row]) == fold]
    rest = [row for row in members.get(name, ()) if _fold_number(rows.folds[row]) != fold]
    if not held or not rest:
        folds = ", ".join(sorted(set(rows.folds))[:10])
        raise InputError(
            f"{rows.file}: fold {fold} has {'all' if held else 'none'} of the training rows: the folds are {folds}"
        )
    del members[name]
    members.update(train=rest, val=held)


def _fold_number(text: str) -> int | None:
    """A fold's number, ``2`` or ``2.0``; None for other texts."""
    number = text.removesuffix(".0")
    return int(number) if number.isdecimal() and len(number) < 10 else None


def _refuse_several_rows(rows: Rows, files: ImageFiles) -> None:
    """Refuses a table that lists an image once for each of its labels."""
    first: dict[str, int] = {}  # the first row of each image
    several: dict[str, int] = {}  # the first row of an image that has another label
    for row, path in enumerate(files.paths):
        if path is None:
            continue
        before = first.setdefault(os.path.normpath(path), row)
        if rows.labels[before] != rows.labels[row]:
            several.setdefault(os.path.normpath(path), row)
    if len(several) > _SEVERAL * len(first):
        name, row = next(iter(several.items()))
        raise InputError(
            f"{rows.where(row)}: {name} has another label than in {rows.unit} {rows.numbers[first[name]]}, and so have "
            f"{len(several):,} of {len(first):,} images: {REFUSED}"
        )


def table_notes(rows: Rows, files: ImageFiles, fold: int) -> Iterable[Finding]:
    """Findings about a table's columns and names."""
    file, resolver = str(rows.file), files.resolver
    if rows.folds and fold < 0:
        column = next(name for name in rows.columns if name.strip().lower() in FOLD)
        yield Finding("column-fold", f"{file}: its column {column!r} is not used", file=file)
    unread = [*rows.unread, *(VALID[:1] if rows.splits and rows.valid else ())]
    if unread:
        yield Finding(
            "column-unread", f"{file}: columns that are not used: {', '.join(unread)}", file=file, count=len(unread)
        )
    if resolver.by_tail:
        message = f"{file}: {resolver.by_tail:,} of {len(rows.paths):,} images found by the tail of their paths"
        yield Finding("name-by-tail", f"{message} (such as {resolver.example})", file=file, count=resolver.by_tail)


def _content(value: Any) -> bytes | None:
    """The bytes of an image in a table; None if the table only has its path."""
    content = value.get("bytes") if isinstance(value, dict) else value
    return content if isinstance(content, bytes) else None
