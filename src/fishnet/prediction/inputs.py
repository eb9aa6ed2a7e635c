"""Turns images of any kind into a model's inputs. Torch-free."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.reading import GIB
from fishnet.images.decoding import ImageLike, decode_image, read_file, size_of, to_channels
from fishnet.images.opening import open_image
from fishnet.images.preprocess import Placement, Preprocess
from fishnet.images.reading import Reading
from fishnet.images.remote import download, is_address
from fishnet.prediction.sources import Source
from fishnet.prediction.tiling import Tile

_LARGE = 1 << 24  # px
KINDS = "a path, an address, a file's bytes, an open file, a PIL image, a uint8 array or a uint8 tensor"


@dataclass(frozen=True, eq=False)
class Input:
    """A model's input made from an image, before normalization.

    Attributes:
        pixels: (channels, height, width).
        placement: where the image lies in the input; None if the image was cropped.
    """

    pixels: NDArray[Any]
    placement: Placement | None


def load_image(
    source: Source,
    preprocess: Preprocess,
    max_pixels: int | None = None,
    large: AbstractContextManager[Any] | None = None,
) -> ImageLike:
    """Reads an image of any kind and converts it to the model's channels, upright, in its own size.

    Args:
        source: see :meth:`fishnet.prediction.predictor.Predictor.predict`.
        preprocess: the model's preprocessing.
        max_pixels: see :class:`~fishnet.images.reading.Reading`.
        large: is held while a file of more than :data:`_LARGE` px is decoded, so that threads do not decode several of
            them at once.

    Raises:
        InputError: an image that cannot be read, or an array of another type or shape.
    """
    channels, reading = preprocess.channels, replace(preprocess.reading, max_pixels=max_pixels)
    if isinstance(source, str | Path):
        content = content_of(source)
        with large if large is not None and _is_large(content) else nullcontext():
            return decode_image(content, channels, str(source), reading=reading)
    if is_content(source):
        return decode_image(_bytes_of(source), channels, "the image", reading=reading)
    opened: Any = _from_tensor(source) if is_tensor(source) else source
    if not isinstance(opened, Image.Image | np.ndarray):
        raise InputError(f"{type(opened).__name__} is not an image: give {KINDS}")
    if isinstance(opened, np.ndarray) and channels in (1, 3):
        _check_array(opened, reading)
    try:
        return to_channels(opened, channels, reading)
    except OSError as error:  # an image that was opened but not yet decoded
        raise InputError(f"broken image ({error})") from error


def _is_large(content: bytes) -> bool:
    """Whether an image file has more than :data:`_LARGE` px. Of a file that Pillow does not open, its bytes count."""
    try:
        with open_image(content) as image:
            return image.width * image.height > _LARGE
    except Exception:  # decoding it says what is wrong
        return len(content) > _LARGE


def content_of(source: str | Path) -> bytes:
    """The bytes of an image file, or those at an http or https address.

    Raises:
        InputError: see :func:`~fishnet.images.decoding.read_file` and :func:`~fishnet.images.remote.download`.
    """
    return download(source) if isinstance(source, str) and is_address(source) else read_file(source)


def is_single(image: Any) -> bool:
    """Whether this is one image rather than several."""
    return isinstance(image, str | Path | Image.Image | np.ndarray) or is_content(image) or is_tensor(image)


def is_content(image: Any) -> bool:
    """Whether this is an image file's content: bytes, or a file that is open for reading."""
    return isinstance(image, bytes | bytearray | memoryview) or callable(getattr(image, "read", None))


def is_tensor(image: Any) -> bool:
    """Whether this is one image as a torch tensor. Does not import torch."""
    return (
        type(image).__module__.partition(".")[0] in ("torch", "torchvision")
        and hasattr(image, "detach")
        and getattr(image, "ndim", 0) != 4  # a batch is several images
    )


def _bytes_of(content: Any) -> bytes:
    """The bytes of a file's content.

    Raises:
        InputError: a file that returns text, cannot be read, or has more than 1 GiB.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    try:
        data = content.read(GIB + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"the image: cannot be read ({error})") from error
    if not isinstance(data, bytes):
        raise InputError("the image: this file returns text: open it with mode 'rb'")
    if len(data) > GIB:
        raise InputError(f"the image: too large (at most {GIB:,} bytes)")
    return data


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """Converts a tensor (channels, height, width) to an array (height, width, channels). Two axes stay as they are."""
    if tensor.ndim not in (2, 3):
        raise InputError(f"a tensor of shape {tuple(tensor.shape)} is not an image: give (channels, height, width)")
    try:
        array: NDArray[Any] = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # types without a counterpart in NumPy, sparse tensors
        raise InputError(f"a tensor of {tensor.dtype} is not an image: give uint8, 0..255") from error
    if array.ndim == 2:
        return array
    array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.shape[2] == 1 and array.dtype == np.uint8 else array


def _check_array(array: NDArray[Any], reading: Reading) -> None:
    """Raises InputError for an array that is not an image for 1 or 3 channels."""
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    supported = array.dtype == np.uint8 or (reading.sixteen_bit != "shift" and array.dtype.kind in "iuf")
    if not supported or not grey_or_rgb or not array.size:
        raise InputError(
            f"an array of {array.dtype} and shape {array.shape} is not an image: give uint8 (0..255) of shape "
            "(height, width) or (height, width, 3), or a list of these"
        )


def prepare_input(preprocess: Preprocess, image: ImageLike, scale: float = 1.0, mirrored: bool = False) -> Input:
    """Makes the model's input from an image. It keeps no reference to the image, so that many inputs fit in memory.

    Args:
        preprocess: the model's preprocessing.
        image: upright, with the model's channels.
        scale: factor by which the input is enlarged; ignored if the preprocessing crops.
        mirrored: whether to mirror the image left to right; ignored if the preprocessing crops.
    """
    if preprocess.fit == "crop":
        return Input(preprocess.pixels(image), None)
    size = size_of(image)
    if scale != 1:
        shorter, longer = sorted(max(1, round(scale * side)) for side in preprocess.place(*size).inner)
        preprocess = replace(preprocess, fit="whole", size=(shorter, longer))
    placement, pixels = preprocess.place(*size), preprocess.pixels(image)
    if mirrored:
        inner = pixels[:, : placement.inner[0], : placement.inner[1]]
        inner[:] = inner[..., ::-1].copy()
    return Input(pixels, placement)


def cut(image: ImageLike, place: Tile) -> ImageLike:
    """A tile of an image; the image itself if the tile covers all of it."""
    top, left, bottom, right = place
    if (top, left, bottom, right) == (0, 0, *size_of(image)):
        return image
    if isinstance(image, Image.Image):
        return image.crop((left, top, right, bottom))
    return image[top:bottom, left:right]
