"""Bitmaps in annotation files: PNG, perhaps compressed once more, as base64 text. Torch-free."""

import base64
import binascii
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError, first_line
from fishnet.images.opening import open_image

PIXELS = 100_000_000
"""Of all bitmaps of one annotation file together: a small file may unpack to any number."""
_BYTES = 200_000_000  # of one bitmap, unpacked
_SLACK = 1 << 20  # bytes beside the pixels: a PNG's other chunks


class BitmapReader:
    """Reads the bitmaps of one annotation file, which may hold so many px together."""

    def __init__(self) -> None:
        self.left = PIXELS

    def read(self, text: Any, size: tuple[int, int], *, compressed: bool = False) -> NDArray[np.bool_]:
        """What a bitmap sets: its alpha where it has one, else whatever is not 0.

        Args:
            text: base64 of a PNG, or of a PNG compressed by zlib.
            size: height and width that the bitmap may have at most.
            compressed: whether zlib's layer is there.

        Returns:
            (height, width) bool.

        Raises:
            InputError: none of these, or too large, which is seen before it is unpacked.
        """
        try:
            content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except (binascii.Error, ValueError):
            content = b""
        if not content:
            raise InputError("the bitmap is no base64 text")
        if compressed:
            content = _unpacked(content, min(4 * size[0] * size[1], _BYTES) + _SLACK)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of size, which is looked at here
                with open_image(content, formats=("PNG",)) as image:
                    self._check(image, size)
                    array: NDArray[Any] = np.asarray(image)
        except InputError:
            raise
        except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
            raise InputError(f"the bitmap cannot be read ({first_line(error)})") from None
        if array.ndim == 3:
            array = array[..., 3] if array.shape[2] == 4 else np.asarray(array.any(-1))
        bits: NDArray[np.bool_] = array.astype(bool)
        return bits

    def _check(self, image: Image.Image, size: tuple[int, int]) -> None:
        width, height = image.size
        if height > size[0] or width > size[1]:
            raise InputError(f"a bitmap of {width}x{height} px, where at most {size[1]}x{size[0]} are possible")
        self.left -= width * height
        if width * height * len(image.getbands()) > _BYTES or self.left < 0:
            raise InputError(f"bitmaps of more than {PIXELS:,} px together, or one of more than {_BYTES:,} bytes")


def _unpacked(content: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(content, limit + 1)
    except zlib.error:
        raise InputError("the bitmap is not compressed by zlib") from None
    if len(unpacked) > limit:
        raise InputError(f"the bitmap unpacks to more than {limit:,} bytes: refused")
    return unpacked
