"""Annotated objects of any format with outlines, drawn into label maps."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.detection import labelme, objectfiles, supervisely
from fishnet.data.detection.files import FileDetection
from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.files import FileSegmentation
from fishnet.data.segmentation.names import assign_labels
from fishnet.data.segmentation.painting import paint, with_background

LAYOUTS = "; ".join(one.LAYOUTS for one in (labelme, supervisely, objectfiles))


class DrawnEntry(NamedTuple):
    """An image, and its place among the objects' images."""

    path: Path
    row: int


class DrawnFrom(NamedTuple):
    """Data of a format with objects.

    Attributes:
        data: its name.
        open: opens its splits; takes ``channels`` and ``masks``.
    """

    data: Path
    open: Callable[..., Mapping[str, FileDetection]]


class DrawnSegmentation(FileSegmentation):
    """A set of images with outlined objects, as label maps.

    The first class is the background: that called ``background`` or ``_background_`` where there is one, else one of
    its own. labelme's ``__ignore__`` is ignored.

    Args:
        regions: with masks, and with the classes of its own data.
        source: the data's name, for messages.
        classes: the classes that are known, matched by name; by default those of the data.
        choices: ids and names of classes whose pixels are ignored, also the background's.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.names.assign_labels`.
    """

    def __init__(
        self,
        regions: FileDetection,
        source: str,
        classes: Classes | None = None,
        *,
        choices: Choices = Choices(),  # noqa: B008 (frozen)
    ) -> None:
        self.regions, self.channels, self.folder, self.left_out = (
            regions, regions.channels, regions.folder, regions.left_out,
        )  # fmt: skip
        self.entries = [DrawnEntry(entry.path, row) for row, entry in enumerate(regions.entries)]
        every = regions.classes
        named = with_background(every if classes is None else _used(regions), every)
        hidden = (
            *choices.void,
            *(name for name in named.names if name == labelme.IGNORED and name not in choices.void),
        )
        self.classes, labels = assign_labels(
            named, source, ignore=choices.ignore, void=hidden, only=choices.only, classes=classes
        )
        label = dict(zip(named.names, labels, strict=True))
        self.background = labels[0]
        self.labels = [label.get(name, IGNORE) for name in every.names]

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`."""
        row = self.entries[index].row
        objects = self.regions.objects(row)
        if not min(objects.size):
            return np.full(self.regions.size(row), self.background, np.uint8)
        return paint(objects, self.background, self.labels)

    def encoded(self, index: int) -> bytes:
        """The image, from wherever its annotation says."""
        return self.regions.encoded(self.entries[index].row)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image itself, px."""
        return self.regions.size(self.entries[index].row)

    def place(self, index: int) -> str:
        """Where the image is annotated."""
        return self.regions.place(self.entries[index].row, -1)

    def named_in(self, index: int) -> str:
        """The same."""
        return self.place(index)


def _used(regions: FileDetection) -> Classes:
    """The classes that objects have."""
    used = getattr(regions, "used", frozenset(regions.classes.names))
    both = [(name, id_) for name, id_ in zip(regions.classes.names, regions.classes.ids, strict=True) if name in used]
    return Classes(tuple(name for name, _ in both), tuple(id_ for _, id_ in both))


def find_drawn(data: Path) -> DrawnFrom | None:
    """labelme's and Supervisely's data, and folders of one mask an object; None for any other.

    Raises:
        InputError: a doubtful layout.
    """
    if project := supervisely.find_supervisely(data):
        return DrawnFrom(data, partial(supervisely.open_supervisely, project))
    if files := labelme.find_labelme(data):
        return DrawnFrom(data, partial(labelme.open_labelme, files, with_ignored=True))
    if folders := objectfiles.find_object_files(data):
        return DrawnFrom(data, partial(objectfiles.open_object_files, folders))
    return None


def open_drawn(
    found: DrawnFrom,
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> dict[str, DrawnSegmentation]:
    """Opens what :func:`find_drawn` found; the first split says what the classes are. Raises InputError."""
    splits: dict[str, DrawnSegmentation] = {}
    for name, regions in found.open(channels, masks=True).items():
        splits[name] = DrawnSegmentation(regions, str(found.data), classes, choices=choices)
        classes = splits[name].classes
    return splits
