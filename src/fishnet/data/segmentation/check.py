"""What is in data with a class for every pixel, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fishnet.data.check import DataCheck, Facts, ImagesCheck, Inspected, Tally, check_all, untrained
from fishnet.data.findings import Finding, in_order, located
from fishnet.data.segmentation.base import IGNORE, SegmentationDataset, count_labels
from fishnet.data.segmentation.names import colour_text
from fishnet.data.segmentation.pairs import MaskSegmentation


@dataclass(frozen=True, kw_only=True)
class SegmentationSplit(ImagesCheck):
    """One split of a data set with a class for every pixel.

    Attributes:
        pixels: of the masks that could be read.
        ignored: of these, what is neither learnt from nor measured.
        pixels_per_class, images_per_class: pixels of each class, and images with any.
        all_ignored: images of which every pixel is ignored.
    """

    pixels: int
    ignored: int
    pixels_per_class: dict[str, int]
    images_per_class: dict[str, int]
    all_ignored: int


@dataclass(frozen=True)
class _Mask:
    """Height and width of a mask, the pixels of each label (256,), and of what has no name."""

    size: tuple[int, ...]
    counts: NDArray[np.int64]
    unnamed: dict[str, int]


class _InspectedSegmentation(Inspected):
    """The facts of each image and of its mask."""

    images: SegmentationDataset

    def annotation(self, index: int) -> _Mask:
        unnamed: dict[str, int] = {}
        if isinstance(self.images, MaskSegmentation):  # which says more of a mask than that it is wrong
            mask = self.images.decoder.open(self.images.entries[index].mask)
            labels, counts = self.images.decoder.labels(mask)
            unnamed = {colour_text(value) if mask.colours else str(value): count for value, count in counts.items()}
        else:
            labels = self.images.label_map(index)
        return _Mask(labels.shape, count_labels(labels), unnamed)


def check_segmentation(
    parts: Mapping[str, SegmentationDataset],
    problems: Sequence[Finding] = (),
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DataCheck[SegmentationSplit]:
    """Reads every image and every mask of a data set.

    Args:
        parts: see :func:`~fishnet.data.check.check_all`, also for the last two.
        problems: what the opener collected, see :func:`~fishnet.data.segmentation.open.open_segmentation`.
        workers: processes that read; 0 reads in this one.
        progress: called with images done and in all.
    """
    check = check_all(parts, _InspectedSegmentation, _Gathered, problems, workers, progress)
    image_counts = {split: part.images_per_class for split, part in check.parts.items()}
    findings = (*check.findings, *untrained(image_counts), *_never_drawn(next(iter(parts.values())), check.parts))
    return replace(check, findings=tuple(in_order(findings)))


def _never_drawn(first: SegmentationDataset, checks: Mapping[str, SegmentationSplit]) -> Iterator[Finding]:
    """The classes of objects that no label map has; those of masks are in plausibility.py."""
    for name in first.classes.names if not isinstance(first, MaskSegmentation) else ():
        if not any(part.pixels_per_class[name] for part in checks.values()):
            yield Finding("class-absent", f"{name}: no label map has a pixel of it")


class _Gathered:
    """Gathers the masks of one split."""

    covered: ClassVar[frozenset[str]] = frozenset(("mask-all-ignored", "mask-id-unnamed"))

    def __init__(self, split: str, images: SegmentationDataset) -> None:
        self.split, self.images = split, images
        self.findings: list[Finding] = []
        self.counts = np.zeros(IGNORE + 1, np.int64)
        self.image_counts = np.zeros(IGNORE + 1, np.int64)
        self.unnamed: Counter[str] = Counter()
        self.masks: dict[str, list[str]] = {}
        self.all_ignored = 0

    def add(self, index: int, facts: Facts | str, mask: _Mask | str) -> None:
        """Adds an image's mask."""
        source, place = self.images.source(index), self.images.place(index)
        if isinstance(mask, str):
            if isinstance(facts, Facts) or not mask.startswith(source):  # else it was said of the image
                self._say("mask-unreadable", mask, place)
            return
        self.counts += mask.counts
        self.image_counts += mask.counts > 0
        self.unnamed.update(mask.unnamed)
        for value in mask.unnamed:
            self.masks.setdefault(value, []).append(place)
        if not mask.unnamed and not mask.counts[:IGNORE].any():
            self.all_ignored += 1
            self._say("mask-all-ignored", f"{source}: every pixel of its mask is ignored ({place})", place)
        if isinstance(facts, Facts) and mask.size != facts.size[::-1]:
            self._say("mask-size-differs", self.images.describe_mismatch(index, facts.size[::-1], mask.size), place)

    def summary(self, tally: Tally) -> SegmentationSplit:
        """All of it."""
        for value, count in self.unnamed.most_common():
            masks = self.masks[value]
            line = f"{value}: {count:,} px in {len(masks):,} masks of {self.split}, first {masks[0]}"
            self._say("mask-id-unnamed", line, masks[0], len(masks))
        names = self.images.classes.names
        return SegmentationSplit(
            pixels=int(self.counts.sum()),
            ignored=int(self.counts[IGNORE]) - self.unnamed.total(),
            pixels_per_class={name: int(self.counts[i]) for i, name in enumerate(names)},
            images_per_class={name: int(self.image_counts[i]) for i, name in enumerate(names)},
            all_ignored=self.all_ignored,
            **tally.fields(),
        )

    def _say(self, code: str, message: str, place: str, count: int = 1) -> None:
        self.findings.append(Finding(code, message, self.split, *located(place), count))
