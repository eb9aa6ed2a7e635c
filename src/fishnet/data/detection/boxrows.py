"""Reads the rows of a table of boxes and recognizes its columns."""

import csv
import math
import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fishnet.data.classification.table_files import LABEL, PATH, SPLIT
from fishnet.data.collector import report
from fishnet.data.csv_rows import csv_rows, delimiter_of
from fishnet.data.detection.outlines import MAX_COORDINATE
from fishnet.data.splits import SPELLED, split_named
from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.images.decoding import EXTENSIONS

SUFFIXES = (".csv", ".tsv")
_CORNERS = (
    ("xmin", "x_min", "x1", "left"), ("ymin", "y_min", "y1", "top"),
    ("xmax", "x_max", "x2", "right"), ("ymax", "y_max", "y2", "bottom"),
)  # fmt: skip
_PATHS = (*PATH, "imageid", "image_id", "image_name", "imagename")
_LABELS = (*LABEL, "labelname", "name")
_CROWDS = ("isgroupof", "is_group_of", "iscrowd", "is_crowd")
_HEAD = 1 << 16  # bytes of the longest first line that is recognized
_REQUIRED = 6  # columns of a table: path, x1, y1, x2, y2, class


class Columns(NamedTuple):
    """The columns of a table, by index.

    Attributes:
        path, label: the image, and the class of the object.
        corners: x1, y1, x2, y2.
        split, width, height, crowd: optional columns; None if there is no such column.
        values: number of values in each row.
        header: whether the first line has the column names.
        shares: whether coordinates are shares of the image's width and height, as in Open Images.
    """

    path: int
    label: int
    corners: tuple[int, int, int, int]
    split: int | None = None
    width: int | None = None
    height: int | None = None
    crowd: int | None = None
    values: int = _REQUIRED
    header: bool = True
    shares: bool = False


def columns_of(values: Sequence[str]) -> Columns | None:
    """Recognizes the columns by a table's first line; None if it is not a table of boxes.

    A line without column names must look like ``path,x1,y1,x2,y2,class``.
    """
    columns = [value.strip().lower() for value in values]

    def find(names: Sequence[str]) -> int | None:
        return next((columns.index(name) for name in names if name in columns), None)

    required = [column for names in (_PATHS, _LABELS, *_CORNERS) if (column := find(names)) is not None]
    if len(required) == _REQUIRED:
        path, label, x1, y1, x2, y2 = required
        return Columns(
            path, label, (x1, y1, x2, y2), find(SPLIT), find(("width",)), find(("height",)), find(_CROWDS),
            len(values), shares={"imageid", "labelname"} <= set(columns),
        )  # fmt: skip
    numbers = [re.fullmatch(r"\s*-?\d+(\.\d+)?\s*|", value) is not None for value in values[1:5]]
    if len(values) == _REQUIRED and all(numbers) and Path(values[0].strip()).suffix.lower() in EXTENSIONS:
        return Columns(0, 5, (1, 2, 3, 4), header=False)
    return None


def columns_in(path: Path) -> Columns | None:
    """The columns of a file; None if it is not a table of boxes."""
    try:
        with open_regular(path, "table") as file:
            head = file.read(_HEAD)
    except InputError:
        return None
    line = head.lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace")
    try:
        values = next(csv.reader([line.strip("\r\0")], delimiter=delimiter_of(path, line)), [])
    except csv.Error:
        return None
    return columns_of(values)


