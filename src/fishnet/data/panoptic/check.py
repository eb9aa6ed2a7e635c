"""The check of panoptic data: counts segments and pixels of both views."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from fishnet.data.check import ImageFacts, SplitCheck, SplitStatistics, find_untrained
from fishnet.data.findings import Finding
from fishnet.data.panoptic.base import PanopticSegmentation
from fishnet.data.panoptic.counts import SegmentCounts, count_segments, image_findings
from fishnet.files.text import percent


@dataclass(frozen=True, kw_only=True)
class PanopticStatistics(SplitStatistics):
    """One split of panoptic data.

    Attributes:
        pixels, void: pixels of the masks that could be read, and how many of these belong to no segment of a class.
        crowd: pixels of crowds, which label maps ignore too.
        things, stuff, crowds: segments of each kind; things are without crowds.
        empty: segments without a pixel, which are left out.
        unknown: ids that no segment has; each counts once per image.
        hidden: objects without a visible pixel.
        segments_per_class, images_per_class: segments of each class without crowds, and images that have them.
    """

    pixels: int
    void: int
    crowd: int
    things: int
    stuff: int
    crowds: int
    empty: int
    unknown: int
    hidden: int
    segments_per_class: dict[str, int]
    images_per_class: dict[str, int]

    class_title = ", segments in images"

    @property
    def class_counts(self) -> dict[str, int]:
        """Segments of each class."""
        return self.segments_per_class

    def class_cell(self, name: str) -> str:
        """Segments, and the images that have them."""
        return f"{self.segments_per_class[name]:,} in {self.images_per_class[name]:,}"

    def annotation_columns(self) -> dict[str, str]:
        """Segments by kind, segments without pixels, pixels, and the shares that are void or of crowds."""
        counts = {"things": self.things, "stuff": self.stuff, "crowds": self.crowds, "empty segments": self.empty}
        shares = {"void": self.void, "in crowds": self.crowd}
        return {
            **{title: f"{count:,}" for title, count in counts.items()},
            "pixels": f"{self.pixels:,}",
            **{title: percent(count / max(1, self.pixels), 2) for title, count in shares.items()},
        }


class PanopticCheck(SplitCheck[PanopticSegmentation, PanopticStatistics]):
    """Counts the segments of one split, and compares masks and annotations.

    It is fed with the label maps' view (``PanopticSplit.segment``), which reads the segments of both.
    """

    covered: ClassVar[frozenset[str]] = frozenset(
        ("mask-all-ignored", "panoptic-id-unknown", "panoptic-segment-empty", "panoptic-object-hidden")
    )

    def __init__(self, split: str, dataset: PanopticSegmentation) -> None:
        super().__init__(split, dataset)
        self.counts: Counter[str] = Counter()
        self.segment_counts: Counter[int] = Counter()
        self.image_counts: Counter[int] = Counter()

    @staticmethod
    def read_annotation(dataset: PanopticSegmentation, index: int) -> SegmentCounts:
        """Counts the segments of an image."""
        return count_segments(dataset, index)

    def add(self, index: int, facts: ImageFacts | str, counted: SegmentCounts | str) -> None:
        """Adds an image's segments."""
        source, location = self.dataset.source(index), self.dataset.location(index)
        if isinstance(counted, str):
            if isinstance(facts, ImageFacts) or not counted.startswith(source):  # else the image's finding has it
                self.find("mask-unreadable", counted, location)
            return
        pixels = counted.size[0] * counted.size[1]
        self.counts.update(pixels=pixels, void=counted.void, crowd=counted.crowd, crowds=counted.crowds)
        self.counts.update(empty=len(counted.empty), unknown=len(counted.unknown), hidden=counted.hidden)
        self.segment_counts.update(counted.labels)
        self.image_counts.update(set(counted.labels))
        self.findings += image_findings(self.split, self.dataset, index, counted)
        if counted.void == pixels:
            self.find("mask-all-ignored", f"{source}: every pixel of its mask is void ({location})", location)
        if isinstance(facts, ImageFacts) and counted.size != facts.size[::-1]:
            message = self.dataset.describe_mismatch(index, facts.size[::-1], counted.size)
            self.find("mask-size-differs", message, location)

    def statistics(self, images: dict[str, Any]) -> PanopticStatistics:
        """Segments by class, and pixels."""
        segments, counts = self.dataset.segments, self.counts
        things = sum(self.segment_counts[i] for i, each in enumerate(segments) if each.is_thing)
        return PanopticStatistics(
            pixels=counts["pixels"],
            void=counts["void"],
            crowd=counts["crowd"],
            crowds=counts["crowds"],
            empty=counts["empty"],
            unknown=counts["unknown"],
            hidden=counts["hidden"],
            things=things,
            stuff=self.segment_counts.total() - things,
            segments_per_class={each.name: self.segment_counts[i] for i, each in enumerate(segments)},
            images_per_class={each.name: self.image_counts[i] for i, each in enumerate(segments)},
            **images,
        )

    @classmethod
    def compare(
        cls, datasets: Mapping[str, PanopticSegmentation], statistics: Mapping[str, PanopticStatistics]
    ) -> Iterable[Finding]:
        """Classes that are in some split but not in train, and classes without a segment."""
        yield from find_untrained({split: counted.images_per_class for split, counted in statistics.items()})
        for each in next(iter(datasets.values())).segments:
            if not any(counted.segments_per_class[each.name] for counted in statistics.values()):
                yield Finding("class-absent", f"{each.name}: no image has a segment of it")
