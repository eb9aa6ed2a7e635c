"""COCO's annotated objects, drawn into label maps."""

from collections.abc import Mapping
from dataclasses import replace

from fishnet.bundle.classes import Classes
from fishnet.data.detection.coco import CocoDetection, CocoFile
from fishnet.data.detection.files import open_splits
from fishnet.data.segmentation.base import LabelMap
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.painting import ObjectSegmentation
from fishnet.errors import InputError


class CocoSegmentation(ObjectSegmentation):
    """One COCO annotation file, its objects drawn into label maps. Classes are in the order of the categories' ids.

    Args:
        file: the annotation file, and the folders of its images.
        channels: the number of channels that images are read with.
        classes: the classes of a model, matched by name; by default those of the file.
        choices: which ids and classes are ignored; the background may be one of them.

    Raises:
        InputError: see :class:`~fishnet.data.detection.coco.CocoDetection`, with masks, and
            :func:`~fishnet.data.segmentation.names.assign_labels`.
    """

    def __init__(
        self,
        file: CocoFile,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        choices: Choices = Choices(),  # noqa: B008 (frozen)
    ) -> None:
        detection = CocoDetection(file, channels, masks=True)
        super().__init__(detection, detection.table.used(), str(file.path), classes, choices)
        self.entries = detection.entries

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`. Has the size of the image file."""
        objects = self.detection.objects(self.entries[index].row)
        size = self.size(index)  # the annotated size may be any number
        if min(objects.size) and objects.size != size:
            raise InputError(self.describe_mismatch(index, size, objects.size))
        return self.paint(replace(objects, size=size))


def open_coco(
    files: Mapping[str, CocoFile],
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> dict[str, CocoSegmentation]:
    """Opens the files of :func:`~fishnet.data.detection.coco.find_coco`. All splits have the classes of the first one.

    Raises:
        InputError: see :class:`CocoSegmentation`.
    """
    return open_splits(CocoSegmentation, files, channels, classes=classes, choices=choices)
