"""Annotated objects with masks, and a label map of each image: things are the objects, stuff is the rest of the map."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import SegmentClass
from fishnet.data.base import ImageDataset
from fishnet.data.detection import coco, labelme, voc, yolo
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.open import open_detection
from fishnet.data.detection.selection import SelectedDetection
from fishnet.data.findings import Finding
from fishnet.data.panoptic.base import Annotated, PanopticMap, PanopticSegmentation
from fishnet.data.panoptic.categories import Categories
from fishnet.data.panoptic.idruns import IdRuns
from fishnet.data.segmentation import folder
from fishnet.data.segmentation import voc as voc_maps
from fishnet.data.segmentation.base import IGNORE, SegmentationDataset
from fishnet.data.segmentation.open import open_segmentation
from fishnet.errors import InputError

LAYOUTS = "objects with masks (COCO, labelme, YOLO, Pascal VOC) beside images/ and masks/ of stuff"
_OBJECTS: tuple[Callable[[Path], object], ...] = (
    labelme.find_labelme,
    coco.find_coco,
    yolo.find_yolo,
    lambda data: voc.find_voc(data, True),
)
_MAPS: tuple[Callable[[Path], object], ...] = (voc_maps.find_voc, folder.find_folder)


class PairEntry(NamedTuple):
    """An image: its path, and its indices in the datasets of objects and of label maps."""

    path: str
    objects: int
    labels: int


@dataclass(frozen=True)
class Sources:
    """The two datasets of a split."""

    objects: DetectionDataset
    maps: SegmentationDataset


class PairedPanoptic(PanopticSegmentation):
    """Objects, and label maps of the same images.

    Smaller objects lie over larger ones, and crowds below all. What no object covers is the stuff of the label map. Its
    pixels of classes that the objects have are void.

    Args:
        sources: the two datasets.
        entries: the images that both have.
        segments: the classes of the data, things first.
        stuff: the index in ``segments`` of each class of the label maps; -1 for a class of things.
        categories: the chosen classes.
        things: the index in the classes of the objects of each class of things in ``segments``.
    """

    def __init__(
        self,
        sources: Sources,
        entries: Sequence[PairEntry],
        stuff: Sequence[int],
        categories: Categories,
        things: Sequence[int],
    ) -> None:
        super().__init__(categories, sources.objects.channels)
        self.sources, self.entries = sources, entries
        self.folder = getattr(sources.objects, "folder", Path())
        self.notes += [*sources.objects.notes, *sources.maps.notes]
        self.conclusions = sources.maps.conclusions
        self._stuff, self._own = stuff, np.argsort(np.array(things, np.int64))  # of each class of the objects

    def read_map(self, index: int) -> PanopticMap:
        """See :class:`~fishnet.data.panoptic.base.PanopticSegmentation`. The ids are 1, 2, ...: objects, then stuff."""
        entry: PairEntry = self.entries[index]
        labels, objects = self.sources.maps.label_map(entry.labels), self.sources.objects.objects(entry.objects)
        size = (labels.shape[0], labels.shape[1])
        if objects.size not in ((0, 0), size):
            sizes = f"is {size[1]}x{size[0]} px, but the objects are annotated in {objects.size[1]}x{objects.size[0]}"
            raise InputError(f"{self.location(index)}: {sizes} ({self.named_in(index)}): correct one of them")
        objects = replace(objects, size=size)
        count = len(objects)
        id_of = np.zeros(IGNORE + 1, np.int64)
        id_of[: len(self._stuff)] = [count + 1 + own if own >= 0 else 0 for own in self._stuff]
        ids = id_of[labels]
        masks = [objects.bits(i) for i in range(count)]
        for i in sorted(range(count), key=lambda i: (not objects.crowd[i], -int(masks[i][0].sum()))):
            bits, x, y = masks[i]
            ids[y : y + bits.shape[0], x : x + bits.shape[1]][bits == 1] = i + 1
        runs = IdRuns.of(ids)
        things = {i + 1: Annotated(int(self._own[objects.labels[i]]), bool(objects.crowd[i])) for i in range(count)}
        annotated = things | {count + 1 + own: Annotated(own) for own in self._stuff if own >= 0}
        visible = {id_: annotated[id_] for id_ in runs.ids.tolist() if id_}
        return PanopticMap(runs, visible, hidden=len(things.keys() - visible.keys()))

    def instances(self) -> DetectionDataset:
        """The objects as annotated, which may overlap."""
        objects = self.sources.objects.subset([entry.objects for entry in self.entries])
        objects.notes = ()
        labels = np.array(self.categories.labels, np.int64)[self._own]
        things = np.cumsum([each.is_thing for each in self.segments]) - 1
        labels = np.where(labels < 0, -1, things[labels])
        dataset = SelectedDetection(objects, self.categories.instances, labels)
        dataset.reading = self.reading
        return dataset

    def location(self, index: int) -> str:
        """The path of the label map."""
        return self.sources.maps.location(self.entries[index].labels)

    def named_in(self, index: int) -> str:
        """Where the image's objects are annotated."""
        return self.sources.objects.location(self.entries[index].objects, -1)

    def describe_segment(self, index: int, id_: int) -> str:
        """Where an object is annotated; for stuff, the path of the label map."""
        entry: PairEntry = self.entries[index]
        is_object = id_ <= len(self.sources.objects.objects(entry.objects))
        return self.sources.objects.location(entry.objects, id_ - 1) if is_object else self.location(index)


