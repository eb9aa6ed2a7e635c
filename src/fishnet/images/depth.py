"""Images of more than 8 bits per channel: stretched to 8 bits, or as float32 pixels."""

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

TAIL = 0.1  # percent of the values left out at each end of a range: a camera's dead and hot pixels
STRIP = 1 << 22  # values processed at once

_DEEP = re.compile(r"(RGB[AX]?);16([BLN])")


def stretched(array: NDArray[Any], reading: Reading = DEFAULT, no_data: float | None = None) -> NDArray[np.uint8]:
    """Maps a range of values to 0 to 255: the reading's range, or else the array's 0.1st to 99.9th percentile.

    The percentiles are over all channels. A range of whole numbers is at least 1 wide: an image of one value is black.

    Args:
        array: (height, width) or (height, width, channels).
        reading: has ``value_range``.
        no_data: the value that stands for no measurement, perhaps NaN: left out of the percentiles; becomes 0.

    Raises:
        InputError: not numbers, nothing but no-data, or values that are neither finite nor declared as no-data.
    """
    _check_numbers(array)
    check_finite(array, no_data)
    dtype = np.float64 if array.dtype.itemsize > 2 else np.float32
    if reading.sixteen_bit == "stretch-each" or reading.value_range is None:
        low, high = percentiles(array, no_data)
    else:
        low, high = dtype(reading.value_range[0]), dtype(reading.value_range[1])
    width = max(high - low, 1) if array.dtype.kind in "iu" else (high - low or 1)
    pixels = np.empty(array.shape, np.uint8)
    for rows in strips(array):
        values = array[rows].astype(dtype)
        scaled: NDArray[Any] = (values - low) * (255 / width)
        if no_data is not None:
            scaled[is_no_data(array[rows], no_data)] = 0
        pixels[rows] = scaled.clip(0, 255).round()
    return pixels


def to_pixels(array: NDArray[Any], no_data: float | None = None) -> NDArray[Any]:
    """Converts numbers of any type to the pixels of an image with a number of channels other than 1 and 3.

    Args:
        array: (height, width, channels) or (height, width); whole numbers, floats or booleans.
        no_data: the value that stands for no measurement, perhaps NaN; it becomes the smallest other value of its
            channel.

    Returns:
        uint8 unchanged, booleans as uint8 0 and 255; everything else as float32: uint16 divided by 256 (so that 8 and
        16 bits have the same range), other numbers unchanged.

    Raises:
        InputError: not numbers, a channel of nothing but no-data, or values that are neither finite nor declared as
            no-data.
    """
    if no_data is not None and array.dtype.kind in "iuf":
        array = _filled(array, no_data)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    _check_numbers(array)
    with np.errstate(over="ignore"):
        pixels: NDArray[np.float32] = array.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise InputError("holds values that are not finite numbers (NaN or infinity, or beyond float32)")
    return pixels / np.float32(256) if array.dtype.kind == "u" and array.itemsize == 2 else pixels


def _filled(array: NDArray[Any], no_data: float) -> NDArray[Any]:
    """The array with each channel's smallest value in place of no-data; itself where there is none."""
    gaps = is_no_data(array, no_data)
    if not gaps.any():
        return array
    check_finite(array, no_data)
    filled = array.copy()
    planes, gap_planes = (plane if plane.ndim == 3 else plane[..., None] for plane in (filled, gaps))
    for c in range(planes.shape[2]):
        measured = planes[..., c][~gap_planes[..., c]]
        if not measured.size:
            raise InputError(f"channel {c + 1} of {planes.shape[2]} holds nothing but no-data")
        planes[..., c][gap_planes[..., c]] = measured.min()
    return filled


def strips(array: NDArray[Any]) -> Iterator[slice]:
    """Slices of an array's rows, each of at most :data:`STRIP` values, or of one row."""
    step = max(1, STRIP // max(1, array[:1].size))
    return (slice(top, top + step) for top in range(0, len(array), step))


def is_no_data(array: NDArray[Any], no_data: float | None) -> NDArray[np.bool_]:
    """Which values stand for no measurement: an array of the same shape."""
    if no_data is None:
        return np.zeros(array.shape, np.bool_)
    if np.isnan(no_data):
        return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, np.bool_)
    if not _can_hold(array.dtype, no_data):
        return np.zeros(array.shape, np.bool_)
    with np.errstate(over="ignore"):  # a value beyond float32 is infinity, which then stands for no-data
        return np.asarray(array == array.dtype.type(no_data))


