"""The geometry of every transform: a window of an image, and where it lies in the model's input."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv


@dataclass(frozen=True)
class View:
    """A window of an image, resized, mirrored and pasted on a canvas.

    Attributes:
        window: left, top, right, bottom in px of the image, integers; right and bottom are exclusive.
        inner: height and width that the window is resized to, px of the canvas.
        corner: x and y of the window's top left corner on the canvas, px.
        canvas: height and width of the canvas, px.
        flip: whether the window is mirrored horizontally, and vertically.
    """

    window: tuple[int, int, int, int]
    inner: tuple[int, int]
    corner: tuple[int, int]
    canvas: tuple[int, int]
    flip: tuple[bool, bool] = (False, False)

    def pixels(self, image: Tensor, interpolation: InterpolationMode) -> Tensor:
        """The window of an image (channels, height, width), resized and mirrored: (channels, *inner)."""
        left, top, right, bottom = self.window
        # Resizing is twice as fast if the image is channels last in memory before and after.
        crop = image[:, top:bottom, left:right].permute(1, 2, 0).contiguous().permute(2, 0, 1)
        if crop.shape[1:] != self.inner:
            crop = tv.resize_image(crop, list(self.inner), interpolation=interpolation, antialias=True)
        axes = [axis for axis, flipped in zip((-1, -2), self.flip, strict=True) if flipped]
        return crop.flip(axes) if axes else crop

    def paste(self, pixels: Tensor, canvas: Tensor) -> None:
        """Pastes the result of :meth:`pixels` on a canvas of shape (channels, *canvas)."""
        x, y = self.corner
        canvas[:, y : y + self.inner[0], x : x + self.inner[1]] = pixels

    def sampled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The px of the image at the centre of each px of the resized window: (height,) rows and (width,) columns.

        They are not mirrored; values assigned to the result of :meth:`mirrored` are.
        """
        left, top, right, bottom = self.window
        height, width = self.inner
        rows = top + ((np.arange(height) + 0.5) * ((bottom - top) / height)).astype(np.int64)
        columns = left + ((np.arange(width) + 0.5) * ((right - left) / width)).astype(np.int64)
        return rows, columns

    def mirrored(self, canvas: NDArray[Any]) -> NDArray[Any]:
        """The window's area on a canvas of shape (..., *canvas), as a view that mirrors what is assigned to it."""
        x, y = self.corner
        area = canvas[..., y : y + self.inner[0], x : x + self.inner[1]]
        return area[..., :: -1 if self.flip[1] else 1, :: -1 if self.flip[0] else 1]

    def labels(self, label_map: NDArray[Any], fill: int) -> NDArray[Any]:
        """A label map (height, width) on the canvas, sampled at the centre of each px; ``fill`` outside the window."""
        canvas = np.full(self.canvas, fill, label_map.dtype)
        rows, columns = self.sampled()
        self.mirrored(canvas)[:] = label_map[rows[:, None], columns]
        return canvas
