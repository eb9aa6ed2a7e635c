"""What happens to a picture between its file and the batch, in training and in validation."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tv

from fishnet.preprocess import Preprocess


class TrainTransform:
    """Random resized crop and horizontal flip; gives uint8 tensors of the input size.

    Args:
        preprocess: size and interpolation of the input.
        crop_scale: smallest and largest share of the picture's area that a crop takes, in (0, 1].
        crop_ratio: smallest and largest width / height of a crop.
        flip: probability of mirroring, 0..1.
    """

    def __init__(
        self, preprocess: Preprocess, *, crop_scale: Sequence[float], crop_ratio: Sequence[float], flip: float
    ) -> None:
        self.steps = v2.Compose(
            [
                v2.RandomResizedCrop(
                    preprocess.size,
                    scale=tuple(crop_scale),
                    ratio=tuple(crop_ratio),
                    interpolation=InterpolationMode(preprocess.interpolation),
                    antialias=True,
                ),
                v2.RandomHorizontalFlip(flip),
            ]
        )

    def __call__(self, image: Image.Image, target: Any) -> tuple[Tensor, Any]:
        """A uint8 tensor of shape (channels, *size), and the target."""
        return self.steps(tv.pil_to_tensor(image)), target


class EvalTransform:
    """The deterministic preprocessing that travels with the model."""

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, image: Image.Image, target: Any) -> tuple[Tensor, Any]:
        """A uint8 tensor of shape (channels, *size), and the target."""
        return torch.from_numpy(self.preprocess.pixels(image)), target


class Normalise(torch.nn.Module):
    """uint8 batches (0..255) to normalised float batches, on whatever device they are."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) of 0..255 -> float32 of the same shape, channels last in memory."""
        return ((images.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
