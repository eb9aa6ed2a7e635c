"""The directories of TIFF files: their tags, and whether their layout is plausible. No pixels are decoded.

TIFF 6.0, sections 2 and 15; BigTIFF has offsets of 8 bytes. GDAL's tags: https://gdal.org/drivers/raster/gtiff.html.
"""

import mmap
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TYPES = {
    1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "2u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "2i4", 11: "f4", 12: "f8",
    13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_MAX_ENTRIES = 4096  # maximum number of tags in a directory
_MAX_PAGES = 65_536
_SLACK = 1 << 20  # bytes by which the pieces of a file may exceed it
_WIDTH, _HEIGHT, _COMPRESSION, _SAMPLES, _BITS = 256, 257, 259, 277, 258
_STRIPS, _TILES = (273, 279), (324, 325)  # offsets and byte counts
_TILE_SIDES = (322, 323)
_UNCOMPRESSED = 1
_NO_DATA = 42113

Content = bytes | mmap.mmap


def is_tiff(content: bytes) -> bool:
    """Whether a file's content begins like a TIFF."""
    return content.startswith(_BEGINNINGS)


@dataclass(frozen=True)
class Entry:
    """One tag: its field type (2 text, 3 short, 12 double, ...), the number of its values, and their bytes."""

    kind: int
    count: int
    data: bytes
    order: Literal["<", ">"]

    @property
    def values(self) -> NDArray[Any]:
        """The numbers, or the bytes of a text."""
        return np.frombuffer(self.data, np.dtype(_TYPES[self.kind]).newbyteorder(self.order))

    @property
    def text(self) -> str:
        """The text, up to its first NUL."""
        return self.data.split(b"\0")[0].decode("latin-1").strip()


class Directory(dict[int, Entry]):
    """The tags of one page by number."""

    def number(self, tag: int, default: int) -> int:
        """The first number of a tag, or the default."""
        entry = self.get(tag)
        if entry is None or not entry.count or entry.kind == 2:
            return default
        return int(entry.values.flat[0])


def directories(content: Content, limit: int = 1) -> list[Directory]:
    """The tags of the first pages of a TIFF file.

    Args:
        content: the file's bytes.
        limit: maximum number of pages.

    Returns:
        One per page; fewer, perhaps none, if the file is damaged.

    Raises:
        InputError: tags that would fill memory: too many, or of more bytes than the file.
    """
    order: Literal["<", ">"] = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    pages: list[Directory] = []
    try:
        place = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)[0]
        seen: set[int] = set()
        while place and place not in seen and len(pages) < min(limit, _MAX_PAGES):
            seen.add(place)
            page, place = _directory(content, place, order, big)
            pages.append(page)
    except InputError:
        raise
    except (struct.error, ValueError):
        pass  # reported where the pixels are decoded
    return pages


def _directory(content: Content, place: int, order: Literal["<", ">"], big: bool) -> tuple[Directory, int]:
    """The tags of the page at an offset, and the offset of the next page; 0 for none."""
    count = struct.unpack_from(f"{order}{'Q' if big else 'H'}", content, place)[0]
    if count > _MAX_ENTRIES:
        raise InputError(f"refused, a TIFF page of {count:,} tags: damaged, or made to fill memory")
    place += 8 if big else 2
    head, inline = (f"{order}HHQ", 8) if big else (f"{order}HHI", 4)
    page, total = Directory(), 0
    for at in range(place, place + count * (struct.calcsize(head) + inline), struct.calcsize(head) + inline):
        tag, kind, number = struct.unpack_from(head, content, at)
        if kind not in _TYPES:
            continue
        size = number * np.dtype(_TYPES[kind]).itemsize
        start = at + struct.calcsize(head)
        if size > inline:
            start = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, start)[0]
        data = content[start : start + size]
        if len(data) == size and tag not in page:
            page[tag] = Entry(kind, number, data, order)
            total += size
        if total > len(content) + _SLACK:
            raise InputError(
                "refused, a TIFF whose tags hold more bytes than the file: damaged, or made to fill memory"
            )
    after = place + count * (struct.calcsize(head) + inline)
    return page, struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, after)[0]


def check_layout(content: bytes, pages: int = 1) -> None:
    """Compares what a TIFF file declares with what it holds.

    Args:
        content: the file's bytes.
        pages: number of pages that will be read.

    Raises:
        InputError: a small file that would fill memory: strips or tiles that overlap, uncompressed pixels of more bytes
            than the file, tiles far larger than the image, or tags as in :func:`directories`.
    """
    for page in directories(content, pages):
        for offsets, counts in (_STRIPS, _TILES):
            if offsets in page and counts in page:
                _check_pieces(page[offsets].values, page[counts].values, "strips" if offsets == _STRIPS[0] else "tiles")
        width, height = page.number(_WIDTH, 0), page.number(_HEIGHT, 0)
        across, down = (page.number(tag, 0) for tag in _TILE_SIDES)
        if across * down > max(4 * width * height, 1 << 22):
            raise InputError(f"refused, a TIFF with tiles of {across:,} x {down:,} px for {width:,} x {height:,} px")
        bits = page.number(_BITS, 1) * page.number(_SAMPLES, 1)
        if page.number(_COMPRESSION, 1) == _UNCOMPRESSED and width * height * bits // 8 > 2 * len(content) + _SLACK:
            raise InputError(f"truncated: a TIFF of {width:,} x {height:,} px that holds {len(content):,} bytes in all")


def _check_pieces(offsets: NDArray[Any], counts: NDArray[Any], name: str) -> None:
    """Raises InputError if two strips or tiles share bytes of the file. Missing ones (0, 0) are allowed."""
    if len(offsets) != len(counts) or offsets.dtype.kind not in "ui" or counts.dtype.kind not in "ui":
        return
    starts, sizes = offsets.astype(np.float64), counts.astype(np.float64)
    stored = (starts > 0) & (sizes > 0)
    order = np.argsort(starts[stored], kind="stable")
    begins = starts[stored][order]
    ends = begins + sizes[stored][order]
    if (begins[1:] < ends[:-1]).any():
        raise InputError(f"refused, a TIFF whose {name} overlap in the file: damaged, or made to fill memory")


def no_data_of(content: bytes) -> float | None:
    """The value that stands for no measurement in a TIFF file (GDAL's tag 42113), perhaps NaN.

    Returns:
        None for other files, and where the tag is missing or not a number.
    """
    if not is_tiff(content):
        return None
    page = next(iter(directories(content)), Directory())
    entry = page.get(_NO_DATA)
    try:
        return None if entry is None else float(entry.text)
    except ValueError:
        return None
