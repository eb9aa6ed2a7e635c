"""What happens to an image between its file and the batch, in training and in validation."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from fishnet.data.decode import to_tensor
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike
from fishnet.images.preprocess import Preprocess


class TrainTransform:
    """Random resized crop and horizontal flip; then, where asked for, colour jitter, RandAugment and random erasing.

    All are torchvision's, on tensors, and draw from torch's global generator.

    Args:
        preprocess: size, interpolation and mean of the input.
        crop_scale: smallest and largest share of the image's area that a crop takes, in (0, 1].
        crop_ratio: smallest and largest width / height of a crop.
        flip: probability of mirroring, 0..1.
        rand_augment_ops: operations that RandAugment (arXiv 1909.13719) applies to an image; 0 leaves it out.
        rand_augment_magnitude: their strength on torchvision's scale, a whole number of 0..30 (timm's m9 is 27 here).
            Where they move the image, the mean colour comes in from beyond its edge.
        color_jitter: largest relative change of brightness, contrast and saturation, 0..1; 0 leaves it out.
        erase: probability of erasing a rectangle (arXiv 1708.04896), 0..1. It is filled with the mean colour, which is
            zero to the network: pixels are not normalized yet, and noise of their own range is not to be had on uint8.

    Raises:
        InputError: RandAugment or colour jitter for another number of channels than 1 (grey) and 3 (RGB), or a
            magnitude out of range.
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
        # An image with these sides gives every crop, down to the smallest, enough pixels for the input.
        narrowest = min(1, crop_ratio[0], 1 / crop_ratio[1])
        self.least: int | None = math.ceil(max(preprocess.size) / math.sqrt(min(crop_scale) * narrowest))
        self.interpolation = InterpolationMode(preprocess.interpolation)
        self.boxes = v2.RandomResizedCrop(preprocess.size, scale=tuple(crop_scale), ratio=tuple(crop_ratio))
        steps: list[v2.Transform] = []
        for name, wanted in (("rand_augment_ops", rand_augment_ops), ("color_jitter", color_jitter)):
            if wanted and preprocess.channels not in (1, 3):
                raise InputError(
                    f"{name}={wanted}: is for grey and RGB, not for {preprocess.channels} channels: set it to 0"
                )
        if color_jitter:
            steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
        if rand_augment_ops:
            if rand_augment_magnitude not in range(31):
                raise InputError(
                    f"rand_augment_magnitude={rand_augment_magnitude}: must be a whole number from 0 to 30"
                )
            smooth = InterpolationMode.NEAREST if preprocess.interpolation == "nearest" else InterpolationMode.BILINEAR
            steps.append(
                v2.RandAugment(rand_augment_ops, int(rand_augment_magnitude), interpolation=smooth, fill=mean_colour)
            )
        if erase:
            steps.append(v2.RandomErasing(erase, value=mean_colour, inplace=True))
        self.steps = v2.Compose(steps) if steps else None

    def __call__(self, image: ImageLike | Tensor, target: Any) -> tuple[Tensor, Any]:
        """An image, or a tensor of shape (channels, height, width), to one of (channels, *size); and the target.

        The result has the image's number type: uint8, or float32 for arrays of floats.
        """
        whole = image if isinstance(image, Tensor) else to_tensor(image)
        box = self.boxes.make_params([whole])
        # With the channels side by side in memory before and after, resizing is twice as fast.
        part = tv.crop_image(whole, **box).permute(1, 2, 0).contiguous().permute(2, 0, 1)
        part = tv.resize_image(part, self.size, interpolation=self.interpolation, antialias=True)
        if torch.rand(()) < self.flip:
            part = part.flip(-1)
        return part if self.steps is None else self.steps(part), target


class EvalTransform:
    """The deterministic preprocessing that travels with the model."""

    least: int | None = None

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, image: ImageLike, target: Any) -> tuple[Tensor, Any]:
        """A tensor of shape (channels, *size), uint8 or, for arrays of floats, float32; and the target."""
        return torch.from_numpy(self.preprocess.pixels(image)), target


class Normalize(nn.Module):
    """Batches of pixels (0..255) to normalized float batches, on whatever device they are."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor, light: Tensor | None = None) -> Tensor:
        """Subtracts the mean and divides by the standard deviation of each channel.

        Agrees with :meth:`~fishnet.images.preprocess.Preprocess.normalize` to float32's rounding (1e-6): here it is one
        multiplication and one addition in a single pass.

        Args:
            images: (batch, channels, height, width), 0..255.
            light: (batch, channels), added to the pixels of each image, in units of 255; see :class:`Lighting`.

        Returns:
            float32 of the same shape, channels last in memory.
        """
        batch, channels, height, width = images.shape
        mean = self.mean.expand(batch, channels) if light is None else self.mean - light
        # Rows of width x channels numbers, in place: a channel axis of 3 would be an inner loop of 3.
        rows = images.permute(0, 2, 3, 1).to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        rows = rows.view(batch, height, width * channels)
        scale, shift = (1 / (255 * self.std)).repeat(width), (-mean / self.std).repeat(1, width)[:, None]
        torch.addcmul(shift, rows, scale, out=rows)
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


class Lighting(nn.Module):
    """PCA lighting: brightness and tint vary along the principal axes of ImageNet's colours.

    Each image gets ``E @ (alpha * l)`` added to all its pixels: E has the eigenvectors of the covariance of
    ImageNet's RGB values as columns, the first of which is brightness, l their eigenvalues, and alpha three draws from
    N(0, std). Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks",
    NeurIPS 2012, section 4.1.

    Args:
        std: of alpha; 0.1 as published.
    """

    vectors: Tensor
    values: Tensor

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        self.std = std
        self.register_buffer(
            "vectors",
            torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]),
            persistent=False,
        )
        self.register_buffer("values", torch.tensor([0.2175, 0.0188, 0.0045]), persistent=False)

    def draw(self, batch: int, generator: Generator | None = None) -> Tensor:
        """What is to be added to the red, green and blue of each image: (batch, 3), in units of the pixels' range.

        Drawn on the CPU, from the generator or torch's global one, and the same for an image on every device.
        """
        alpha = self.std * torch.randn(batch, 3, generator=generator)
        return (alpha.to(self.values.device) * self.values) @ self.vectors.T

    def forward(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """(batch, 3, height, width) of 0..1 -> the same shape; not clipped.

        Raises:
            InputError: another number of channels.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"PCA lighting is for RGB, shape (batch, 3, height, width): got {tuple(images.shape)}")
        return images + self.draw(len(images), generator).to(images)[:, :, None, None]
