"""A window of an image and where it comes to lie in the model's input: the geometry of every transform."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv


@dataclass(frozen=True)
class View:
    """A window of an image, resized, mirrored and laid on a page.

    Attributes:
        window: left, top, right, bottom in px of the image: whole numbers, right and bottom outside.
        inner: height and width that it is resized to, px of the page.
        corner: where its left and top edge lie on the page, px.
        page: height and width of the page, px.
        flip: mirrored left to right, and upside down.
    """

    window: tuple[int, int, int, int]
    inner: tuple[int, int]
    corner: tuple[int, int]
    page: tuple[int, int]
    flip: tuple[bool, bool] = (False, False)

    def pixels(self, image: Tensor, interpolation: InterpolationMode) -> Tensor:
        """The window of an image (channels, height, width), resized and mirrored: (channels, *inner)."""
        left, top, right, bottom = self.window
        # With the channels side by side in memory before and after, resizing is twice as fast.
        part = image[:, top:bottom, left:right].permute(1, 2, 0).contiguous().permute(2, 0, 1)
        if part.shape[1:] != self.inner:
            part = tv.resize_image(part, list(self.inner), interpolation=interpolation, antialias=True)
        axes = [axis for axis, wanted in zip((-1, -2), self.flip, strict=True) if wanted]
        return part.flip(axes) if axes else part

    def paste(self, part: Tensor, page: Tensor) -> None:
        """Lays what :meth:`pixels` gives on a page of shape (channels, *page)."""
        x, y = self.corner
        page[:, y : y + self.inner[0], x : x + self.inner[1]] = part

    def sampled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The px of the image at the centre of each px of the window's place: (height,) rows and (width,) columns.

        They are those of what :meth:`mirrored` gives.
        """
        left, top, right, bottom = self.window
        height, width = self.inner
        rows = top + ((np.arange(height) + 0.5) * ((bottom - top) / height)).astype(np.int64)
        columns = left + ((np.arange(width) + 0.5) * ((right - left) / width)).astype(np.int64)
        return rows, columns

    def mirrored(self, page: NDArray[Any]) -> NDArray[Any]:
        """The window's place on a page of shape (..., *page), mirrored: a view to be written into unmirrored."""
        x, y = self.corner
        part = page[..., y : y + self.inner[0], x : x + self.inner[1]]
        return part[..., :: -1 if self.flip[1] else 1, :: -1 if self.flip[0] else 1]

    def labels(self, map_: NDArray[Any], beyond: int) -> NDArray[Any]:
        """A map of numbers (height, width) in the page: each px that of the image at its centre, else ``beyond``."""
        found = np.full(self.page, beyond, map_.dtype)
        rows, columns = self.sampled()
        self.mirrored(found)[:] = map_[rows[:, None], columns]
        return found
