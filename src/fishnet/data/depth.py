"""Pictures of more than 8 bits a channel as 8-bit ones, stretched from the range of values that each holds."""

import io
import re
import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fishnet.errors import InputError

SixteenBit = Literal["shift", "stretch"]
"""What becomes of more than 8 bits: ``shift``, the upper 8 of 16 bits, the same for all pictures; ``stretch``, each
picture's own range is laid over 0..255, see :func:`stretched`."""

SHARE = 0.1  # percent of the values that the range leaves out at either end: dead and hot pixels of a camera

_DEEP = re.compile(r"(RGB[AX]?);16([BLN])")


def stretched(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers of any kind and shape as 8 bits: their 0.1st to 99.9th percentile, over all channels, as 0 to 255.

    Whole numbers keep at least the width of one step between two of them: a picture of one value is black.

    Raises:
        InputError: no numbers, or some that are not finite.
    """
    if array.dtype.kind not in "iuf":
        raise InputError(f"holds {array.dtype}: pixels are whole numbers or floats")
    whole = array.dtype.kind in "iu"
    values: NDArray[np.floating[Any]] = array.astype(np.float64 if array.dtype.itemsize > 2 else np.float32)
    if not whole and not np.isfinite(values).all():
        raise InputError("holds values that are not finite numbers (NaN or infinity)")
    low, high = np.percentile(values, (SHARE, 100 - SHARE))
    width = max(high - low, 1) if whole else (high - low or 1)
    scaled: NDArray[Any] = (values - low) * (255 / width)
    return scaled.clip(0, 255).round().astype(np.uint8)


def deep_colour(encoded: bytes) -> Image.Image | None:
    """An upright picture of 16 bits a colour, stretched (an alpha channel keeps its upper 8 bits); None for others.

    Pillow has no such mode and keeps one byte of two. The file is therefore decoded twice: as it is, for the upper
    bytes, and in the other byte order, for the lower ones.

    Raises:
        Errors of Pillow for no or a broken picture.
    """
    halves = []
    for lower in (False, True):
        with Image.open(io.BytesIO(encoded)) as image:
            tiles = list(getattr(image, "tile", ()))
            if not tiles or not all(_DEEP.fullmatch(_layout(tile)) for tile in tiles):
                return None
            if lower:
                image.tile = [_other_half(tile) for tile in tiles]
            image.load()
            halves.append(np.asarray(ImageOps.exif_transpose(image)))
    upper, below = halves
    pixels = stretched(upper[..., :3].astype(np.uint16) << 8 | below[..., :3])
    return Image.fromarray(np.concatenate([pixels, upper[..., 3:]], -1))


def _layout(tile: Any) -> str:
    """How a tile's samples lie in the file, by Pillow's name (its "raw mode")."""
    args = tile[3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def _other_half(tile: Any) -> Any:
    args = tile[3]
    name, order = _DEEP.fullmatch(_layout(tile)).groups()  # type: ignore[union-attr]
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    swapped = f"{name};16{'B' if little else 'L'}"
    return tile._replace(args=(swapped, *args[1:]) if isinstance(args, tuple) else swapped)
