"""A look at all objects of a dataset at once, from annotations and image headers alone."""

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

BEYOND = 1.0  # px that a box may reach over an edge: formats differ in what the last pixel is
TINY = 3.0  # px: both sides of objects that are too small to be meant
CAP = 100  # objects of a class and image that COCO's metrics count, and of an image that a detector gives
_ALL, _SOME = 0.99, 0.1  # shares of boxes


@dataclass
class _Gathered:
    """The objects of one split.

    Attributes:
        boxes: (n, 4) x1, y1, x2, y2, px, as annotated.
        sizes: (n, 2) width and height of each box's image, px; 0 where unknown.
        owners: (n, 2) of each box the index of its image, and its class.
        crowds: how many objects are crowds.
        images: how many images were looked at.
        empty: how many of them have no objects.
        crowded: the numbers of objects of a class in the images with more than the cap.
        entries: entries of each image.
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
    """What is odd about whole splits, and what was found while opening them.

    Args:
        sets: the splits by name. Those whose annotations are masks are passed over.
        repairs: with what :func:`repaired` says, for which the annotations are not read again.

    Returns:
        For each split what it suffers from: boxes that are shares of the image, or x1, y1, x2, y2 taken for x, y,
        width, height; all objects crowds, or smaller than 3 px; most images without objects; more objects of a class
        in an image than are counted; an image with two entries; a box that an image has twice.
    """
    findings = [*files_beside(splits), *class_names(splits)]
    for split, images in splits.items():
        gathered = _gather(images)
        if gathered is not None:
            findings += _of_boxes(split, gathered)
            findings += _of_images(split, gathered)
            findings += _repairs(split, gathered) if repairs else ()
            findings += _repeated(split, images, gathered)
    return list(dict.fromkeys(findings))


def repaired(splits: Mapping[str, DetectionDataset]) -> list[Finding]:
    """What a training changes of the annotation: boxes that it cuts off at the image's edges, and those it drops.

    Args:
        sets: the splits by name.
    """
    gathered = {split: _gather(images) for split, images in splits.items()}
    return [finding for split, some in gathered.items() if some is not None for finding in _repairs(split, some)]


def beyond_cap(counts: list[int], cap: int) -> str:
    """A line on images with more objects of a class than are counted; empty where there are none.

    Args:
        counts: objects of a class in an image.
        cap: how many are counted.
    """
    above = [count for count in counts if count > cap]
    if not above:
        return ""
    images = "one image has" if len(above) == 1 else f"{len(above):,} images have"
    return (
        f"{images} more than {cap} objects of a class (up to {max(above):,}), of which COCO's metrics count the {cap} "
        f"best detections: --max-detections {max(above)} in training finds them, in fishnet val counts them"
    )


def stated_counts(images: DetectionDataset) -> list[int]:
    """Objects of each class in each image, from the annotation alone; crowds left out."""
    return [count for objects in _stated(images) for count in _of_class(objects)]


def _of_class(objects: Objects) -> list[int]:
    return list(Counter(objects.labels[~objects.crowd].tolist()).values())


def _stated(images: DetectionDataset) -> Iterator[Objects]:
    for index in range(len(images)):
        try:
            objects = images.stated(index)
        except InputError:  # is said when the image's turn comes
            continue
        if objects is not None:
            yield objects


def _gather(images: DetectionDataset) -> _Gathered | None:
    """The objects of a split; None where there is nothing to look at."""
    boxes, sizes, owners = [np.zeros((0, 4))], [np.zeros((0, 2))], [np.zeros((0, 2), np.int64)]
    gathered = _Gathered(boxes[0], sizes[0], owners[0])
    for index in range(len(images)):
        try:
            objects = images.stated(index)
            if objects is None:
                return None
            height, width = objects.size if min(objects.size) or not len(objects) else images.size(index)
        except InputError:  # is said when the image's turn comes
            continue
        gathered.images += 1
        gathered.empty += not len(objects)
        gathered.crowds += int(objects.crowd.sum())
        gathered.crowded += [count for count in _of_class(objects) if count > CAP]
        gathered.entries[os.path.normpath(images.source(index))] += 1
        boxes.append(objects.boxes.astype(np.float64))
        sizes.append(np.full((len(objects), 2), (width, height), np.float64))
        owners.append(np.stack([np.full(len(objects), index), objects.labels], 1))
    gathered.boxes, gathered.sizes = np.concatenate(boxes), np.concatenate(sizes)
    gathered.owners = np.concatenate(owners)
    return gathered if gathered.images else None


def _changed(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which boxes have no area within their image, and which of the others reach out of it."""
    low, high = boxes[:, :2], boxes[:, 2:]
    empty = (high <= low) | (high <= 0) | (low >= sizes)
    beyond = (low < -BEYOND) | (high > sizes + BEYOND)
    dropped, out = (axes[:, 0] | axes[:, 1] for axes in (empty, beyond))
    return dropped, out & ~dropped


