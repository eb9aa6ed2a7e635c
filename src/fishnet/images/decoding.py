"""Decodes image files to upright images with the model's channels. An unreadable file raises an error of one line."""

import ctypes
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError, first_line
from fishnet.files.reading import read_bytes
from fishnet.images.depth import STRIP, check_finite, is_no_data, stretched, stretched_colour, to_pixels
from fishnet.images.opening import UnknownImageError, load, open_image, orientation, upright
from fishnet.images.quiet import WITHOUT_WARNINGS
from fishnet.images.reading import DEFAULT, Reading
from fishnet.images.stacks import NPY, channels_last, raw_channels, read_npy, read_stack, wrong_channels
from fishnet.images.tiff import is_tiff, no_data_of
from fishnet.images.tiff_pages import read_pages

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2",
    ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".npy",
)  # fmt: skip
Mode = Literal["RGB", "L"]
ImageLike = Image.Image | NDArray[Any]
"""An upright 8-bit PIL image for 1 (L) and 3 (RGB) channels, or for other numbers of channels an array of shape
(height, width, channels), uint8 or float32."""
Opened = Image.Image | NDArray[Any] | list[NDArray[Any]]
"""A decoded image in the file's own channels: a PIL image of any mode, an array, or the pages of a stack."""


def size_of(image: ImageLike) -> tuple[int, int]:
    """Height and width, px."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    return image.shape[0], image.shape[1]


def mode_of(channels: int) -> Mode:
    """The PIL mode for a number of input channels.

    Raises:
        InputError: for anything but 1 (grey) and 3 (RGB).
    """
    if channels not in (1, 3):
        raise InputError(f"{channels} input channels: must be 1 (grey) or 3 (RGB)")
    return "L" if channels == 1 else "RGB"


def to_channels(opened: Opened, channels: int, reading: Reading = DEFAULT, no_data: float | None = None) -> ImageLike:
    """Converts an opened image to the model's channels, upright. Every image passes through here once.

    For 1 and 3 channels the result is 8-bit grey or RGB. Orientation stored as EXIF is applied. Transparent pixels
    (RGBA, LA, palette, a PNG's transparent colour) are laid on white. 16- and 32-bit integer grey keeps its upper 8
    bits of 16, and float grey is taken as 0 to 255. Instead, all of these can be stretched, see
    :class:`~fishnet.images.reading.Reading`. Large images are converted strip by strip.

    For other numbers of channels the image must hold as many; see :func:`~fishnet.images.depth.to_pixels`.

    Args:
        opened: the image. It is not changed, and is returned itself if there is nothing to convert. For 1 and 3
            channels an array is of shape (height, width), (height, width, 1) or (height, width, 3).
        channels: number of the model's input channels.
        reading: how more than 8 bits are converted, for 1 and 3 channels.
        no_data: the value that stands for no measurement.

    Raises:
        InputError: another number of channels, pages of unequal size, or values that are not supported.
    """
    if channels in (1, 3):
        image = opened if isinstance(opened, Image.Image) else _to_eight_bits(opened, channels, reading, no_data)
        return _to_mode(image, mode_of(channels), reading, no_data)
    if isinstance(opened, np.ndarray):
        _check_shape(opened, (channels,), channels)
        return to_pixels(opened, no_data)
    pages = opened if isinstance(opened, list) else [raw_channels(opened)]
    pixels = _stacked([_page_pixels(page, no_data) for page in pages])
    if pixels.shape[2] != channels:
        raise wrong_channels(pixels.shape[2], channels)
    return pixels


def _check_shape(array: NDArray[Any], counts: tuple[int, ...], channels: int) -> None:
    """Raises InputError for an array that is not (height, width, channels) with one of these numbers of channels."""
    if array.ndim != 3 or array.shape[2] not in counts or not array.size:
        shape = "empty" if not array.size else f"of shape {array.shape}"
        raise InputError(f"the array is {shape}, but the model takes (height, width, {channels})")


def _page_pixels(page: NDArray[Any], no_data: float | None) -> NDArray[Any]:
    """A page of a stack as pixels. A 32-bit grey page usually holds 16-bit values, so it is divided by 256 as well."""
    pixels = to_pixels(page, no_data)
    return pixels / np.float32(256) if page.dtype == np.int32 and page.shape[2] == 1 else pixels


def _stacked(pages: list[NDArray[Any]]) -> NDArray[Any]:
    """The channels of all pages in one array, which is float32 if any page is."""
    if len({page.shape for page in pages}) > 1:
        sizes = sorted({f"{page.shape[1]} x {page.shape[0]}" for page in pages})
        raise InputError(f"its pages differ in size or channels ({' and '.join(sizes[:2])}): they cannot be stacked")
    return pages[0] if len(pages) == 1 else np.concatenate(pages, axis=2)


def _to_eight_bits(
    opened: NDArray[Any] | list[NDArray[Any]], channels: int, reading: Reading, no_data: float | None
) -> Image.Image:
    """An array of grey or RGB values, or a stack's first page, as an 8-bit PIL image."""
    array = opened[0] if isinstance(opened, list) else opened
    if isinstance(opened, list) and array.shape[2] not in (1, 3):
        raise wrong_channels(array.shape[2], channels)
    _check_shape(array if array.ndim != 2 else array[..., None], (1, 3), channels)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif reading.sixteen_bit != "shift" and array.dtype != np.uint8:
        array = stretched(array, reading, no_data)
    elif array.dtype.kind == "u" and array.itemsize == 2:
        gaps = is_no_data(array, no_data)
        array = (array >> 8).astype(np.uint8)
        array[gaps] = 0
    if array.dtype != np.uint8:
        raise InputError(
            f"holds {array.dtype}: for 1 or 3 channels save uint8 (0..255) or uint16 (0..65535), or use "
            "sixteen_bit stretch"
        )
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2:] == (1,) else array))