class BoxRows:
    """The content of a table of boxes, in little memory.

    Attributes:
        images: image names, in the table's order.
        labels: class names, in the table's order.
        sizes: height and width of each image; (0, 0) if the table has none.
        splits: split of each image; ``all`` without such a column.
        lines: line on which each image first occurs.
        image, label, line: (boxes,) indices into ``images`` and ``labels``, and line numbers.
        box: (boxes * 4,) x1, y1, x2, y2.
        crowd: (boxes,) whether the box contains a group of objects.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.columns = path, columns
        self.images: list[str] = []
        self.labels: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.splits: list[str] = []
        self.lines = array("q")
        self.image, self.label, self.line = array("i"), array("i"), array("q")
        self.box, self.crowd = array("f"), array("b")
        self._images: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._shares_seen = True
        with open_regular(path, "table") as stream:
            for number, values in csv_rows(stream, path):
                if columns.header and number == 1:
                    continue
                try:
                    self._add(number, values)
                except InputError as error:
                    report(f"{path} line {number}: {error}", file=str(path), line=number)
        if self._shares_seen and len(self.box) and not columns.shares and any(0 < value < 1 for value in self.box):
            raise InputError(
                f"{path}: all boxes are within 0 to 1: they look like shares of the image, but must be in px "
                "(only Open Images' columns ImageID, LabelName, XMin, XMax, YMin, YMax are shares)"
            )
        del self._images, self._labels

    def _add(self, number: int, values: list[str]) -> None:
        columns = self.columns
        if len(values) != columns.values:
            raise InputError(f"{len(values)} values, but {columns.values} columns")
        if any("\n" in value for value in values):
            raise InputError("a value spans several lines: close its quotes")
        name = values[columns.path].strip()
        if not name:
            raise InputError("empty path: give one, or remove the row")
        corners = [values[column].strip() for column in columns.corners]
        label = values[columns.label].strip()
        image = self._image(name, number, values)
        empty = [not corner for corner in corners]
        if all(empty):
            if label and not columns.header:
                raise InputError(f"class {label!r} without a box")
            return
        if any(empty):
            raise InputError("a box must have all four values, an image without objects none")
        box = [_number(corner) for corner in corners]
        if not any(box):  # DeepForest's row for an image without objects
            return
        if not label:
            raise InputError("empty class: give one, or remove the box too")
        if columns.shares and not all(-1e-3 <= value <= 1.001 for value in box):
            raise InputError(f"{', '.join(corners)}: Open Images' boxes are shares, from 0 to 1")
        self._shares_seen = self._shares_seen and max(box) <= 1
        self.image.append(image)
        self.label.append(self._label_index(label))
        self.line.append(number)
        self.box.extend(box)
        self.crowd.append(columns.crowd is not None and values[columns.crowd].strip().lower() in ("1", "true"))

    def _label_index(self, label: str) -> int:
        if label not in self._labels:
            self._labels[label] = len(self.labels)
            self.labels.append(label)
        return self._labels[label]

    def _image(self, name: str, number: int, values: list[str]) -> int:
        """The image's index. Its split and size must be the same in all of its rows."""
        columns = self.columns
        spelled = "" if columns.split is None else values[columns.split].strip()
        split = "all" if columns.split is None else split_named(spelled)
        if split is None:
            raise InputError(f"unknown split {spelled!r}: choose from {', '.join(SPELLED)}")
        size = _size(values, columns)
        index = self._images.get(name)
        if index is None:
            self._images[name] = index = len(self.images)
            self.images.append(name)
            self.splits.append(split)
            self.sizes.append(size)
            self.lines.append(number)
        elif self.splits[index] != split:
            raise InputError(f"{name} is in split {split!r}, but in {self.splits[index]!r} on line {self.lines[index]}")
        elif self.sizes[index] != size:
            raise InputError(f"{name} has another size than on line {self.lines[index]}")
        return index


def _size(values: list[str], columns: Columns) -> tuple[int, int]:
    if columns.width is None or columns.height is None:
        return 0, 0
    height, width = (_number(values[column].strip() or "0") for column in (columns.height, columns.width))
    return (int(height), int(width)) if height > 0 and width > 0 else (0, 0)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{text[:40]!r} is not a number") from None
    if not math.isfinite(value) or abs(value) > MAX_COORDINATE:
        raise InputError(f"{text[:40]!r} is not a position in an image")
    return value
