"""Images with any number of channels as NumPy arrays: stacks of TIFF pages, RGBA and the like, and ``.npy`` files."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from fishnet.errors import InputError, first_line
from fishnet.images.depth import check_finite, missing
from fishnet.images.opening import MEMORY, UnknownImageError, load, open_image, orientation, too_many, upright
from fishnet.images.tiff import Directory, check_layout, directories, is_tiff, no_data_of

NPY = b"\x93NUMPY"
_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f"}  # of TIFF's tag 339


def to_pixels(array: NDArray[Any], no_data: float | None = None) -> NDArray[Any]:
    """Numbers of any kind as the pixels of an image with many channels.

    Args:
        array: (height, width, channels), or (height, width); whole numbers, floats or truth values.
        no_data: the value that stands for no measurement, perhaps NaN; it becomes the smallest other value of its
            channel.

    Returns:
        uint8 as it is, truth values as uint8 0 and 255; everything else float32: uint16 divided by 256 (so that 8 and
        16 bits have the same range), other numbers unchanged.

    Raises:
        InputError: no numbers, a channel of nothing but no-data, or values that are not finite and not declared to be
            no-data.
    """
    if no_data is not None and array.dtype.kind in "iuf":
        array = _filled(array, no_data)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf":
        raise InputError(f"holds {array.dtype}: pixels are whole numbers or floats")
    with np.errstate(over="ignore"):
        pixels: NDArray[np.float32] = array.astype(np.float32)
    if not np.isfinite(pixels).all():
        raise InputError("holds values that are not finite numbers (NaN or infinity, or beyond float32)")
    return pixels / np.float32(256) if array.dtype.kind == "u" and array.itemsize == 2 else pixels


def _filled(array: NDArray[Any], no_data: float) -> NDArray[Any]:
    """The array with each channel's smallest value in place of no-data; itself where there is none."""
    without = missing(array, no_data)
    if not without.any():
        return array
    check_finite(array, no_data)
    planes, gaps = (part if part.ndim == 3 else part[..., None] for part in (array.copy(), without))
    for c in range(planes.shape[2]):
        there = planes[..., c][~gaps[..., c]]
        if not there.size:
            raise InputError(f"channel {c + 1} of {planes.shape[2]} holds nothing but no-data")
        planes[..., c][gaps[..., c]] = there.min()
    return planes if array.ndim == 3 else planes[..., 0]


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
    array with 3 and 1 is taken too, as a colour or grey image would be.

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
    """The error for an image with another number of channels than the model's."""
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


