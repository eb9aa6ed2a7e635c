"""Augmentation of whole images for detection and segmentation: scale jitter, mirroring, photometric distortion."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from fishnet.data.crops import random_bool, uniform
from fishnet.data.photometric import distort
from fishnet.data.views import View
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess


class WholeImageTransform:
    """Draws random scales and flips, and renders views of images on a canvas. Pixels are resized once.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        flip, flip_vertical: probabilities of mirroring horizontally and vertically, 0..1.
        jitter: smallest and largest factor of the scale; (1, 1) for none.
        photometric: probability of each step of :func:`~fishnet.data.photometric.distort`, 0..1.

    Raises:
        InputError: preprocessing that crops, jitter that is not a range above 0, or photometric distortion of images
            that are neither grey nor RGB.
    """

    min_side: int | None = 0

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        flip: float,
        flip_vertical: float,
        jitter: tuple[float, float],
        photometric: float,
    ) -> None:
        refuse_crop(preprocess)
        if not 0 < jitter[0] <= jitter[1]:
            raise InputError(f"jitter {tuple(jitter)}: must be the smallest and the largest factor, both above 0")
        if photometric and preprocess.channels not in (1, 3):
            raise InputError(
                f"photometric={photometric}: supports grey and RGB, not {preprocess.channels} channels: set it to 0"
            )
        self.preprocess, self.flip, self.jitter, self.photometric = (
            preprocess, (flip, flip_vertical), jitter, photometric,
        )  # fmt: skip
        nearest = preprocess.interpolation == "nearest"  # Pillow's "nearest" is torchvision's "nearest-exact"
        self.interpolation = InterpolationMode("nearest-exact" if nearest else preprocess.interpolation)

    def scale(self, height: int, width: int) -> float:
        """A random factor from px of an image of this size to px of the input, with log-uniform jitter."""
        low, high = self.jitter
        return self.preprocess.scale(height, width) * math.exp(uniform(math.log(low), math.log(high)))

    def flips(self) -> tuple[bool, bool]:
        """Whether to mirror horizontally, and vertically."""
        return random_bool(self.flip[0]), random_bool(self.flip[1])

    def render(self, images: Sequence[Tensor], views: Sequence[View]) -> Tensor:
        """Pastes views of images (channels, height, width) on one canvas of the mean colour.

        Returns:
            (channels, *canvas), of the images' number type, channels last in memory.
        """
        dtype = reduce(torch.promote_types, (image.dtype for image in images))
        fill = torch.tensor(self.preprocess.mean_colour, dtype=dtype)
        canvas = fill.expand(*views[0].canvas, len(fill)).contiguous().permute(2, 0, 1)
        for view, image in zip(views, images, strict=True):
            pixels = view.pixels(image, self.interpolation)
            view.paste(distort(pixels, self.photometric) if self.photometric else pixels, canvas)
        return canvas


def refuse_crop(preprocess: Preprocess) -> None:
    """Raises InputError for preprocessing that crops."""
    if preprocess.fit == "crop":
        raise InputError("fit 'crop' is not supported for objects and label maps: choose 'whole' or 'native'")
