"""Counts the segments of an image, and finds what does not match."""

from collections.abc import Iterator
from dataclasses import dataclass

from fishnet.data.findings import Finding
from fishnet.data.panoptic.base import PanopticSegmentation


@dataclass(frozen=True)
class SegmentCounts:
    """The segments of one image.

    Attributes:
        size: height and width of the mask.
        void, crowd: pixels without a segment of a class, and pixels of crowds.
        labels: the index of the class of each segment that has pixels, without crowds.
        crowds: number of crowds.
        unknown: pixels of each id that no segment has.
        empty: ids of segments without a pixel.
        hidden: objects without a visible pixel.
    """

    size: tuple[int, int]
    void: int
    crowd: int
    labels: tuple[int, ...]
    crowds: int
    unknown: dict[int, int]
    empty: list[int]
    hidden: int


def count_segments(dataset: PanopticSegmentation, index: int) -> SegmentCounts:
    """Counts the segments of an image. Raises InputError if they cannot be read."""
    panoptic = dataset.segment_map(index)
    runs = panoptic.runs
    void, crowd, crowds, labels = 0, 0, 0, []
    for id_, area in zip(runs.ids.tolist(), runs.counts.tolist(), strict=True):
        own, iscrowd = panoptic.segments.get(id_, (-1, False)) if id_ else (-1, False)
        label = dataset.categories.labels[own] if own >= 0 else -1
        if label < 0:
            void += area
        elif iscrowd:
            crowd, crowds = crowd + area, crowds + 1
        else:
            labels.append(label)
    unknown, empty = panoptic.unknown, panoptic.empty
    void -= sum(unknown.values())
    return SegmentCounts(runs.size, void, crowd, tuple(labels), crowds, unknown, empty, panoptic.hidden)


def image_findings(split: str, dataset: PanopticSegmentation, index: int, counted: SegmentCounts) -> Iterator[Finding]:
    """The findings about ids without a segment, segments without a pixel, and hidden objects of an image."""
    location = dataset.location(index)
    if counted.unknown:
        message = dataset.describe_unknown(index, counted.unknown)
        yield Finding("panoptic-id-unknown", message, split, location, count=len(counted.unknown))
    if counted.empty:
        message = dataset.describe_empty(index, counted.empty)
        yield Finding("panoptic-segment-empty", message, split, location, count=len(counted.empty))
    if counted.hidden:
        message = f"{dataset.source(index)}: {counted.hidden:,} objects have no visible pixel"
        yield Finding("panoptic-object-hidden", message, split, location, count=counted.hidden)
