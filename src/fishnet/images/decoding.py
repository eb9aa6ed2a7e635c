"""Reading images: files to upright images, with one clear line for those that cannot be read."""

import ctypes
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError, first_line
from fishnet.files.reading import read_bytes
from fishnet.images.depth import STRIP, check_finite, missing, stretched, stretched_colour
from fishnet.images.opening import UnknownImageError, load, open_image, orientation, upright
from fishnet.images.reading import DEFAULT, Reading
from fishnet.images.stacks import NPY, channels_last, from_image, read_npy, read_samples, read_stack, to_pixels
from fishnet.images.tiff import is_tiff, no_data_of

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".jp2",
    ".j2k", ".ppm", ".pgm", ".pbm", ".pnm", ".npy",
)  # fmt: skip
Mode = Literal["RGB", "L"]
ImageLike = Image.Image | NDArray[Any]
"""An upright 8-bit PIL image for 1 (L) and 3 (RGB) channels; for other numbers of channels an array of shape (height,
width, channels), uint8 or float32."""


def size_of(image: ImageLike) -> tuple[int, int]:
    """Height and width, px."""
    if isinstance(image, Image.Image):
        return image.height, image.width
    return image.shape[0], image.shape[1]


def mode_of(channels: int) -> Mode:
    """The image mode for a number of input channels.

    Raises:
        InputError: for anything but 1 (grey) and 3 (RGB).
    """
    if channels not in (1, 3):
        raise InputError(f"{channels} input channels: images give 1 (grey) or 3 (RGB)")
    return "L" if channels == 1 else "RGB"


