"""Findings from all masks of a dataset together: classes without pixels, ignored shares, splits that differ."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fishnet.data.findings import Finding
from fishnet.data.segmentation.base import IGNORE, SegmentationDataset
from fishnet.data.segmentation.names import colour_text
from fishnet.data.segmentation.pairs import MaskSegmentation
from fishnet.data.segmentation.survey import MaskFacts, survey
from fishnet.files.reading import open_regular
from fishnet.images.opening import open_image, orientation

READ = 5_000  # masks of a split that are all read; of more, only SAMPLE are read if the format defines the classes
SAMPLE = 1_000
HEADERS = 5_000  # images of a split whose EXIF orientation is read
MOSTLY = 0.5  # share of ignored pixels; a larger share is reported
ALONE = 0.999  # share of the labelled pixels that are of one class; a larger share is reported
_SHOWN = 5  # classes in a message
_TURNED_IN_PLACE = (2, 3, 4)  # EXIF orientations that keep the sides


@dataclass
class SplitCounts:
    """The pixels of a split's masks.

    Attributes:
        masks, read: the number of masks, and how many of them could be read.
        complete: whether all masks were tried, not a sample.
        labels: (256,) pixels of each label.
        unnamed: pixels of each number or colour without a name, by its text.
        masks_with_unnamed: the masks with each of these.
        all_ignored: indices of the images of which every pixel is ignored.
    """

    masks: int
    complete: bool
    read: int = 0
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE + 1, np.int64))
    unnamed: Counter[str] = field(default_factory=Counter)
    masks_with_unnamed: dict[str, list[str]] = field(default_factory=dict)
    all_ignored: list[int] = field(default_factory=list)

    @property
    def ignored(self) -> float:
        """The share of the pixels that are ignored, 0..1; 0 if there are none."""
        return float(self.labels[IGNORE] / max(1, self.labels.sum()))


def split_counts(dataset: MaskSegmentation) -> SplitCounts:
    """Counts the pixels of a split's masks, and reads those that were not read yet.

    Of more than :data:`READ` masks, only a sample is read if the format defines the classes.
    """
    indices: Sequence[int] = range(len(dataset))
    if (
        not dataset.legend.from_file
        and len(indices) > READ
        and dataset.entries[-1].mask not in dataset.mask_reader.facts
    ):
        indices = np.linspace(0, len(dataset) - 1, SAMPLE).astype(int).tolist()
    counts = SplitCounts(len(dataset), len(indices) == len(dataset))
    survey([dataset.entries[i].mask for i in indices], dataset.mask_reader, strict=False)
    for index in indices:
        facts = dataset.mask_reader.read(dataset.entries[index].mask)
        if isinstance(facts, MaskFacts):
            _add(counts, dataset, index, facts)
    return counts


def _add(counts: SplitCounts, dataset: MaskSegmentation, index: int, facts: MaskFacts) -> None:
    """Adds one mask to the counts of its split."""
    labels, unnamed = dataset.decoder.label_counts(facts.values, facts.counts, facts.colours)
    counts.read += 1
    counts.labels += labels
    for value, count in unnamed.items():
        shown = colour_text(value) if facts.colours else str(value)
        counts.unnamed[shown] += count
        counts.masks_with_unnamed.setdefault(shown, []).append(dataset.location(index))
    if not unnamed and not labels[:IGNORE].any():
        counts.all_ignored.append(index)


def plausibility(splits: Mapping[str, SegmentationDataset]) -> list[Finding]:
    """Findings from the masks of all splits. Decodes no image.

    Args:
        splits: the splits of one dataset by name. Those whose label maps are drawn from objects are skipped.

    Returns:
        Findings in no particular order.
    """
    masked = {split: dataset for split, dataset in splits.items() if isinstance(dataset, MaskSegmentation)}
    counts = {split: split_counts(dataset) for split, dataset in masked.items()}
    findings = [
        Finding("mask-reading", conclusion, file=dataset.legend.location)
        for dataset in [*masked.values()][:1]
        for conclusion in dataset.conclusions
    ]
    for split, dataset in masked.items():
        findings += _of_split(split, dataset, counts[split])
        findings += _turned(split, dataset)
    trained = next((split for split in ("train", "all") if split in masked), None)
    if trained is not None:
        findings += _untrained(trained, masked[trained], counts)
        findings += _unvalidated(masked[trained], counts[trained], counts.get("val"))
    return findings


def _of_split(split: str, dataset: MaskSegmentation, counts: SplitCounts) -> Iterator[Finding]:
    """The findings about the masks of one split."""
    sampled = "" if counts.complete else f" (in {counts.read:,} of {counts.masks:,} masks)"
    if counts.ignored > MOSTLY:
        message = f"{split}: {100 * counts.ignored:.1f} % of the pixels are ignored{sampled}"
        yield Finding("mask-mostly-ignored", message, split)
    for index in counts.all_ignored:
        location = dataset.location(index)
        message = f"{dataset.source(index)}: every pixel of its mask is ignored ({location})"
        yield Finding("mask-all-ignored", message, split, location)
    for value, count in counts.unnamed.most_common():
        masks = counts.masks_with_unnamed[value]
        message = f"{value}: {count:,} px in {len(masks):,} masks of {split}, first {masks[0]}"
        yield Finding("mask-id-unnamed", message, split, masks[0], count=len(masks))
    labelled = counts.labels[:IGNORE]
    if labelled.sum() and labelled.max() > ALONE * labelled.sum() and len(dataset.classes) > 1:
        largest = dataset.classes.names[int(labelled.argmax())]
        share = f"{100 * labelled.max() / labelled.sum():.3f} % of the labelled pixels"
        yield Finding("class-dominates", f"{split}: {share} are {largest!r}{sampled}", split)


def _untrained(trained: str, dataset: MaskSegmentation, counts: Mapping[str, SplitCounts]) -> Iterator[Finding]:
    """The classes of which no mask that is trained on has a pixel."""
    if not counts[trained].read or not counts[trained].complete:
        return
    code = "class-without-pixels" if dataset.legend.from_file else "class-absent"
    for label, name in enumerate(dataset.classes.names):
        if counts[trained].labels[label]:
            continue
        elsewhere = [
            f"{split} has {pixels:,}" for split, counted in counts.items() if (pixels := counted.labels[label])
        ]
        message = f"{name}: no mask of {trained} has a pixel of it" + (
            f" ({', '.join(elsewhere)})" if elsewhere else ""
        )
        yield Finding(code, message, trained, dataset.legend.location)


def _unvalidated(dataset: MaskSegmentation, trained: SplitCounts, val: SplitCounts | None) -> Iterator[Finding]:
    """The finding about classes that are trained on but have no pixel in the val split."""
    if val is None or not val.read or not val.complete:
        return
    names = enumerate(dataset.classes.names)
    missing = [name for label, name in names if trained.labels[label] and not val.labels[label]]
    if missing:
        more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        message = f"val: no mask has a pixel of {', '.join(missing[:_SHOWN])}{more}: their scores are not measured"
        yield Finding("class-without-val-pixels", message, "val", count=len(missing))


def _turned(split: str, dataset: MaskSegmentation) -> Iterator[Finding]:
    """The finding about images that their EXIF orientation turns without changing their size.

    The size cannot tell whether their masks are turned as well.
    """
    turned: list[str] = []
    for index in range(min(len(dataset), HEADERS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = dataset.entries[index].path
                with open_regular(path, "image") as file, open_image(file, dataset.reading.max_pixels) as image:
                    turn = orientation(image)
                    is_square = image.width == image.height
        except (OSError, ValueError, SyntaxError):
            continue  # reported when the image is read
        if turn in _TURNED_IN_PLACE or (is_square and turn in (5, 6, 7, 8)):
            turned.append(dataset.source(index))
    if turned:
        message = (
            f"{split}: the EXIF orientation turns {len(turned):,} images whose masks fit both ways, such as {turned[0]}"
        )
        yield Finding("mask-exif-unclear", message, split, turned[0], count=len(turned))
