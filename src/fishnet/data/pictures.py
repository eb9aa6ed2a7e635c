"""Reading pictures: files to upright pictures, with one clear line for those that cannot be read."""

import ctypes
import functools
import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fishnet.data.depth import SixteenBit, deep_colour, stretched
from fishnet.data.stacks import NPY, channels_last, from_image, is_tiff, read_npy, read_stack, to_pixels
from fishnet.errors import InputError, first_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".npy")
Mode = Literal["RGB", "L"]
Picture = Image.Image | NDArray[Any]
"""An upright 8-bit PIL image for 1 (L) and 3 (RGB) channels; for other numbers of channels an array of shape (height,
width, channels), uint8 or float32."""


def size_of(picture: Picture) -> tuple[int, int]:
    """Height and width, px."""
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def mode_of(channels: int) -> Mode:
    """The picture mode for a number of input channels.

    Raises:
        InputError: for anything but 1 (grey) and 3 (RGB).
    """
    if channels not in (1, 3):
        raise InputError(f"{channels} input channels: pictures give 1 (grey) or 3 (RGB)")
    return "L" if channels == 1 else "RGB"


def to_channels(image: Image.Image, channels: int, sixteen_bit: SixteenBit = "shift") -> Image.Image:
    """Converts any PIL image to 8-bit grey (1 channel) or RGB (3).

    Orientation stored as EXIF is applied. Transparent pixels (RGBA, LA, palette, a PNG's transparent colour) are laid
    on white. 16- and 32-bit integer grey keeps its upper 8 bits of 16, and float grey is taken as 0 to 255; or all of
    these are stretched from their own range.
    """
    mode = mode_of(channels)
    image = ImageOps.exif_transpose(image)
    if image.mode == mode and "transparency" not in image.info:
        return image
    if sixteen_bit == "stretch" and (image.mode.startswith("I") or image.mode == "F"):
        image = Image.fromarray(stretched(np.asarray(image)))
    elif image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert(mode)


def to_input(picture: Picture, channels: int, sixteen_bit: SixteenBit = "shift") -> Picture:
    """What a model with so many channels takes of a picture that is open already.

    Args:
        picture: any PIL image, or an array of shape (height, width, channels) of whole numbers or floats.
        channels: of the model.
        sixteen_bit: what becomes of more than 8 bits, for 1 and 3 channels.

    Raises:
        InputError: another number of channels (1 and 3 are made of each other), or an array that is no picture.
    """
    if isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != channels or not picture.size:
            shape = "empty" if not picture.size else f"of shape {picture.shape}"
            raise InputError(f"the array is {shape}, the model takes (height, width, {channels})")
        return _from_array(picture, channels, sixteen_bit)
    return to_channels(picture, channels, sixteen_bit) if channels in (1, 3) else from_image(picture, channels)


def _from_array(array: NDArray[Any], channels: int, sixteen_bit: SixteenBit) -> Picture:
    """An array, channels last, as a picture."""
    if channels not in (1, 3):
        return to_pixels(array)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    elif sixteen_bit == "stretch" and array.dtype != np.uint8:
        array = stretched(array)
    elif array.dtype.kind == "u" and array.itemsize == 2:
        array = (array >> 8).astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(f"holds {array.dtype}: for 1 or 3 channels save uint8 (0..255) or uint16 (0..65535)")
    return to_channels(Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array)), channels)


def as_view(picture: Picture) -> Image.Image:
    """A picture for people to look at: RGB; of many channels the first three (of two, the first in grey).

    Arrays of floats are stretched from their smallest to their largest value.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    shown = picture[..., :3] if picture.shape[2] >= 3 else picture[..., 0]
    if shown.dtype != np.uint8:
        low, high = float(shown.min()), float(shown.max())
        shown = ((shown - low) * (255 / (high - low) if high > low else 0)).round().astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(shown)).convert("RGB")


def read_file(path: str | Path) -> bytes:
    """A picture file's content.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    path = Path(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a picture") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: broken picture ({error})") from None


@overload
def read_picture(
    path: str | Path, channels: Literal[1, 3] = 3, *, sixteen_bit: SixteenBit = "shift"
) -> Image.Image: ...


@overload
def read_picture(path: str | Path, channels: int, *, sixteen_bit: SixteenBit = "shift") -> Picture: ...


def read_picture(path: str | Path, channels: int = 3, *, sixteen_bit: SixteenBit = "shift") -> Picture:
    """A picture file, fully decoded. Errors as in the functions it is made of."""
    return decode_picture(read_file(path), channels, str(path), sixteen_bit=sixteen_bit)


@overload
def decode_picture(
    encoded: bytes,
    channels: Literal[1, 3] = 3,
    source: str = "picture",
    least: int = 0,
    *,
    sixteen_bit: SixteenBit = "shift",
) -> Image.Image: ...


@overload
def decode_picture(
    encoded: bytes, channels: int, source: str = "picture", least: int = 0, *, sixteen_bit: SixteenBit = "shift"
) -> Picture: ...


def decode_picture(
    encoded: bytes, channels: int = 3, source: str = "picture", least: int = 0, *, sixteen_bit: SixteenBit = "shift"
) -> Picture:
    """A picture file's content, fully decoded.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey; any other number for files that hold as many.
        source: where it comes from, for messages.
        least: px that either side must keep; a JPEG file is then decoded at a half, a quarter or an eighth of its size,
            several times as fast, where that leaves enough. 0: at its own size.
        sixteen_bit: what becomes of more than 8 bits a channel, for 1 and 3 channels.

    Returns:
        An upright 8-bit PIL image for 1 and 3 channels, else an array of shape (height, width, channels): uint8 or
        float32, see :func:`~fishnet.data.stacks.to_pixels`.

    Raises:
        InputError: not a picture, truncated, of more than 179 million px (what Pillow refuses), or with another number
            of channels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF and the like, when the pixels are good, and of size
            if encoded.startswith(NPY):
                return _from_array(channels_last(read_npy(encoded), channels), channels, sixteen_bit)
            if is_tiff(encoded):
                _quiet_libtiff()
            if channels not in (1, 3):
                return read_stack(encoded, channels)
            if sixteen_bit == "stretch" and (deep := deep_colour(encoded)) is not None:
                return to_channels(deep, channels)
            with Image.open(io.BytesIO(encoded)) as image:
                if least:
                    image.draft(image.mode, (least, least))
                image.load()
                return to_channels(image, channels, sixteen_bit)
    except UnidentifiedImageError:
        raise InputError(f"{source}: not a picture that can be read") from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{source}: refused, too many pixels ({error})") from None
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
        raise InputError(f"{source}: broken picture ({first_line(error)})") from None


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


def find_pictures(folder: Path, skipped: Counter[str] | None = None) -> list[Path]:
    """All image files below a folder, sorted; see :func:`~fishnet.data.scanning.scan`.

    Args:
        folder: the folder.
        skipped: counts the other files by their endings.

    Raises:
        InputError: a folder that cannot be read, or that is no dataset's.
    """
    from fishnet.data.scanning import scan

    result = scan(folder)
    if skipped is not None:
        skipped.update(result.skipped)
    return result.images
