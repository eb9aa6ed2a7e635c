"""Picture sets whose targets are label maps: the shape of every segmentation format, and their way into batches."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from fishnet.data.base import EntrySet
from fishnet.data.decode import decode_tensor
from fishnet.data.pictures import Picture, decode_picture
from fishnet.errors import InputError
from fishnet.preprocess import Placement

IGNORE = 255
"""The label of pixels that are neither learnt from nor measured."""

LabelMap = NDArray[np.uint8]
"""(height, width) of class indices, and of :data:`IGNORE`."""


class PixelSet(EntrySet):
    """One on-disk format of pictures with a class for every pixel. Targets are label maps.

    A format fills in ``entries``, one record of its own kind a picture, and says how to read one of them.

    Attributes:
        classes: read from the data, with their original ids; at most 255.
        channels: that pictures are read with.
    """

    @abstractmethod
    def label_map(self, index: int) -> LabelMap:
        """The picture's label map, without reading the picture.

        Raises:
            InputError: a mask that cannot be read, or that holds ids without a name; the message says the file.
        """

    @abstractmethod
    def place(self, index: int) -> str:
        """Where the picture is annotated, for messages: as a rule the mask's path."""

    def read(self, index: int) -> tuple[Picture, LabelMap]:
        """The picture and its label map.

        Raises:
            InputError: either cannot be read, or they are of different sizes.
        """
        picture = decode_picture(self.encoded(index), self.channels, self.source(index), sixteen_bit=self.sixteen_bit)
        size = picture.shape[:2] if isinstance(picture, np.ndarray) else picture.size[::-1]
        return picture, self._fitting(index, (size[0], size[1]))

    def read_tensor(self, index: int, least: int = 0) -> tuple[Tensor, LabelMap]:
        """See :class:`~fishnet.data.base.PictureSet`; the picture always comes in its own size."""
        image = decode_tensor(self.encoded(index), self.channels, self.source(index), sixteen_bit=self.sixteen_bit)
        return image, self._fitting(index, (image.shape[1], image.shape[2]))

    def _fitting(self, index: int, size: tuple[int, int]) -> LabelMap:
        labels = self.label_map(index)
        if labels.shape != size:
            raise InputError(
                f"{self.source(index)}: is {size[1]}x{size[0]} px, but its mask {labels.shape[1]}x{labels.shape[0]} "
                f"({self.place(index)}): they must have one size; mend or remove one of them"
            )
        return labels

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        image, labels = self.read_tensor(index)
        return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(labels))

    def frequencies(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Reads every mask that can be read, and no picture.

        Returns:
            (classes,) pixels of each class, and (classes,) pixels, ignored ones apart, of the pictures that have it.
        """
        counts, totals = np.zeros((2, len(self.classes)), np.int64)
        for index in range(len(self)):
            try:
                found = np.bincount(self.label_map(index).ravel(), minlength=256)[: len(self.classes)]
            except InputError:  # is said, or skipped, when the picture's turn comes
                continue
            counts += found
            totals += found.sum() * (found > 0)
        return counts, totals


@dataclass(eq=False)
class PixelTarget:
    """One picture's label map in a batch.

    Attributes:
        labels: (height, width) uint8 class indices over the picture's part of the input, 255 where ignored and padded.
        truth: in validation the label map in px of the picture itself; None in training.
        placement: in validation how the picture lies in the input.
    """

    labels: Tensor
    truth: LabelMap | None = None
    placement: Placement | None = None

    def to(self, *args: Any, **kwargs: Any) -> "PixelTarget":
        """On another device, as :meth:`torch.Tensor.to`."""
        return self._each(lambda value: value.to(*args, **kwargs))

    def pin_memory(self) -> "PixelTarget":
        """In memory that a GPU reads from by itself, as :meth:`torch.Tensor.pin_memory`."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "PixelTarget":
        return PixelTarget(change(self.labels), self.truth, self.placement)
