"""Findings from all objects of a dataset together. Reads annotations and image headers only."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.objects import Objects
from fishnet.data.findings import Finding
from fishnet.data.plausibility import class_names, files_beside
from fishnet.errors import InputError

BEYOND = 1.0  # px that a box may extend beyond an edge: formats differ in whether the last pixel is included
TINY = 3.0  # px: boxes with both sides below this are hardly meant
CAP = 100  # COCO's metrics count so many objects per class and image; a detector returns so many per image
_ALL, _SOME = 0.99, 0.1  # shares of boxes


@dataclass
class _Gathered:
    """The objects of one split.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2, px, as annotated.
        sizes: (n, 2) width and height of each box's image, px; 0 where unknown.
        owners: (n, 2) index of each box's image, and its label.
        crowds: number of objects that are crowds.
        images: number of images whose annotations could be read.
        empty: number of these without objects.
        crowded: the number of objects for each class and image with more than ``CAP``.
        entries: number of entries by image path.
    """

    boxes: NDArray[np.float64]
    sizes: NDArray[np.float64]
    owners: NDArray[np.int64]
    crowds: int = 0
    images: int = 0
    empty: int = 0
    crowded: list[int] = field(default_factory=list)
    entries: Counter[str] = field(default_factory=Counter)


def plausibility(splits: Mapping[str, DetectionDataset], repairs: bool = False) -> list[Finding]:
    """Findings about the objects of each split, and those made while opening the datasets.

    Args:
        splits: the splits by name. Splits whose annotations are masks are skipped.
        repairs: whether to add the findings of :func:`repaired`, without reading the annotations again.

    Returns:
        Boxes that are shares of the image, or that are x1, y1, x2, y2 where x, y, width, height is expected; only
        crowds, or only objects below 3 px; mostly images without objects; more objects of a class in an image than are
        counted; images with two entries; boxes that an image has twice.
    """
    findings = [*files_beside(splits), *class_names(splits)]
    for split, dataset in splits.items():
        gathered = _gather(dataset)
        if gathered is not None:
            findings += _of_boxes(split, gathered)
            findings += _of_images(split, gathered)
            findings += _repairs(split, gathered) if repairs else ()
            findings += _repeated(split, dataset, gathered)
    return list(dict.fromkeys(findings))


def repaired(splits: Mapping[str, DetectionDataset]) -> list[Finding]:
    """What training changes in the annotations: boxes that it clips to the image, and boxes that it drops.

    Args:
        splits: the splits by name.
    """
    gathered = ((split, _gather(dataset)) for split, dataset in splits.items())
    return [finding for split, objects in gathered if objects is not None for finding in _repairs(split, objects)]


def beyond_cap(counts: list[int], cap: int) -> str:
    """A message about images with more objects of a class than are counted; empty if there are none.

    Args:
        counts: the number of objects for each class and image.
        cap: how many of them are counted.
    """
    above = [count for count in counts if count > cap]
    if not above:
        return ""
    images = "one image has" if len(above) == 1 else f"{len(above):,} images have"
    return (
        f"{images} more than {cap} objects of a class (up to {max(above):,}), of which COCO's metrics count the {cap} "
        f"best detections: set --max-detections {max(above)} in training to detect all, in fishnet val to count all"
    )


def object_counts(dataset: DetectionDataset) -> list[int]:
    """The number of objects for each class and image, without crowds. Reads no image."""
    counts: list[int] = []
    for index in range(len(dataset)):
        try:
            objects = dataset.annotated_boxes(index)
        except InputError:  # reported when the image is read
            continue
        counts += _class_counts(objects) if objects is not None else ()
    return counts


def _class_counts(objects: Objects) -> list[int]:
    """The number of objects of each class in one image, without crowds."""
    return list(Counter(objects.labels[~objects.crowd].tolist()).values())


def _gather(dataset: DetectionDataset) -> _Gathered | None:
    """The objects of a split; None if its annotations are masks, or if none can be read."""
    boxes, sizes, owners = [np.zeros((0, 4))], [np.zeros((0, 2))], [np.zeros((0, 2), np.int64)]
    gathered = _Gathered(boxes[0], sizes[0], owners[0])
    for index in range(len(dataset)):
        try:
            objects = dataset.annotated_boxes(index)
            if objects is None:
                return None
            height, width = objects.size if min(objects.size) or not len(objects) else dataset.size(index)
        except InputError:  # reported when the image is read
            continue
        gathered.images += 1
        gathered.empty += not len(objects)
        gathered.crowds += int(objects.crowd.sum())
        gathered.crowded += [count for count in _class_counts(objects) if count > CAP]
        gathered.entries[os.path.normpath(dataset.source(index))] += 1
        boxes.append(objects.boxes.astype(np.float64))
        sizes.append(np.full((len(objects), 2), (width, height), np.float64))
        owners.append(np.stack([np.full(len(objects), index), objects.labels], 1))
    gathered.boxes, gathered.sizes = np.concatenate(boxes), np.concatenate(sizes)
    gathered.owners = np.concatenate(owners)
    return gathered if gathered.images else None


def _changed(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which boxes have no area within their image, and which of the others extend beyond it."""
    low, high = boxes[:, :2], boxes[:, 2:]
    empty = (high <= low) | (high <= 0) | (low >= sizes)
    beyond = (low < -BEYOND) | (high > sizes + BEYOND)
    dropped, out = (axes[:, 0] | axes[:, 1] for axes in (empty, beyond))
    return dropped, out & ~dropped


