"""Bitmaps in annotation files: PNG as base64 text, optionally compressed by zlib. Torch-free."""

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

MAX_PIXELS = 100_000_000
"""Limit for all bitmaps of one annotation file together, because a small file may unpack to far more."""
_MAX_BYTES = 200_000_000  # of one bitmap, unpacked
_SLACK = 1 << 20  # bytes of a PNG's other chunks


class BitmapReader:
    """Reads the bitmaps of one annotation file, at most ``MAX_PIXELS`` in all."""

    def __init__(self) -> None:
        self.left = MAX_PIXELS

    def read(self, text: Any, size: tuple[int, int], *, compressed: bool = False) -> NDArray[np.bool_]:
        """Where a bitmap is set: by its alpha channel if it has one, else wherever it is not 0.

        Args:
            text: base64 of a PNG, or of a PNG compressed by zlib.
            size: largest height and width of the bitmap.
            compressed: whether the PNG is compressed by zlib.

        Returns:
            (height, width) bool.

        Raises:
            InputError: the text is neither, or the bitmap is too large. The size is checked before unpacking.
        """
        try:
            content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except (binascii.Error, ValueError):
            content = b""
        if not content:
            raise InputError("the bitmap is not base64 text")
        if compressed:
            content = _unpack(content, min(4 * size[0] * size[1], _MAX_BYTES) + _SLACK)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about its size, which is checked here
                with open_image(content, formats=("PNG",)) as image:
                    self._check(image, size)
                    array: NDArray[Any] = np.asarray(image)
        except InputError:
            raise
        except Exception as error:  # Pillow raises nearly any type for a damaged file
            raise InputError(f"the bitmap cannot be read ({first_line(error)})") from None
        if array.ndim == 3:
            array = array[..., 3] if array.shape[2] == 4 else np.asarray(array.any(-1))
        bits: NDArray[np.bool_] = array.astype(bool)
        return bits

    def _check(self, image: Image.Image, size: tuple[int, int]) -> None:
        width, height = image.size
        if height > size[0] or width > size[1]:
            raise InputError(f"a bitmap of {width}x{height} px, where at most {size[1]}x{size[0]} fit")
        self.left -= width * height
        if width * height * len(image.getbands()) > _MAX_BYTES or self.left < 0:
            raise InputError(f"bitmaps of more than {MAX_PIXELS:,} px in all, or one of more than {_MAX_BYTES:,} bytes")


def _unpack(content: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(content, limit + 1)
    except zlib.error:
        raise InputError("the bitmap is not compressed by zlib") from None
    if len(unpacked) > limit:
        raise InputError(f"the bitmap unpacks to more than {limit:,} bytes")
    return unpacked
