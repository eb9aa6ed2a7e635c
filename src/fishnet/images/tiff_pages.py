"""Decoding TIFF pages with tifffile, which reads any number and type of samples. It comes with the extra ``data``."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError, first_line
from fishnet.images.opening import check_pixels, check_values

_COMPRESSIONS = {
    1: "none", 5: "LZW", 8: "deflate", 32773: "PackBits", 32946: "deflate", 34925: "LZMA", 50000: "Zstandard",
}  # fmt: skip
"""The supported schemes, whose output tifffile bounds by the page's size. Encoded images inside a TIFF (JPEG, LERC,
WebP ...) state a size of their own: 214 bytes of LERC took 1 GB."""


def read_pages(encoded: bytes, count: int = 1, max_pixels: int | None = None) -> list[NDArray[Any]]:
    """Decodes the first pages of a TIFF.

    Args:
        encoded: the file's bytes, whose layout has been checked, see :func:`~fishnet.images.tiff.check_layout`.
        count: number of pages.
        max_pixels: maximum number of pixels of a page, see :class:`~fishnet.images.reading.Reading`.

    Returns:
        One array per page, (height, width, samples), with the file's own numbers.

    Raises:
        InputError: too large, broken, turned by its orientation tag, compressed in a way that is not supported, or
            tifffile is not installed.
    """
    try:
        import imagecodecs  # noqa: F401 (tifffile decompresses with it)
        import tifffile
    except ModuleNotFoundError as error:
        raise InputError(
            f"is a TIFF that Pillow does not read in full, and {error.name} is missing: "
            "pip install 'fishnet-vision[data]', or save one channel per page, or .npy"
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            return [_decode(file.pages[number], count, max_pixels) for number in range(count)]
    except InputError:
        raise
    except Exception as error:  # a damaged file raises nearly every kind of error
        raise InputError(f"broken TIFF ({first_line(error)})") from None


def _decode(page: Any, count: int, max_pixels: int | None) -> NDArray[Any]:
    """A page's samples: (height, width, samples)."""
    planes, depth, height, width, samples = page.shaped
    check_pixels(width, height, max_pixels)
    check_values(max(height * width, page.tilelength * page.tilewidth) * planes * samples * count, max_pixels)
    if depth != 1 or page.tiledepth > 1:
        raise InputError(f"is a TIFF of volumes ({depth} slices per page): save one slice per page")
    if page.compression not in _COMPRESSIONS:
        supported = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise InputError(f"is a TIFF of compression {page.compression:d}: save it with one of {supported}")
    if page.tags.valueof(274, default=1) != 1:
        raise InputError("is a TIFF with an orientation tag that turns it: save it upright")
    array: NDArray[Any] = page.asarray(squeeze=False, maxworkers=1)
    return np.moveaxis(array[:, 0], 0, -2).reshape(height, width, planes * samples)
