"""Turns a converted image into the model's input. Torch-free: validation in training and every engine share this."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.errors import InputError
from fishnet.files.values import integer, real
from fishnet.images.decoding import ImageLike
from fishnet.images.reading import SIXTEEN_BIT, Reading, SixteenBit

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


_SPARE = 1.5  # sides of a JPEG decoded at a reduced size, divided by those of the input before the crop
LONGEST = 5 / 3  # default maximum of a whole image's longer side divided by the shorter: COCO's 1333 px to 800
LARGEST = 4096 * 4096  # px of the largest image in its own size that goes through a network in one piece
SIDE, AREA = 16384, 8192 * 8192  # maximum side and area of an input, px
CHANNELS = 1024  # maximum number of input channels
LARGE = 1e12  # limit of means and deviations: float32 divides these by each other and stays finite
DIVISOR = 32  # whole images are padded to a multiple of this: a trunk's coarsest stride


def padded(side: int) -> int:
    """A side of a whole image, px, after padding."""
    # of positive numbers alone: torch's tracing exporter writes a division that rounds towards zero
    return max(2, (side + DIVISOR - 1) // DIVISOR) * DIVISOR


@dataclass(frozen=True)
class Placement:
    """Where a whole image lies in the input: resized, its corner at the input's corner, padded right and below.

    Attributes:
        size: height and width of the image, px.
        inner: height and width of its part of the input, px.
        outer: height and width of the input, px.
    """

    size: tuple[int, int]
    inner: tuple[int, int]
    outer: tuple[int, int]

    def to_input(self, boxes: NDArray[Any]) -> NDArray[np.float32]:
        """Boxes (n, 4) x1, y1, x2, y2 in px of the image -> in px of the input."""
        return (boxes * self._factors()).astype(np.float32)

    def to_image(self, boxes: NDArray[Any], cut: bool = True) -> NDArray[np.float32]:
        """Boxes (n, 4) x1, y1, x2, y2 in px of the input -> in px of the image, clipped to its edges by default."""
        height, width = self.size
        edges = np.array([width, height, width, height], np.float32)
        scaled = (boxes / self._factors()).astype(np.float32)
        return scaled.clip(0, edges) if cut else scaled

    def _factors(self) -> NDArray[np.float64]:
        down, across = (inner / size for inner, size in zip(self.inner, self.size, strict=True))
        return np.array([across, down, across, down])


@dataclass(frozen=True)
class Preprocess:
    """How images become input.

    ``fit`` is one of:

    - ``crop``: the shorter side is resized to ``size / crop_pct``, then the centre of ``size`` is cropped;
    - ``whole``: the image is resized in its own proportions, so that the shorter side is ``size[0]`` and the longer at
      most ``size[1]``, and padded with the mean colour right and below to a multiple of 32;
    - ``native``: the image keeps its own size and is padded in the same way.

    All of them then normalize the pixels.

    Attributes:
        size: height and width of the input, px. For ``whole``: the shorter side and the maximum of the longer one. For
            ``native``: the size of training's crops.
        crop_pct: share of the shorter side that the crop keeps, in (0, 1]; for ``crop`` only.
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
        mean, std: per channel, of pixel values scaled to 0..1. Their length is the number of channels.
        fit: ``crop``, ``whole`` or ``native``.
        sixteen_bit, value_range: how more than 8 bits per channel are converted, see
            :class:`~fishnet.images.reading.Reading`.
    """

    size: tuple[int, int] = (224, 224)
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    fit: Literal["crop", "whole", "native"] = "crop"
    sixteen_bit: SixteenBit = "shift"
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise InputError(f"interpolation {self.interpolation!r}: choose from {', '.join(_FILTERS)}")
        if len(self.mean) != len(self.std):
            raise InputError("mean and std have different lengths")
        if not 1 <= len(self.mean) <= CHANNELS:
            raise InputError(f"mean and std of {len(self.mean):,} channels: must be from 1 to {CHANNELS:,}")
        for value in self.mean:
            real(value, "mean", -LARGE, LARGE)
        for value in self.std:
            real(value, "std", 1 / LARGE, LARGE)
        if len(self.size) != 2:
            raise InputError(f"size {self.size}: must be height and width")
        for side in self.size:
            integer(side, "size", 1, SIDE)
        if self.size[0] * self.size[1] > AREA:
            raise InputError(f"size {self.size[0]} x {self.size[1]}: must be at most {AREA:,} px")
        real(self.crop_pct, "crop_pct", 0.01, 1)
        if self.fit not in ("crop", "whole", "native"):
            raise InputError(f"fit {self.fit!r}: choose from crop, whole, native")
        if self.fit == "whole" and self.size[0] > self.size[1]:
            raise InputError(f"size {self.size}: the maximum of the longer side is below the shorter side")
        if self.sixteen_bit not in SIXTEEN_BIT:
            raise InputError(f"sixteen_bit {self.sixteen_bit!r}: choose from {', '.join(SIXTEEN_BIT)}")
        if self.value_range is not None:
            _check_range(self.value_range)

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    @property
    def reading(self) -> Reading:
        """How image files are read. For a crop, large JPEG files are decoded at a reduced size, see :data:`_SPARE`."""
        return Reading(self.sixteen_bit, self.value_range, min_side=self._min_side)

    @property
    def _min_side(self) -> int:
        if self.fit != "crop" or self.interpolation == "nearest":
            return 0  # objects and label maps need the image's own size, and "nearest" single pixels of it
        return math.ceil(_SPARE * max(self.size) / self.crop_pct)

    @property
    def mean_colour(self) -> tuple[int, ...]:
        """The mean of each channel, 0..255. Padding is filled with it, because it is zero after normalization."""
        return tuple(round(255 * value) for value in self.mean)

    def scale(self, height: int, width: int) -> float:
        """The factor by which a whole image of this size, px, is resized."""
        if self.fit == "native":
            return 1.0
        return min(self.size[0] / min(height, width), self.size[1] / max(height, width))

    def place(self, height: int, width: int) -> Placement:
        """Where a whole image of this size, px, lies in the input."""
        scale = self.scale(height, width)
        inner = max(1, round(height * scale)), max(1, round(width * scale))
        return Placement((height, width), inner, (padded(inner[0]), padded(inner[1])))

    def crop(self, image: ImageLike) -> ImageLike:
        """Resizes and crops, or pads, an image to what the network sees.

        For a crop only the pixels that it keeps are computed, so that an image of 1 x 30,000 costs no more than
        another.

        Args:
            image: with the input's channels, see :func:`~fishnet.images.decoding.to_channels`: an 8-bit PIL image for 1
                and 3 channels, else an array of (height, width, channels), uint8 or float32.

        Returns:
            An image of the same type.

        Raises:
            InputError: an image of another number of channels.
        """
        count = len(image.getbands()) if isinstance(image, Image.Image) else image.shape[-1]
        if count != self.channels:
            raise InputError(f"the image has {count} channels, but the model takes {self.channels}")
        if isinstance(image, Image.Image):
            return self._resize(image, self.mean_colour)
        planes = [self._resize(Image.fromarray(image[..., c]), self.mean_colour[c : c + 1]) for c in range(count)]
        return np.stack([np.asarray(plane) for plane in planes], -1)

    def _resize(self, image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
        if self.fit != "crop":
            place = self.place(image.height, image.width)
            inner, outer = place.inner[::-1], place.outer[::-1]
            page = Image.new(image.mode, outer, colour if len(colour) > 1 else colour[0])
            page.paste(image if image.size == inner else image.resize(inner, _FILTERS[self.interpolation]))
            return page
        height, width = self.size
        scale = max(height / image.height, width / image.width) / self.crop_pct
        new = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (new[0] - width) // 2, (new[1] - height) // 2
        across, down = image.width / new[0], image.height / new[1]
        box = left * across, top * down, (left + width) * across, (top + height) * down
        return image.resize((width, height), _FILTERS[self.interpolation], box)

    def pixels(self, image: ImageLike) -> NDArray[Any]:
        """:meth:`crop` as an array of shape (channels, height, width): uint8 0..255, or float32 for such arrays."""
        array = np.array(self.crop(image))
        return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))

    def normalize(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """(batch, channels, height, width) of 0..255, or of floats of any range -> float32 input of the same shape."""
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        return (pixels.astype(np.float32) / np.float32(255) - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """For JSON. Without a range the key is left out, so that versions that do not know it can read the rest."""
        values = asdict(self)
        if self.value_range is None:
            del values["value_range"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """The inverse of :meth:`to_dict`."""
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**known)


def _check_range(value_range: Any) -> None:
    """Raises InputError for an invalid range of values."""
    numbers = isinstance(value_range, tuple) and len(value_range) == 2
    if not numbers or not all(isinstance(v, int | float) and math.isfinite(v) for v in value_range):
        raise InputError(f"value_range {value_range!r}: must be two finite numbers")
    if value_range[0] > value_range[1]:
        raise InputError(f"value_range {value_range!r}: the first must not be above the second")
