"""Files with any number of channels: stacks of TIFF pages, RGBA and the like, and ``.npy`` arrays."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fishnet.errors import InputError
from fishnet.images.opening import UnknownImageError, check_pixels, check_values, load, open_image, orientation, upright
from fishnet.images.tiff import Directory, check_layout, directories, is_tiff
from fishnet.images.tiff_pages import read_pages

NPY = b"\x93NUMPY"
_ASSOCIATED_ALPHA = 1  # of TIFF's tag 338
_SEPARATE = 2  # of TIFF's tag 284: each sample in a plane of its own
_MAX_PAGES = 4096  # pages that are counted: more than any model has channels


def read_npy(encoded: bytes) -> NDArray[Any]:
    """Reads a ``.npy`` file's array as a view of its bytes.

    Raises:
        InputError: not such a file, shorter than its header states, or one that holds Python objects.
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
    except Exception as error:  # the header is a Python literal; a damaged one raises nearly every kind of error
        raise InputError(f"broken array ({error})") from None


def channels_last(array: NDArray[Any], channels: int) -> NDArray[Any]:
    """Moves the channels of an array to its last axis.

    The channel axis is found by its length: the last axis where it fits, else the first. For 1 and 3 channels, an array
    with 3 or 1 is accepted too, as a colour or grey image would be.

    Args:
        array: (height, width), (height, width, channels) or (channels, height, width).
        channels: number of the model's input channels.

    Raises:
        InputError: another shape, or another number of channels.
    """
    if not array.size or array.ndim not in (2, 3):
        raise InputError(
            f"holds an array of shape {array.shape}: expected (height, width) or (height, width, channels)"
        )
    array = array[..., None] if array.ndim == 2 else array
    for count in {1: (1, 3), 3: (3, 1)}.get(channels, (channels,)):
        if array.shape[2] == count:
            return array
        if array.shape[0] == count:
            return np.moveaxis(array, 0, -1)
    raise wrong_channels(min(array.shape[0], array.shape[2]), channels)


def wrong_channels(count: int, channels: int) -> InputError:
    """The error for an image whose number of channels is not the model's."""
    return InputError(
        f"holds {count} channel{'s' * (count != 1)}, but the model takes {channels}: train with channels {count}"
    )


def raw_channels(image: Image.Image) -> NDArray[Any]:
    """Decodes a PIL image as an upright array of its own channels: (height, width, channels).

    Palettes become RGB or RGBA, and 1 bit becomes 0 and 255; nothing else is converted.

    Raises:
        InputError: a TIFF image with more samples per pixel than Pillow returns.
    """
    samples, bands = _samples(image), len(image.getbands())
    if samples > bands:
        raise InputError(
            f"has {samples} samples per pixel, of which Pillow reads {bands}: give the file itself, or an array"
        )
    load(image)
    image = upright(image, orientation(image))
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def read_stack(encoded: bytes, channels: int, max_pixels: int | None = None) -> list[NDArray[Any]]:
    """Decodes an image file that holds a number of channels other than 1 and 3.

    If a file's first page has that many channels, only this page is read. Otherwise all pages of a TIFF are read, each
    with one or more channels. tifffile decodes the files that Pillow does not read, or reads in part.

    Args:
        encoded: the file's bytes.
        channels: the expected number of channels in all.
        max_pixels: maximum number of pixels of a page, see :class:`~fishnet.images.reading.Reading`.

    Returns:
        The pages, each (height, width, channels), with the file's own numbers.

    Raises:
        InputError: another number of channels, a file that is too large, or one that needs tifffile where it is not
            installed. Errors of Pillow for a broken image.
    """
    if is_tiff(encoded):
        check_layout(encoded, channels)
    try:
        with open_image(encoded, max_pixels) as image:
            pages = _read_by_pillow(image, channels, max_pixels)
    except UnknownImageError:
        if not is_tiff(encoded):
            raise
        pages = None
    return _read_by_tifffile(encoded, channels, max_pixels) if pages is None else pages


def _read_by_pillow(image: Image.Image, channels: int, max_pixels: int | None) -> list[NDArray[Any]] | None:
    """The pages of an opened TIFF, or the first page of another format; None if Pillow reads a page only in part."""
    if _reads_in_part(image):
        return None
    pages = [raw_channels(image)]
    height, width, bands = pages[0].shape
    if bands == channels:
        return pages
    count = getattr(image, "n_frames", 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    if count == 1 or count * bands != channels:
        raise wrong_channels(count * bands, channels)
    check_values(height * width * channels, max_pixels)
    for number in range(1, count):
        image.seek(number)
        check_pixels(image.width, image.height, max_pixels)
        if _reads_in_part(image):
            return None
        pages.append(raw_channels(image))
    return pages


def _reads_in_part(image: Image.Image) -> bool:
    """Whether Pillow reads less than a TIFF page holds: fewer samples or bits, or colours divided by their alpha."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    bits, extra, planes = (image.tag_v2.get(tag, default) for tag, default in ((258, (1,)), (338, (0,)), (284, 1)))
    if image.mode == "LA" and planes == _SEPARATE:  # Pillow has no mode for a plane of alpha
        return True
    samples = _samples(image)
    return samples > 1 and (samples > len(image.getbands()) or max(bits) > 8 or _ASSOCIATED_ALPHA in extra)


def _samples(image: Image.Image) -> int:
    """The samples of a pixel that a TIFF image states; 1 for other formats."""
    return int(image.tag_v2.get(277, 1)) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1


def _read_by_tifffile(encoded: bytes, channels: int, max_pixels: int | None) -> list[NDArray[Any]]:
    """The first page of a TIFF, or all its pages if together they have as many samples as the model has channels."""
    first = next(iter(directories(encoded)), Directory())
    samples = max(1, first.number(277, 1))
    count = 1 if samples == channels else len(directories(encoded, _MAX_PAGES))
    if count * samples != channels:
        raise wrong_channels(count * samples, channels)
    return read_pages(encoded, count, max_pixels)
