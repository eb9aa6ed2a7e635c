"""The range of values of images of more than 8 bits, measured over a sample of a dataset. Torch-free."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError
from fishnet.images.depth import TAIL, deep_colour, sample
from fishnet.images.opening import UnknownImageError, load, open_image
from fishnet.images.reading import DEFAULT, Reading
from fishnet.images.stacks import NPY, read_npy
from fishnet.images.tiff import is_tiff, no_data_of
from fishnet.images.tiff_pages import read_pages

IMAGES = 64  # sampled from a dataset
_VALUES = 1 << 16  # sampled from an image
_BUDGET = 200_000_000  # values decoded in all; beyond that, measuring stops
_MIN_IMAGES = 4  # measured even beyond the budget
_STAND_INS = (-9999.0, -99999.0, -32768.0, -32767.0, float(np.float32(-3.4028235e38)), 1e20, float(np.float32(1e20)))
_MIN_STAND_INS = 1e-4  # minimum share of the values; fewer may be a coincidence
_NEAR_BLACK = 16  # of 256: images whose brightest values are below this are nearly black


@dataclass(frozen=True)
class ValueRange:
    """What a sample of a dataset's images holds.

    Attributes:
        low, high: the 0.1st and the 99.9th percentile of the values of the images of more than 8 bits, each image
            with equal weight, without no-data; both 0 without such images.
        deep: images of more than 8 bits in the sample.
        plain: images of 8 bits in the sample.
        top: what ``high`` becomes under ``shift``, 0 to 255; 255 without images of more than 8 bits.
        no_data: share of the values that a file declares as no-data, 0 to 1.
        stand_in: a value such as -9999 that looks like no-data and that no file declares, or None.
        stand_in_file: an image that has it.
    """

    low: float = 0.0
    high: float = 0.0
    deep: int = 0
    plain: int = 0
    top: float = 255.0
    no_data: float = 0.0
    stand_in: float | None = None
    stand_in_file: str = ""

    @property
    def near_black(self) -> bool:
        """Whether ``shift`` makes the images nearly black."""
        return self.deep > 0 and self.top < _NEAR_BLACK


def measure(images: Any, limit: int = IMAGES) -> ValueRange:
    """Measures a sample of a dataset, the same one each time.

    Args:
        images: a :class:`~fishnet.data.base.ImageDataset`. If it does not consist of files, the defaults are returned.
        limit: maximum number of images to measure. Unreadable ones are skipped.
    """
    quantiles: list[NDArray[Any]] = []
    tops: list[float] = []
    gaps, counted, plain = 0, 0, 0
    stand_in: tuple[float | None, str] = (None, "")
    budget = _BUDGET
    for source, encoded in _files(images, limit):
        if budget < 0 and len(quantiles) >= _MIN_IMAGES:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                deep = read_deep(encoded, images.reading)
        except Exception:  # reported where the image is read
            continue
        if deep is None:
            plain += 1
            continue
        array, no_data = deep
        budget -= array.size
        size, values = sample(array, _VALUES).size, sample(array, _VALUES, no_data)
        gaps, counted = gaps + size - values.size, counted + size
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        if stand_in[0] is None:
            stand_in = (_stand_in(values), source)
        quantiles.append(np.quantile(values, np.linspace(0, 1, 4096)))
        tops.append(_top(array.dtype, float(np.percentile(values, 100 - TAIL))))
    if not quantiles:
        return ValueRange(plain=plain)
    low, high = np.percentile(np.concatenate(quantiles), (TAIL, 100 - TAIL))
    return ValueRange(
        float(low), float(high), len(quantiles), plain, max(tops), gaps / counted, stand_in[0],
        stand_in[1] if stand_in[0] is not None else "",
    )  # fmt: skip


def set_range(images: Any) -> tuple[float, float] | None:
    """The values that become 0 and 255 in all images of a dataset; None without images of more than 8 bits.

    Raises:
        InputError: the range would include an undeclared no-data value such as -9999.
    """
    measured = measure(images)
    if measured.stand_in is not None:
        raise InputError(f"{measured.stand_in_file}: {stand_in_message(measured)}")
    return (measured.low, measured.high) if measured.deep else None


def stand_in_message(measured: ValueRange) -> str:
    """The message about a value that looks like no-data, with what to do."""
    return (
        f"holds {measured.stand_in:g} in many pixels, which looks like no-data and is not declared as such: declare it "
        f"(gdal_edit.py -a_nodata {measured.stand_in:g} FILE), or replace it"
    )


def read_deep(encoded: bytes, reading: Reading = DEFAULT) -> tuple[NDArray[Any], float | None] | None:
    """Reads the numbers of an image file of more than 8 bits per channel, as stored, and its no-data value.

    Returns:
        ((height, width) or (height, width, channels), no-data or None); None for an image of 8 bits.

    Raises:
        InputError or Pillow's errors: a broken file.
    """
    if encoded.startswith(NPY):
        array = read_npy(encoded)
        return None if array.dtype.kind not in "iuf" or array.dtype == np.uint8 else (array, None)
    no_data = no_data_of(encoded)
    try:
        if (deep := deep_colour(encoded, reading.max_pixels)) is not None:
            return deep.values, no_data
        with open_image(encoded, reading.max_pixels) as image:
            if not image.mode.startswith("I") and image.mode != "F":
                return None
            load(image)
            return np.asarray(image), no_data
    except UnknownImageError:
        if not is_tiff(encoded):
            raise
        (page,) = read_pages(encoded, 1, reading.max_pixels)
        return None if page.dtype == np.uint8 else (page, no_data)


def _files(images: Any, limit: int) -> Iterator[tuple[str, bytes]]:
    """Source and content of a sample of a dataset's image files."""
    order = np.random.default_rng(0).permutation(len(images))[:limit]
    for number in sorted(order.tolist()):
        index, dataset = number, images
        while hasattr(dataset, "indices"):  # a subset
            index, dataset = dataset.indices[index], dataset.dataset
        encoded: Callable[[int], bytes] | None = getattr(dataset, "encoded", None)
        if encoded is None:
            return
        try:
            yield dataset.source(index), encoded(index)
        except InputError:
            continue


def _stand_in(values: NDArray[Any]) -> float | None:
    """A typical no-data value that lies beyond all other values, and far from them."""
    for value in _STAND_INS:
        same = values == value
        rest = values[~same]
        if not rest.size or same.mean() < _MIN_STAND_INS or rest.min() <= value <= rest.max():
            continue
        if min(abs(rest.min() - value), abs(rest.max() - value)) > (rest.max() - rest.min()) / 10:
            return value
    return None


def _top(dtype: np.dtype[Any], high: float) -> float:
    """What a value becomes under ``shift``, 0 to 255."""
    return float(np.clip(high if dtype.kind == "f" else high // 256, 0, 255))