def to_channels(
    image: Image.Image,
    channels: int,
    reading: Reading = DEFAULT,
    no_data: float | None = None,
) -> Image.Image:
    """Converts any PIL image to 8-bit grey (1 channel) or RGB (3).

    Orientation stored as EXIF is applied. Transparent pixels (RGBA, LA, palette, a PNG's transparent colour) are laid
    on white. 16- and 32-bit integer grey keeps its upper 8 bits of 16, and float grey is taken as 0 to 255; or all of
    these are stretched, see :class:`~fishnet.images.reading.Reading`. Large images are converted strip by strip.

    Args:
        image: of any mode; never changed. It is returned itself where there is nothing to do.
        channels: 1 or 3.
        reading: what becomes of more than 8 bits.
        no_data: the value that stands for no measurement in them; it becomes 0.

    Raises:
        InputError: another number of channels, or values that are not finite.
    """
    mode = mode_of(channels)
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
    """An image converted so many rows at a time that what is needed on the way stays small."""
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
    """Grey of more than 8 bits by its upper 8 of 16, floats as 0 to 255; no-data becomes 0."""
    values = np.asarray(image)
    check_finite(values, no_data)
    without = missing(values, no_data)
    scaled = (values if values.dtype.kind == "f" else values // 256).clip(0, 255)
    scaled[without] = 0
    return Image.fromarray(scaled.astype(np.uint8))


def to_input(image: ImageLike, channels: int, reading: Reading = DEFAULT) -> ImageLike:
    """What a model with so many channels takes of an image that is open already.

    Args:
        image: any PIL image, or an array of shape (height, width, channels) of whole numbers or floats.
        channels: of the model.
        reading: what becomes of more than 8 bits, for 1 and 3 channels.

    Raises:
        InputError: another number of channels (1 and 3 are made of each other), or an array that is no image.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != channels or not image.size:
            shape = "empty" if not image.size else f"of shape {image.shape}"
            raise InputError(f"the array is {shape}, the model takes (height, width, {channels})")
        return _from_array(image, channels, reading)
    return to_channels(image, channels, reading) if channels in (1, 3) else from_image(image, channels)


def _from_array(array: NDArray[Any], channels: int, reading: Reading, no_data: float | None = None) -> ImageLike:
    """An array, channels last, as an image."""
    if channels not in (1, 3):
        return to_pixels(array, no_data)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif reading.sixteen_bit != "shift" and array.dtype != np.uint8:
        array = stretched(array, reading, no_data)
    elif array.dtype.kind == "u" and array.itemsize == 2:
        without = missing(array, no_data)
        array = (array >> 8).astype(np.uint8)
        array[without] = 0
    if array.dtype != np.uint8:
        raise InputError(
            f"holds {array.dtype}: for 1 or 3 channels save uint8 (0..255) or uint16 (0..65535), or use "
            "--sixteen-bit stretch"
        )
    return to_channels(Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)), channels)


def as_view(image: ImageLike) -> Image.Image:
    """An image for people to look at: RGB; of many channels the first three (of two, the first in grey).

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
    """An image file's content.

    Raises:
        InputError: no such file, a pipe or a device, more than 1 GiB, or a file that cannot be read.
    """
    return read_bytes(path, what="image")


@overload
def read_image(path: str | Path, channels: Literal[1, 3] = 3, reading: Reading = DEFAULT) -> Image.Image: ...


@overload
def read_image(path: str | Path, channels: int, reading: Reading = DEFAULT) -> ImageLike: ...


def read_image(path: str | Path, channels: int = 3, reading: Reading = DEFAULT) -> ImageLike:
    """An image file, fully decoded. Errors as in the functions it is made of."""
    return decode_image(read_file(path), channels, str(path), reading=reading)


@overload
def decode_image(
    encoded: bytes,
    channels: Literal[1, 3] = 3,
    source: str = "image",
    least: int = 0,
    *,
    reading: Reading = DEFAULT,
) -> Image.Image: ...


@overload
def decode_image(
    encoded: bytes,
    channels: int,
    source: str = "image",
    least: int = 0,
    *,
    reading: Reading = DEFAULT,
) -> ImageLike: ...


def decode_image(
    encoded: bytes,
    channels: int = 3,
    source: str = "image",
    least: int = 0,
    *,
    reading: Reading = DEFAULT,
) -> ImageLike:
    """An image file's content, fully decoded.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey; any other number for files that hold as many.
        source: where it comes from, for messages.
        least: px that either side must keep; a JPEG file is then decoded at a half, a quarter or an eighth of its size,
            several times as fast, where that leaves enough. 0: at its own size.
        reading: what becomes of more than 8 bits a channel, for 1 and 3 channels, and how large it may be.

    Returns:
        An upright 8-bit PIL image for 1 and 3 channels, else an array of shape (height, width, channels): uint8 or
        float32, see :func:`~fishnet.images.stacks.to_pixels`.

    Raises:
        InputError: not an image of a format that is read, truncated, of too many px or too much memory, or with another
            number of channels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF and the like, when the pixels are good
            return _decoded(encoded, channels, least, reading)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
        raise InputError(f"{source}: broken image ({first_line(error)})") from None


def _decoded(encoded: bytes, channels: int, least: int, reading: Reading) -> ImageLike:
    if encoded.startswith(NPY):
        return _from_array(channels_last(read_npy(encoded), channels), channels, reading)
    no_data = None
    if is_tiff(encoded):
        _quiet_libtiff()
        no_data = no_data_of(encoded)
    if channels not in (1, 3):
        return read_stack(encoded, channels, reading.max_pixels)
    try:
        if reading.sixteen_bit != "shift" and (deep := stretched_colour(encoded, reading, no_data)) is not None:
            return to_channels(deep, channels)
        image = open_image(encoded, reading.max_pixels)
    except UnknownImageError:
        samples = _samples(encoded, channels, reading) if is_tiff(encoded) else None
        if samples is None:
            raise
        return _from_array(samples, channels, reading, no_data)
    with image:
        if least:
            image.draft(image.mode, (least, least))
        return to_channels(image, channels, reading, no_data)


def _samples(encoded: bytes, channels: int, reading: Reading) -> NDArray[Any] | None:
    """The numbers of a TIFF of 3 or 1 channels that Pillow does not know, such as three channels of floats."""
    some = (read_samples(encoded, count, reading.max_pixels) for count in ((1, 3) if channels == 1 else (3, 1)))
    return next((samples for samples in some if samples is not None), None)


@functools.cache
def _quiet_libtiff() -> None:
    """Keeps the TIFF library from writing to standard error by itself: Pillow raises what matters."""
    from PIL import _imaging

    try:
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            getattr(library, name)(None)
    except (OSError, AttributeError):
        pass  # a Pillow that was built otherwise: its lines are harmless
