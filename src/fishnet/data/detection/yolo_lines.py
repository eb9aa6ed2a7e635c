"""Reads YOLO's label files. The numbers of values in all lines of a split determine their form. Torch-free."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError
from fishnet.files.reading import MIB, read_text

MAX_BYTES = 16 * MIB  # bytes of a label file
_TOLERANCE = 1e-3  # how far values may be outside 0..1
_BOX = 4
_CORNERS = 8  # values of a rotated box: four corners
_MIN_LINES = 10  # fewer may agree with keypoints by chance


class Row(NamedTuple):
    """A line of a label file, not yet interpreted.

    Attributes:
        line: its number, from 1.
        word: the first value, the class's number as spelled.
        values: the other values.
    """

    line: int
    word: str
    values: NDArray[np.float32]


class Form(NamedTuple):
    """The form of the lines of a split.

    Attributes:
        lengths: how many values may follow the class; empty for boxes and outlines.
        dropped: a description of the values after the box, which are dropped; empty if there are none.
        corners: whether every line has four corners.
    """

    lengths: tuple[int, ...] = ()
    dropped: str = ""
    corners: bool = False

    def shape(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The box (4 values) or outline (6 or more values) of a line, 0..1.

        Raises:
            InputError: another number of values, or a value outside 0..1.
        """
        count = len(values)
        if self.lengths and count not in self.lengths:
            raise InputError(
                f"{count} numbers after the class, but {' or '.join(map(str, self.lengths))} are expected "
                f"(a box, and {self.dropped})"
            )
        if not self.lengths and count != _BOX and (count < 6 or count % 2):
            raise InputError(
                f"{count} numbers after the class: a box has 4, an outline x and y of three points or more"
            )
        shape = values[:_BOX] if self.lengths else values
        outside = shape[~((shape >= -_TOLERANCE) & (shape <= 1 + _TOLERANCE))]  # or NaN
        if len(outside):
            raise InputError(f"{outside[0]:g} is not within 0 to 1: values are shares of the image's width and height")
        return shape


def read_rows(path: Path) -> tuple[list[Row], list[tuple[int, str]]]:
    """Reads the lines of a label file that are not blank.

    Returns:
        The rows; and the line number and a message for each line that does not consist of numbers.

    Raises:
        InputError: the file cannot be read, is too large or is not UTF-8.
    """
    rows, faults = [], []
    for line, text in enumerate(read_text(path, MAX_BYTES, "label file").splitlines(), 1):
        word, *words = text.split() or ("",)
        if not word:
            continue
        try:
            float(word)
            with np.errstate(over="ignore"):
                rows.append(Row(line, word, np.array([float(value) for value in words], np.float32)))
        except ValueError:
            faults.append((line, f"not all values are numbers: {text.strip()[:40]!r}"))
    return rows, faults


def form_of(values: Sequence[NDArray[np.float32]], keypoints: tuple[int, int] | None = None) -> Form:
    """Determines the form of a split's lines from the number of values in each of them.

    Boxes have 4 values after the class, outlines an even number from 6 on. Boxes may be followed by a score (5 values),
    by a score and a track number (6), or by keypoints.

    Args:
        values: the values of each line, without the class.
        keypoints: number of keypoints and of values per keypoint, if the YAML file gives them.

    Raises:
        InputError: the lines may be outlines as well as boxes with keypoints.
    """
    if keypoints:
        count = keypoints[0] * keypoints[1]
        return Form((_BOX, _BOX + count), f"{keypoints[0]} keypoints of {keypoints[1]} values")
    lengths = Counter(map(len, values))
    if not lengths or not lengths.keys().isdisjoint({_BOX, *range(_BOX)}):
        return Form()
    if lengths.keys() <= {5, 6}:
        return _scored(values)
    if len(lengths) == 1:
        return _uniform(np.stack(list(values)))
    return Form()


def _scored(values: Sequence[NDArray[np.float32]]) -> Form:
    """The form of lines of 5 or 6 values: boxes with a score, a track number or both, or outlines of three points."""
    fifth = np.array([row[4] for row in values])
    sixth = np.array([row[5] for row in values if len(row) == 6])
    shares = bool(((fifth >= 0) & (fifth <= 1)).all())
    if not len(sixth):
        if shares:
            return Form((5,), "a score")
        return Form((5,), "a track number") if _are_counts(fifth) else Form()
    if len(sixth) == len(values) and not _are_counts(sixth):
        return _uniform(np.stack(list(values)))
    if not shares or not _are_counts(sixth):
        return Form()
    if len(sixth) == len(values) and sixth.max() <= 1 and len(values) < _MIN_LINES:
        raise InputError(
            "6 numbers after the class in every line may be a box with score and track, or an outline of three "
            "points: remove what follows the box, or repeat the first corner of the outlines"
        )
    return Form((5, 6), "a score and a track number")


def _uniform(values: NDArray[np.float32]) -> Form:
    """The form of lines with equally many values, (lines, 6 or more): outlines, unless they look like keypoints."""
    lines, count = values.shape
    more = count - _BOX
    if more % 3 == 0 and np.isin(values[:, 6::3], (0, 1, 2)).all() and _boxes(values):
        raise InputError(
            f"{count} numbers after the class in every line look like a box with {more // 3} keypoints: if so, the "
            f"YAML file must have kpt_shape: [{more // 3}, 3]"
        )
    if count % 2 == 0 and count != _CORNERS and lines >= _MIN_LINES and _boxes(values) and _around(values):
        raise InputError(
            f"{count} numbers after the class in every line look like a box with {more // 2} keypoints: if so, the "
            f"YAML file must have kpt_shape: [{more // 2}, 2]; if they are outlines, repeat the first corner of one"
        )
    return Form(corners=count == _CORNERS)


def _are_counts(values: NDArray[np.float32]) -> bool:
    return bool(((values >= 0) & (values == np.rint(values))).all())


def _boxes(values: NDArray[np.float32]) -> bool:
    """Whether the first four values of every line are a box inside the image."""
    centre, half = values[:, :2], values[:, 2:_BOX] / 2
    return bool(((half > 0) & (centre - half >= -_TOLERANCE) & (centre + half <= 1 + _TOLERANCE)).all())


def _around(values: NDArray[np.float32]) -> bool:
    """Whether the boxes in the first four values contain all points that follow; missing keypoints are 0."""
    points = values[:, _BOX:].reshape(len(values), -1, 2)
    near = np.abs(points - values[:, None, :2]) <= values[:, None, 2:_BOX] / 2 + 0.01
    return bool((near | (points == 0)).all())
