"""What is in data with objects, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from fishnet.data.check import DataCheck, Facts, ImagesCheck, Inspected, Tally, check_all, untrained
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.objects import Objects
from fishnet.data.findings import Finding, in_order, located

SIZES = {"small": 32**2, "medium": 96**2, "large": float("inf")}  # COCO's, by area: below so many px
_BEYOND = 1.0  # px that a box may reach over an edge: formats differ in what the last pixel is
_BOXES = {  # of the image's height and width
    "box-empty": "empty box",
    "box-outside": "box outside of its image of {1}x{0} px",
    "box-beyond-edge": "box reaches out of its image of {1}x{0} px",
}


@dataclass(frozen=True, kw_only=True)
class DetectionSplit(ImagesCheck):
    """One split of a data set of objects.

    Attributes:
        objects: how many, without crowds.
        crowds: groups whose members are not told apart.
        by_size: objects that are small, medium and large by COCO's areas (below 32 x 32 px, below 96 x 96, larger).
        objects_per_class, images_per_class: objects of each class, and images with any.
        without_objects: images that are negatives.
    """

    objects: int
    crowds: int
    by_size: dict[str, int]
    objects_per_class: dict[str, int]
    images_per_class: dict[str, int]
    without_objects: int


class _InspectedDetection(Inspected):
    """The facts of each image, and its objects without their masks."""

    images: DetectionDataset

    def annotation(self, index: int) -> Objects:
        return replace(self.images.objects(index), segmentations=None)


def check_detection(
    parts: Mapping[str, DetectionDataset],
    problems: Sequence[Finding] = (),
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataCheck[DetectionSplit]:
    """Reads every image and every annotation of a data set.

    Args:
        parts: see :func:`~fishnet.data.check.check_all`, also for the last two.
        problems: what the opener collected, see :func:`~fishnet.data.detection.open.open_detection`.
        workers: processes that read; 0 reads in this one.
        progress: called with images done and in all.
    """
    check = check_all(parts, _InspectedDetection, _Gathered, problems, workers, progress)
    image_counts = {split: part.images_per_class for split, part in check.parts.items()}
    return replace(check, findings=tuple(in_order((*check.findings, *untrained(image_counts)))))


class _Gathered:
    """Gathers the objects of one split."""

    covered: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, split: str, images: DetectionDataset) -> None:
        self.split, self.images = split, images
        self.findings: list[Finding] = []
        self.objects: Counter[int] = Counter()
        self.image_counts: Counter[int] = Counter()
        self.sizes: Counter[str] = Counter()
        self.crowds = self.empty = 0

    def add(self, index: int, facts: Facts | str, objects: Objects | str) -> None:
        """Adds an image's objects."""
        size = None if isinstance(facts, str) else facts.size[::-1]
        if isinstance(objects, str):
            if size is not None:  # else it was said of the image
                self._say("annotation-unreadable", objects, self.images.place(index, -1))
            return
        single = objects.take(~objects.crowd)
        self.crowds += len(objects) - len(single)
        self.objects.update(single.labels.tolist())
        self.image_counts.update(set(single.labels.tolist()))
        self.sizes.update(_size_of(area) for area in single.areas.tolist())
        source = self.images.source(index)
        if not len(objects):
            self.empty += 1
            self.findings.append(Finding("image-without-objects", source, self.split, source))
        if size is not None and objects.size not in ((0, 0), size):
            stated, actual = (f"{sides[1]}x{sides[0]}" for sides in (objects.size, size))
            place = self.images.place(index, -1)
            self._say("image-size-differs", f"{source}: is {actual} px, but annotated as {stated} ({place})", place)
        size = size or objects.size
        for number, code in _bad_boxes(objects, size) if min(size) else ():
            place = self.images.place(index, number)
            numbers = " ".join(f"{value:g}" for value in objects.boxes[number].tolist())
            self._say(code, f"{place}: {_BOXES[code].format(*size)} ({numbers}: x1 y1 x2 y2)", place)

    def summary(self, tally: Tally) -> DetectionSplit:
        """All of it."""
        names = self.images.classes.names
        return DetectionSplit(
            objects=self.objects.total(),
            crowds=self.crowds,
            by_size={name: self.sizes[name] for name in SIZES},
            objects_per_class={name: self.objects[i] for i, name in enumerate(names)},
            images_per_class={name: self.image_counts[i] for i, name in enumerate(names)},
            without_objects=self.empty,
            **tally.fields(),
        )

    def _say(self, code: str, message: str, place: str) -> None:
        self.findings.append(Finding(code, message, self.split, *located(place)))


def _size_of(area: float) -> str:
    return next(name for name, limit in SIZES.items() if area < limit)


def _bad_boxes(objects: Objects, size: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Number and code of each box that is empty, outside of an image of that height and width, or reaches out of it."""
    height, width = size
    x1, y1, x2, y2 = objects.boxes.T
    empty = (x2 <= x1) | (y2 <= y1)
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    beyond = (x1 < -_BEYOND) | (y1 < -_BEYOND) | (x2 > width + _BEYOND) | (y2 > height + _BEYOND)
    for number in (empty | outside | beyond).nonzero()[0].tolist():
        yield number, "box-empty" if empty[number] else "box-outside" if outside[number] else "box-beyond-edge"
