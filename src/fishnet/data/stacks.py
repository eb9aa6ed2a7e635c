"""Pictures with any number of channels as NumPy arrays: stacks of TIFF pages, RGBA and the like, and ``.npy`` files."""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin

from fishnet.errors import InputError

NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def to_pixels(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers of any kind as the pixels of a picture with many channels.

    Args:
        array: any shape; whole numbers, floats or truth values.

    Returns:
        uint8 as it is, truth values as uint8 0 and 255; everything else float32: uint16 divided by 256 (so that 8 and
        16 bits have the same range), other numbers unchanged.

    Raises:
        InputError: no numbers, or some that are not finite.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise InputError(f"holds {array.dtype}: pixels are whole numbers or floats")
    pixels: NDArray[np.float32] = array.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise InputError("holds values that are not finite numbers (NaN or infinity, or beyond float32)")
    return pixels / np.float32(256) if array.dtype.kind == "u" and array.itemsize == 2 else pixels


def is_tiff(encoded: bytes) -> bool:
    """Whether a file's content begins as a TIFF does."""
    return encoded.startswith(_TIFF)


def read_npy(encoded: bytes) -> NDArray[Any]:
    """A ``.npy`` file's array, a view of its bytes.

    Raises:
        InputError: not such a file, shorter than its header says, or one that holds Python objects.
    """
    stream = io.BytesIO(encoded)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        if dtype.hasobject:
            raise InputError("holds Python objects, not numbers")
        flat = np.frombuffer(encoded, dtype, count=int(np.prod(shape, dtype=object)), offset=stream.tell())
        return flat.reshape(shape, order="F" if fortran else "C")
    except InputError:
        raise
    except Exception as error:  # the header is a Python literal: nearly every kind of error can come of a damaged one
        raise InputError(f"broken array ({error})") from None


def channels_last(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """An array of (height, width), (height, width, channels) or (channels, height, width), channels last.

    The axis is found by its length: the last where it has as many as asked, else the first. For 1 and 3 channels, an
    array with 3 and 1 is taken too, as a colour or grey picture would be.

    Raises:
        InputError: no such shape, or another number of channels.
    """
    if not array.size or array.ndim not in (2, 3):
        raise InputError(
            f"holds an array of shape {array.shape}: expected (height, width) or (height, width, channels)"
        )
    array = array[..., None] if array.ndim == 2 else array
    for wanted in {1: (1, 3), 3: (3, 1)}.get(channels, (channels,)):
        if array.shape[2] == wanted:
            return array
        if array.shape[0] == wanted:
            return np.moveaxis(array, 0, -1)
    raise another(min(array.shape[0], array.shape[2]), channels)


def another(found: int, channels: int) -> InputError:
    """The error for a picture with another number of channels than the model's."""
    return InputError(
        f"holds {found} channel{'s' * (found != 1)}, the model takes {channels}: train with --channels {found}"
    )


def from_image(image: Image.Image, channels: int) -> NDArray[Any]:
    """A PIL image's raw channels, upright: (height, width, channels), see :func:`to_pixels`.

    Raises:
        InputError: another number of channels.
    """
    pixels = _bands(image)
    if pixels.shape[2] != channels:
        raise another(pixels.shape[2], channels)
    return pixels


def read_stack(encoded: bytes, channels: int) -> NDArray[Any]:
    """A picture file with any number of channels.

    A file whose first page has as many channels as asked is that page; otherwise the pages of a TIFF lie on each other,
    each with one or more channels.

    Args:
        encoded: the file's bytes.
        channels: how many there must be.

    Returns:
        (height, width, channels), uint8 or float32; see :func:`to_pixels`.

    Raises:
        InputError: another number of channels, pages of unequal size, or samples that cannot be read. Errors of Pillow
            for no or a broken picture.
    """
    if is_tiff(encoded) and (plain := _plain_tiff(encoded, channels)) is not None:
        return to_pixels(plain)
    with Image.open(io.BytesIO(encoded)) as image:
        pages = getattr(image, "n_frames", 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
        first = _bands(image)
        bands = first.shape[2]
        if bands == channels:
            return first
        if pages == 1 or pages * bands != channels:
            raise another(pages * bands, channels)
        stack = [first]
        for page in range(1, pages):
            image.seek(page)
            stack.append(_bands(image))
    if len({page.shape for page in stack}) > 1:
        sizes = sorted({f"{page.shape[1]} x {page.shape[0]}" for page in stack})
        raise InputError(f"its pages differ ({' and '.join(sizes[:2])}, or in channels): they cannot be stacked")
    return np.concatenate(stack, axis=2)  # of uint8 and float32: float32


def _bands(image: Image.Image) -> NDArray[Any]:
    samples = image.tag_v2.get(277, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    image = ImageOps.exif_transpose(image)
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif samples > len(image.getbands()):
        raise InputError(
            f"has {samples} samples a pixel in a form of which {len(image.getbands())} can be read: "
            "save it uncompressed, with one channel a page, or as .npy"
        )
    array = np.asarray(image)
    pixels = to_pixels(array)
    if image.mode == "I":  # 16 bits of grey in a wider integer
        pixels = pixels / np.float32(256)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _plain_tiff(encoded: bytes, channels: int) -> NDArray[Any] | None:
    """An uncompressed TIFF with ``channels`` samples a pixel, which Pillow reads in part at most; None for others."""
    try:
        head = TiffImagePlugin.ImageFileDirectory_v2(encoded[: 16 if encoded[2:4] in (b"+\0", b"\0+") else 8])
        stream = io.BytesIO(encoded)
        stream.seek(head.next)
        head.load(stream)
        kinds = set(zip(head[258], head.get(339, (1,) * len(head[258])), strict=True))
        if head.get(277) != channels or head.get(259, 1) != 1 or head.get(274, 1) != 1 or len(kinds) != 1:
            return None
        bits, form = kinds.pop()
        order = "<" if encoded.startswith(b"II") else ">"
        dtype = np.dtype(f"{order}{ {1: 'u', 2: 'i', 3: 'f'}[form] }{bits // 8}")
        content = b"".join(encoded[at : at + size] for at, size in zip(head[273], head[279], strict=True))
        count = head[257] * head[256] * channels
        flat = np.frombuffer(content, dtype, count)
        if head.get(284, 1) == 2:
            return np.moveaxis(flat.reshape(channels, head[257], head[256]), 0, -1)
        return flat.reshape(head[257], head[256], channels)
    except (KeyError, TypeError, ValueError, struct.error, SyntaxError, OSError):
        return None  # Pillow says what is wrong with it
