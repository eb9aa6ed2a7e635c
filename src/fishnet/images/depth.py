"""Images of more than 8 bits a channel as 8-bit ones, stretched from the range of values of their set, or their own."""

import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.images.opening import check_memory, load, open_image, orientation, upright
from fishnet.images.reading import DEFAULT, Reading

SHARE = 0.1  # percent of the values that the range leaves out at either end: dead and hot pixels of a camera
STRIP = 1 << 22  # values worked on at once

_DEEP = re.compile(r"(RGB[AX]?);16([BLN])")


def stretched(array: NDArray[Any], reading: Reading = DEFAULT, no_data: float | None = None) -> NDArray[np.uint8]:
    """Numbers of any kind as 8 bits: the reading's range, or else their 0.1st to 99.9th percentile, as 0 to 255.

    The percentiles are over all channels. Whole numbers keep at least the width of one step between two of them: an
    image of one value is black.

    Args:
        array: (height, width) or (height, width, channels).
        reading: whose ``value_range`` counts.
        no_data: the value that stands for no measurement, perhaps NaN: never counted in the percentiles; becomes 0.

    Raises:
        InputError: no numbers; nothing but no-data; or values that are not finite and not declared to be no-data.
    """
    if array.dtype.kind not in "iuf":
        raise InputError(f"holds {array.dtype}: pixels are whole numbers or floats")
    check_finite(array, no_data)
    kind = np.float64 if array.dtype.itemsize > 2 else np.float32
    if reading.sixteen_bit == "stretch-each" or reading.value_range is None:
        low, high = percentiles(array, no_data)
    else:
        low, high = kind(reading.value_range[0]), kind(reading.value_range[1])
    width = max(high - low, 1) if array.dtype.kind in "iu" else (high - low or 1)
    page = np.empty(array.shape, np.uint8)
    for rows in strips(array):
        values = array[rows].astype(kind)
        scaled: NDArray[Any] = (values - low) * (255 / width)
        if no_data is not None:
            scaled[missing(array[rows], no_data)] = 0
        page[rows] = scaled.clip(0, 255).round()
    return page


def strips(array: NDArray[Any]) -> Iterator[slice]:
    """The rows of an array, so many at a time as have some million values."""
    step = max(1, STRIP // max(1, array[:1].size))
    return (slice(top, top + step) for top in range(0, len(array), step))


def missing(array: NDArray[Any], no_data: float | None) -> NDArray[np.bool_]:
    """Which values stand for no measurement, of the array's shape."""
    if no_data is None:
        return np.zeros(array.shape, np.bool_)
    if np.isnan(no_data):
        return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, np.bool_)
    if not _holds(array.dtype, no_data):
        return np.zeros(array.shape, np.bool_)
    with np.errstate(over="ignore"):  # beyond float32 it is infinity, which then stands for no-data
        return np.asarray(array == array.dtype.type(no_data))


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a type of numbers has this value: 65536 is none of uint16."""
    if dtype.kind == "f":
        return True
    return bool(np.isfinite(value)) and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def check_finite(array: NDArray[Any], no_data: float | None = None) -> None:
    """Raises InputError for values that are not finite, unless they are declared to be no-data."""
    if array.dtype.kind != "f":
        return
    for rows in strips(array):
        odd = ~np.isfinite(array[rows])
        if odd.any() and (odd & ~missing(array[rows], no_data)).any():
            raise InputError(
                "holds values that are not finite numbers (NaN or infinity): declare them as no-data (GDAL's tag 42113 "
                "of a TIFF), or replace them"
            )


def percentiles(array: NDArray[Any], no_data: float | None = None) -> tuple[Any, Any]:
    """The 0.1st and the 99.9th percentile of an array's values, no-data left out.

    Of more than some million values every so many are looked at, in a fixed pattern: memory stays small.

    Raises:
        InputError: there is nothing but no-data.
    """
    values = sample(array, STRIP, no_data)
    if not values.size:
        raise InputError("holds nothing but no-data")
    low, high = np.percentile(values, (SHARE, 100 - SHARE))
    return low, high


def sample(array: NDArray[Any], limit: int, no_data: float | None = None) -> NDArray[Any]:
    """(n,) some of an array's values, evenly spread, as floats; no-data left out."""
    step = max(1, -(-array.size // limit))
    if step > 1 and step % array.shape[-1] == 0:
        step += 1  # never one column alone
    flat = array.reshape(-1)[::step] if array.flags.c_contiguous else array.flatten()[::step]
    if no_data is not None:
        flat = flat[~missing(flat, no_data)]
    return flat.astype(np.float64 if array.dtype.itemsize > 2 else np.float32)


class DeepColour(NamedTuple):
    """An image of 16 bits a colour.

    Attributes:
        values: (height, width, 3).
        alpha: (height, width, 1) the upper 8 bits of an alpha channel, or None.
        orientation: by EXIF, by which these are yet to be turned.
    """

    values: NDArray[np.uint16]
    alpha: NDArray[np.uint8] | None
    orientation: int


def deep_colour(encoded: bytes, max_pixels: int | None = None) -> DeepColour | None:
    """The colours of a file of 16 bits a colour; None for other files.

    Pillow has no such mode and keeps one byte of two. The file is therefore decoded twice: as it is, for the upper
    bytes, and in the other byte order, for the lower ones.

    Raises:
        Errors of Pillow, and InputError, for no or a broken image.
    """
    halves, turn = [], 1
    for lower in (False, True):
        with open_image(encoded, max_pixels) as image:
            tiles = list(getattr(image, "tile", ()))
            if not tiles or not all(_DEEP.fullmatch(_layout(tile)) for tile in tiles):
                return None
            check_memory(image, 20, max_pixels)  # two images, their halves and the values of both
            if lower:
                image.tile = [_other_half(tile) for tile in tiles]
            load(image)
            halves.append(np.asarray(image))
            turn = orientation(image)
    upper, below = halves
    values = upper[..., :3].astype(np.uint16)
    values <<= 8
    values |= below[..., :3]
    return DeepColour(values, upper[..., 3:] if upper.shape[2] > 3 else None, turn)


def stretched_colour(encoded: bytes, reading: Reading, no_data: float | None = None) -> Image.Image | None:
    """A file of 16 bits a colour, stretched, upright; None for others. Raises as :func:`deep_colour`."""
    deep = deep_colour(encoded, reading.max_pixels)
    if deep is None:
        return None
    pixels = stretched(deep.values, reading, no_data)
    image = Image.fromarray(pixels if deep.alpha is None else np.concatenate([pixels, deep.alpha], -1))
    return upright(image, deep.orientation)


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
