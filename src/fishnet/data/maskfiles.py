"""Reads the numbers or colours of mask files in strips of rows, so that a large mask takes little memory."""

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
MAX_DISTINCT = 4096  # different values in one mask; no set of classes has more
MAX_DECODED = 1 << 29  # bytes of a mask that Pillow decodes
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG 2000", "AVIF": "AVIF"}
_LOSSY_TIFF = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34892: "JPEG",
               50001: "WebP", 50002: "JPEG XL"}  # fmt: skip
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # per px in Pillow's memory; 4 in other modes
_MODES = ("1", "L", "P", "LA", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class Mask:
    """An open mask file.

    Attributes:
        size: height and width, px.
        colours: whether the values are colours, 0xRRGGBB.
        rows: ``rows(top, bottom)`` reads the rows from ``top`` to before ``bottom``: (rows, width) integers.
            May raise InputError.
        path: the mask file, for messages.
    """

    size: tuple[int, int]
    colours: bool
    rows: Callable[[int, int], NDArray[Any]]
    path: str = ""

    def check_distinct(self, count: int) -> None:
        """Raises InputError if ``count`` different values are more than any set of classes has."""
        if count > MAX_DISTINCT:
            what = "colours" if self.colours else "numbers"
            raise InputError(f"{self.path}: holds more than {MAX_DISTINCT:,} different {what}: not a mask of classes")

    def strips(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Reads strips of rows from the top, each with the index of its first row. Raises InputError, see ``rows``."""
        height, width = self.size
        step = max(1, STRIP // max(1, width))
        for top in range(0, height, step):
            yield top, self.rows(top, min(height, top + step))

    def read(self) -> NDArray[Any]:
        """Reads all rows: (height, width) integers. Raises InputError, see ``rows``."""
        return self.rows(0, self.size[0])


def open_mask(path: Path, *, colours: bool = False, palette: bool = False, threshold: int = 0) -> Mask:
    """Opens a mask: PNG, TIFF (the first page), BMP, GIF, PNM, lossless WebP, or ``.npy``.

    The content determines the format, not the file's name. Masks of 1 bit are read as 0 and 255. Opacity is ignored. An
    EXIF orientation is applied.

    Args:
        path: the mask file.
        colours: whether RGB pixels are colours, 0xRRGGBB; otherwise red, green and blue must be equal, and are a
            number.
        palette: whether masks with a palette are read by their colours, not by their numbers.
        threshold: if above 0, numbers of at least ``threshold`` are read as 255 and lower ones as 0. Colours, also of a
            palette, are converted to luma (ITU-R 601). Lossy formats are then supported as well.

    Raises:
        InputError: no such file; not an image; a lossy format, which changes ids; neither integers nor colours; too
            large. The message names the file.
    """
    content = read_bytes(path, what="mask")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about palettes with transparency, and about size
            if content.startswith(NPY):
                mask = _from_array(read_npy(content), colours)
            else:
                mask = _from_image(content, colours=colours, palette=palette, threshold=threshold)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
        raise InputError(f"{path}: not a mask that can be read ({first_line(error)})") from None

    def rows(top: int, bottom: int) -> NDArray[Any]:
        try:
            values = mask.rows(top, bottom)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return np.where(values >= threshold, np.uint8(255), np.uint8(0)) if threshold else values

    return Mask(mask.size, mask.colours, rows, str(path))


def pack_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Packs RGB (height, width, 3) into (height, width) colours 0xRRGGBB."""
    colours = rgb[..., 0].astype(np.int32)
    for channel in (1, 2):
        colours <<= 8
        colours |= rgb[..., channel]
    return colours


def _from_image(content: bytes, *, colours: bool, palette: bool, threshold: int) -> Mask:
    """A mask that Pillow decodes, all rows at once."""
    image: Image.Image = open_image(content)
    if not threshold and (lossy := _lossy(image, content)):
        raise InputError(
            f"{lossy} changes pixels, and ids with them: save masks as PNG, or read masks of two classes with "
            "threshold_masks 128"
        )
    if image.mode not in _MODES:
        raise InputError(f"holds {image.mode}: a mask is one channel of whole numbers, or RGB")
    pixels = image.width * image.height
    if pixels * _BYTES.get(image.mode, 4) > MAX_DECODED:
        raise InputError(
            f"{image.width}x{image.height} px of {image.mode} take {pixels * 4 >> 20:,} MiB: save such a large mask "
            "with one channel of 8 bits"
        )
    image.load()
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    size, mode = (image.height, image.width), image.mode
    if threshold and mode not in ("L", "1") and not mode.startswith("I"):
        return Mask(size, False, lambda top, bottom: np.asarray(_rows(image, top, bottom, "L")))
    if mode in ("RGB", "RGBA", "PA") or (palette and mode == "P"):
        return Mask(size, colours, lambda top, bottom: _values(np.asarray(_rows(image, top, bottom, "RGB")), colours))
    read_as = "L" if mode in ("1", "LA") else ""
    return Mask(size, False, lambda top, bottom: np.asarray(_rows(image, top, bottom, read_as)))


def _rows(image: Image.Image, top: int, bottom: int, mode: str) -> Image.Image:
    """A strip of rows, converted to a mode unless it is ""."""
    strip = image if (top, bottom) == (0, image.height) else image.crop((0, top, image.width, bottom))
    return strip.convert(mode) if mode else strip


def _values(rgb: NDArray[np.uint8], colours: bool) -> NDArray[Any]:
    """RGB pixels as one value each: the packed colour, or the number that red, green and blue are equal to."""
    if colours:
        return pack_rgb(rgb)
    if (rgb != rgb[..., :1]).any():
        raise InputError(
            "holds colours without names: name them in a classes file (a table with the columns name,r,g,b)"
        )
    return np.ascontiguousarray(rgb[..., 0])


def _from_array(array: NDArray[Any], colours: bool) -> Mask:
    """A mask from an array, which is a view of the file's bytes."""
    is_rgb = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if array.dtype.kind not in "uib" or not (array.ndim == 2 or is_rgb) or not array.size:
        raise InputError(f"holds {array.dtype} of shape {array.shape}: a mask is one channel of whole numbers, or RGB")
    size = (int(array.shape[0]), int(array.shape[1]))
    if is_rgb:
        return Mask(size, colours, lambda top, bottom: _values(array[top:bottom], colours))
    if array.dtype.kind == "b":
        return Mask(size, False, lambda top, bottom: array[top:bottom].astype(np.uint8) * np.uint8(255))
    if array.dtype.kind == "u" and array.dtype.itemsize == 8:  # such large numbers have no name, clipped or not
        return Mask(size, False, lambda top, bottom: np.minimum(array[top:bottom], 1 << 62).astype(np.int64))
    dtype = np.dtype(np.int64) if array.dtype.itemsize == 8 else array.dtype.newbyteorder("=")
    return Mask(size, False, lambda top, bottom: array[top:bottom].astype(dtype, copy=False))


def _lossy(image: Image.Image, content: bytes) -> str:
    """The name of the lossy format in which a mask was saved; "" for a lossless one."""
    if image.format == "WEBP":
        return "" if _lossless_webp(content) else "WebP (lossy)"
    if image.format == "TIFF":
        compression = _LOSSY_TIFF.get(getattr(image, "tag_v2", {}).get(259, 1))
        return f"{compression} in TIFF" if compression else ""
    return _LOSSY.get(image.format or "", "")


def _lossless_webp(content: bytes) -> bool:
    """Whether the pixels of a WebP file are in a VP8L chunk rather than a VP8 one (RFC 9649, section 2)."""
    position = 12  # after RIFF, size, WEBP
    while position + 8 <= len(content):
        name = content[position : position + 4]
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        if name == b"ANMF":
            position, size = position + 16, 0  # the frame's own chunks follow its header
        position += 8 + size + size % 2
    return False
