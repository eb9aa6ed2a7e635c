"""Tables with several labels per image: a column of names, or one column of 0 and 1 per class."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes, index_labels, index_named_labels
from fishnet.data.classification.multilabel import MultiLabelDataset
from fishnet.data.classification.several import combined
from fishnet.data.classification.table import ImageFiles, TableImages, rows_by_split, table_notes
from fishnet.data.classification.table_files import Rows, read_rows
from fishnet.data.findings import Finding
from fishnet.data.splits import in_order
from fishnet.errors import InputError

_VALUES = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0, "-1": -1, "-1.0": -1, "": -1, "nan": -1}
_BLANK = ("", "nan")
_JSON = 'write a JSON list such as ["cat", "dog"], or names separated by ; | or ,'


def open_label_table(
    file: Path, channels: int, classes: Classes | None = None, fold: int = -1
) -> dict[str, MultiLabelDataset]:
    """The splits of a table: ``all``, or those that its columns name.

    With a column ``labels`` (or another name of a label column), each cell holds the names of an image's labels; a
    blank cell means no label. Without one, every column of 0 and 1 is a class; a blank cell or -1 means unknown. Rows
    of the same image are joined.

    Args:
        file: the table.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes of a column of names; columns of 0 and 1 are classes of their own.
        fold: the cross-validation fold that becomes val; -1 for none.

    Raises:
        InputError: as for tables of one label; cells that are no list of names; a column with other values beside 0 and
            1; an image with 0 in one row and 1 in another; no label at all.
    """
    rows = read_rows(file, multi_label=True)
    if not rows.paths:
        raise InputError(f"{file}: has no rows below its column names")
    members = rows_by_split(rows, fold)
    files = ImageFiles(rows)
    notes: list[Finding] = []
    names = _names_in(rows, notes) if rows.cells else []
    if rows.cells and not any(names):
        raise InputError(f"{file}: no image has a label")
    columns = None if rows.cells else _indicators(rows)
    splits: dict[str, MultiLabelDataset] = {}
    merged = 0
    for split in in_order(members):
        if columns is None:
            classes, matrix = _matrix_of_names(rows, names, members[split], classes)
        else:
            classes, matrix = columns[0], columns[1][members[split]]
        firsts, matrix = _join_rows(rows, files, members[split], matrix, classes)
        merged += len(members[split]) - len(firsts)
        splits[split] = MultiLabelDataset(TableImages(rows, firsts, files), matrix, classes, channels)
    if merged:
        message = f"{file}: {merged:,} rows repeat an image of an earlier row: their labels are joined"
        notes.append(Finding("label-rows-joined", message, file=str(file), count=merged))
    next(iter(splits.values())).notes = [*table_notes(rows, files, fold), *notes]
    return splits


def _names_in(rows: Rows, notes: list[Finding]) -> list[list[str]]:
    """The names in each row's cell. Adds a note on how the cells were read, where they hold several names.

    All cells are read in the same way: as lists, if they are lists of Parquet or text in brackets; else split at the
    first of ``;``, ``|`` and ``,`` that occurs in any of them.

    Raises:
        InputError: text in brackets that is no JSON list; both ``;`` and ``|``; names that are joined by spaces.
    """
    texts = [cell for cell in rows.cells if isinstance(cell, str)]
    if len(texts) < len(rows.cells):
        return [[] if isinstance(cell, str) else list(cell) for cell in rows.cells]
    file = str(rows.file)
    if any(text.startswith("[") for text in texts):
        notes.append(Finding("label-separator", f"{file}: the labels are read as JSON lists", file=file))
        return [_json_names(rows, row) for row in range(len(texts))]
    firsts = {mark: next((row for row, text in enumerate(texts) if mark in text), -1) for mark in ";|,"}
    if min(firsts[";"], firsts["|"]) >= 0:
        raise InputError(
            f"{rows.where(firsts[';'])}: labels separated by ;, but those of {rows.unit} "
            f"{rows.numbers[firsts['|']]} by |: use one of them throughout"
        )
    mark = next((mark for mark, row in firsts.items() if row >= 0), "")
    if mark:
        notes.append(Finding("label-separator", f"{file}: the labels are separated at {mark!r}", file=file))
        return [[name.strip() for name in text.split(mark) if name.strip()] for text in texts]
    if (example := combined(sorted(set(texts)), " ")) is not None:
        raise InputError(f"{file}: {example!r} looks like several labels: separate them by ; | or ,")
    return [[text] if text else [] for text in texts]


def _json_names(rows: Rows, row: int) -> list[str]:
    text = str(rows.cells[row])
    if not text:
        return []
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or any(isinstance(name, list | dict | bool | None) for name in names):
        raise InputError(f"{rows.where(row)}: {text[:60]!r} is not a list of labels: {_JSON}")
    return [str(name).strip() for name in names if str(name).strip()]


def _matrix_of_names(
    rows: Rows, names: Sequence[Sequence[str]], kept: Sequence[int], known: Classes | None
) -> tuple[Classes, NDArray[np.int8]]:
    """The classes, and the (len(kept), classes) matrix of some rows: 1 for each name, 0 for the others."""
    places = [(number, row) for number, row in enumerate(kept) for _ in names[row]]
    flat = [name for row in kept for name in names[row]]

    def where(i: int) -> str:
        return rows.where(places[i][1])

    try:
        if rows.names is not None:
            classes, labels = index_named_labels(rows.names, flat, where, known)
        elif known is None and len(set(flat)) == 1:
            classes, labels = Classes.of(flat[:1]), [0] * len(flat)
        else:
            classes, labels = index_labels(flat, where, known) if flat or known is None else (known, [])
    except InputError as error:
        raise InputError(str(error) if str(rows.file) in str(error) else f"{rows.file}: {error}") from None
    matrix = np.zeros((len(kept), len(classes)), np.int8)
    matrix[[number for number, _ in places], labels] = 1
    return classes, matrix


def _indicators(rows: Rows) -> tuple[Classes, NDArray[np.int8]]:
    """The classes, and the (rows, classes) matrix of a table with a column of 0 and 1 for each class.

    A column is a class if at least half of its values are 0, 1 or -1; all of them must then be.

    Raises:
        InputError: no such column, or another value in one; the message names the place.
    """
    columns: dict[str, NDArray[np.int8]] = {}
    unread: list[str] = []
    for name, cells in rows.others.items():
        values = [_VALUES.get(str(cell).lower()) for cell in cells]
        given = sum(str(cell).lower() not in _BLANK for cell in cells)
        wrong = sum(value is None for value in values)
        if not name.strip() or not given or 2 * wrong > given:  # an index has no name
            unread.append(name)
        elif wrong:
            row = values.index(None)
            raise InputError(
                f"{rows.where(row)}: {str(cells[row])[:40]!r} in the column {name!r}: must be 0, 1, or blank if unknown"
            )
        else:
            columns[name.strip()] = np.array(values, np.int8)
    if not columns:
        raise InputError(f"{rows.file}: no column of labels, and no column of 0 and 1, among {', '.join(rows.columns)}")
    rows.unread = tuple(unread)
    try:
        return Classes.of(columns), np.stack(list(columns.values()), 1)
    except InputError as error:
        raise InputError(f"{rows.file}: {error}") from None


def _join_rows(
    rows: Rows, files: ImageFiles, members: Sequence[int], matrix: NDArray[np.int8], classes: Classes
) -> tuple[list[int], NDArray[np.int8]]:
    """Joins the rows of each image. A label is positive if any row says so, and known if any row knows it.

    Returns:
        The first row of each image, and its matrix.

    Raises:
        InputError: columns of 0 and 1 that are 0 in one row of an image and 1 in another.
    """
    by_image: dict[object, list[int]] = {}
    for number, row in enumerate(members):
        path = files.paths[row] if rows.images is None else None
        image = row if rows.images is not None else rows.paths[row] if path is None else os.path.normpath(path)
        by_image.setdefault(image, []).append(number)
    if len(by_image) == len(members):
        return list(members), matrix
    joined = np.stack([matrix[numbers].max(0) for numbers in by_image.values()])
    for numbers in by_image.values():
        group = matrix[numbers]
        differing = (group == 1).any(0) & (group == 0).any(0)
        if not rows.cells and differing.any():
            name = classes.names[int(np.flatnonzero(differing)[0])]
            first, last = (members[number] for number in (numbers[0], numbers[-1]))
            raise InputError(
                f"{rows.where(last)}: {rows.paths[last]} is in {rows.unit} {rows.numbers[first]} too, with another "
                f"value of {name!r}: keep one of the rows"
            )
    return [members[numbers[0]] for numbers in by_image.values()], joined
