"""Stores the segmentations of a COCO file exactly, in about half the memory of their text. Torch-free."""

from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.objects import Segmentation
from fishnet.errors import InputError
from fishnet.images.rle import box_of, runs_of

Box = tuple[float, float, float, float]
_NONE, _HUNDREDTHS, _FLOATS, _RUNS, _TEXT = range(5)
_MAX_COORDINATE = 1e6  # px: larger polygons would take forever to rasterize
MAX_PIXELS = 1 << 31  # masks must have fewer pixels


class Shape(NamedTuple):
    """One valid segmentation.

    Attributes:
        kind: the encoding of ``content``.
        content: the packed numbers.
        size: height and width of a run-length encoding; (0, 0) for polygons.
        numbers: corners x, y, x, y, ... or run lengths.
    """

    kind: int
    content: bytes
    size: tuple[int, int]
    numbers: NDArray[Any]

    def box(self) -> Box:
        """The bounding box x1, y1, x2, y2, px."""
        if self.size != (0, 0):
            return box_of(self.numbers, self.size[0])
        x, y = self.numbers[::2], self.numbers[1::2]
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def packed(value: Any) -> Shape:
    """Checks and packs a segmentation.

    Args:
        value: polygons, or a run-length encoding with a list of counts or with COCO's compressed text.

    Raises:
        InputError: neither of these, a polygon of fewer than three points, or runs that do not fill the mask.
    """
    if isinstance(value, list):
        return _polygons(value)
    if isinstance(value, dict):
        return _runs(value)
    raise InputError("segmentation is neither polygons nor a run-length encoding")


def _polygons(rings: list[Any]) -> Shape:
    for ring in rings:
        if not isinstance(ring, list):
            raise InputError("segmentation must be a list of polygons, each a list [x, y, x, y, ...]")
        if len(ring) % 2:
            raise InputError(f"a polygon has {len(ring)} numbers: it must have an even number (x, y pairs)")
        if len(ring) < 6:
            raise InputError(f"a polygon of {len(ring) // 2} points: it must have three or more")
    values = [value for ring in rings for value in ring]
    if not {type(value) for value in values} <= {int, float}:
        raise InputError("a polygon holds something that is not a number")
    try:
        flat = np.array(values, np.float64)
    except OverflowError:
        raise InputError(f"a polygon coordinate is out of range (must be below {_MAX_COORDINATE:,.0f} px)") from None
    if not np.abs(flat).max() < _MAX_COORDINATE:  # or NaN
        invalid = flat[~(np.abs(flat) < _MAX_COORDINATE)][0]
        raise InputError(f"polygon coordinate {invalid:g} is out of range (must be below {_MAX_COORDINATE:,.0f} px)")
    hundredths = np.rint(flat * 100).astype(np.int32)  # exact for most files, in half the memory
    exact = np.array_equal(hundredths / 100, flat)
    head = np.array([len(rings), *map(len, rings)], np.int32).tobytes()
    content = hundredths.tobytes() if exact else flat.tobytes()
    return Shape(_HUNDREDTHS if exact else _FLOATS, head + content, (0, 0), flat)


def _runs(value: dict[str, Any]) -> Shape:
    size, counts = value.get("size"), value.get("counts")
    valid = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if not isinstance(size, list) or not valid:
        raise InputError("a run-length encoding needs size [height, width]")
    height, width = size
    if height * width >= MAX_PIXELS:
        raise InputError(
            f"a run-length encoding of {width:,}x{height:,} px: masks must have fewer than {MAX_PIXELS:,} px"
        )
    try:
        if isinstance(counts, str):
            kind, content = _TEXT, counts.encode("ascii")
            runs = runs_of(content)
        elif isinstance(counts, list) and all(type(count) is int for count in counts):
            kind, runs = _RUNS, np.array(counts, np.int64)
            content = runs.astype(np.int32).tobytes()
        else:
            raise ValueError
    except (ValueError, OverflowError):
        raise InputError("a run-length encoding needs counts: integers, or COCO's compressed text") from None
    if (outside := runs[(runs < 0) | (runs > height * width)]).size:
        raise InputError(f"a run length of {outside[0]:,} is out of range (0 to {height * width:,} px)")
    if runs.sum() != height * width:
        raise InputError(
            f"the run lengths add up to {runs.sum():,} px, but the mask has {height * width:,} px ({width}x{height})"
        )
    head = np.array(size, np.int32).tobytes()
    return Shape(kind, head + content, (height, width), runs)


class Shapes:
    """Packed segmentations, by index in the order they were added."""

    def __init__(self) -> None:
        self.kinds, self.ends, self.content = array("b"), array("q"), bytearray()

    def add(self, shape: Shape | None) -> None:
        """Adds a segmentation; None stands for a missing one."""
        self.kinds.append(_NONE if shape is None else shape.kind)
        self.content += b"" if shape is None else shape.content
        self.ends.append(len(self.content))

    def __getitem__(self, index: int) -> Segmentation:
        kind, start, end = self.kinds[index], self.ends[index - 1] if index else 0, self.ends[index]
        if kind in (_HUNDREDTHS, _FLOATS):
            return self._rings(kind, start, end)
        if kind == _NONE:
            return []
        height, width = np.frombuffer(self.content, np.int32, 2, start).tolist()
        tail = bytes(self.content[start + 8 : end])
        counts = tail.decode() if kind == _TEXT else np.frombuffer(tail, np.int32).tolist()
        return {"size": [height, width], "counts": counts}

    def _rings(self, kind: int, start: int, end: int) -> list[list[float]]:
        count = int(np.frombuffer(self.content, np.int32, 1, start)[0])
        lengths = np.frombuffer(self.content, np.int32, count, start + 4)
        tail = bytes(self.content[start + 4 + 4 * count : end])
        values: NDArray[np.float64]
        values = np.frombuffer(tail, np.int32) / 100 if kind == _HUNDREDTHS else np.frombuffer(tail, np.float64)
        return [ring.tolist() for ring in np.split(values, np.cumsum(lengths)[:-1])]
