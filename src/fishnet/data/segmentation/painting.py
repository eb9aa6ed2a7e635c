"""Draws annotated objects into label maps. Pixels without an object are the background."""

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.objects import Objects
from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.files import FileSegmentation
from fishnet.data.segmentation.names import assign_labels

_BACKGROUND = ("background", "_background_")  # the second is labelme's


class ObjectSegmentation(FileSegmentation):
    """Images with outlined objects, as label maps. Each entry has a ``row``, its index in the detection dataset.

    Smaller objects are drawn over larger ones. Crowds are ignored where no object covers them. The first class is the
    background: the data's own class ``background`` or ``_background_``, or else an additional class ``background``
    with the smallest id, from 0, that no other class has. The other classes keep their order and their ids.

    Args:
        detection: the same data for detection, with masks and with its own classes.
        used: the classes that have objects.
        source: the data's name, for messages.
        classes: the classes of a model, matched by name; by default those of the data.
        choices: which ids and classes are ignored; the background may be one of them.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.names.assign_labels`.
    """

    def __init__(
        self, detection: FileDetection, used: Classes, source: str, classes: Classes | None, choices: Choices
    ) -> None:
        self.detection, self.channels, self.folder = detection, detection.channels, detection.folder
        named = _with_background(detection.classes if classes is None else used, detection.classes)
        self.classes, labels = assign_labels(
            named, source, ignore=choices.ignore, void=choices.void, only=choices.only, classes=classes
        )
        label_of = dict(zip(named.names, labels, strict=True))
        self.background = labels[0]
        self.labels = [label_of.get(name, IGNORE) for name in detection.classes.names]

    def paint(self, objects: Objects) -> LabelMap:
        """Draws the objects of an image, which must have segmentations and a size."""
        masks = [objects.bits(i) for i in range(len(objects))]
        label_map = np.full(objects.size, self.background, np.uint8)
        for i in sorted(range(len(objects)), key=lambda i: (not objects.crowd[i], -int(masks[i][0].sum()))):
            bits, x, y = masks[i]
            label = IGNORE if objects.crowd[i] else self.labels[objects.labels[i]]
            label_map[y : y + bits.shape[0], x : x + bits.shape[1]][bits == 1] = label
        return label_map

    def location(self, index: int) -> str:
        """Where the image is annotated."""
        return self.detection.location(self.entries[index].row, -1)

    def named_in(self, index: int) -> str:
        """Where the image is annotated."""
        return self.location(index)


def _with_background(used: Classes, data_classes: Classes) -> Classes:
    """The used classes, preceded by the background.

    Args:
        used: the classes that have objects.
        data_classes: all classes of the data, whose ids an additional background must not have.
    """
    own = next((i for i, name in enumerate(data_classes.names) if name.lower() in _BACKGROUND), None)
    free_id = next(id_ for id_ in range(len(data_classes) + 1) if id_ not in data_classes.ids)
    name, id_ = (_BACKGROUND[0], free_id) if own is None else (data_classes.names[own], data_classes.ids[own])
    rest = [(n, i) for n, i in zip(used.names, used.ids, strict=True) if n != name]
    return Classes((name, *(n for n, _ in rest)), (id_, *(i for _, i in rest)))
