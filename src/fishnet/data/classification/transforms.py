"""The transforms of classification, which bring a decoded image to the model's input size."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from fishnet.data.decode import to_tensor
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike
from fishnet.images.preprocess import Preprocess


class TrainTransform:
    """Random resized crop and horizontal flip; optionally colour jitter, RandAugment and random erasing.

    All are torchvision's, on tensors. Random numbers come from torch's global generator.

    Args:
        preprocess: size, interpolation and mean of the input.
        crop_scale: smallest and largest share of the image's area that a crop takes, in (0, 1].
        crop_ratio: smallest and largest width / height of a crop.
        flip: probability of mirroring, 0..1.
        rand_augment_ops: operations that RandAugment (arXiv 1909.13719) applies to an image; 0 for none.
        rand_augment_magnitude: their strength on torchvision's scale, an integer 0..30 (timm's m9 is 27 here).
            Operations that move the image fill the border with the mean colour.
        color_jitter: largest relative change of brightness, contrast and saturation, 0..1; 0 for none.
        erase: probability of erasing a rectangle (arXiv 1708.04896), 0..1. It is filled with the mean colour, which
            normalization turns into zero. Images are uint8 here, which cannot hold normalized noise.

    Raises:
        InputError: RandAugment or colour jitter for images that are neither grey nor RGB, or a magnitude out of range.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        *,
        crop_scale: Sequence[float],
        crop_ratio: Sequence[float],
        flip: float,
        rand_augment_ops: int = 0,
        rand_augment_magnitude: float = 9,
        color_jitter: float = 0.0,
        erase: float = 0.0,
    ) -> None:
        mean_colour = [float(round(255 * value)) for value in preprocess.mean]
        self.size, self.flip = list(preprocess.size), flip
        # With sides of this length, even the smallest crop has enough pixels for the input.
        aspect = min(1, crop_ratio[0], 1 / crop_ratio[1])  # shorter / longer side of the narrowest crop
        self.min_side: int | None = math.ceil(max(preprocess.size) / math.sqrt(min(crop_scale) * aspect))
        self.interpolation = InterpolationMode(preprocess.interpolation)
        self.random_crop = v2.RandomResizedCrop(preprocess.size, scale=tuple(crop_scale), ratio=tuple(crop_ratio))
        steps: list[v2.Transform] = []
        for name, value in (("rand_augment_ops", rand_augment_ops), ("color_jitter", color_jitter)):
            if value and preprocess.channels not in (1, 3):
                raise InputError(
                    f"{name}={value}: supports grey and RGB, not {preprocess.channels} channels: set it to 0"
                )
        if color_jitter:
            steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
        if rand_augment_ops:
            if rand_augment_magnitude not in range(31):
                raise InputError(
                    f"rand_augment_magnitude={rand_augment_magnitude}: must be a whole number from 0 to 30"
                )
            filter_ = InterpolationMode.NEAREST if preprocess.interpolation == "nearest" else InterpolationMode.BILINEAR
            steps.append(
                v2.RandAugment(rand_augment_ops, int(rand_augment_magnitude), interpolation=filter_, fill=mean_colour)
            )
        if erase:
            steps.append(v2.RandomErasing(erase, value=mean_colour, inplace=True))
        self.steps = v2.Compose(steps) if steps else None

    def __call__(self, image: ImageLike | Tensor, target: Any) -> tuple[Tensor, Any]:
        """A tensor of shape (channels, *size), and the target.

        The result has the image's number type: uint8, or float32 for arrays of floats.

        Args:
            image: an image, or a tensor of shape (channels, height, width).
            target: returned as it is.
        """
        tensor = image if isinstance(image, Tensor) else to_tensor(image)
        box = self.random_crop.make_params([tensor])
        # Resizing is twice as fast if the image is channels last in memory before and after.
        crop = tv.crop_image(tensor, **box).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        crop = tv.resize_image(crop, self.size, interpolation=self.interpolation, antialias=True)
        if torch.rand(()) < self.flip:
            crop = crop.flip(-1)
        return crop if self.steps is None else self.steps(crop), target


class EvalTransform:
    """The deterministic preprocessing that the bundle stores with the model."""

    min_side: int | None = None

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, image: ImageLike, target: Any) -> tuple[Tensor, Any]:
        """A tensor of shape (channels, *size), uint8 or, for arrays of floats, float32; and the target."""
        return torch.from_numpy(self.preprocess.pixels(image)), target

    def target(self, size: tuple[int, int], target: Any) -> Any:
        """The target of an image of this height and width, as it is."""
        return target
