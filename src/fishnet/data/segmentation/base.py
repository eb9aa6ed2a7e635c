"""Image sets whose targets are label maps: the shape of every segmentation format, and their way into batches."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from fishnet.data.entries import EntryDataset, TensorTarget
from fishnet.errors import InputError
from fishnet.images.preprocess import Placement

IGNORE = 255
"""The label of pixels that are neither learnt from nor measured."""

LabelMap = NDArray[np.uint8]
"""(height, width) of class indices, and of :data:`IGNORE`."""


class SegmentationDataset(EntryDataset):
    """One on-disk format of images with a class for every pixel. Targets are label maps.

    A format fills in ``entries``, one record of its own kind an image, and says how to read one of them.

    Attributes:
        classes: read from the data, with their original ids; at most 255.
        channels: that images are read with.
        conclusions: lines for the user about what was concluded from the masks.
    """

    conclusions: tuple[str, ...] = ()

    @abstractmethod
    def label_map(self, index: int) -> LabelMap:
        """The image's label map, without reading the image.

        Raises:
            InputError: a mask that cannot be read, or that holds ids without a name; the message says the file.
        """

    @abstractmethod
    def place(self, index: int) -> str:
        """Where the image is annotated, for messages: as a rule the mask's path."""

    def _fitting(self, index: int, size: tuple[int, int]) -> LabelMap:
        labels = self.label_map(index)
        if labels.shape != size:
            raise InputError(f"{self.unlike(index, size, labels.shape)}{self.turned(index, labels.shape)}")
        return labels

    def unlike(self, index: int, size: tuple[int, int], mask: tuple[int, ...]) -> str:
        """What is said of an image and a mask of different sizes, height and width each."""
        sizes = f"is {size[1]}x{size[0]} px, but its mask {mask[1]}x{mask[0]}"
        return f"{self.source(index)}: {sizes} ({self.place(index)})"

    def turned(self, index: int, mask: tuple[int, ...]) -> str:
        """What to do about a mask of that height and width, which are not the image's: whether EXIF explains it."""
        return ": they must have one size; mend or remove one of them"

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        image, labels = self.read_tensor(index)
        return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(labels))

    def frequencies(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Reads every mask that can be read, and no image.

        Returns:
            (classes,) pixels of each class, and (classes,) pixels, ignored ones apart, of the images that have it.
        """
        counts, totals = np.zeros((2, len(self.classes)), np.int64)
        for index in range(len(self)):
            try:
                found = pixels_of_each(self.label_map(index))[: len(self.classes)]
            except InputError:  # is said, or skipped, when the image's turn comes
                continue
            counts += found
            totals += found.sum() * (found > 0)
        return counts, totals


def pixels_of_each(labels: LabelMap) -> NDArray[np.int64]:
    """(256,) pixels of each label, counted row by row: numpy widens what it counts to eight bytes a pixel."""
    counts = np.zeros(IGNORE + 1, np.int64)
    step = max(1, (1 << 20) // max(1, labels.shape[1]))
    for top in range(0, labels.shape[0], step):
        counts += np.bincount(labels[top : top + step].ravel(), minlength=IGNORE + 1)
    return counts


@dataclass(eq=False)
class SegmentationTarget(TensorTarget):
    """One image's label map in a batch.

    Attributes:
        labels: (height, width) uint8 class indices over the image's part of the input, 255 where ignored and padded.
        truth: in validation the label map in px of the image itself; None in training.
        placement: in validation how the image lies in the input.
    """

    labels: Tensor
    truth: LabelMap | None = None
    placement: Placement | None = None
