"""From images of any kind to a model's inputs. Torch-free."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.reading import GIB
from fishnet.images import decoding as images
from fishnet.images.decoding import ImageLike, decode_image, read_file, size_of
from fishnet.images.depth import stretched
from fishnet.images.preprocess import Placement, Preprocess
from fishnet.images.reading import Reading
from fishnet.images.remote import download, is_address
from fishnet.prediction.sources import Source
from fishnet.prediction.tiling import Tile

KINDS = "a path, an address, a file's bytes, an open file, a PIL image, a uint8 array or a uint8 tensor"


@dataclass(frozen=True, eq=False)
class Input:
    """An image on its way into the network.

    Attributes:
        pixels: (channels, height, width), not yet normalized.
        placement: how the image lies in it; None where it was cropped.
    """

    pixels: NDArray[Any]
    placement: Placement | None


def open_image(image: Source, preprocess: Preprocess, max_pixels: int | None = None) -> ImageLike:
    """An upright image of the model's channels, in its own size.

    Args:
        image: see :meth:`fishnet.prediction.predictor.Predictor.predict`.
        preprocess: of the model.
        max_pixels: see :class:`~fishnet.images.reading.Reading`.

    Raises:
        InputError: one that cannot be read, or an array of another type or shape.
    """
    channels, reading = preprocess.channels, replace(preprocess.reading, max_pixels=max_pixels)
    if isinstance(image, str | Path):
        return decode_image(content_of(image), channels, str(image), reading=reading)
    if is_content(image):
        return decode_image(_bytes_of(image), channels, "the image", reading=reading)
    if is_tensor(image):
        image = _from_tensor(image)
    if not isinstance(image, Image.Image | np.ndarray):
        raise InputError(f"{type(image).__name__} is no image: give {KINDS}")
    if isinstance(image, np.ndarray) and channels in (1, 3):
        image = _from_array(image, reading)
    try:
        return images.to_input(image, channels, reading)
    except OSError as error:  # an image that was opened but not yet decoded
        raise InputError(f"broken image ({error})") from error


def content_of(source: str | Path) -> bytes:
    """The bytes of an image file, or of what an http or https address holds.

    Raises:
        InputError: see :func:`~fishnet.images.decoding.read_file` and :func:`~fishnet.images.remote.download`.
    """
    return download(source) if isinstance(source, str) and is_address(source) else read_file(source)


def is_single(image: Any) -> bool:
    """Whether this is one image, rather than several."""
    return isinstance(image, str | Path | Image.Image | np.ndarray) or is_content(image) or is_tensor(image)


def is_content(image: Any) -> bool:
    """Whether this is an image file's content: bytes, or a file that is open for reading."""
    return isinstance(image, bytes | bytearray | memoryview) or callable(getattr(image, "read", None))


def is_tensor(image: Any) -> bool:
    """Whether this is one image as a tensor of torch, which need not be imported here."""
    return (
        type(image).__module__.partition(".")[0] in ("torch", "torchvision")
        and hasattr(image, "detach")
        and getattr(image, "ndim", 0) != 4  # a batch is several images
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
        raise InputError(f"a tensor of shape {tuple(tensor.shape)} is no image: give (channels, height, width)")
    try:
        array: NDArray[Any] = tensor.detach().cpu().numpy()
    except (TypeError, RuntimeError) as error:  # types without a counterpart in NumPy, sparse tensors
        raise InputError(f"a tensor of {tensor.dtype} is no image: give uint8, 0..255") from error
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
            f"an array of {array.dtype} and shape {array.shape} is no image: give uint8 (0..255) of shape "
            "(height, width) or (height, width, 3), or a list of these"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def to_input(preprocess: Preprocess, image: ImageLike, scale: float = 1.0, mirrored: bool = False) -> Input:
    """The model's input; the image is let go, so that many fit in memory.

    Args:
        preprocess: of the model.
        image: upright, of the model's channels.
        scale: by which the input is to be larger than by itself; for whole images.
        mirrored: left to right; for whole images.
    """
    if preprocess.fit == "crop":
        return Input(preprocess.pixels(image), None)
    size = size_of(image)
    if scale != 1:
        shorter, longer = sorted(max(1, round(scale * side)) for side in preprocess.place(*size).inner)
        preprocess = replace(preprocess, fit="whole", size=(shorter, longer))
    placement, pixels = preprocess.place(*size), preprocess.pixels(image)
    if mirrored:
        part = pixels[:, : placement.inner[0], : placement.inner[1]]
        part[:] = part[..., ::-1].copy()
    return Input(pixels, placement)


def cut(image: ImageLike, place: Tile) -> ImageLike:
    """A tile of an image."""
    top, left, bottom, right = place
    if (top, left, bottom, right) == (0, 0, *size_of(image)):
        return image
    if isinstance(image, Image.Image):
        return image.crop((left, top, right, bottom))
    return image[top:bottom, left:right]
