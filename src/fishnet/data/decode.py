"""Image files as tensors: the pixels of :mod:`fishnet.images.decoding`, decoded faster where possible."""

import warnings

import numpy as np
import torch
from torch import Tensor

from fishnet.images.decoding import ImageLike, decode_image
from fishnet.images.opening import too_many, too_many_scans
from fishnet.images.reading import DEFAULT, Reading

try:
    from torchvision.io import decode_jpeg
except ImportError:  # deprecated since torchvision 0.29; once removed, Pillow reads everything
    decode_jpeg = None

_JPEG = b"\xff\xd8\xff"
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_SEGMENTS = (*range(0xE0, 0xF0), 0xDB, 0xC4, 0xDD, 0xFE)  # APPn, DQT, DHT, DRI, COM


def decode_tensor(
    encoded: bytes,
    channels: int = 3,
    source: str = "image",
    min_side: int | None = None,
    *,
    reading: Reading = DEFAULT,
) -> Tensor:
    """Decodes an image file to a tensor with the pixels of :func:`~fishnet.images.decoding.decode_image`.

    Plain JPEG files are decoded by torchvision, which is faster than Pillow. ``decode_image`` decodes all other files,
    files that torchvision refuses, and large photos that may be scaled down. Both use libjpeg-turbo and agree bit for
    bit.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey; another number for files with that many channels.
        source: the image's origin, for messages.
        min_side, reading: see :func:`~fishnet.images.decoding.decode_image`.

    Returns:
        (channels, height, width), uint8 0..255, or float32 for arrays of floats. Often channels last in memory.

    Raises:
        InputError: not an image, truncated, unreasonably large, or another number of channels.
    """
    min_side = reading.min_side if min_side is None else min_side
    plain = _decode_plain(encoded, channels, min_side, reading.max_pixels) if encoded.startswith(_JPEG) else None
    if plain is not None:
        return plain
    return to_tensor(decode_image(encoded, channels, source, min_side, reading=reading))


def to_tensor(image: ImageLike) -> Tensor:
    """A decoded image as a tensor of shape (channels, height, width), uint8 or float32, channels last in memory."""
    array = np.array(image, order="C")
    return torch.from_numpy(array if array.ndim == 3 else array[..., None]).permute(2, 0, 1)


def _decode_plain(encoded: bytes, channels: int, min_side: int, max_pixels: int | None) -> Tensor | None:
    """Decodes an upright JPEG file that stores exactly these channels; None for other files and for broken ones."""
    shape = _upright_shape(encoded)
    if decode_jpeg is None or shape is None or channels not in (1, 3) or shape[0] != channels:
        return None
    if min_side and min(shape[1:]) >= 2 * min_side:
        return None
    if too_many(shape[1] * shape[2], max_pixels) or too_many_scans(encoded):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the decoder is deprecated; the bytes are read-only
            pixels: Tensor = decode_jpeg(torch.frombuffer(encoded, dtype=torch.uint8))
            return pixels
    except RuntimeError:  # decode_image reports what is wrong
        return None


def _upright_shape(encoded: bytes) -> tuple[int, int, int] | None:
    """Components, height and width from a JPEG file's header; None if the image may have to be rotated.

    The header is a sequence of segments (ITU-T T.81, annex B): a marker of two bytes, a length of two bytes that
    counts itself, and the content. The search ends at the frame header (SOF), at EXIF, which may rotate the image, and
    at a file of several images (MPF).
    """
    offset = 2
    while offset + 10 <= len(encoded) and encoded[offset] == 0xFF:
        kind, length = encoded[offset + 1], int.from_bytes(encoded[offset + 2 : offset + 4])
        if kind in _FRAMES:
            height, width = (int.from_bytes(encoded[i : i + 2]) for i in (offset + 5, offset + 7))
            return encoded[offset + 9], height, width
        if encoded.startswith((b"Exif", b"MPF"), offset + 4) or kind not in _SEGMENTS:
            return None
        offset += 2 + length
    return None
