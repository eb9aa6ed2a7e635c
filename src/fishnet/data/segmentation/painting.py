"""Objects drawn into label maps: what no object covers is the background."""

from collections.abc import Sequence

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.detection.objects import Objects
from fishnet.data.segmentation.base import IGNORE, LabelMap

_BACKGROUND = ("background", "_background_")  # the second is labelme's


def paint(objects: Objects, background: int, labels: Sequence[int]) -> LabelMap:
    """A label map of objects: those that fill fewer px lie on those that fill more, and crowds are ignored below all.

    Args:
        objects: with segmentations and a size.
        background: the label of what no object covers.
        labels: of each class of the objects.
    """
    pieces = [objects.bits(i) for i in range(len(objects))]
    found = np.full(objects.size, background, np.uint8)
    for i in sorted(range(len(objects)), key=lambda i: (not objects.crowd[i], -int(pieces[i][0].sum()))):
        bits, x, y = pieces[i]
        label = IGNORE if objects.crowd[i] else labels[objects.labels[i]]
        found[y : y + bits.shape[0], x : x + bits.shape[1]][bits == 1] = label
    return found


def with_background(used: Classes, every: Classes) -> Classes:
    """Classes of objects, and before them the background.

    Args:
        used: the classes that are wanted.
        every: all categories of the file, whose ids are taken.
    """
    own = next((i for i, name in enumerate(every.names) if name.lower() in _BACKGROUND), None)
    free = next(id_ for id_ in range(len(every) + 1) if id_ not in every.ids)
    name, id_ = (_BACKGROUND[0], free) if own is None else (every.names[own], every.ids[own])
    rest = [(n, i) for n, i in zip(used.names, used.ids, strict=True) if n != name]
    return Classes((name, *(n for n, _ in rest)), (id_, *(i for _, i in rest)))
