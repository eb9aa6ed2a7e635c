"""Datasets whose targets are label maps: the interface of all segmentation formats, and the target in a batch."""

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
"""The label of pixels that are neither learned nor measured."""

LabelMap = NDArray[np.uint8]
"""(height, width) class indices, or :data:`IGNORE`."""


class SegmentationDataset(EntryDataset):
    """Images whose targets are label maps, in one on-disk format.

    A format sets ``entries``, one record of its own type per image, and implements how to read one of them.

    Attributes:
        classes: the classes of the data, at most 255, with their original ids.
        channels: the number of channels that images are read with.
        conclusions: what was concluded from the masks, one line each, for the user.
    """

    conclusions: tuple[str, ...] = ()

    @abstractmethod
    def label_map(self, index: int) -> LabelMap:
        """The image's label map, without reading the image.

        Raises:
            InputError: the mask cannot be read, or holds ids without a name. The message names the file.
        """

    @abstractmethod
    def location(self, index: int) -> str:
        """Where the image is annotated, for messages; usually the path of the mask."""

    def _target(self, index: int, size: tuple[int, int]) -> LabelMap:
        labels = self.label_map(index)
        if labels.shape != size:
            raise InputError(self.describe_mismatch(index, size, labels.shape))
        return labels

    def describe_mismatch(self, index: int, size: tuple[int, int], mask: tuple[int, ...]) -> str:
        """The message for an image and a mask of different sizes (height, width)."""
        sizes = f"is {size[1]}x{size[0]} px, but its mask {mask[1]}x{mask[0]}"
        return f"{self.source(index)}: {sizes} ({self.location(index)}): {self._mismatch_advice(index, mask)}"

    def _mismatch_advice(self, index: int, mask: tuple[int, ...]) -> str:
        """What to do about a mask of this size (height, width), which differs from the image's."""
        return "they must have the same size; correct or remove one of them"

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        image, labels = self.read_tensor(index)
        return tv_tensors.Image(image), tv_tensors.Mask(torch.from_numpy(labels))

    def frequencies(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Counts the pixels of each class. Reads all readable masks, but no image.

        Returns:
            (classes,) pixels of each class; and (classes,) labelled pixels of all images that have the class.
        """
        counts, totals = np.zeros((2, len(self.classes)), np.int64)
        for index in range(len(self)):
            try:
                image_counts = count_labels(self.label_map(index))[: len(self.classes)]
            except InputError:  # reported, or skipped, when the image itself is read
                continue
            counts += image_counts
            totals += image_counts.sum() * (image_counts > 0)
        return counts, totals


def count_labels(labels: LabelMap) -> NDArray[np.int64]:
    """(256,) pixels of each label. Counts strips of rows, since numpy needs eight bytes for each pixel it counts."""
    counts = np.zeros(IGNORE + 1, np.int64)
    step = max(1, (1 << 20) // max(1, labels.shape[1]))
    for top in range(0, labels.shape[0], step):
        counts += np.bincount(labels[top : top + step].ravel(), minlength=IGNORE + 1)
    return counts


@dataclass(eq=False)
class SegmentationTarget(TensorTarget):
    """One image's label map in a batch.

    Attributes:
        labels: (height, width) uint8 class indices in px of the input; 255 for ignored pixels and padding.
        truth: the label map in px of the original image; None in training.
        placement: where the image lies in the input; None in training.
    """

    labels: Tensor
    truth: LabelMap | None = None
    placement: Placement | None = None
