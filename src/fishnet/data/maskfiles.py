"""Mask files: the numbers or the colours in them, in strips of rows, so that a large mask takes little memory."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from fishnet.errors import InputError, first_line
from fishnet.files.reading import read_bytes
from fishnet.images.opening import open_image
from fishnet.images.stacks import NPY, read_npy

STRIP = 1 << 20  # px in a strip
DISTINCT = 4096  # values in one mask: no set of classes has as many
DECODED = 1 << 29  # bytes that Pillow may take for a decoded mask
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}
_LOSSY_TIFF = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34892: "JPEG",
               50001: "WebP", 50002: "JPEG XL"}  # fmt: skip
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # a px in Pillow's memory; 4 of all others
_READ = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Mask:
    """A mask file that is open.

    Attributes:
        size: height and width, px.
        colours: whether its pixels are colours, as 0xRRGGBB.
        rows: gives the rows from one to before another, (rows, width) of whole numbers; may raise InputError.
        path: of the file, for messages.
    """

    size: tuple[int, int]
    colours: bool
    rows: Callable[[int, int], NDArray[Any]]
    path: str = ""

    def check_distinct(self, count: int) -> None:
        """Raises InputError for more different values than any set of classes has."""
        if count > DISTINCT:
            what = "colours" if self.colours else "numbers"
            raise InputError(f"{self.path}: holds more than {DISTINCT:,} different {what}: not a mask of classes")

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Strips of rows from the top, each with the number of its first row. Raises InputError, see ``rows``."""
        height, width = self.size
        step = max(1, STRIP // max(1, width))
        for top in range(0, height, step):
            yield top, self.rows(top, min(height, top + step))

    def whole(self) -> NDArray[Any]:
        """(height, width) of whole numbers. Raises InputError, see ``rows``."""
        return self.rows(0, self.size[0])


def open_mask(path: Path, *, colours: bool = False, palette: bool = False, threshold: int = 0) -> Mask:
    """Opens a mask: PNG, TIFF (the first page), BMP, GIF, PNM, lossless WebP, or ``.npy``.

    Its content says what it is, not its name. One bit is 0 and 255; opacity is not looked at; an EXIF orientation is
    applied.

    Args:
        path: of the file.
        colours: whether red, green and blue count, as 0xRRGGBB; otherwise they must be alike, and are a number.
        palette: whether a palette's colours count, rather than its numbers.
        threshold: above 0, numbers from it on are 255, and lower ones 0. Red, green and blue, also a palette's, count
            by their luma (ITU-R 601), and lossy formats are read.

    Raises:
        InputError: no such file, no image, a lossy format (which changes ids), neither whole numbers nor colours, or
            too large. The message names the file.
    """
    content = read_bytes(path, what="mask")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of palettes with transparency, and of size
            if content.startswith(NPY):
                mask = _array(read_npy(content), colours)
            else:
                mask = _image(content, colours=colours, palette=palette, threshold=threshold)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
        raise InputError(f"{path}: not a mask that can be read ({first_line(error)})") from None

    def rows(top: int, bottom: int) -> NDArray[Any]:
        try:
            found = mask.rows(top, bottom)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return np.where(found >= threshold, np.uint8(255), np.uint8(0)) if threshold else found

    return Mask(mask.size, mask.colours, rows, str(path))


def read_numbers(path: Path) -> NDArray[Any]:
    """A mask's numbers, (height, width). Raises InputError, see :func:`open_mask`; colours."""
    return open_mask(path).whole()


def packed(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(height, width, 3) of red, green and blue as (height, width) of 0xRRGGBB."""
    found = colours[..., 0].astype(np.int32)
    for i in (1, 2):
        found <<= 8
        found |= colours[..., i]
    return found


def _image(content: bytes, *, colours: bool, palette: bool, threshold: int) -> Mask:
    """A mask that Pillow decodes, whole."""
    image: Image.Image = open_image(content)
    if not threshold and (lossy := _lossy(image, content)):
        raise InputError(
            f"{lossy} changes pixels, and ids with them: save masks as PNG, or read masks of two classes with "
            "--threshold-masks 128"
        )
    if image.mode not in _READ:
        raise InputError(f"holds {image.mode}: a mask is one channel of whole numbers, or RGB")
    pixels = image.width * image.height
    if pixels * _BYTES.get(image.mode, 4) > DECODED:
        raise InputError(
            f"{image.width}x{image.height} px of {image.mode} take {pixels * 4 >> 20:,} MiB: save such a large mask "
            "with one channel of 8 bits"
        )
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if threshold and image.mode not in ("L", "1") and not image.mode.startswith("I"):
        return Mask((image.height, image.width), False, lambda top, bottom: np.asarray(_rows(image, top, bottom, "L")))
    if image.mode in ("RGB", "RGBA", "PA") or (palette and image.mode == "P"):
        return Mask((image.height, image.width), colours, lambda top, bottom: _told(_rgb(image, top, bottom), colours))
    mode = "L" if image.mode in ("1", "LA") else ""
    return Mask((image.height, image.width), False, lambda top, bottom: np.asarray(_rows(image, top, bottom, mode)))


def _rows(image: Image.Image, top: int, bottom: int, mode: str) -> Image.Image:
    part = image if (top, bottom) == (0, image.height) else image.crop((0, top, image.width, bottom))
    return part.convert(mode) if mode else part


def _rgb(image: Image.Image, top: int, bottom: int) -> NDArray[np.uint8]:
    return np.asarray(_rows(image, top, bottom, "RGB"))


def _told(found: NDArray[np.uint8], colours: bool) -> NDArray[Any]:
    """Red, green and blue as one number: packed, or the number that all three are."""
    if colours:
        return packed(found)
    if (found != found[..., :1]).any():
        raise InputError("holds colours, and nothing says of what: name them in a classes file (r g b name a line)")
    return np.ascontiguousarray(found[..., 0])


def _array(found: NDArray[Any], colours: bool) -> Mask:
    """An array that is a view of a file's bytes."""
    three = found.ndim == 3 and found.shape[2] == 3 and found.dtype == np.uint8
    if found.dtype.kind not in "uib" or not (found.ndim == 2 or three) or not found.size:
        raise InputError(f"holds {found.dtype} of shape {found.shape}: a mask is one channel of whole numbers, or RGB")
    size = (int(found.shape[0]), int(found.shape[1]))
    if three:
        return Mask(size, colours, lambda top, bottom: _told(found[top:bottom], colours))
    if found.dtype.kind == "b":
        return Mask(size, False, lambda top, bottom: found[top:bottom].astype(np.uint8) * np.uint8(255))
    if found.dtype.kind == "u" and found.dtype.itemsize == 8:  # no id is so large: it stays one without a name
        return Mask(size, False, lambda top, bottom: np.minimum(found[top:bottom], 1 << 62).astype(np.int64))
    kind = np.dtype(np.int64) if found.dtype.itemsize == 8 else found.dtype.newbyteorder("=")
    return Mask(size, False, lambda top, bottom: found[top:bottom].astype(kind, copy=False))


def _lossy(image: Image.Image, content: bytes) -> str:
    """The name of the lossy format that a mask is in, by its content; "" where its pixels are as they were."""
    if image.format == "WEBP":
        return "" if _lossless_webp(content) else "WebP (lossy)"
    if image.format == "TIFF":
        kind = _LOSSY_TIFF.get(getattr(image, "tag_v2", {}).get(259, 1))
        return f"{kind} in TIFF" if kind else ""
    return _LOSSY.get(image.format or "", "")


def _lossless_webp(content: bytes) -> bool:
    """Whether the pixels of a WebP file are in a VP8L chunk, not a VP8 one (RFC 9649, section 2)."""
    at = 12  # RIFF, size, WEBP
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        if name == b"ANMF":
            at, size = at + 16, 0  # the frame's own chunks follow its header
        at += 8 + size + size % 2
    return False