def read_stack(encoded: bytes, channels: int, max_pixels: int | None = None) -> NDArray[Any]:
    """An image file with any number of channels.

    A file whose first page has as many channels as asked is that page; otherwise the pages of a TIFF lie on each other,
    each with one or more channels.

    Args:
        encoded: the file's bytes.
        channels: how many there must be.
        max_pixels: of the image, see :class:`~fishnet.images.reading.Reading`.

    Returns:
        (height, width, channels), uint8 or float32; see :func:`to_pixels`. A value that the file declares to be no-data
        is the smallest other value of its channel.

    Raises:
        InputError: another number of channels, pages of unequal size, or samples that cannot be read. Errors of Pillow
            for no or a broken image.
    """
    no_data = no_data_of(encoded)
    if is_tiff(encoded):
        check_layout(encoded, channels)
        plain = read_samples(encoded, channels, max_pixels)
        if plain is not None:
            return to_pixels(plain, no_data)
    with open_image(encoded, max_pixels) as image:
        pages = getattr(image, "n_frames", 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
        first = _bands(image, no_data)
        bands = first.shape[2]
        if bands == channels:
            return first
        if pages == 1 or pages * bands != channels:
            raise another(pages * bands, channels)
        _check_memory(first.size * pages, max_pixels)
        stack = [first]
        for page in range(1, pages):
            image.seek(page)
            if image.size != (first.shape[1], first.shape[0]) and too_many(image.width * image.height, max_pixels):
                raise InputError(f"its page {page + 1} has too many pixels ({image.width:,} x {image.height:,})")
            stack.append(_bands(image, no_data))
    if len({page.shape for page in stack}) > 1:
        sizes = sorted({f"{page.shape[1]} x {page.shape[0]}" for page in stack})
        raise InputError(f"its pages differ ({' and '.join(sizes[:2])}, or in channels): they cannot be stacked")
    return np.concatenate(stack, axis=2)  # of uint8 and float32: float32


def _check_memory(values: int, max_pixels: int | None) -> None:
    """Raises InputError for a stack of so many values as would take too much memory, by the usual limit."""
    if max_pixels is None and values * 9 > MEMORY:  # float32 twice, and the file's own
        raise InputError(
            f"refused, {values:,} values take {values * 9 / 1e9:.1f} GB to decode: "
            f"set --max-pixels {values} if you trust the file"
        )


def _bands(image: Image.Image, no_data: float | None = None) -> NDArray[Any]:
    samples = image.tag_v2.get(277, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
    load(image)
    image = upright(image, orientation(image))
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    elif samples > len(image.getbands()):
        raise InputError(
            f"has {samples} samples a pixel in a form of which {len(image.getbands())} can be read: {_MEND}"
        )
    array = np.asarray(image)
    pixels = to_pixels(array, no_data)
    if image.mode == "I":  # 16 bits of grey in a wider integer
        pixels = pixels / np.float32(256)
    return pixels[..., None] if pixels.ndim == 2 else pixels


_MEND = "save it uncompressed, with one channel a page, or as .npy"


def read_samples(encoded: bytes, channels: int, max_pixels: int | None = None) -> NDArray[Any] | None:
    """The first page of a TIFF with ``channels`` samples a pixel of one kind, which Pillow reads in part at most.

    Uncompressed strips are taken as they lie in the file; tiles and compressed pages are decoded by tifffile.

    Args:
        encoded: the file's bytes; its layout has been checked.
        channels: samples a pixel.
        max_pixels: of the image, see :class:`~fishnet.images.reading.Reading`.

    Returns:
        (height, width, channels) of the file's own numbers; None for other TIFF files, which Pillow reads.

    Raises:
        InputError: too large, broken, or tifffile is needed and is not installed.
    """
    head = next(iter(directories(encoded)), None)
    if head is None or head.number(277, 1) != channels or head.number(274, 1) != 1:
        return None
    size, dtype = (head.number(257, 0), head.number(256, 0)), _sample_type(head, encoded)
    if dtype is None or too_many(size[0] * size[1], max_pixels):  # of too many, Pillow's opening says so
        return None
    _check_memory(size[0] * size[1] * channels, max_pixels)
    if head.number(259, 1) == 1 and 322 not in head:
        return _plain(head, encoded, dtype, (*size, channels))
    if dtype == np.uint8 and _pillow_has(encoded, channels, max_pixels):
        return None
    return _by_tifffile(encoded, (*size, channels))


def _sample_type(head: Directory, encoded: bytes) -> np.dtype[Any] | None:
    """The type of a page's samples; None for samples of several types, or of fewer than 8 bits."""
    bits, forms = (head[tag].values.tolist() if tag in head else [] for tag in (258, 339))
    kinds = {(bit, form) for bit in bits for form in forms or [1]}
    if len(kinds) != 1:
        return None
    bit, form = kinds.pop()
    try:
        return np.dtype(f"{'<' if encoded.startswith(b'II') else '>'}{_SAMPLE_KINDS[form]}{bit // 8}")
    except (KeyError, TypeError):
        return None


def _plain(head: Directory, encoded: bytes, dtype: np.dtype[Any], shape: tuple[int, int, int]) -> NDArray[Any] | None:
    """The samples of uncompressed strips; None for broken ones."""
    height, width, channels = shape
    try:
        places, counts = head[273].values.tolist(), head[279].values.tolist()
        content = b"".join(encoded[at : at + count] for at, count in zip(places, counts, strict=True))
        flat = np.frombuffer(content, dtype, height * width * channels)
    except (KeyError, ValueError):
        return None  # Pillow says what is wrong with it
    if head.number(284, 1) == 2:
        return np.moveaxis(flat.reshape(channels, height, width), 0, -1)
    return flat.reshape(shape)


def _pillow_has(encoded: bytes, channels: int, max_pixels: int | None) -> bool:
    """Whether Pillow knows an image of so many channels, such as RGBA or CMYK, in a TIFF file."""
    try:
        with open_image(encoded, max_pixels) as image:
            return len(image.getbands()) == channels
    except UnknownImageError:
        return False


def _by_tifffile(encoded: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    """The first page of a TIFF, decoded by tifffile; (height, width, channels).

    Raises:
        InputError: broken, or tifffile, or the codecs that it needs for this compression, is not installed.
    """
    try:
        import tifffile
    except ModuleNotFoundError:
        raise InputError(
            f"is a tiled or compressed TIFF of {shape[2]} samples a pixel, and tifffile is missing: "
            "pip install 'fishnet-vision[data]'"
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(encoded)) as file:
            page = file.pages.first
            array = page.asarray(maxworkers=1)
            if getattr(page, "planarconfig", 1) == 2 and array.ndim == 3:
                array = np.moveaxis(array, 0, -1)
    except Exception as error:  # its readers raise nearly every kind for a damaged file
        if "imagecodecs" in str(error):
            raise InputError(
                f"is a TIFF compressed in a way that needs imagecodecs ({first_line(error)}): "
                "pip install 'fishnet-vision[data]'"
            ) from None
        raise InputError(f"broken TIFF ({first_line(error)})") from None
    if array.size != np.prod(shape):
        raise InputError(f"broken TIFF (holds an array of shape {array.shape}, and declares {shape})")
    return array.reshape(shape)