def _to_mode(image: Image.Image, mode: Mode, reading: Reading, no_data: float | None) -> Image.Image:
    """A PIL image of any mode as 8-bit grey or RGB, upright."""
    load(image)
    image = upright(image, orientation(image))
    if image.mode == mode and "transparency" not in image.info:
        return image
    deep = image.mode.startswith("I") or image.mode == "F"
    if deep and reading.sixteen_bit != "shift":
        image = Image.fromarray(stretched(np.asarray(image), reading, no_data))
        return image if mode == "L" else image.convert(mode)
    if deep and (no_data is not None or image.mode == "F"):
        return _by_strips(image, mode, lambda strip: _shifted(strip, no_data).convert(mode))
    return _by_strips(image, mode, lambda strip: _converted(strip, mode))


def _by_strips(image: Image.Image, mode: Mode, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Converts an image some rows at a time, so that intermediate results stay small."""
    if image.width * image.height <= STRIP:
        return convert(image)
    page, step = Image.new(mode, image.size), max(1, STRIP // image.width)
    for top in range(0, image.height, step):
        bottom = min(top + step, image.height)
        page.paste(convert(image.crop((0, top, image.width, bottom))), (0, top))
    return page


def _converted(image: Image.Image, mode: Mode) -> Image.Image:
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert(mode)


def _shifted(image: Image.Image, no_data: float | None) -> Image.Image:
    """Grey of more than 8 bits: whole numbers by their upper 8 of 16 bits, floats as 0 to 255; no-data becomes 0."""
    values = np.asarray(image)
    check_finite(values, no_data)
    gaps = is_no_data(values, no_data)
    scaled = (values if values.dtype.kind == "f" else values // 256).clip(0, 255)
    scaled[gaps] = 0
    return Image.fromarray(scaled.astype(np.uint8))


def as_view(image: ImageLike) -> Image.Image:
    """An image for display, in RGB: the first three channels, or the first one in grey if there are only two.

    Arrays of floats are stretched from their smallest to their largest value.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., 0]
    if shown.dtype != np.uint8:
        low, high = float(shown.min()), float(shown.max())
        shown = ((shown - low) * (255 / (high - low) if high > low else 0)).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(shown)).convert("RGB")


