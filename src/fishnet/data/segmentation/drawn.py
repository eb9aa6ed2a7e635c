"""Label maps drawn from the objects of labelme, Supervisely and folders with one mask per object."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.detection import labelme, objectfiles, supervisely
from fishnet.data.detection.files import FileDetection, open_splits
from fishnet.data.segmentation.base import LabelMap
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.painting import ObjectSegmentation

LAYOUTS = "; ".join(format_.LAYOUTS for format_ in (labelme, supervisely, objectfiles))


class DrawnEntry(NamedTuple):
    """An image, and its index in the detection dataset."""

    path: Path
    row: int


class DrawnData(NamedTuple):
    """Data of a format with outlined objects.

    Attributes:
        folder: the data's folder.
        open: opens the splits for detection; takes ``channels`` and ``masks``.
    """

    folder: Path
    open: Callable[..., Mapping[str, FileDetection]]


class DrawnSegmentation(ObjectSegmentation):
    """Label maps drawn from outlined objects; labelme's ``__ignore__`` is ignored.

    Arguments and errors are those of :class:`~fishnet.data.segmentation.painting.ObjectSegmentation`; ``used`` is read
    from the data.
    """

    def __init__(
        self,
        detection: FileDetection,
        source: str,
        classes: Classes | None = None,
        *,
        choices: Choices = Choices(),  # noqa: B008 (frozen)
    ) -> None:
        if labelme.IGNORED in detection.classes.names:
            choices = replace(choices, void=(*choices.void, labelme.IGNORED))
        super().__init__(detection, _used_classes(detection), source, classes, choices)
        self.left_out = detection.left_out
        self.entries = [DrawnEntry(entry.path, row) for row, entry in enumerate(detection.entries)]

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`."""
        row = self.entries[index].row
        objects = self.detection.objects(row)
        if not min(objects.size):
            return np.full(self.detection.size(row), self.background, np.uint8)
        return self.paint(objects)

    def encoded(self, index: int) -> bytes:
        """The image file, or the image inside the annotation file."""
        return self.detection.encoded(self.entries[index].row)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image itself, px."""
        return self.detection.size(self.entries[index].row)


def _used_classes(detection: FileDetection) -> Classes:
    """The classes that have objects; all classes if the format does not know."""
    classes = detection.classes
    used = getattr(detection, "used", frozenset(classes.names))
    kept = [(name, id_) for name, id_ in zip(classes.names, classes.ids, strict=True) if name in used]
    return Classes(tuple(name for name, _ in kept), tuple(id_ for _, id_ in kept))


def find_drawn(data: Path) -> DrawnData | None:
    """Finds data of labelme or Supervisely, or folders with one mask per object; None for any other data.

    Raises:
        InputError: an ambiguous layout.
    """
    if project := supervisely.find_supervisely(data):
        return DrawnData(data, partial(open_splits, supervisely.SuperviselyDetection, project))
    if files := labelme.find_labelme(data):
        return DrawnData(data, partial(open_splits, labelme.LabelmeDetection, files, with_ignored=True))
    if folders := objectfiles.find_object_files(data):
        return DrawnData(data, partial(open_splits, objectfiles.ObjectFileDetection, folders))
    return None


def open_drawn(
    data: DrawnData,
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> dict[str, DrawnSegmentation]:
    """Opens the data of :func:`find_drawn`. All splits have the classes of the first one. Raises InputError."""
    splits: dict[str, DrawnSegmentation] = {}
    for name, detection in data.open(channels, masks=True).items():
        splits[name] = DrawnSegmentation(detection, str(data.folder), classes, choices=choices)
        classes = splits[name].classes
    return splits
