"""The segmentations of a COCO file in little memory: about half of their text, and exact. Torch-free."""

from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.objects import Segmentation
from fishnet.errors import InputError
from fishnet.images.rle import box_of, runs_of

Box = tuple[float, float, float, float]
_NONE, _HUNDREDTHS, _FLOATS, _RUNS, _TEXT = range(5)
_FARTHEST = 1e6  # px: corners beyond it would take the filling in for ever
LARGEST = 1 << 31  # px of a mask


class Shape(NamedTuple):
    """One segmentation, checked.

    Attributes:
        kind: how ``content`` is packed.
        content: the numbers, packed.
        size: height and width that a run-length encoding states; (0, 0) for polygons.
        numbers: corners x, y, x, y, ... or runs.
    """

    kind: int
    content: bytes
    size: tuple[int, int]
    numbers: NDArray[Any]

    def box(self) -> Box:
        """x1, y1, x2, y2 around it, px."""
        if self.size != (0, 0):
            return box_of(self.numbers, self.size[0])
        x, y = self.numbers[::2], self.numbers[1::2]
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def packed(value: Any) -> Shape:
    """A segmentation as the file spells it.

    Args:
        value: polygons, or a run-length encoding of either form.

    Raises:
        InputError: none of these, a polygon of fewer than three points, runs that do not fill the mask.
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
            raise InputError(f"a polygon of {len(ring)} numbers: they must be x and y in turn")
        if len(ring) < 6:
            raise InputError(f"a polygon of {len(ring) // 2} points: it takes three or more to enclose anything")
    values = [value for ring in rings for value in ring]
    if not {type(value) for value in values} <= {int, float}:
        raise InputError("a polygon holds something that is no number")
    try:
        flat = np.array(values, np.float64)
    except OverflowError:
        raise InputError("a polygon holds a number beyond any image") from None
    if not np.abs(flat).max() < _FARTHEST:  # nor NaN
        raise InputError(f"a polygon reaches to {flat[~(np.abs(flat) < _FARTHEST)][0]:g} px")
    hundredths = np.rint(flat * 100).astype(np.int32)  # what most files hold: half the memory, and exactly the same
    exact = np.array_equal(hundredths / 100, flat)
    head = np.array([len(rings), *map(len, rings)], np.int32).tobytes()
    content = hundredths.tobytes() if exact else flat.tobytes()
    return Shape(_HUNDREDTHS if exact else _FLOATS, head + content, (0, 0), flat)


def _runs(value: dict[str, Any]) -> Shape:
    size, counts = value.get("size"), value.get("counts")
    whole = isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)
    if not isinstance(size, list) or not whole:
        raise InputError("a run-length encoding needs size [height, width]")
    height, width = size
    if height * width >= LARGEST:
        raise InputError(f"a run-length encoding of {width:,}x{height:,} px: masks have fewer than {LARGEST:,} px")
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
        raise InputError("a run-length encoding needs counts: whole numbers, or COCO's compressed text") from None
    if (runs < 0).any() or (runs > height * width).any() or runs.sum() != height * width:
        raise InputError(
            f"a run-length encoding of {runs.sum():,} px in a mask of {width}x{height} ({height * width:,})"
        )
    head = np.array(size, np.int32).tobytes()
    return Shape(kind, head + content, (height, width), runs)


class Shapes:
    """Segmentations by number, in the order in which they were added."""

    def __init__(self) -> None:
        self.kinds, self.ends, self.content = array("b"), array("q"), bytearray()

    def add(self, shape: Shape | None) -> None:
        """Adds one; None takes the place of one that is missing."""
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
