"""Picture files as tensors, by the fastest way that gives what :mod:`fishnet.data.pictures` gives."""

import io
import warnings

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from fishnet.data.pictures import Picture, decode_picture

try:
    from torchvision.io import decode_jpeg
except ImportError:  # deprecated since torchvision 0.29, to be removed: Pillow then reads everything
    decode_jpeg = None

_ORIENTATION = 0x0112
_JPEG = b"\xff\xd8\xff"


def decode_tensor(encoded: bytes, channels: int = 3, source: str = "picture") -> Tensor:
    """A picture file's content as a tensor: the pixels of :func:`~fishnet.data.pictures.decode_picture`.

    Plain JPEG files go through torchvision's decoder, which is quicker than Pillow; everything else, and every file
    that it refuses, through ``decode_picture``. Both use libjpeg-turbo, and agree bit for bit.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey; any other number for files that hold as many.
        source: where it comes from, for messages.

    Returns:
        (channels, height, width), uint8 0..255, or float32 for arrays of floats. Often channels last in memory.

    Raises:
        InputError: not a picture, truncated, unreasonably large, or with another number of channels.
    """
    plain = _decode_plain(encoded, channels) if encoded.startswith(_JPEG) else None
    return to_tensor(decode_picture(encoded, channels, source)) if plain is None else plain


def to_tensor(picture: Picture) -> Tensor:
    """A decoded picture as a tensor of shape (channels, height, width), uint8 or float32."""
    if isinstance(picture, Image.Image):
        tensor: Tensor = tv.pil_to_tensor(picture)
        return tensor
    return torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)


def _decode_plain(encoded: bytes, channels: int) -> Tensor | None:
    """A JPEG file that is upright and holds the wanted channels as they are; None for others and for broken ones."""
    if decode_jpeg is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, and that the decoder is deprecated
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:  # reads the header only
                if (
                    image.format != "JPEG"
                    or image.mode != {1: "L", 3: "RGB"}.get(channels)
                    or image.getexif().get(_ORIENTATION, 1) != 1
                ):
                    return None
            pixels: Tensor = decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8))
            return pixels
    except Exception:  # whatever is wrong with it, decode_picture says so
        return None
