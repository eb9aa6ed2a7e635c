"""The range of values of images of more than 8 bits, measured over a sample of a set. Torch-free."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.errors import InputError
from fishnet.images.depth import SHARE, deep_colour, sample
from fishnet.images.opening import UnknownImageError, load, open_image
from fishnet.images.reading import DEFAULT, Reading
from fishnet.images.stacks import NPY, read_npy, read_samples
from fishnet.images.tiff import is_tiff, no_data_of

IMAGES = 64  # of a set that are looked at
_VALUES = 1 << 16  # of each of them
_BUDGET = 200_000_000  # values of all of them together, after which
_FEW = 4  # images are enough
_STAND_INS = (-9999.0, -99999.0, -32768.0, -32767.0, float(np.float32(-3.4028235e38)), 1e20, float(np.float32(1e20)))
_OFTEN = 1e-4  # share of the values from which a stand-in is no coincidence
_LEVELS = 16  # of 256: images whose brightest values lie below are nearly black


@dataclass(frozen=True)
class ValueRange:
    """What a sample of a set's images holds.

    Attributes:
        low, high: the 0.1st and the 99.9th percentile of the values of the images of more than 8 bits, each image
            counting the same, no-data left out; both 0 without such images.
        deep: images of more than 8 bits in the sample.
        plain: images of 8 bits in the sample.
        top: what ``high`` becomes under ``shift``, 0 to 255; 255 without images of more than 8 bits.
        no_data: share of the values that a file declares to be no-data, 0 to 1.
        stand_in: a value such as -9999 that looks like no-data and that no file declares; None without.
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
        """Whether ``shift`` leaves nearly nothing of the images."""
        return self.deep > 0 and self.top < _LEVELS


def measure(images: Any, limit: int = IMAGES) -> ValueRange:
    """Measures a sample of a set, the same one each time.

    Args:
        images: a :class:`~fishnet.data.base.ImageDataset`; of one that does not consist of files nothing is known.
        limit: images to look at. Those that cannot be read are passed over.
    """
    values: list[NDArray[Any]] = []
    tops: list[float] = []
    gaps, counted, plain = 0, 0, 0
    stand_in: tuple[float | None, str] = (None, "")
    budget = _BUDGET
    for source, encoded in _files(images, limit):
        if budget < 0 and len(values) >= _FEW:
            break
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                numbers = numbers_of(encoded, images.reading, images.channels)
        except Exception:  # whoever reads the image says what is wrong with it
            continue
        if numbers is None:
            plain += 1
            continue
        array, no_data = numbers
        budget -= array.size
        every, some = sample(array, _VALUES), sample(array, _VALUES, no_data)
        gaps, counted = gaps + every.size - some.size, counted + every.size
        some = some[np.isfinite(some)]
        if not some.size:
            continue
        if stand_in[0] is None:
            stand_in = (_stand_in(some), source)
        values.append(np.quantile(some, np.linspace(0, 1, 4096)))
        tops.append(_top(array.dtype, float(np.percentile(some, 100 - SHARE))))
    if not values:
        return ValueRange(plain=plain)
    low, high = np.percentile(np.concatenate(values), (SHARE, 100 - SHARE))
    return ValueRange(
        float(low), float(high), len(values), plain, max(tops), gaps / counted, stand_in[0],
        stand_in[1] if stand_in[0] is not None else "",
    )  # fmt: skip


def set_range(images: Any) -> tuple[float, float] | None:
    """The values that become 0 and 255 in all images of a set; None without images of more than 8 bits.

    Raises:
        InputError: a value such as -9999 would decide the range.
    """
    measured = measure(images)
    if measured.stand_in is not None:
        raise InputError(f"{measured.stand_in_file}: {stand_in_message(measured)}")
    return (measured.low, measured.high) if measured.deep else None


def stand_in_message(measured: ValueRange) -> str:
    """What is wrong with a value that looks like no-data, and what to do."""
    return (
        f"holds {measured.stand_in:g} in many pixels, which looks like no-data and is not declared as such: declare it "
        f"(gdal_edit.py -a_nodata {measured.stand_in:g} FILE), or replace it"
    )


def numbers_of(
    encoded: bytes, reading: Reading = DEFAULT, channels: int = 3
) -> tuple[NDArray[Any], float | None] | None:
    """The numbers of an image file of more than 8 bits a channel, as stored, and what stands for no-data in it.

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
        for count in dict.fromkeys((channels, 3, 1)) if is_tiff(encoded) else ():
            samples = read_samples(encoded, count, reading.max_pixels)
            if samples is not None:
                return None if samples.dtype == np.uint8 else (samples, no_data)
        raise


def _files(images: Any, limit: int) -> Iterator[tuple[str, bytes]]:
    """Source and content of some of a set's image files."""
    order = np.random.default_rng(0).permutation(len(images))[:limit]
    for number in sorted(order.tolist()):
        index, whole = number, images
        while hasattr(whole, "indices"):  # a subset
            index, whole = whole.indices[index], whole.whole
        encoded: Callable[[int], bytes] | None = getattr(whole, "encoded", None)
        if encoded is None:
            return
        try:
            yield whole.source(index), encoded(index)
        except InputError:
            continue


def _stand_in(values: NDArray[Any]) -> float | None:
    """A value of no-data at either end of the others, and far from them."""
    for value in _STAND_INS:
        same = values == value
        rest = values[~same]
        if not rest.size or same.mean() < _OFTEN or rest.min() <= value <= rest.max():
            continue
        if min(abs(rest.min() - value), abs(rest.max() - value)) > (rest.max() - rest.min()) / 10:
            return value
    return None


def _top(dtype: np.dtype[Any], high: float) -> float:
    """What a value becomes under ``shift``, 0 to 255."""
    return float(np.clip(high if dtype.kind == "f" else high // 256, 0, 255))
