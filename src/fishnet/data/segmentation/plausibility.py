"""What the masks of a dataset tell as a whole: classes without pixels, ignored shares, splits that differ."""

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

READ = 5_000  # masks of a split that are all read where their format says what they hold; of more only SAMPLE
SAMPLE = 1_000
HEADERS = 5_000  # images of which the orientation is looked at
MOSTLY = 0.5  # share of ignored pixels from which it is said
ALONE = 0.999  # share of one class from which the others are hardly there
_SHOWN = 5
_TURNED_IN_PLACE = (2, 3, 4)  # EXIF orientations that keep the sides


@dataclass
class SplitCounts:
    """The pixels of a split's masks.

    Attributes:
        masks, read: how many there are, and how many could be read.
        whole: whether every mask was looked at.
        labels: (256,) pixels of each label.
        unnamed: pixels of each number, or colour as text, without a name.
        with_unnamed: the masks with each of these.
        all_ignored: the places in the set of the images of which every pixel is ignored.
    """

    masks: int
    whole: bool
    read: int = 0
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORE + 1, np.int64))
    unnamed: Counter[str] = field(default_factory=Counter)
    with_unnamed: dict[str, list[str]] = field(default_factory=dict)
    all_ignored: list[int] = field(default_factory=list)

    @property
    def ignored(self) -> float:
        """The share of the pixels that are ignored, 0..1; of nothing 0."""
        return float(self.labels[IGNORE] / max(1, self.labels.sum()))


def split_counts(pixels: MaskSegmentation) -> SplitCounts:
    """Reads the masks of a split that were not read yet: all, or some of very many whose format says what they hold."""
    indices: Sequence[int] = range(len(pixels))
    if not pixels.legend.given and len(indices) > READ and pixels.entries[-1].mask not in pixels.mask_reader.facts:
        indices = np.linspace(0, len(pixels) - 1, SAMPLE).astype(int).tolist()
    counts = SplitCounts(len(pixels), len(indices) == len(pixels))
    survey([pixels.entries[i].mask for i in indices], pixels.mask_reader, strict=False)
    for index in indices:
        facts = pixels.mask_reader.read(pixels.entries[index].mask)
        if isinstance(facts, MaskFacts):
            _add(counts, pixels, index, facts)
    return counts


def _add(counts: SplitCounts, pixels: MaskSegmentation, index: int, facts: MaskFacts) -> None:
    labels, unnamed = pixels.decoder.label_counts(facts.values, facts.counts, facts.colours)
    counts.read += 1
    counts.labels += labels
    for value, count in unnamed.items():
        shown = colour_text(value) if facts.colours else str(value)
        counts.unnamed[shown] += count
        counts.with_unnamed.setdefault(shown, []).append(pixels.location(index))
    if not unnamed and not labels[:IGNORE].any():
        counts.all_ignored.append(index)


def plausibility(splits: Mapping[str, SegmentationDataset]) -> list[Finding]:
    """What the masks of all splits tell, without decoding an image.

    Args:
        sets: the splits of one dataset by name.

    Returns:
        Findings in no particular order; none of label maps that are drawn from objects.
    """
    split_names = {name: part for name, part in splits.items() if isinstance(part, MaskSegmentation)}
    counts = {name: split_counts(part) for name, part in split_names.items()}
    findings = [
        Finding("mask-reading", note, file=part.legend.location)
        for part in [*split_names.values()][:1]
        for note in part.conclusions
    ]
    for name, part in split_names.items():
        findings += _of_split(name, part, counts[name])
        findings += _turned(name, part)
    trained = next((name for name in ("train", "all") if name in split_names), None)
    if trained is not None:
        findings += _untrained(trained, split_names[trained], counts)
        findings += _unvalidated(trained, split_names[trained], counts)
    return findings


def _of_split(name: str, part: MaskSegmentation, counts: SplitCounts) -> Iterator[Finding]:
    """What one split's masks hold."""
    some = f" (in {counts.read:,} of {counts.masks:,} masks)" if not counts.whole else ""
    if counts.ignored > MOSTLY:
        line = f"{name}: {100 * counts.ignored:.1f} % of the pixels are ignored{some}"
        yield Finding("mask-mostly-ignored", line, name)
    for index in counts.all_ignored:
        location = part.location(index)
        line = f"{part.source(index)}: every pixel of its mask is ignored ({location})"
        yield Finding("mask-all-ignored", line, name, location)
    for value, count in counts.unnamed.most_common():
        masks = counts.with_unnamed[value]
        line = f"{value}: {count:,} px in {len(masks):,} masks of {name}, first {masks[0]}"
        yield Finding("mask-id-unnamed", line, name, masks[0], count=len(masks))
    known = counts.labels[:IGNORE]
    if known.sum() and known.max() > ALONE * known.sum() and len(part.classes) > 1:
        only = part.classes.names[int(known.argmax())]
        line = f"{name}: {100 * known.max() / known.sum():.3f} % of the pixels that count are {only!r}{some}"
        yield Finding("class-dominates", line, name)


def _untrained(trained: str, part: MaskSegmentation, counts: Mapping[str, SplitCounts]) -> Iterator[Finding]:
    """The classes of which no mask that is trained on has a pixel."""
    labels = counts[trained].labels
    if not counts[trained].read or not counts[trained].whole:
        return
    for i, class_ in enumerate(part.classes.names):
        if labels[i]:
            continue
        elsewhere = [f"{name} has {one.labels[i]:,}" for name, one in counts.items() if one.labels[i]]
        line = f"{class_}: no mask of {trained} has a pixel of it" + (f" ({', '.join(elsewhere)})" if elsewhere else "")
        yield Finding(
            "class-without-pixels" if part.legend.given else "class-absent", line, trained, part.legend.location
        )


def _unvalidated(trained: str, part: MaskSegmentation, counts: Mapping[str, SplitCounts]) -> Iterator[Finding]:
    """The classes that are trained on and that the val split has no pixel of."""
    val = counts.get("val")
    if val is None or not val.read or not val.whole:
        return
    missing = [name for i, name in enumerate(part.classes.names) if counts[trained].labels[i] and not val.labels[i]]
    if missing:
        more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        line = f"val: no mask has a pixel of {', '.join(missing[:_SHOWN])}{more}: their scores are not measured"
        yield Finding("class-not-validated", line, "val", count=len(missing))


def _turned(name: str, part: MaskSegmentation) -> Iterator[Finding]:
    """The images whose EXIF orientation turns them within the same sides: whether their masks are turned is open."""
    turned: list[str] = []
    for index in range(min(len(part), HEADERS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = part.entries[index].path
                with open_regular(path, "image") as file, open_image(file, part.reading.max_pixels) as image:
                    turn = orientation(image)
                    square = image.width == image.height
        except (OSError, ValueError, SyntaxError):
            continue  # whoever reads the image says it
        if turn in _TURNED_IN_PLACE or (square and turn in (5, 6, 7, 8)):
            turned.append(part.source(index))
    if turned:
        line = (
            f"{name}: the EXIF orientation turns {len(turned):,} images whose masks fit both ways, such as {turned[0]}"
        )
        yield Finding("mask-exif-unclear", line, name, turned[0], count=len(turned))
