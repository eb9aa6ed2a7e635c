"""From a picture to the model's input. Torch-free: training's validation and every engine share it."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.data.pictures import Picture, to_input
from fishnet.errors import InputError

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """How pictures become input: shorter side to ``size / crop_pct``, centre crop ``size``, normalise.

    Attributes:
        size: height and width of the input, px.
        crop_pct: share of the shorter side that the crop keeps, in (0, 1].
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
        mean, std: per channel, of pixel values scaled to 0..1. Their length is the number of channels.
    """

    size: tuple[int, int] = (224, 224)
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise InputError(f"interpolation {self.interpolation!r}: choose from {', '.join(_FILTERS)}")
        if len(self.mean) != len(self.std):
            raise InputError("mean and std have different lengths")
        if (
            not all(isinstance(value, int | float) and math.isfinite(value) for value in (*self.mean, *self.std))
            or min(self.std, default=0) <= 0
        ):
            raise InputError(f"mean {self.mean} and std {self.std}: must be finite numbers, std above 0")
        if len(self.size) != 2 or not all(isinstance(side, int) for side in self.size) or min(self.size) < 1:
            raise InputError(f"size {self.size}: must be height and width, 1 or more")
        if not 0 < self.crop_pct <= 1:
            raise InputError(f"crop_pct {self.crop_pct}: must be more than 0 and at most 1")

    @property
    def channels(self) -> int:
        """Number of input channels."""
        return len(self.mean)

    def crop(self, image: Picture) -> Picture:
        """The resized and cropped picture that the network sees.

        Only the part that the crop keeps is ever computed, so that a picture of 1 x 30,000 costs no more than another.

        Args:
            image: a PIL image, or for other numbers of channels than 1 and 3 an array of (height, width, channels).

        Returns:
            An 8-bit PIL image for 1 and 3 channels, else an array of (height, width, channels), uint8 or float32.

        Raises:
            InputError: another number of channels than the input's.
        """
        picture = to_input(image, self.channels)
        if isinstance(picture, Image.Image):
            return self._resize(picture)
        planes = [self._resize(Image.fromarray(picture[..., c])) for c in range(self.channels)]
        return np.stack([np.asarray(plane) for plane in planes], -1)

    def _resize(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        scale = max(height / image.height, width / image.width) / self.crop_pct
        new = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (new[0] - width) // 2, (new[1] - height) // 2
        across, down = image.width / new[0], image.height / new[1]
        box = left * across, top * down, (left + width) * across, (top + height) * down
        return image.resize((width, height), _FILTERS[self.interpolation], box)

    def pixels(self, image: Picture) -> NDArray[Any]:
        """:meth:`crop` as an array of shape (channels, height, width): uint8 0..255, or float32 for such arrays."""
        array = np.array(self.crop(image))
        return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))

    def normalise(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """(batch, channels, height, width) of 0..255, or of floats as they are, to float32 input of the same shape."""
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        return (pixels.astype(np.float32) / np.float32(255) - mean) / std

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocess":
        """The inverse of :meth:`to_dict`."""
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**known)
