"""What annotation tools draw around one object: rings, rings with holes, bitmaps. Torch-free."""

import math
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.files import outline_area
from fishnet.data.detection.objects import Segmentation, encoded
from fishnet.errors import InputError
from fishnet.images.rle import encode

Ring = NDArray[np.float64]
"""(n, 2) corners x, y in px."""

FARTHEST = 1e6  # px from the image's corner
_ARC = 0.25  # px that the polygon of a circle may be off by


class Bits(NamedTuple):
    """A bitmap within an image, packed: a blank one of many px takes no memory.

    Attributes:
        packed: its rows, eight px a byte, compressed.
        height, width: of the bitmap, trimmed to what is set.
        left, top: where it lies, px.
        pixels: that are set.
    """

    packed: bytes
    height: int
    width: int
    left: int
    top: int
    pixels: int

    @classmethod
    def of(cls, bits: NDArray[np.bool_], left: int = 0, top: int = 0) -> "Bits":
        """A bitmap (height, width), without the empty rows and columns around it."""
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
    """The extent of one object: what any ring or bitmap covers and no hole does.

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
        """Both as one object."""
        return Outline(
            self.rings + other.rings,
            self.holes + other.holes,
            self.bits + other.bits,
            self.boxes_only and other.boxes_only,
        )

    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 around everything, px; zeros around an empty bitmap."""
        boxes = [(*ring.min(0), *ring.max(0)) for ring in self.rings]
        for piece in self.bits:
            corner = (piece.left + piece.width, piece.top + piece.height)
            boxes += [(piece.left, piece.top, *corner)] if piece.pixels else []
        if not boxes:
            return 0.0, 0.0, 0.0, 0.0
        corners = np.asarray(boxes, np.float64)
        x1, y1 = corners[:, :2].min(0).tolist()
        x2, y2 = corners[:, 2:].max(0).tolist()
        return x1, y1, x2, y2

    def area(self) -> float:
        """Px; overlaps of several pieces count twice."""
        inside = sum(outline_area(ring) for ring in self.rings) - sum(outline_area(ring) for ring in self.holes)
        return max(0.0, inside) + float(sum(piece.pixels for piece in self.bits))

    def segmentation(self, size: tuple[int, int]) -> Segmentation:
        """COCO's polygons, or where there are holes or bitmaps a run-length encoding.

        Args:
            size: height and width of the image; what lies beyond is cut off.
        """
        polygons: list[list[float]] = [ring.reshape(-1).tolist() for ring in self.rings]
        if not self.holes and not self.bits:
            return polygons
        mask = _filled(polygons, size)
        mask &= ~_filled([ring.reshape(-1).tolist() for ring in self.holes], size)
        for piece in self.bits:
            _lay(piece, mask)
        return encode(mask, size)


def _filled(polygons: list[list[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    from faster_coco_eval.core import mask as coco

    if not polygons:
        return np.zeros(size, bool)
    filled: NDArray[np.bool_] = coco.decode(encoded(polygons, size)).astype(bool)
    return filled


def _lay(piece: Bits, mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    y1, x1 = max(0, piece.top), max(0, piece.left)
    y2, x2 = min(height, piece.top + piece.height), min(width, piece.left + piece.width)
    if y1 < y2 and x1 < x2:
        y, x = piece.top, piece.left
        mask[y1:y2, x1:x2] |= piece.array()[y1 - y : y2 - y, x1 - x : x2 - x]


def points(value: Any, fewest: int, most: int | None = None) -> Ring:
    """A list of corners ``[[x, y], ...]``, checked.

    Args:
        value: as a file holds it.
        fewest, most: corners that it may have.

    Raises:
        InputError: something else, too few or too many, or a corner farther than a million px away.
    """
    pairs = isinstance(value, list) and all(isinstance(point, list | tuple) and len(point) == 2 for point in value)
    if not pairs or not all(type(number) in (int, float) for point in value for number in point):
        raise InputError("points must be a list of corners [[x, y], ...]")
    if len(value) < fewest or (most is not None and len(value) > most):
        wanted = f"{fewest}" if most == fewest else f"{fewest} or more" if most is None else f"{fewest} to {most}"
        raise InputError(f"{len(value)} points, where {wanted} are needed")
    if not all(abs(number) < FARTHEST for point in value for number in point):  # before the array: huge integers
        raise InputError(f"a point lies farther than {FARTHEST:,.0f} px away")
    return np.asarray(value, np.float64).reshape(-1, 2)


def rectangle(corners: Ring) -> Outline:
    """The upright rectangle around some corners."""
    (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
    return Outline((np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]),), boxes_only=True)


def circle(centre_and_edge: Ring) -> Outline:
    """The circle around the first of two points through the second, as a polygon less than a quarter px off."""
    (x, y), (ex, ey) = centre_and_edge.tolist()
    radius = math.hypot(ex - x, ey - y)
    quarter = math.ceil(math.pi / math.acos(max(0.0, 1 - _ARC / max(radius, _ARC))) / 4)
    angles = np.linspace(0, 2 * math.pi, 4 * max(4, quarter), endpoint=False)
    return Outline((np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1),))