def _of_boxes(split: str, gathered: _Gathered) -> Iterator[Finding]:
    boxes, sizes = gathered.boxes, gathered.sizes
    if not len(boxes):
        return
    count = len(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    given = np.concatenate([boxes[:, :2], sides], 1)  # x, y, width, height
    if gathered.crowds == count:
        yield Finding("object-all-crowd", f"{split}: all {count:,} objects are crowds", split=split, count=count)
    if ((given >= 0) & (given <= 1)).all(1).mean() >= _ALL:
        what = f"{split}: the {count:,} boxes lie within 0..1: shares of the image's sides, where px are expected"
        yield Finding("box-normalized", what, split=split, count=count)
    elif (sides < TINY).all(1).mean() >= _ALL:
        what = f"{split}: the {count:,} boxes are smaller than {TINY:g} x {TINY:g} px"
        yield Finding("box-tiny", what, split=split, count=count)
    out = (boxes[:, 2:] > sizes + BEYOND).any(1)
    corners = ((given[:, 2:] > given[:, :2]) & (given[:, 2:] <= sizes + BEYOND)).all(1)
    if out.mean() >= _SOME and corners.mean() >= _ALL:
        what = (
            f"{split}: {int(out.sum()):,} of {count:,} boxes reach out of their images as x, y, width, height, and "
            "all fit as x1, y1, x2, y2"
        )
        yield Finding("box-xyxy", what, split=split, count=int(out.sum()))


def _repairs(split: str, gathered: _Gathered) -> Iterator[Finding]:
    """The boxes of a split that a training cuts off, and those that it drops."""
    dropped, clipped = _changed(gathered.boxes, gathered.sizes)
    total = f"of {len(gathered.boxes):,} boxes of {split}"
    if count := int(clipped.sum()):
        what = f"{count:,} {total} reach over the edges of their images and are cut off there"
        yield Finding("box-clipped", what, split=split, count=count)
    if count := int(dropped.sum()):
        what = f"{count:,} {total} are empty or outside of their images and are dropped"
        yield Finding("box-dropped", what, split=split, count=count)


def _repeated(split: str, images: DetectionDataset, gathered: _Gathered) -> Iterator[Finding]:
    """Boxes that one image has twice in one class, to the last digit."""
    rows = np.concatenate([gathered.owners, gathered.boxes], 1)
    rows = rows[np.lexsort(rows.T[::-1])]
    again = (rows[1:] == rows[:-1]).all(1)
    if count := int(again.sum()):
        first = images.source(int(rows[1:][again][0, 0]))
        what = f"{split}: {count:,} of {len(rows):,} boxes repeat another of their image and class, first in {first}"
        yield Finding("box-repeated", what, split=split, file=first, count=count)


def _of_images(split: str, gathered: _Gathered) -> Iterator[Finding]:
    if gathered.empty > gathered.images / 2:
        what = f"{split}: {gathered.empty:,} of {gathered.images:,} images have no objects"
        yield Finding("image-mostly-empty", what, split=split, count=gathered.empty)
    if line := beyond_cap(gathered.crowded, CAP):
        yield Finding("object-crowded", f"{split}: {line}", split=split, count=len(gathered.crowded))
    repeated = [name for name, count in gathered.entries.items() if count > 1]
    if repeated:
        what = f"{split}: {len(repeated):,} images have two entries or more, such as {repeated[0]}"
        yield Finding("image-repeated", what, split=split, file=repeated[0], count=len(repeated))