def find_pairs(data: Path) -> Path | None:
    """The folder itself if it has both objects with masks and label maps; else None.

    Args:
        data: a folder that is one of the formats of objects (COCO, labelme, YOLO, Pascal VOC) and one of the layouts
            of label maps (Pascal VOC, or folders of images and masks).

    Raises:
        InputError: an ambiguous layout.
    """
    if not data.is_dir() or not any(find(data) for find in _OBJECTS):
        return None
    return data if any(find(data) for find in _MAPS) else None


def open_pairs(
    data: Path,
    channels: int,
    *,
    only: Sequence[str] = (),
    void: Sequence[str] = (),
    classes: Sequence[SegmentClass] | None = None,
) -> dict[str, PanopticSegmentation]:
    """Opens a folder of objects and label maps.

    The splits are those of both; where only one of the two has splits, its splits.

    Args:
        data: the folder.
        channels, only, void, classes: see :func:`~fishnet.data.panoptic.open.open_panoptic`.

    Raises:
        InputError: either cannot be opened; they have different splits; no image has both.
    """
    objects = open_detection(str(data), channels, val_fraction=0.5, seed=0, keep_splits=True, masks=True)
    maps = open_segmentation(str(data), channels, val_fraction=0.5, seed=0, keep_splits=True)
    first, labels = next(iter(objects.values())).classes, next(iter(maps.values())).classes
    segments, stuff, notes = _segments(str(data), first, labels)
    categories = Categories.of(str(data), segments, range(len(segments)), only=only, void=void, known=classes)
    matched, left_out = _match(data, objects, maps)
    things = {name: i for i, name in enumerate(first.names)}
    own = [things[each.name] for each in segments if each.is_thing]
    splits: dict[str, PanopticSegmentation] = {
        split: PairedPanoptic(source, entries, stuff, categories, own) for split, (source, entries) in matched.items()
    }
    start = next(iter(splits.values()))
    start.left_out, start.notes = left_out, [*start.notes, *notes]
    return splits


def _segments(source: str, things: Classes, labels: Classes) -> tuple[list[SegmentClass], list[int], list[Finding]]:
    """The classes of the data: things, then stuff, each by id; the index there of each class in ``labels``; and notes.

    Stuff whose id a thing has gets the next id that is free, since outputs have one list of ids.
    """
    taken, moved = {*things.ids, *labels.ids}, []
    stuff: list[SegmentClass] = []
    for name, id_ in zip(labels.names, labels.ids, strict=True):
        if name in things.names:
            continue
        free = id_ if id_ not in things.ids else next(i for i in range(len(taken) + 1) if i not in taken)
        if free != id_:
            moved.append(f"{name!r} is {free}")
            taken.add(free)
        stuff.append(SegmentClass(name, free, False))
    segments = [SegmentClass(name, id_, True) for name, id_ in zip(things.names, things.ids, strict=True)]
    segments = [*sorted(segments, key=lambda each: each.id), *sorted(stuff, key=lambda each: each.id)]
    index = {each.name: i for i, each in enumerate(segments)}
    numbers = [-1 if name in things.names else index[name] for name in labels.names]
    if not moved:
        return segments, numbers, []
    message = f"{source}: ids of {len(moved):,} stuff classes belong to things as well: {', '.join(moved[:5])}"
    return segments, numbers, [Finding("panoptic-id-taken", message, count=len(moved))]


def _match(
    data: Path, objects: Mapping[str, DetectionDataset], maps: Mapping[str, SegmentationDataset]
) -> tuple[dict[str, tuple[Sources, list[PairEntry]]], tuple[str, ...]]:
    """Returns, for each split, both datasets and the images in both; and a line for each image in only one."""
    if objects.keys() != maps.keys() and "all" not in (*objects, *maps):
        names = f"{', '.join(objects)}, and {', '.join(maps)}"
        raise InputError(f"{data}: its objects and its label maps have different splits: {names}")
    matched: dict[str, tuple[Sources, list[PairEntry]]] = {}
    taken: set[str] = set()
    for split in maps if "all" in objects else objects:
        source = Sources(objects.get(split) or objects["all"], maps.get(split) or maps["all"])
        map_of = {_path(source.maps, i): i for i in range(len(source.maps))}
        rows = [(_path(source.objects, i), i) for i in range(len(source.objects))]
        entries = [PairEntry(source.objects.source(i), i, map_of[path]) for path, i in rows if path in map_of]
        taken.update(path for path, _ in rows if path in map_of)
        matched[split] = (source, entries)
    if not taken:
        raise InputError(f"{data}: no image has both objects and a label map")
    lines = [f"{path}: has objects, but no label map" for path in _others(objects, taken)]
    return matched, (*lines, *(f"{path}: has a label map, but no entry of objects" for path in _others(maps, taken)))


def _path(dataset: ImageDataset, index: int) -> str:
    """The path of an image, without links."""
    return os.path.realpath(dataset.source(index))


def _others(splits: Mapping[str, ImageDataset], taken: Collection[str]) -> list[str]:
    """The paths of the images that are not among ``taken``."""
    paths = {_path(dataset, i) for dataset in splits.values() for i in range(len(dataset))}
    return sorted(paths.difference(taken))
