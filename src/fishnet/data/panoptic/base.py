"""Panoptic datasets: one reading of the segments, and its two views, instances of things and label maps."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.panoptic import SegmentClass
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.idmaps import instances
from fishnet.data.detection.objects import Objects
from fishnet.data.findings import Finding
from fishnet.data.panoptic.categories import Categories
from fishnet.data.panoptic.idruns import IdRuns, LastRead
from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.segmentation.files import FileSegmentation
from fishnet.errors import InputError
from fishnet.images.segment_ids import VOID

_SHOWN = 3  # ids in a message


class Annotated(NamedTuple):
    """A segment as annotated.

    Attributes:
        own: index of its class in the data's own classes; -1 if its pixels are void.
        iscrowd: whether it is a group of things.
    """

    own: int
    iscrowd: bool = False


@dataclass(frozen=True)
class PanopticMap:
    """An image's segments as annotated, faults included.

    Attributes:
        runs: the ids of the pixels; 0 is void.
        segments: the annotated segments by id.
        hidden: objects that have no pixel because others cover them, or because they lie outside of the image.
    """

    runs: IdRuns
    segments: Mapping[int, Annotated]
    hidden: int = 0

    @property
    def unknown(self) -> dict[int, int]:
        """The ids that no segment has, and their pixels."""
        pairs = zip(self.runs.ids.tolist(), self.runs.counts.tolist(), strict=True)
        return {id_: count for id_, count in pairs if id_ != VOID and id_ not in self.segments}

    @property
    def empty(self) -> list[int]:
        """The ids of the segments without a pixel."""
        present = set(self.runs.ids.tolist())
        return [id_ for id_ in self.segments if id_ not in present]


class Segment(NamedTuple):
    """A segment of an image.

    Attributes:
        id: its id in the id map.
        category: index of its class in the dataset's ``segments``.
        is_thing: whether it is one object.
        iscrowd: whether it is a group of things instead.
        area: its pixels.
    """

    id: int
    category: int
    is_thing: bool
    iscrowd: bool
    area: int


@dataclass(frozen=True)
class PanopticTruth:
    """The segments of an image.

    Attributes:
        ids: (height, width) int32; 0 is void.
        segments: the segments with pixels, by id.
    """

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]


class PanopticSegmentation(FileSegmentation):
    """Images with segments in one on-disk format, as label maps: ``things`` (0), then the stuff classes by id.

    Void pixels and crowds are 255. A format sets ``entries``, each with a ``path``, and implements :meth:`read_map`.

    Args:
        categories: the classes.
        channels: the number of channels that images are read with.

    Attributes:
        segments: all classes: things and stuff, each by id.
    """

    notes: list[Finding]

    def __init__(self, categories: Categories, channels: int) -> None:
        self.categories, self.channels = categories, channels
        self.segments: tuple[SegmentClass, ...] = categories.segments
        self.classes = categories.semantic
        self.notes = list(categories.notes)
        self._last = LastRead[PanopticMap]()  # shared with all views and subsets

    @abstractmethod
    def read_map(self, index: int) -> PanopticMap:
        """Reads an image's segments.

        Raises:
            InputError: they cannot be read. The message names the file.
        """

    @abstractmethod
    def describe_segment(self, index: int, id_: int) -> str:
        """Where a segment of an image is annotated, for messages."""

    def instances(self) -> DetectionDataset:
        """The things of the same images, in the same order; by default what the pixels show of them."""
        return PanopticInstances(self)

    def segment_map(self, index: int) -> PanopticMap:
        """An image's segments as annotated. Keeps the last two images for the other view.

        Raises:
            InputError: they cannot be read.
        """
        return self._last.get(self.entries[index], lambda: self.read_map(index))

    def truth(self, index: int) -> PanopticTruth:
        """An image's segments, without void ones and those without a pixel.

        Raises:
            InputError: they cannot be read, or ids that no segment has.
        """
        segments = tuple(self._segments(index))
        runs = self.segment_map(index).runs
        kept = np.isin(runs.ids, [segment.id for segment in segments])
        return PanopticTruth(runs.paint(np.where(kept, runs.ids, VOID).astype(np.int32)), segments)

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`. Raises as :meth:`truth` does."""
        labels = self.categories.semantic_labels
        label_of = {each.id: labels[each.category] for each in self._segments(index) if not each.iscrowd}
        runs = self.segment_map(index).runs
        painted: LabelMap = runs.paint(np.array([label_of.get(id_, IGNORE) for id_ in runs.ids.tolist()], np.uint8))
        return painted

    def describe_unknown(self, index: int, unknown: Mapping[int, int]) -> str:
        """The message for ids of an image that no segment has, with their pixels."""
        shown = ", ".join(f"{id_} ({count:,} px)" for id_, count in list(unknown.items())[:_SHOWN])
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        action = "add their segments, or set them to 0 (void)"
        return f"{self.location(index)}: ids without a segment: {shown}{more}: {action}"

    def describe_empty(self, index: int, empty: Sequence[int]) -> str:
        """The message for segments of an image without a pixel."""
        shown = ", ".join(map(str, empty[:_SHOWN]))
        more = f" and {len(empty) - _SHOWN:,} more" if len(empty) > _SHOWN else ""
        where = self.describe_segment(index, empty[0])
        return f"{self.location(index)}: segments without a pixel: {shown}{more} ({where}): remove them, or draw them"

    def _segments(self, index: int) -> Iterator[Segment]:
        """The segments of an image that have pixels and a class. Raises InputError for ids that no segment has."""
        panoptic = self.segment_map(index)
        if unknown := panoptic.unknown:
            raise InputError(self.describe_unknown(index, unknown))
        for id_, area in zip(panoptic.runs.ids.tolist(), panoptic.runs.counts.tolist(), strict=True):
            own, iscrowd = panoptic.segments.get(id_, (-1, False))
            category = self.categories.labels[own] if own >= 0 else -1
            if category >= 0 and id_ != VOID:
                yield Segment(id_, category, self.segments[category].is_thing, iscrowd, area)


