"""Maps of segment ids, in which 0 is void, and COCO's encoding of ids as colours. Torch-free."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.reading import MIB, read_bytes
from fishnet.files.writing import atomic_path
from fishnet.images.opening import load, open_image

VOID = 0
MAX_ID = 256**3 - 1
"""The largest id that a colour encodes: id = red + 256 green + 256^2 blue."""
_MAX_BYTES = 1024 * MIB  # of a PNG file


def ids_to_rgb(ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """(height, width) ids, 0 to :data:`MAX_ID` -> (height, width, 3) colours.

    Raises:
        InputError: an id that no colour encodes.
    """
    check_range(ids)
    return np.ascontiguousarray(ids, "<u4")[..., None].view(np.uint8)[..., :3]


def rgb_to_ids(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The inverse of :func:`ids_to_rgb`."""
    padded = np.zeros((*pixels.shape[:2], 4), np.uint8)
    for channel in range(3):  # faster than all at once
        padded[..., channel] = pixels[..., channel]
    return padded.view("<i4")[..., 0].astype(np.int32, copy=False)


def write_png(path: str | Path, ids: NDArray[np.integer]) -> None:
    """Writes (height, width) ids as a PNG file in COCO's encoding, atomically.

    Raises:
        InputError: an id that no colour encodes.
        WorkError: a full disk, or a path that cannot be written to.
    """
    image = Image.fromarray(np.ascontiguousarray(ids_to_rgb(ids)))
    with atomic_path(path) as partial:
        image.save(partial, format="PNG")


def to_png(ids: NDArray[np.integer]) -> bytes:
    """The content of a PNG file with (height, width) ids in COCO's encoding, packed quickly.

    Raises:
        InputError: an id that no colour encodes.
    """
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(ids_to_rgb(ids))).save(file, "PNG", compress_level=1)
    return file.getvalue()


def read_png(path: str | Path, max_pixels: int | None = None) -> NDArray[np.int32]:
    """Reads a PNG file in COCO's encoding.

    Args:
        path: the file.
        max_pixels: maximum number of pixels; see :class:`~fishnet.images.reading.Reading`.

    Returns:
        (height, width) ids.

    Raises:
        InputError: an unreadable file, or a PNG without colours.
    """
    content = read_bytes(Path(path), _MAX_BYTES, "PNG file")
    try:
        with open_image(content, max_pixels, ("PNG",)) as image:
            load(image)
            if image.mode not in ("RGB", "RGBA"):
                raise InputError(
                    f"a PNG of mode {image.mode}: COCO's panoptic format encodes segment ids as colours, 8-bit RGB"
                )
            pixels = image.convert("RGB").tobytes("raw", "RGBX")  # 4 bytes each, as Pillow holds them: faster than 3
            ids = np.frombuffer(pixels, "<i4").reshape(image.height, image.width) & MAX_ID
            return ids.astype(np.int32, copy=False)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{path}: broken PNG ({error})") from error


def dense_ids(ids: NDArray[np.integer], known: Sequence[int]) -> NDArray[np.int32]:
    """Numbers ids in the order of the known ones.

    Args:
        ids: of any shape; 0 is void.
        known: the ids of the segments, unique, without 0.

    Returns:
        ``i + 1`` for the id ``known[i]`` and 0 for void, in the shape of ``ids``.

    Raises:
        InputError: an id that is not known, or that no colour encodes.
    """
    check_range(ids)
    listed = np.asarray(known, np.int64).reshape(-1)
    order = np.argsort(listed)
    ascending = np.append(listed[order], -1)  # -1: the place of ids above all known ones
    places = np.searchsorted(ascending[:-1], ids)
    numbers: NDArray[np.int32] = np.append(order + 1, 0).astype(np.int32)[places]
    numbers[(ascending[places] != ids) | (ids == VOID)] = 0
    if np.count_nonzero(numbers) != np.count_nonzero(ids):
        unknown = np.unique(ids[(numbers == 0) & (ids != VOID)]).tolist()
        more = f" and {len(unknown) - 1} more ids have" if len(unknown) > 1 else " has"
        raise InputError(f"the id {unknown[0]}{more} pixels but no segment: list every segment")
    return numbers


def run_starts(ids: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divides a map into runs: pixels of one row, side by side, with the same id.

    Returns:
        The flat index of each run's first pixel, and the number of its pixels.
    """
    change = np.ones(ids.shape, bool)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=change[:, 1:])
    starts = np.flatnonzero(change)
    return starts, np.diff(starts, append=change.size)


def check_range(ids: NDArray[np.integer]) -> None:
    """Raises InputError for an id that no colour encodes."""
    low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
    if low < 0 or high > MAX_ID:
        raise InputError(f"segment ids from {low} to {high}: must be from 0 to {MAX_ID:,}")
