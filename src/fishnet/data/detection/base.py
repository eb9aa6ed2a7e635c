"""Image sets whose targets are objects: the shape of every detection format, and their way into batches."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors

from fishnet.data.detection.objects import Objects
from fishnet.data.entries import EntryDataset, TensorTarget
from fishnet.errors import InputError
from fishnet.images.decoding import size_of
from fishnet.images.preprocess import Placement, Preprocess


class DetectionDataset(EntryDataset):
    """One on-disk format of images with objects.

    Targets are :class:`~fishnet.data.detection.objects.Objects`, cut off at the image's edges, those without area
    left out.

    A format fills in ``entries``, one record of its own kind an image, and says how to read one of them.

    Attributes:
        classes: read from the data, with their original ids.
        channels: that images are read with.
        with_masks: whether objects come with segmentations.
        entries: one an image, also for images without objects, which are negatives.
    """

    with_masks: bool

    @abstractmethod
    def objects(self, index: int) -> Objects:
        """The image's objects exactly as annotated, also bad ones, without reading the image where that can be.

        Raises:
            InputError: an annotation that cannot be read; the message says file and line.
        """

    @abstractmethod
    def place(self, index: int, number: int) -> str:
        """Where the ``number``-th object of an image, or with -1 the image itself, is annotated, for messages: file
        and line as far as known."""

    def stated(self, index: int) -> Objects | None:
        """The image's objects without segmentations, as the annotation alone states them.

        None where that would take more than annotations and image headers, such as a mask.

        Raises:
            InputError: see :meth:`objects`.
        """
        return replace(self.objects(index), segmentations=None)

    def _fitting(self, index: int, size: tuple[int, int]) -> Objects:
        found = self.objects(index)
        if found.size not in ((0, 0), size):
            raise InputError(
                f"{self.source(index)}: is {size[1]}x{size[0]} px, but annotated as {found.size[1]}x{found.size[0]} "
                f"({self.place(index, 0)}): its boxes would lie elsewhere; mend the annotation or the image"
            )
        return found.clean(size)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image itself, px. Raises InputError where it cannot be read."""
        return size_of(self.read(index)[0])

    def boxes_in(self, preprocess: Preprocess) -> NDArray[np.float32]:
        """The boxes of all images that can be read, (n, 4), in px of the input; crowds left out."""
        found = [np.zeros((0, 4), np.float32)]
        for index in range(len(self)):
            try:
                objects = self.objects(index)
                size = objects.size if min(objects.size) else self.size(index)
            except InputError:  # is said, or skipped, when the image's turn comes
                continue
            clean = objects.clean(size)
            found.append(preprocess.place(*size).to_input(clean.boxes[~clean.crowd]))
        return np.concatenate(found)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        image, objects = self.read_tensor(index)
        return tv_tensors.Image(image), as_tensors(objects)


def as_tensors(objects: Objects) -> dict[str, Any]:
    """Objects of a known size as torchvision's tv_tensors.

    Returns:
        ``boxes`` (n, 4) xyxy float32, ``labels`` (n,) int64, ``crowd`` (n,) bool, and where there are segmentations
        ``masks`` (n, height, width) uint8.
    """
    target: dict[str, Any] = {
        "boxes": tv_tensors.BoundingBoxes(torch.from_numpy(objects.boxes), format="XYXY", canvas_size=objects.size),
        "labels": torch.from_numpy(objects.labels),
        "crowd": torch.from_numpy(objects.crowd),
    }
    if objects.segmentations is not None:
        target["masks"] = tv_tensors.Mask(torch.from_numpy(objects.masks()))
    return target


@dataclass(eq=False)
class DetectionTarget(TensorTarget):
    """One image's objects in a batch, in px of the model's input.

    Attributes:
        boxes: (n, 4) float32 x1, y1, x2, y2.
        labels: (n,) int64, from 0.
        crowd: (n,) bool.
        masks: (n, height, width) uint8 over the image's part of the input; None where the task has none.
        truth: in validation the objects in px of the image itself; None in training.
        placement: in validation how the image lies in the input.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    masks: Tensor | None = None
    truth: Objects | None = None
    placement: Placement | None = None

    def __len__(self) -> int:
        return len(self.boxes)