def read_file(path: str | Path) -> bytes:
    """Reads an image file's content.

    Raises:
        InputError: no such file, a pipe or a device, more than 1 GiB, or a file that cannot be read.
    """
    return read_bytes(path, what="image")


@overload
def read_image(path: str | Path, channels: Literal[1, 3] = 3, reading: Reading = DEFAULT) -> Image.Image: ...


@overload
def read_image(path: str | Path, channels: int, reading: Reading = DEFAULT) -> ImageLike: ...


def read_image(path: str | Path, channels: int = 3, reading: Reading = DEFAULT) -> ImageLike:
    """Reads and decodes an image file. Raises as :func:`read_file` and :func:`decode_image`."""
    return decode_image(read_file(path), channels, str(path), reading=reading)


@overload
def decode_image(
    encoded: bytes,
    channels: Literal[1, 3] = 3,
    source: str = "image",
    min_side: int | None = None,
    *,
    reading: Reading = DEFAULT,
) -> Image.Image: ...


@overload
def decode_image(
    encoded: bytes,
    channels: int,
    source: str = "image",
    min_side: int | None = None,
    *,
    reading: Reading = DEFAULT,
) -> ImageLike: ...


def decode_image(
    encoded: bytes,
    channels: int = 3,
    source: str = "image",
    min_side: int | None = None,
    *,
    reading: Reading = DEFAULT,
) -> ImageLike:
    """Decodes an image file's content and converts it to the model's channels.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey; any other number for files that hold as many.
        source: where it comes from, for messages.
        min_side: replaces that of ``reading``.
        reading: how more than 8 bits per channel are converted, for 1 and 3 channels, how large the image may be, and
            in what size a JPEG file is decoded.

    Returns:
        An upright 8-bit PIL image for 1 and 3 channels, else an array of shape (height, width, channels): uint8 or
        float32, see :func:`to_channels`.

    Raises:
        UnknownImageError: not an image of a supported format.
        TooLargeError: too many px or too much memory.
        InputError: truncated, or with another number of channels.
    """
    try:
        with WITHOUT_WARNINGS:  # Pillow warns of damaged EXIF and the like, even if the pixels are good
            no_data = no_data_of(encoded)
            min_side = reading.min_side if min_side is None else min_side
            return to_channels(_open(encoded, channels, min_side, reading, no_data), channels, reading, no_data)
    except InputError as error:
        raise type(error)(f"{source}: {error}") from None
    except Exception as error:  # Pillow's readers raise nearly every kind of error for a damaged file
        raise InputError(f"{source}: broken image ({first_line(error)})") from None


def _open(encoded: bytes, channels: int, min_side: int, reading: Reading, no_data: float | None) -> Opened:
    """A file's content in its own channels. 16 bits per colour are already stretched if the reading requires that."""
    if encoded.startswith(NPY):
        return channels_last(read_npy(encoded), channels)
    if is_tiff(encoded):
        _quiet_tiff()
    if channels not in (1, 3):
        return read_stack(encoded, channels, reading.max_pixels)
    try:
        if reading.sixteen_bit != "shift" and (deep := stretched_colour(encoded, reading, no_data)) is not None:
            return deep
        image = open_image(encoded, reading.max_pixels)
    except UnknownImageError:
        if not is_tiff(encoded):
            raise
        return read_pages(encoded, 1, reading.max_pixels)
    if min_side:
        image.draft(image.mode, (min_side, min_side))
    return image


@functools.cache
def _quiet_tiff() -> None:
    """Keeps libtiff, Pillow and tifffile from also writing to standard error what they raise."""
    from PIL import _imaging

    for name in ("PIL.TiffImagePlugin", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            getattr(library, name)(None)
    except (OSError, AttributeError):
        pass  # another build of Pillow: the lines that libtiff writes are harmless
