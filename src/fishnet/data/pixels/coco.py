"""COCO's annotated objects drawn into label maps: what no object covers is the background."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fishnet.data.findings import Finding
from fishnet.data.labels import Classes
from fishnet.data.pixels.base import IGNORE, LabelMap
from fishnet.data.pixels.deciding import Choices
from fishnet.data.pixels.files import FilePixels
from fishnet.data.pixels.names import labels_of
from fishnet.data.regions.coco import CocoFile, CocoRegions
from fishnet.errors import InputError

_BACKGROUND = ("background", "_background_")  # the second is labelme's


class CocoPixels(FilePixels):
    """One COCO annotation file, its objects drawn into label maps.

    Objects that fill fewer px lie on those that fill more. Crowds are ignored where no object lies on them. The first
    class is the background: the category called ``background`` or ``_background_`` where there is one, else a class
    ``background`` of its own, whose id is 0, or the smallest that no category has. The others are the categories in the
    order of their ids, which are kept.

    Args:
        path: of the JSON file.
        places: folders that ``file_name`` may start from, see :class:`~fishnet.data.regions.coco.CocoRegions`.
        channels: that pictures are read with.
        classes: the classes that are known, matched by name; by default those of the file.
        choices: ids and names of classes whose pixels are ignored, also the background's.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: see :class:`~fishnet.data.regions.coco.CocoRegions`, with masks, and
            :func:`~fishnet.data.pixels.names.labels_of`.
    """

    def __init__(
        self,
        path: Path,
        places: Sequence[Path],
        channels: int = 3,
        classes: Classes | None = None,
        *,
        choices: Choices = Choices(),  # noqa: B008 (frozen)
        problems: list[Finding] | None = None,
    ) -> None:
        self.regions = CocoRegions(path, places, channels, masks=True, problems=problems)
        self.channels, self.folder, self.entries = channels, self.regions.folder, self.regions.entries
        table = self.regions.table
        named = _with_background(table.classes if classes is None else table.used(), table.classes)
        self.classes, labels = labels_of(
            named, str(path), ignore=choices.ignore, void=choices.void, only=choices.only, classes=classes,
            problems=problems,
        )  # fmt: skip
        label = dict(zip(named.names, labels, strict=True))
        self.background = labels[0]
        self.labels = [label.get(name, IGNORE) for name in table.classes.names]

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.pixels.base.PixelSet`; a size that is not stated is read from the picture."""
        row = self.entries[index].row
        objects = self.regions.table.objects(row, self.regions.labels)
        size = self.size(index)  # of the image: what the file states may be any number
        if min(objects.size) and objects.size != size:
            raise InputError(f"{self.unlike(index, size, objects.size)}{self.turned(index, objects.size)}")
        objects = replace(objects, size=size)
        pieces = [objects.bits(i) for i in range(len(objects))]
        found = np.full(size, self.background, np.uint8)
        for i in sorted(range(len(objects)), key=lambda i: (not objects.crowd[i], -int(pieces[i][0].sum()))):
            bits, x, y = pieces[i]
            label = IGNORE if objects.crowd[i] else self.labels[objects.labels[i]]
            found[y : y + bits.shape[0], x : x + bits.shape[1]][bits == 1] = label
        return found

    def place(self, index: int) -> str:
        """The picture's entry: file and line."""
        return self.regions.table.place(self.entries[index].row, self.regions.labels, -1)

    def named_in(self, index: int) -> str:
        """The picture's entry."""
        return self.place(index)


def _with_background(used: Classes, every: Classes) -> Classes:
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


def open_coco(
    found: dict[str, CocoFile],
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
    problems: list[Finding] | None = None,
) -> dict[str, CocoPixels]:
    """Opens what :func:`~fishnet.data.regions.coco.find_coco` found; the first part says what the classes are.

    Raises:
        InputError: see :class:`CocoPixels`.
    """
    sets: dict[str, CocoPixels] = {}
    for part, (path, places, _) in found.items():
        sets[part] = CocoPixels(path, places, channels, classes, choices=choices, problems=problems)
        classes = sets[part].classes
    return sets