class PanopticInstances(FileDetection):
    """The things of a panoptic dataset: boxes and areas of their pixels, and masks that never overlap.

    Args:
        panoptic: the dataset.
    """

    def __init__(self, panoptic: PanopticSegmentation) -> None:
        self.panoptic, self.with_masks = panoptic, True
        self.entries, self.channels, self.folder = panoptic.entries, panoptic.channels, panoptic.folder
        self.reading, self.classes = panoptic.reading, panoptic.categories.instances
        self._labels = np.cumsum([each.is_thing for each in panoptic.segments]) - 1

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; the segments are read."""
        things = {each.id: each for each in self.panoptic.truth(index).segments if each.is_thing}
        runs = self.panoptic.segment_map(index).runs
        is_thing = np.isin(runs.ids, list(things))
        try:
            objects = instances(runs.paint(np.where(is_thing, runs.ids, VOID)))
        except InputError as error:
            raise InputError(f"{self.location(index, -1)}: {error}") from None
        ids = objects.ids.tolist()
        return Objects.of(
            objects.boxes,
            [int(self._labels[things[id_].category]) for id_ in ids],
            runs.size,
            crowd=[things[id_].iscrowd for id_ in ids],
            areas=objects.areas,
            segmentations=objects.segmentations,
        )

    def annotated_boxes(self, index: int) -> None:
        """None: the pixels define the objects."""

    def location(self, index: int, number: int) -> str:
        """The file of the image's segments, and the object's id there."""
        if number >= 0:
            things = [each.id for each in self.panoptic.truth(index).segments if each.is_thing]
            if number < len(things):
                return f"{self.panoptic.location(index)}: segment {things[number]}"
        return self.panoptic.location(index)

    def subset(self, indices: Sequence[int]) -> Self:
        """See :class:`~fishnet.data.entries.EntryDataset`."""
        subset = type(self)(self.panoptic.subset(indices))
        subset.reading = self.reading
        return subset


@dataclass(frozen=True)
class PanopticSplit:
    """One split of panoptic data: two views of the same images in the same order.

    Attributes:
        instances: the things, with masks; their classes are the thing classes, with their original ids.
        segment: label maps of ``things`` (0) and the stuff classes; 255 where pixels are void or of a crowd.
    """

    instances: DetectionDataset
    segment: PanopticSegmentation

    @classmethod
    def of(cls, segment: PanopticSegmentation) -> "PanopticSplit":
        """Both views of a dataset."""
        return cls(segment.instances(), segment)

    @property
    def segments(self) -> tuple[SegmentClass, ...]:
        """All classes, by their original ids."""
        return self.segment.segments

    def __len__(self) -> int:
        return len(self.segment)

    def source(self, index: int) -> str:
        """The image's path."""
        return self.segment.source(index)

    def truth(self, index: int) -> PanopticTruth:
        """An image's segments.

        Raises:
            InputError: see :meth:`PanopticSegmentation.truth`.
        """
        return self.segment.truth(index)
