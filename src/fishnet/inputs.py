"""From pictures of any kind to a model's inputs. Torch-free."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.data import pictures
from fishnet.data.depth import SixteenBit, stretched
from fishnet.data.pictures import Picture, read_picture, size_of
from fishnet.errors import InputError
from fishnet.preprocess import Placement, Preprocess
from fishnet.sources import Source
from fishnet.tiling import Tile


@dataclass(frozen=True, eq=False)
class Input:
    """A picture on its way into the network.

    Attributes:
        pixels: (channels, height, width), not yet normalised.
        placement: how the picture lies in it; None where it was cropped.
    """

    pixels: NDArray[Any]
    placement: Placement | None


def open_picture(picture: Source, preprocess: Preprocess) -> Picture:
    """An upright picture of the model's channels, in its own size.

    Args:
        picture: see :meth:`fishnet.predict.Predictor.predict`.
        preprocess: of the model.

    Raises:
        InputError: one that cannot be read, or an array of another type or shape.
    """
    channels, sixteen_bit = preprocess.channels, preprocess.sixteen_bit
    if isinstance(picture, str | Path):
        return read_picture(picture, channels, sixteen_bit=sixteen_bit)
    if not isinstance(picture, Image.Image | np.ndarray):
        raise InputError(f"{type(picture).__name__} is no picture: give a path, a PIL image or a uint8 array")
    if isinstance(picture, np.ndarray) and channels in (1, 3):
        picture = _from_array(picture, sixteen_bit)
    try:
        return pictures.to_input(picture, channels, sixteen_bit)
    except OSError as error:  # an image that was opened but not yet decoded
        raise InputError(f"broken picture ({error})") from error


def _from_array(array: NDArray[Any], sixteen_bit: SixteenBit) -> Image.Image:
    if sixteen_bit == "stretch" and array.dtype != np.uint8 and array.size:
        array = stretched(array)
    grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
        raise InputError(
            f"an array of {array.dtype} and shape {array.shape} is no picture: give uint8 (0..255) of shape "
            "(height, width) or (height, width, 3), or a list of these"
        )
    return Image.fromarray(array)


def to_input(preprocess: Preprocess, picture: Picture, scale: float = 1.0, mirrored: bool = False) -> Input:
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


def cut(picture: Picture, place: Tile) -> Picture:
    """A tile of a picture."""
    top, left, bottom, right = place
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, right, bottom))
    return picture[top:bottom, left:right]