def _can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a number type has this value: uint16 has no 65536."""
    if dtype.kind == "f":
        return True
    return bool(np.isfinite(value)) and value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _check_numbers(array: NDArray[Any]) -> None:
    """Raises InputError for anything but whole numbers and floats."""
    if array.dtype.kind not in "iuf":
        raise InputError(f"holds {array.dtype}: pixels are whole numbers or floats")


def check_finite(array: NDArray[Any], no_data: float | None = None) -> None:
    """Raises InputError for values that are neither finite nor declared as no-data."""
    if array.dtype.kind != "f":
        return
    for rows in strips(array):
        not_finite = ~np.isfinite(array[rows])
        if not_finite.any() and (not_finite & ~is_no_data(array[rows], no_data)).any():
            raise InputError(
                "holds values that are not finite numbers (NaN or infinity): declare them as no-data (GDAL's tag 42113 "
                "of a TIFF), or replace them"
            )


def percentiles(array: NDArray[Any], no_data: float | None = None) -> tuple[Any, Any]:
    """The 0.1st and the 99.9th percentile of an array's values, without no-data.

    For more than :data:`STRIP` values, an evenly spread sample is used to bound memory. It is the same each time.

    Raises:
        InputError: there is nothing but no-data.
    """
    values = sample(array, STRIP, no_data)
    if not values.size:
        raise InputError("holds nothing but no-data")
    low, high = np.percentile(values, (TAIL, 100 - TAIL))
    return low, high


def sample(array: NDArray[Any], limit: int, no_data: float | None = None) -> NDArray[Any]:
    """At most ``limit`` of an array's values, evenly spread, as floats of shape (n,); no-data is left out."""
    step = max(1, -(-array.size // limit))
    if step > 1 and step % array.shape[-1] == 0:
        step += 1  # otherwise all values would come from one column
    flat = array.reshape(-1)[::step] if array.flags.c_contiguous else array.flatten()[::step]
    if no_data is not None:
        flat = flat[~is_no_data(flat, no_data)]
    return flat.astype(np.float64 if array.dtype.itemsize > 2 else np.float32)


class DeepColour(NamedTuple):
    """An image of 16 bits per colour.

    Attributes:
        values: (height, width, 3).
        alpha: (height, width, 1) the upper 8 bits of an alpha channel, or None.
        orientation: the EXIF orientation, not yet applied.
    """

    values: NDArray[np.uint16]
    alpha: NDArray[np.uint8] | None
    orientation: int


def deep_colour(encoded: bytes, max_pixels: int | None = None) -> DeepColour | None:
    """Decodes a file of 16 bits per colour; None for other files.

    Pillow has no such mode and keeps one byte of two. The file is therefore decoded twice: as it is for the upper
    bytes, and in the other byte order for the lower bytes.

    Raises:
        Errors of Pillow, and InputError, for a file that is not an image, or is broken.
    """
    halves, turn = [], 1
    for lower in (False, True):
        with open_image(encoded, max_pixels) as image:
            tiles = list(getattr(image, "tile", ()))
            if not tiles or not all(_DEEP.fullmatch(_raw_mode(tile)) for tile in tiles):
                return None
            check_memory(image, 20, max_pixels)  # two images, their halves and the values of both
            if lower:
                image.tile = [_byte_swapped(tile) for tile in tiles]
            load(image)
            halves.append(np.asarray(image))
            turn = orientation(image)
    upper, lower_half = halves
    values = upper[..., :3].astype(np.uint16)
    values <<= 8
    values |= lower_half[..., :3]
    return DeepColour(values, upper[..., 3:] if upper.shape[2] > 3 else None, turn)


def stretched_colour(encoded: bytes, reading: Reading, no_data: float | None = None) -> Image.Image | None:
    """A file of 16 bits per colour, stretched and upright; None for other files. Raises as :func:`deep_colour`."""
    deep = deep_colour(encoded, reading.max_pixels)
    if deep is None:
        return None
    pixels = stretched(deep.values, reading, no_data)
    image = Image.fromarray(pixels if deep.alpha is None else np.concatenate([pixels, deep.alpha], -1))
    return upright(image, deep.orientation)


def _raw_mode(tile: Any) -> str:
    """Pillow's name for how a tile's samples lie in the file, such as ``RGB;16B``."""
    args = tile[3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def _byte_swapped(tile: Any) -> Any:
    args = tile[3]
    name, order = _DEEP.fullmatch(_raw_mode(tile)).groups()  # type: ignore[union-attr]
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    swapped = f"{name};16{'B' if little else 'L'}"
    return tile._replace(args=(swapped, *args[1:]) if isinstance(args, tuple) else swapped)