def _of_boxes(split: str, gathered: _Gathered) -> Iterator[Finding]:
    """Findings about the units and the order of the boxes' numbers, and about crowds."""
    boxes, sizes = gathered.boxes, gathered.sizes
    if not len(boxes):
        return
    count = len(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    xywh = np.concatenate([boxes[:, :2], sides], 1)
    if gathered.crowds == count:
        yield Finding("object-all-crowd", f"{split}: all {count:,} objects are crowds", split=split, count=count)
    if ((xywh >= 0) & (xywh <= 1)).all(1).mean() >= _ALL:
        message = f"{split}: the {count:,} boxes lie within 0..1: shares of the image's sides, where px are expected"
        yield Finding("box-normalized", message, split=split, count=count)
    elif (sides < TINY).all(1).mean() >= _ALL:
        message = f"{split}: the {count:,} boxes are smaller than {TINY:g} x {TINY:g} px"
        yield Finding("box-tiny", message, split=split, count=count)
    out = (boxes[:, 2:] > sizes + BEYOND).any(1)
    corners = ((xywh[:, 2:] > xywh[:, :2]) & (xywh[:, 2:] <= sizes + BEYOND)).all(1)
    if out.mean() >= _SOME and corners.mean() >= _ALL:
        message = (
            f"{split}: {int(out.sum()):,} of {count:,} boxes reach out of their images as x, y, width, height, and "
            "all fit as x1, y1, x2, y2"
        )
        yield Finding("box-xyxy", message, split=split, count=int(out.sum()))


def _repairs(split: str, gathered: _Gathered) -> Iterator[Finding]:
    """The boxes of a split that training clips, and those that it drops."""
    dropped, clipped = _changed(gathered.boxes, gathered.sizes)
    total = f"of {len(gathered.boxes):,} boxes of {split}"
    if count := int(clipped.sum()):
        message = f"{count:,} {total} extend beyond the edges of their images and are clipped there"
        yield Finding("box-clipped", message, split=split, count=count)
    if count := int(dropped.sum()):
        message = f"{count:,} {total} are empty or outside of their images and are dropped"
        yield Finding("box-dropped", message, split=split, count=count)


def _repeated(split: str, dataset: DetectionDataset, gathered: _Gathered) -> Iterator[Finding]:
    """The finding about boxes that an image has twice in one class, with exactly equal numbers."""
    rows = np.concatenate([gathered.owners, gathered.boxes], 1)
    rows = rows[np.lexsort(rows.T[::-1])]
    is_repeat = (rows[1:] == rows[:-1]).all(1)
    if count := int(is_repeat.sum()):
        first = dataset.source(int(rows[1:][is_repeat][0, 0]))
        message = f"{split}: {count:,} of {len(rows):,} boxes repeat another of their image and class, first in {first}"
        yield Finding("box-repeated", message, split=split, file=first, count=count)


def _of_images(split: str, gathered: _Gathered) -> Iterator[Finding]:
    """Findings about images without objects, with very many objects, or with several entries."""
    if gathered.empty > gathered.images / 2:
        message = f"{split}: {gathered.empty:,} of {gathered.images:,} images have no objects"
        yield Finding("image-mostly-empty", message, split=split, count=gathered.empty)
    if line := beyond_cap(gathered.crowded, CAP):
        yield Finding("object-crowded", f"{split}: {line}", split=split, count=len(gathered.crowded))
    repeated = [name for name, count in gathered.entries.items() if count > 1]
    if repeated:
        message = f"{split}: {len(repeated):,} images have two entries or more, such as {repeated[0]}"
        yield Finding("image-repeated", message, split=split, file=repeated[0], count=len(repeated))
