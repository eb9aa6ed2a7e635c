"""Mask files: the numbers or colours in them, and from these to labels."""

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.data.pictures import read_file
from fishnet.data.pixels.base import IGNORE, LabelMap
from fishnet.data.pixels.names import LARGEST, Legend
from fishnet.data.stacks import NPY, read_npy
from fishnet.errors import InputError, first_line
from fishnet.images.opening import open_image

BINARY = (0, 255)  # the numbers of masks that say foreground or not


def read_mask(path: Path, palette: bool = False) -> NDArray[Any]:
    """What a mask's pixels are: PNG, TIFF (the first page) or ``.npy``; black and white of one bit as 0 and 255.

    Args:
        path: of the file.
        palette: whether a palette's colours count, rather than its numbers.

    Returns:
        (height, width) of whole numbers, or (height, width, 3) of red, green and blue, 0..255, whatever their opacity.

    Raises:
        InputError: no such file, not a picture, a JPEG (which changes pixels), neither whole numbers nor colours.
    """
    content = read_file(path)
    try:
        if content.startswith(NPY):
            found = read_npy(content)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of palettes with transparency
                with open_image(content) as image:
                    kind = image.format
                    if kind != "JPEG" and (image.mode in ("RGBA", "PA") or (palette and image.mode == "P")):
                        found = np.asarray(image.convert("RGB"))
                    else:
                        found = np.asarray(image.convert("L") if image.mode in ("1", "LA") else image)
                if kind == "JPEG":
                    raise InputError("JPEG changes pixels, and ids with them: save masks as PNG")
    except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
        raise InputError(f"{path}: not a mask that can be read ({first_line(error)})") from None
    if found.dtype.kind == "b":
        return found.astype(np.uint8) * np.uint8(255)
    if found.dtype.kind not in "ui" or (found.ndim != 2 and (found.shape[2:] != (3,) or found.dtype != np.uint8)):
        raise InputError(
            f"{path}: holds {found.dtype} of shape {found.shape}: a mask is one channel of whole numbers, or RGB"
        )
    return found.astype(np.int64 if found.dtype.itemsize == 8 else found.dtype.newbyteorder("="), copy=False)


def read_numbers(path: Path) -> NDArray[Any]:
    """A mask's numbers, (height, width); they may be saved as a grey picture of three channels.

    Raises:
        InputError: see :func:`read_mask`; colours.
    """
    found = read_mask(path)
    if found.ndim == 3 and (found != found[..., :1]).any():
        raise InputError(
            f"{path}: holds colours, and nothing says of what: name them in a classes file (r g b name a line)"
        )
    return found if found.ndim == 2 else np.ascontiguousarray(found[..., 0])


def packed(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(height, width, 3) of red, green and blue as (height, width) of 0xRRGGBB."""
    found = colours[..., 0].astype(np.int32)
    for i in (1, 2):
        found <<= 8
        found |= colours[..., i]
    return found


class Coding:
    """From what masks hold to labels.

    Args:
        legend: what the pixels stand for.
        labels: of the legend's classes, one each; 255 where ignored.
        ignore: further numbers that stand for no class, where the legend's values are its ids.
    """

    def __init__(self, legend: Legend, labels: Sequence[int], ignore: Iterable[int] = ()) -> None:
        self.palette = bool(legend.colours) and not legend.stated
        more = ignore if legend.values == legend.classes.ids else ()
        ignored = dict.fromkeys((IGNORE, *legend.ignored, *more), IGNORE)
        self._numbers = _Table(ignored | dict(zip(legend.values, labels, strict=True)))
        self._colours = None
        if legend.colours:
            ignored = dict.fromkeys(legend.ignored_colours, IGNORE)
            self._colours = _Table(ignored | dict(zip(legend.colours, labels, strict=True)))

    def read(self, path: Path) -> tuple[NDArray[Any], bool]:
        """A mask's numbers, or its colours as 0xRRGGBB: (height, width), and whether they are colours.

        Raises:
            InputError: see :func:`read_mask` and :func:`read_numbers`.
        """
        if self._colours is None:
            return read_numbers(path), False
        found = read_mask(path, self.palette)
        return (found, False) if found.ndim == 2 else (packed(found), True)

    def labels(self, found: NDArray[Any], colours: bool = False) -> tuple[LabelMap, dict[int, int]]:
        """From what :meth:`read` gives.

        Returns:
            (height, width) of labels, 255 where nothing is known of a number; and the pixels of each such number.
        """
        return (self._colours if colours and self._colours is not None else self._numbers)(found)


class _Table:
    """A label for each number of 0 to 0xFFFFFF that has one; negative ones are ignored."""

    def __init__(self, labels: Mapping[int, int]) -> None:
        size = min(max(IGNORE, *labels), LARGEST) + 2  # the last is for all that lie beyond
        # Zeros take no memory until they are written: what is kept is each label + 1, so that 0 is 255 after all.
        self.after, self.known = np.zeros(size, np.uint8), np.zeros(size, np.bool_)
        for value, label in labels.items():
            if 0 <= value <= LARGEST:
                self.after[value], self.known[value] = (label + 1) & 0xFF, True

    def __call__(self, found: NDArray[Any]) -> tuple[LabelMap, dict[int, int]]:
        labels = self.after.take(found if found.dtype.kind == "u" else _not_below(found), mode="clip")
        labels -= 1  # wraps around
        without = found[labels == IGNORE]
        if without.size:
            without = without[~self.known.take(without, mode="clip")]
            if without.dtype.kind == "i":
                without = without[without >= 0]
        if not without.size:
            return labels, {}
        values, counts = np.unique(without, return_counts=True)
        return labels, dict(zip(values.tolist(), counts.tolist(), strict=True))


def _not_below(found: NDArray[Any]) -> NDArray[Any]:
    """Negative numbers as 0xFFFFFF + 1, which has no label."""
    return np.where(found < 0, LARGEST + 1, found) if (found < 0).any() else found


def numbers_in(masks: Iterable[Path], within: Collection[int] | None = None) -> set[int]:
    """The numbers in some masks, 255 too.

    Args:
        masks: the files; those that cannot be read are left out, as whoever reads them says so.
        within: stops at the first mask with a number that is none of these.

    Raises:
        InputError: none of them can be read.
    """
    numbers: set[int] = set()
    first: InputError | None = None
    for path in masks:
        try:
            numbers |= set(np.unique(read_numbers(path)).tolist())
        except InputError as error:
            first = first or error
            continue
        if within is not None and not numbers <= set(within):
            break
    if not numbers and first is not None:
        raise first
    return numbers
