"""From pictures of any kind to a model's inputs. Torch-free."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.reading import GIB
from fishnet.images import decoding as pictures
from fishnet.images.decoding import ImageLike, decode_picture, read_file, size_of
from fishnet.images.depth import stretched
from fishnet.images.preprocess import Placement, Preprocess
from fishnet.images.reading import Reading
from fishnet.images.remote import download, is_address
from fishnet.prediction.sources import Source
from fishnet.prediction.tiling import Tile

KINDS = "a path, an address, a file's bytes, an open file, a PIL image, a uint8 array or a uint8 tensor"


@dataclass(frozen=True, eq=False)
class Input:
    """A picture on its way into the network.

    Attributes:
        pixels: (channels, height, width), not yet normalised.
        placement: how the picture lies in it; None where it was cropped.
    """

    pixels: NDArray[Any]
    placement: Placement | None


def open_picture(picture: Source, preprocess: Preprocess, max_pixels: int | None = None) -> ImageLike:
    """An upright image of the model's channels, in its own size.

    Args:
        picture: see :meth:`fishnet.prediction.predictor.Predictor.predict`.
        preprocess: of the model.
        max_pixels: see :class:`~fishnet.images.reading.Reading`.

    Raises:
        InputError: one that cannot be read, or an array of another type or shape.
    """
    channels, reading = preprocess.channels, replace(preprocess.reading, max_pixels=max_pixels)
    if isinstance(picture, str | Path):
        return decode_picture(content_of(picture), channels, str(picture), reading=reading)
    if is_content(picture):
        return decode_picture(_bytes_of(picture), channels, "the image", reading=reading)
    if is_tensor(picture):
        picture = _from_tensor(picture)
    if not isinstance(picture, Image.Image | np.ndarray):
        raise InputError(f"{type(picture).__name__} is no picture: give {KINDS}")
    if isinstance(picture, np.ndarray) and channels in (1, 3):
        picture = _from_array(picture, reading)
    try:
        return pictures.to_input(picture, channels, reading)
    except OSError as error:  # an image that was opened but not yet decoded
        raise InputError(f"broken picture ({error})") from error


def content_of(source: str | Path) -> bytes:
    """The bytes of an image file, or of what an http or https address holds.

    Raises:
        InputError: see :func:`~fishnet.images.decoding.read_file` and :func:`~fishnet.images.remote.download`.
    """
    return download(source) if isinstance(source, str) and is_address(source) else read_file(source)


def is_single(picture: Any) -> bool:
    """Whether this is one image, rather than several."""
    return isinstance(picture, str | Path | Image.Image | np.ndarray) or is_content(picture) or is_tensor(picture)


def is_content(picture: Any) -> bool:
    """Whether this is an image file's content: bytes, or a file that is open for reading."""
    return isinstance(picture, bytes | bytearray | memoryview) or callable(getattr(picture, "read", None))


def is_tensor(picture: Any) -> bool:
    """Whether this is one image as a tensor of torch, which need not be imported here."""
    return (
        type(picture).__module__.partition(".")[0] in ("torch", "torchvision")
        and hasattr(picture, "detach")
        and getattr(picture, "ndim", 0) != 4  # a batch is several images
    )


def _bytes_of(content: Any) -> bytes:
    """The bytes of a file's content.

    Raises:
        InputError: a file that gives text, cannot be read, or has more than 1 GiB.
    """
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    try:
        some = content.read(GIB + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"the image: cannot be read ({error})") from error
    if not isinstance(some, bytes):
        raise InputError("the image: this file gives text: open it with mode 'rb'")
    if len(some) > GIB:
        raise InputError(f"the image: too large (at most {GIB:,} bytes)")
    return some


def _from_tensor(tensor: Any) -> NDArray[Any]:
    """(channels, height, width) as an array of (height, width, channels); of two axes as it is."""
    if tensor.ndim not in (2, 3):
        raise InputError(f"a tensor of shape {tuple(tensor.shape)} is no picture: give (channels, height, width)")
    try:
        array: NDArray[Any] = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # types without a counterpart in NumPy, sparse tensors
        raise InputError(f"a tensor of {tensor.dtype} is no picture: give uint8, 0..255") from error
    if array.ndim == 2:
        return array
    array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.shape[2] == 1 and array.dtype == np.uint8 else array


def _from_array(array: NDArray[Any], reading: Reading) -> Image.Image:
    if reading.sixteen_bit != "shift" and array.dtype != np.uint8 and array.size:
        array = stretched(array, reading)
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
        raise InputError(
            f"an array of {array.dtype} and shape {array.shape} is no picture: give uint8 (0..255) of shape "
            "(height, width) or (height, width, 3), or a list of these"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def to_input(preprocess: Preprocess, picture: ImageLike, scale: float = 1.0, mirrored: bool = False) -> Input:
    """The model's input; the picture is let go, so that many fit in memory.

    Args:
        preprocess: of the model.
        picture: upright, of the model's channels.
        scale: by which the input is to be larger than by itself; for whole pictures.
        mirrored: left to right; for whole pictures.
    """
    if preprocess.fit == "crop":
        return Input(preprocess.pixels(picture), None)
    size = size_of(picture)
    if scale != 1:
        shorter, longer = sorted(max(1, round(scale * side)) for side in preprocess.place(*size).inner)
        preprocess = replace(preprocess, fit="whole", size=(shorter, longer))
    placement, pixels = preprocess.place(*size), preprocess.pixels(picture)
    if mirrored:
        part = pixels[:, : placement.inner[0], : placement.inner[1]]
        part[:] = part[..., ::-1].copy()
    return Input(pixels, placement)


def cut(picture: ImageLike, place: Tile) -> ImageLike:
    """A tile of a picture."""
    top, left, bottom, right = place
    if (top, left, bottom, right) == (0, 0, *size_of(picture)):
        return picture
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, right, bottom))
    return picture[top:bottom, left:right]
