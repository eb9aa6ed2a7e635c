"""The base class of all detection datasets, and the targets that batches hold."""

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
    """One on-disk format of images with annotated objects.

    Targets are :class:`~fishnet.data.detection.objects.Objects`, clipped to the image; objects without area are left
    out. A format sets ``entries``, one record of its own type per image, and implements how to read one of them.

    Attributes:
        classes: read from the data, with their original ids.
        channels: number of channels that images are read with.
        with_masks: whether objects have segmentations.
        entries: one per image. Images without objects are included, as negatives.
    """

    with_masks: bool

    @abstractmethod
    def objects(self, index: int) -> Objects:
        """The image's objects exactly as annotated, including bad ones. Avoids reading the image where possible.

        Raises:
            InputError: an annotation cannot be read; the message gives file and line.
        """

    @abstractmethod
    def location(self, index: int, number: int) -> str:
        """The location of the ``number``-th object's annotation, for messages: the file, and the line if known.

        With -1, or if there is no such object, the location of the image's annotation.
        """

    def annotated_boxes(self, index: int) -> Objects | None:
        """The image's objects without segmentations, read from annotations and image headers alone.

        None if these are not enough, such as for formats whose masks define the objects.

        Raises:
            InputError: see :meth:`objects`.
        """
        return replace(self.objects(index), segmentations=None)

    def _target(self, index: int, size: tuple[int, int]) -> Objects:
        objects = self.objects(index)
        if objects.size not in ((0, 0), size):
            raise InputError(
                f"{self.source(index)}: is {size[1]}x{size[0]} px, but annotated as {objects.size[1]}x"
                f"{objects.size[0]} ({self.location(index, 0)}): its boxes would be wrong; correct the annotation or "
                "the image"
            )
        return objects.clean(size)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image itself, px. Raises InputError if it cannot be read."""
        return size_of(self.read(index)[0])

    def boxes_in(self, preprocess: Preprocess) -> NDArray[np.float32]:
        """The boxes of all readable images, (n, 4), in px of the input, without crowds."""
        boxes = [np.zeros((0, 4), np.float32)]
        for index in range(len(self)):
            try:
                objects = self.objects(index)
                size = objects.size if min(objects.size) else self.size(index)
            except InputError:  # reported or skipped when the image itself is read
                continue
            clean = objects.clean(size)
            boxes.append(preprocess.place(*size).to_input(clean.boxes[~clean.crowd]))
        return np.concatenate(boxes)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict[str, Any]]:
        image, objects = self.read_tensor(index)
        return tv_tensors.Image(image), as_tensors(objects)


def as_tensors(objects: Objects) -> dict[str, Any]:
    """Objects of a known size as torchvision's tv_tensors.

    Returns:
        ``boxes`` (n, 4) xyxy float32, ``labels`` (n,) int64, ``crowd`` (n,) bool, and ``masks`` (n, height, width)
        uint8 if there are segmentations.
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
        masks: (n, height, width) uint8, of the input's size; None if the task has no masks.
        truth: the objects in px of the original image; None in training.
        placement: where the image lies in the input; None in training.
        labels_map: (height, width) uint8, the class of each pixel of the input, 255 where ignored, for heads that learn
            from label maps as well as objects; None if the image has none.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    masks: Tensor | None = None
    truth: Objects | None = None
    placement: Placement | None = None
    labels_map: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)
