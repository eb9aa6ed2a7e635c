"""The outlines that annotation tools draw: polygons, polygons with holes, bitmaps. Torch-free."""

import math
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.objects import Segmentation, compressed_rle
from fishnet.errors import InputError
from fishnet.images.rle import encode

Ring = NDArray[np.float64]
"""(n, 2) corners x, y in px."""

MAX_COORDINATE = 1e6  # px
_MAX_DEVIATION = 0.25  # px between a circle and its polygon


class Bits(NamedTuple):
    """A bitmap within an image, compressed: blank areas take hardly any memory.

    Attributes:
        packed: its rows, eight px per byte, compressed.
        height, width: size of the bitmap, trimmed to the px that are set.
        left, top: its position, px.
        pixels: number of set px.
    """

    packed: bytes
    height: int
    width: int
    left: int
    top: int
    pixels: int

    @classmethod
    def of(cls, bits: NDArray[np.bool_], left: int = 0, top: int = 0) -> "Bits":
        """Packs a bitmap (height, width), without the empty rows and columns around it."""
        rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
        if not len(rows):
            return cls(b"", 0, 0, left, top, 0)
        y, x = int(rows[0]), int(columns[0])
        inner = bits[y : rows[-1] + 1, x : columns[-1] + 1]
        packed = zlib.compress(np.packbits(inner).tobytes(), 1)
        height, width = inner.shape
        return cls(packed, height, width, left + x, top + y, int(np.count_nonzero(inner)))

    def array(self) -> NDArray[np.bool_]:
        """(height, width) bool."""
        if not self.pixels:
            return np.zeros((0, 0), bool)
        packed = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(packed, count=self.height * self.width).reshape(self.height, self.width).astype(bool)


@dataclass(frozen=True)
class Outline:
    """The extent of one object: everything covered by a ring or bitmap and by no hole.

    Attributes:
        rings: filled outlines.
        holes: cut out of the rings.
        bits: bitmaps.
        boxes_only: whether only rectangles were drawn.
    """

    rings: tuple[Ring, ...] = ()
    holes: tuple[Ring, ...] = ()
    bits: tuple[Bits, ...] = ()
    boxes_only: bool = False

    def joined(self, other: "Outline") -> "Outline":
        """Both outlines as one object."""
        return Outline(
            self.rings + other.rings,
            self.holes + other.holes,
            self.bits + other.bits,
            self.boxes_only and other.boxes_only,
        )

    def box(self) -> tuple[float, float, float, float]:
        """The bounding box x1, y1, x2, y2 of all rings and bitmaps, px; zeros if there are only empty bitmaps."""
        boxes = [(*ring.min(0), *ring.max(0)) for ring in self.rings]
        boxes += [(b.left, b.top, b.left + b.width, b.top + b.height) for b in self.bits if b.pixels]
        if not boxes:
            return 0.0, 0.0, 0.0, 0.0
        corners = np.asarray(boxes, np.float64)
        x1, y1 = corners[:, :2].min(0).tolist()
        x2, y2 = corners[:, 2:].max(0).tolist()
        return x1, y1, x2, y2

    def area(self) -> float:
        """Area in px; overlaps of rings or bitmaps count twice."""
        inside = sum(outline_area(ring) for ring in self.rings) - sum(outline_area(ring) for ring in self.holes)
        return max(0.0, inside) + float(sum(bitmap.pixels for bitmap in self.bits))

    def segmentation(self, size: tuple[int, int]) -> Segmentation:
        """The outline as COCO's polygons, or as a run-length encoding if it has holes or bitmaps.

        Args:
            size: height and width of the image, to which a run-length encoding is clipped.
        """
        polygons: list[list[float]] = [ring.reshape(-1).tolist() for ring in self.rings]
        if not self.holes and not self.bits:
            return polygons
        mask = _rasterized(polygons, size)
        mask &= ~_rasterized([ring.reshape(-1).tolist() for ring in self.holes], size)
        for bitmap in self.bits:
            _paste(bitmap, mask)
        return encode(mask, size)


def _rasterized(polygons: list[list[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    from faster_coco_eval.core import mask as coco

    if not polygons:
        return np.zeros(size, bool)
    mask: NDArray[np.bool_] = coco.decode(compressed_rle(polygons, size)).astype(bool)
    return mask


def _paste(bitmap: Bits, mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    x, y = bitmap.left, bitmap.top
    y1, x1, y2, x2 = max(0, y), max(0, x), min(height, y + bitmap.height), min(width, x + bitmap.width)
    if y1 < y2 and x1 < x2:
        mask[y1:y2, x1:x2] |= bitmap.array()[y1 - y : y2 - y, x1 - x : x2 - x]


def outline_area(polygon: NDArray[Any]) -> float:
    """The area inside a polygon of (n, 2) corners, in px (the shoelace formula)."""
    x, y = polygon[:, 0].astype(np.float64), polygon[:, 1].astype(np.float64)
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def points(value: Any, minimum: int, maximum: int | None = None) -> Ring:
    """Checks a list of corners ``[[x, y], ...]``.

    Args:
        value: the content of a file at this position.
        minimum, maximum: number of corners allowed.

    Raises:
        InputError: not such a list, too few or too many corners, or a coordinate beyond a million px.
    """
    pairs = isinstance(value, list) and all(isinstance(point, list | tuple) and len(point) == 2 for point in value)
    if not pairs or not all(type(number) in (int, float) for point in value for number in point):
        raise InputError("points must be a list of corners [[x, y], ...]")
    if len(value) < minimum or (maximum is not None and len(value) > maximum):
        allowed = "or more" if maximum is None else f"to {maximum}"
        needed = minimum if maximum == minimum else f"{minimum} {allowed}"
        raise InputError(f"{len(value)} points, but {needed} are needed")
    if not all(
        abs(number) < MAX_COORDINATE for point in value for number in point
    ):  # NumPy does not support huge integers
        raise InputError(f"a point lies farther than {MAX_COORDINATE:,.0f} px away")
    return np.asarray(value, np.float64).reshape(-1, 2)


def rectangle(corners: Ring) -> Outline:
    """The upright rectangle around the given corners."""
    (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
    return Outline((np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]),), boxes_only=True)


def circle(centre_and_edge: Ring) -> Outline:
    """A circle, given by its centre and a point on it, as a polygon at most a quarter px off."""
    (x, y), (ex, ey) = centre_and_edge.tolist()
    radius = math.hypot(ex - x, ey - y)
    quarter = math.ceil(math.pi / math.acos(max(0.0, 1 - _MAX_DEVIATION / max(radius, _MAX_DEVIATION))) / 4)
    angles = np.linspace(0, 2 * math.pi, 4 * max(4, quarter), endpoint=False)
    return Outline((np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1),))
