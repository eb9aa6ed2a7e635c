"""Image files as tensors, by the fastest way that gives what :mod:`fishnet.images.decoding` gives."""

import warnings

import numpy as np
import torch
from torch import Tensor

from fishnet.images.decoding import ImageLike, decode_image
from fishnet.images.opening import too_many, too_many_scans
from fishnet.images.reading import DEFAULT, Reading

try:
    from torchvision.io import decode_jpeg
except ImportError:  # deprecated since torchvision 0.29, to be removed: Pillow then reads everything
    decode_jpeg = None

_JPEG = b"\xff\xd8\xff"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_SEGMENTS = (*range(0xE0, 0xF0), 0xDB, 0xC4, 0xDD, 0xFE)  # APPn, tables of quantisation and codes, restarts, comments


def decode_tensor(
    encoded: bytes,
    channels: int = 3,
    source: str = "image",
    least: int = 0,
    *,
    reading: Reading = DEFAULT,
) -> Tensor:
    """An image file's content as a tensor: the pixels of :func:`~fishnet.images.decoding.decode_image`.

    Plain JPEG files go through torchvision's decoder, which is quicker than Pillow; everything else, every file that it
    refuses, and large photos that need not be decoded at their own size go through ``decode_image``. Both use
    libjpeg-turbo, and agree bit for bit.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey; any other number for files that hold as many.
        source: where it comes from, for messages.
        least, reading: see :func:`~fishnet.images.decoding.decode_image`.

    Returns:
        (channels, height, width), uint8 0..255, or float32 for arrays of floats. Often channels last in memory.

    Raises:
        InputError: not an image, truncated, unreasonably large, or with another number of channels.
    """
    plain = _decode_plain(encoded, channels, least, reading.max_pixels) if encoded.startswith(_JPEG) else None
    if plain is not None:
        return plain
    return to_tensor(decode_image(encoded, channels, source, least, reading=reading))


def to_tensor(image: ImageLike) -> Tensor:
    """A decoded image as a tensor of shape (channels, height, width), uint8 or float32, channels last in memory."""
    array = np.array(image, order="C")
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def _decode_plain(encoded: bytes, channels: int, least: int, max_pixels: int | None) -> Tensor | None:
    """A JPEG file that is upright and holds the wanted channels as they are; None for others and for broken ones."""
    shape = _upright_shape(encoded)
    if decode_jpeg is None or shape is None or channels not in (1, 3) or shape[0] != channels:
        return None
    if least and min(shape[1:]) >= 2 * least:
        return None
    if too_many(shape[1] * shape[2], max_pixels) or too_many_scans(encoded):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the decoder is deprecated, and that bytes cannot be written to
            pixels: Tensor = decode_jpeg(torch.frombuffer(encoded, dtype=torch.uint8))
            return pixels
    except RuntimeError:  # whatever is wrong with it, decode_image says so
        return None


def _upright_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """Components, height and width from a JPEG file's header; None where only Pillow knows how it lies.

    The header is a row of segments (ITU-T T.81, annex B): a marker of two bytes, a length of two that counts itself,
    and the content, up to the frame's (SOF). A segment of EXIF, which may turn the image, ends the search, and so
    does one of several images (MPF).
    """
    place = 2
    while place + 10 <= len(encoded) and encoded[place] == 0xFF:
        kind, length = encoded[place + 1], int.from_bytes(encoded[place + 2 : place + 4])
        if kind in _FRAMES:
            height, width = (int.from_bytes(encoded[at : at + 2]) for at in (place + 5, place + 7))
            return encoded[place + 9], height, width
        if encoded.startswith((b"Exif", b"MPF"), place + 4) or kind not in _SEGMENTS:
            return None
        place += 2 + length
    return None
