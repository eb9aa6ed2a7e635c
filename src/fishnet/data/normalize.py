"""Normalizes batches of pixels on the device of the network, and varies their lighting."""

import torch
from torch import Generator, Tensor, nn

from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess


class Normalize(nn.Module):
    """Turns batches of pixels (0..255) into normalized float batches on the same device."""

    mean: Tensor
    std: Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std, dtype=torch.float32), persistent=False)

    def forward(self, images: Tensor, light: Tensor | None = None) -> Tensor:
        """Subtracts the mean and divides by the standard deviation of each channel.

        Agrees with :meth:`~fishnet.images.preprocess.Preprocess.normalize` up to float32's rounding (1e-6): here it is
        one multiplication and one addition in a single pass.

        Args:
            images: (batch, channels, height, width), 0..255.
            light: (batch, channels), added to the pixels of each image, as a share of 255; see :class:`Lighting`.

        Returns:
            float32 of the same shape, channels last in memory.
        """
        batch, channels, height, width = images.shape
        mean = self.mean.expand(batch, channels) if light is None else self.mean - light
        # Rows of width x channels numbers: with a separate channel axis, the inner loop would have 3 steps only.
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
        std: standard deviation of alpha; the paper uses 0.1.
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
        """Random values to add to the red, green and blue of each image: (batch, 3), as shares of the pixels' range.

        Drawn on the CPU, from ``generator`` or torch's global one, so they do not depend on the device.
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
