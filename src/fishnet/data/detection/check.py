"""The check of a dataset's objects."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fishnet.data.check import ImageFacts, SplitCheck, SplitStatistics, find_untrained
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.objects import Objects
from fishnet.data.findings import Finding

SIZES = {"small": 32**2, "medium": 96**2, "large": float("inf")}  # COCO's: upper limits of the area, px
_TOLERANCE = 1.0  # px that a box may extend beyond an edge: formats differ in whether the last pixel is included
_BOX_FAULTS = {  # formatted with the image's height and width
    "box-empty": "empty box",
    "box-outside": "box outside of its image of {1}x{0} px",
    "box-beyond-edge": "box reaches out of its image of {1}x{0} px",
}


@dataclass(frozen=True, kw_only=True)
class DetectionStatistics(SplitStatistics):
    """One split of a dataset of objects.

    Attributes:
        objects: number of objects, without crowds.
        crowds: groups of objects that are annotated as one.
        by_size: objects that are small, medium and large by COCO's areas (below 32 x 32 px, below 96 x 96, larger).
        objects_per_class, images_per_class: objects of each class, and images with such objects.
        without_objects: images without objects, which are negatives.
    """

    objects: int
    crowds: int
    by_size: dict[str, int]
    objects_per_class: dict[str, int]
    images_per_class: dict[str, int]
    without_objects: int

    class_title = ", objects in images"

    @property
    def class_counts(self) -> dict[str, int]:
        """Objects of each class."""
        return self.objects_per_class

    def class_cell(self, name: str) -> str:
        """Objects, and the images that have them."""
        return f"{self.objects_per_class[name]:,} in {self.images_per_class[name]:,}"

    def annotation_columns(self) -> dict[str, str]:
        """All objects, objects by size, crowds, and images without objects."""
        counts = {"objects": self.objects, **self.by_size, "crowds": self.crowds}
        counts["images without objects"] = self.without_objects
        return {title: f"{count:,}" for title, count in counts.items()}


class DetectionCheck(SplitCheck[DetectionDataset, DetectionStatistics]):
    """Counts the objects of one split and checks their boxes."""

    def __init__(self, split: str, dataset: DetectionDataset) -> None:
        super().__init__(split, dataset)
        self.object_counts: Counter[int] = Counter()
        self.image_counts: Counter[int] = Counter()
        self.by_size: Counter[str] = Counter()
        self.crowds = self.without_objects = 0

    @staticmethod
    def read_annotation(dataset: DetectionDataset, index: int) -> Objects:
        """The objects without their masks."""
        return replace(dataset.objects(index), segmentations=None)

    def add(self, index: int, facts: ImageFacts | str, objects: Objects | str) -> None:
        """Adds an image's objects."""
        size = None if isinstance(facts, str) else facts.size[::-1]
        if isinstance(objects, str):
            if size is not None:  # otherwise the image's finding has the message
                self.find("annotation-unreadable", objects, self.dataset.location(index, -1))
            return
        self._count(objects)
        source = self.dataset.source(index)
        if not len(objects):
            self.without_objects += 1
            self.findings.append(Finding("image-without-objects", source, self.split, source))
        if size is not None and objects.size not in ((0, 0), size):
            annotated, actual = (f"{sides[1]}x{sides[0]}" for sides in (objects.size, size))
            location = self.dataset.location(index, -1)
            message = f"{source}: is {actual} px, but annotated as {annotated} ({location})"
            self.find("image-size-differs", message, location)
        size = size or objects.size
        for number, code in _bad_boxes(objects, size) if min(size) else ():
            location = self.dataset.location(index, number)
            corners = " ".join(f"{value:g}" for value in objects.boxes[number].tolist())
            self.find(code, f"{location}: {_BOX_FAULTS[code].format(*size)} ({corners}: x1 y1 x2 y2)", location)

    def _count(self, objects: Objects) -> None:
        single = objects.take(~objects.crowd)
        self.crowds += len(objects) - len(single)
        self.object_counts.update(single.labels.tolist())
        self.image_counts.update(set(single.labels.tolist()))
        self.by_size.update(_size_of(area) for area in single.areas.tolist())

    def statistics(self, images: dict[str, Any]) -> DetectionStatistics:
        """Objects by class and size."""
        names = self.dataset.classes.names
        return DetectionStatistics(
            objects=self.object_counts.total(),
            crowds=self.crowds,
            by_size={name: self.by_size[name] for name in SIZES},
            objects_per_class={name: self.object_counts[label] for label, name in enumerate(names)},
            images_per_class={name: self.image_counts[label] for label, name in enumerate(names)},
            without_objects=self.without_objects,
            **images,
        )

    @classmethod
    def compare(
        cls, datasets: Mapping[str, DetectionDataset], statistics: Mapping[str, DetectionStatistics]
    ) -> Iterable[Finding]:
        """Classes that are in some split but not in train."""
        return find_untrained({split: counted.images_per_class for split, counted in statistics.items()})


def _size_of(area: float) -> str:
    return next(name for name, limit in SIZES.items() if area < limit)


def _bad_boxes(objects: Objects, size: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Index and code of each box that is empty, outside of an image of this height and width, or beyond its edges."""
    height, width = size
    x1, y1, x2, y2 = objects.boxes.T
    empty = (x2 <= x1) | (y2 <= y1)
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    beyond = (x1 < -_TOLERANCE) | (y1 < -_TOLERANCE) | (x2 > width + _TOLERANCE) | (y2 > height + _TOLERANCE)
    for number in (empty | outside | beyond).nonzero()[0].tolist():
        yield number, "box-empty" if empty[number] else "box-outside" if outside[number] else "box-beyond-edge"
