"""COCO's annotated objects drawn into label maps: what no object covers is the background."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.detection.coco import CocoDetection, CocoFile
from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.files import FileSegmentation
from fishnet.data.segmentation.names import assign_labels
from fishnet.data.segmentation.painting import paint, with_background
from fishnet.errors import InputError


class CocoSegmentation(FileSegmentation):
    """One COCO annotation file, its objects drawn into label maps.

    Objects that fill fewer px lie on those that fill more. Crowds are ignored where no object lies on them. The first
    class is the background: the category called ``background`` or ``_background_`` where there is one, else a class
    ``background`` of its own, whose id is 0, or the smallest that no category has. The others are the categories in the
    order of their ids, which are kept.

    Args:
        path: of the JSON file.
        places: folders that ``file_name`` may start from, see :class:`~fishnet.data.detection.coco.CocoDetection`.
        channels: that images are read with.
        classes: the classes that are known, matched by name; by default those of the file.
        choices: ids and names of classes whose pixels are ignored, also the background's.

    Raises:
        InputError: see :class:`~fishnet.data.detection.coco.CocoDetection`, with masks, and
            :func:`~fishnet.data.segmentation.names.assign_labels`.
    """

    def __init__(
        self,
        path: Path,
        places: Sequence[Path],
        channels: int = 3,
        classes: Classes | None = None,
        *,
        choices: Choices = Choices(),  # noqa: B008 (frozen)
    ) -> None:
        self.regions = CocoDetection(CocoFile(path, tuple(places)), channels, masks=True)
        self.channels, self.folder, self.entries = channels, self.regions.folder, self.regions.entries
        table = self.regions.table
        named = with_background(table.classes if classes is None else table.used(), table.classes)
        self.classes, labels = assign_labels(
            named, str(path), ignore=choices.ignore, void=choices.void, only=choices.only, classes=classes,
        )  # fmt: skip
        label = dict(zip(named.names, labels, strict=True))
        self.background = labels[0]
        self.labels = [label.get(name, IGNORE) for name in table.classes.names]

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`. Reads a missing size from the image."""
        row = self.entries[index].row
        objects = self.regions.table.objects(row, self.regions.labels)
        size = self.size(index)  # of the image: what the file states may be any number
        if min(objects.size) and objects.size != size:
            raise InputError(f"{self.unlike(index, size, objects.size)}{self.turned(index, objects.size)}")
        objects = replace(objects, size=size)
        return paint(objects, self.background, self.labels)

    def place(self, index: int) -> str:
        """The image's entry: file and line."""
        return self.regions.table.place(self.entries[index].row, self.regions.labels, -1)

    def named_in(self, index: int) -> str:
        """The image's entry."""
        return self.place(index)


def open_coco(
    found: dict[str, CocoFile],
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> dict[str, CocoSegmentation]:
    """Opens what :func:`~fishnet.data.detection.coco.find_coco` found; the first part says what the classes are.

    Raises:
        InputError: see :class:`CocoSegmentation`.
    """
    splits: dict[str, CocoSegmentation] = {}
    for part, (path, places, _) in found.items():
        splits[part] = CocoSegmentation(path, places, channels, classes, choices=choices)
        classes = splits[part].classes
    return splits
