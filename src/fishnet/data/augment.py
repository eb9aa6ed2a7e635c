"""What training does to whole images, whatever their targets: scale jitter, mirroring, distortion of colours."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode

from fishnet.data.crops import happens, uniform
from fishnet.data.photometric import distort
from fishnet.data.views import View
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess


class WholeImages:
    """Draws scales and mirrorings, and lays views of images on a page: the pixels are resized once.

    Args:
        preprocess: size, interpolation and mean of the input; its ``fit`` must not be ``crop``.
        flip, flip_vertical: probabilities of mirroring left to right and upside down, 0..1.
        jitter: smallest and largest factor of the scale; (1, 1) leaves the scale.
        photometric: probability of each step of :func:`~fishnet.data.photometric.distort`, 0..1.

    Raises:
        InputError: preprocessing that crops, factors that are no range above 0, or photometric distortion for another
            number of channels than 1 and 3.
    """

    least: int | None = 0

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        flip: float,
        flip_vertical: float,
        jitter: tuple[float, float],
        photometric: float,
    ) -> None:
        check_whole(preprocess)
        if not 0 < jitter[0] <= jitter[1]:
            raise InputError(f"jitter {tuple(jitter)}: must be a smallest and a largest factor, above 0")
        if photometric and preprocess.channels not in (1, 3):
            raise InputError(
                f"photometric={photometric}: is for grey and RGB, not for {preprocess.channels} channels: set it to 0"
            )
        self.preprocess, self.flip, self.jitter, self.photometric = (
            preprocess, (flip, flip_vertical), jitter, photometric,
        )  # fmt: skip
        exact = preprocess.interpolation == "nearest"  # Pillow's nearest px, which is not torchvision's of that name
        self.interpolation = InterpolationMode("nearest-exact" if exact else preprocess.interpolation)

    def scale(self, height: int, width: int) -> float:
        """From px of an image of that size to px of the input, jittered evenly in the logarithm."""
        low, high = self.jitter
        return self.preprocess.scale(height, width) * math.exp(uniform(math.log(low), math.log(high)))

    def flips(self) -> tuple[bool, bool]:
        """Whether to mirror left to right, and upside down."""
        return happens(self.flip[0]), happens(self.flip[1])

    def page(self, images: Sequence[Tensor], views: Sequence[View]) -> Tensor:
        """What views show of images (channels, height, width), on one page of the mean colour.

        Returns:
            (channels, *page), of the images' number type, channels last in memory.
        """
        kind = reduce(torch.promote_types, (image.dtype for image in images))
        fill = torch.tensor(self.preprocess.mean_colour, dtype=kind)
        page = fill.expand(*views[0].page, len(fill)).contiguous().permute(2, 0, 1)
        for view, image in zip(views, images, strict=True):
            part = view.pixels(image, self.interpolation)
            view.paste(distort(part, self.photometric) if self.photometric else part, page)
        return page


def check_whole(preprocess: Preprocess) -> None:
    """Raises InputError for preprocessing that crops."""
    if preprocess.fit == "crop":
        raise InputError("fit 'crop': objects and label maps need whole images, fit 'whole' or 'native'")
