"""What is in data with objects, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fishnet.data.check import Facts, PicturesCheck, Same, Tally
from fishnet.data.check_entries import InspectedEntries, check_entries
from fishnet.data.findings import Finding
from fishnet.data.regions.base import RegionSet
from fishnet.data.regions.files import FileRegions
from fishnet.data.regions.objects import Objects

SIZES = {"small": 32**2, "medium": 96**2, "large": float("inf")}  # COCO's, by area: below so many px
_BEYOND = 1.0  # px that a box may reach over an edge: formats differ in what the last pixel is


@dataclass(frozen=True, kw_only=True)
class RegionPart(PicturesCheck):
    """One part of a data set of objects.

    Attributes:
        objects: how many, without crowds.
        crowds: groups whose members are not told apart.
        by_size: objects that are small, medium and large by COCO's areas (below 32 x 32 px, below 96 x 96, larger).
        objects_per_class, pictures_per_class: objects of each class, and pictures with any.
        without_objects: pictures that are negatives.
        left_out: pictures without annotation beside others that have one; they are not read.
        unlike: one line for each picture that is of another size than its annotation says.
        bad_boxes: one line for each box that is empty or reaches out of its picture.
        unreadable: one line for each picture whose annotation turned out unusable when it was read.
    """

    objects: int
    crowds: int
    by_size: dict[str, int]
    objects_per_class: dict[str, int]
    pictures_per_class: dict[str, int]
    without_objects: tuple[str, ...]
    left_out: tuple[str, ...]
    unlike: tuple[str, ...]
    bad_boxes: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class RegionCheck:
    """A whole data set.

    Attributes:
        parts: by name.
        annotations: what the formats' openers found wrong: unknown categories, repeated ids, missing entries ...
        leaked: the same picture in two parts; each picture of the later part once for each earlier part.
    """

    parts: dict[str, RegionPart]
    annotations: tuple[str, ...]
    leaked: tuple[Same, ...]

    @property
    def ok(self) -> bool:
        """Nothing wrong; pictures without objects or without annotation are not."""
        return not (
            self.annotations
            or self.leaked
            or any(part.corrupt or part.unlike or part.bad_boxes or part.unreadable for part in self.parts.values())
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ok": self.ok, **asdict(self)}


class _InspectedRegions(InspectedEntries):
    """The facts of each picture, and its objects without their masks."""

    pictures: RegionSet

    def annotation(self, index: int) -> Objects:
        return replace(self.pictures.objects(index), segmentations=None)


def check_regions(
    parts: Mapping[str, RegionSet],
    annotations: Sequence[Finding] = (),
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RegionCheck:
    """Reads every picture and every annotation of a data set.

    Pictures are the same where their decoded pixels are.

    Args:
        parts: of the data set, by name; the order decides which of two parts is the earlier.
        annotations: what the opener collected, see ``problems`` of :func:`~fishnet.data.regions.open.open_regions`.
        workers: processes that read; 0 reads in this one.
        progress: called with pictures done and in all.
    """
    checks, leaked = check_entries(parts, _InspectedRegions, _Gathered, workers, progress)
    return RegionCheck(checks, tuple(one.message for one in annotations), leaked)


class _Gathered:
    """Gathers the objects of one part."""

    def __init__(self) -> None:
        self.objects: Counter[int] = Counter()
        self.pictures: Counter[int] = Counter()
        self.sizes: Counter[str] = Counter()
        self.crowds = 0
        self.empty: list[str] = []
        self.unlike: list[str] = []
        self.boxes: list[str] = []
        self.unreadable: list[str] = []

    def add(self, pictures: RegionSet, index: int, facts: Facts | str, objects: Objects | str) -> None:
        """Adds a picture's objects."""
        size = None if isinstance(facts, str) else facts.size[::-1]
        if isinstance(objects, str):
            if size is not None:  # else it was said of the picture
                self.unreadable.append(objects)
            return
        single = objects.take(~objects.crowd)
        self.crowds += len(objects) - len(single)
        self.objects.update(single.labels.tolist())
        self.pictures.update(set(single.labels.tolist()))
        self.sizes.update(_size_of(area) for area in single.areas.tolist())
        if not len(objects):
            self.empty.append(pictures.source(index))
        if size is not None and objects.size not in ((0, 0), size):
            stated, is_ = (f"{sides[1]}x{sides[0]}" for sides in (objects.size, size))
            place = pictures.place(index, -1)
            self.unlike.append(f"{pictures.source(index)}: is {is_} px, but annotated as {stated} ({place})")
        size = size or objects.size
        if min(size):
            self.boxes += [f"{pictures.place(index, i)}: {what}" for i, what in _bad_boxes(objects, size)]

    def summary(self, pictures: RegionSet, tally: Tally) -> RegionPart:
        """All of it."""
        names = pictures.classes.names
        return RegionPart(
            objects=self.objects.total(),
            crowds=self.crowds,
            by_size={name: self.sizes[name] for name in SIZES},
            objects_per_class={name: self.objects[i] for i, name in enumerate(names)},
            pictures_per_class={name: self.pictures[i] for i, name in enumerate(names)},
            without_objects=tuple(self.empty),
            left_out=pictures.left_out if isinstance(pictures, FileRegions) else (),
            unlike=tuple(self.unlike),
            bad_boxes=tuple(self.boxes),
            unreadable=tuple(self.unreadable),
            **tally.found(),
        )


def _size_of(area: float) -> str:
    return next(name for name, limit in SIZES.items() if area < limit)


def _bad_boxes(objects: Objects, size: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """Number of each box that is wrong, and what it is."""
    height, width = size
    for i, (x1, y1, x2, y2) in enumerate(objects.boxes.tolist()):
        numbers = f"{x1:g} {y1:g} {x2:g} {y2:g}"
        if x2 <= x1 or y2 <= y1:
            yield i, f"empty box ({numbers}: x1 y1 x2 y2)"
        elif x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
            yield i, f"box outside of its picture of {width}x{height} px ({numbers}: x1 y1 x2 y2)"
        elif min(x1, y1) < -_BEYOND or x2 > width + _BEYOND or y2 > height + _BEYOND:
            yield i, f"box reaches out of its picture of {width}x{height} px ({numbers}: x1 y1 x2 y2)"
