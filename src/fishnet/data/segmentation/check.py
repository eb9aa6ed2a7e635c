"""The check of a dataset's label maps."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fishnet.data.check import ImageFacts, SplitCheck, SplitStatistics, find_untrained
from fishnet.data.findings import Finding
from fishnet.data.segmentation.base import IGNORE, SegmentationDataset, count_labels
from fishnet.data.segmentation.names import colour_text
from fishnet.data.segmentation.pairs import MaskSegmentation
from fishnet.files.text import percent


@dataclass(frozen=True, kw_only=True)
class SegmentationStatistics(SplitStatistics):
    """One split of a dataset for semantic segmentation.

    Attributes:
        pixels: number of pixels of the masks that could be read.
        ignored: how many of these are neither learned nor measured.
        pixels_per_class, images_per_class: pixels of each class, and images with such pixels.
        all_ignored: images of which every pixel is ignored.
    """

    pixels: int
    ignored: int
    pixels_per_class: dict[str, int]
    images_per_class: dict[str, int]
    all_ignored: int

    class_title = ", share of the pixels that are not ignored, and images with any"

    @property
    def class_counts(self) -> dict[str, int]:
        """Pixels of each class."""
        return self.pixels_per_class

    def class_cell(self, name: str) -> str:
        """The class's share of the pixels, and the number of images with such pixels."""
        share = self.pixels_per_class[name] / max(1, sum(self.pixels_per_class.values()))
        return f"{percent(share, 2)} in {self.images_per_class[name]:,}"

    def annotation_columns(self) -> dict[str, str]:
        """Pixels, share of ignored ones, classes with pixels, and images without a labelled pixel."""
        return {
            "pixels": f"{self.pixels:,}",
            "ignored": percent(self.ignored / max(1, self.pixels), 2),
            "classes": f"{sum(map(bool, self.pixels_per_class.values())):,} of {len(self.pixels_per_class):,}",
            "images ignored altogether": f"{self.all_ignored:,}",
        }


@dataclass(frozen=True)
class _MaskCounts:
    """Height and width of a mask, the pixels of each label (256,), and of each id or colour without a name."""

    size: tuple[int, ...]
    labels: NDArray[np.int64]
    unnamed: dict[str, int]


class SegmentationCheck(SplitCheck[SegmentationDataset, SegmentationStatistics]):
    """Counts the pixels of one split's label maps."""

    covered: ClassVar[frozenset[str]] = frozenset(("mask-all-ignored", "mask-id-unnamed"))

    def __init__(self, split: str, dataset: SegmentationDataset) -> None:
        super().__init__(split, dataset)
        self.pixel_counts = np.zeros(IGNORE + 1, np.int64)
        self.image_counts = np.zeros(IGNORE + 1, np.int64)
        self.unnamed: Counter[str] = Counter()
        self.masks_with_unnamed: dict[str, list[str]] = {}
        self.all_ignored = 0

    @staticmethod
    def read_annotation(dataset: SegmentationDataset, index: int) -> _MaskCounts:
        """Counts the labels of a mask."""
        unnamed: dict[str, int] = {}
        if isinstance(dataset, MaskSegmentation):  # its decoder counts ids without a name, where label_map raises
            mask = dataset.decoder.open(dataset.entries[index].mask)
            labels, counts = dataset.decoder.labels(mask)
            unnamed = {colour_text(value) if mask.colours else str(value): count for value, count in counts.items()}
        else:
            labels = dataset.label_map(index)
        return _MaskCounts(labels.shape, count_labels(labels), unnamed)

    def add(self, index: int, facts: ImageFacts | str, mask: _MaskCounts | str) -> None:
        """Adds an image's mask."""
        source, location = self.dataset.source(index), self.dataset.location(index)
        if isinstance(mask, str):
            if isinstance(facts, ImageFacts) or not mask.startswith(
                source
            ):  # otherwise the image's finding has the message
                self.find("mask-unreadable", mask, location)
            return
        self.pixel_counts += mask.labels
        self.image_counts += mask.labels > 0
        self.unnamed.update(mask.unnamed)
        for value in mask.unnamed:
            self.masks_with_unnamed.setdefault(value, []).append(location)
        if not mask.unnamed and not mask.labels[:IGNORE].any():
            self.all_ignored += 1
            self.find("mask-all-ignored", f"{source}: every pixel of its mask is ignored ({location})", location)
        if isinstance(facts, ImageFacts) and mask.size != facts.size[::-1]:
            self.find("mask-size-differs", self.dataset.describe_mismatch(index, facts.size[::-1], mask.size), location)

    def statistics(self, images: dict[str, Any]) -> SegmentationStatistics:
        """Pixels by class."""
        for value, count in self.unnamed.most_common():
            masks = self.masks_with_unnamed[value]
            message = f"{value}: {count:,} px in {len(masks):,} masks of {self.split}, first {masks[0]}"
            self.find("mask-id-unnamed", message, masks[0], len(masks))
        names = self.dataset.classes.names
        return SegmentationStatistics(
            pixels=int(self.pixel_counts.sum()),
            ignored=int(self.pixel_counts[IGNORE]) - self.unnamed.total(),
            pixels_per_class={name: int(self.pixel_counts[label]) for label, name in enumerate(names)},
            images_per_class={name: int(self.image_counts[label]) for label, name in enumerate(names)},
            all_ignored=self.all_ignored,
            **images,
        )

    @classmethod
    def compare(
        cls, datasets: Mapping[str, SegmentationDataset], statistics: Mapping[str, SegmentationStatistics]
    ) -> Iterator[Finding]:
        """Classes that are in some split but not in train, and classes of objects that are in no label map."""
        yield from find_untrained({split: counted.images_per_class for split, counted in statistics.items()})
        first = next(iter(datasets.values()))
        if isinstance(first, MaskSegmentation):  # plausibility.py finds absent classes of masks
            return
        for name in first.classes.names:
            if not any(counted.pixels_per_class[name] for counted in statistics.values()):
                yield Finding("class-absent", f"{name}: no label map has a pixel of it")
