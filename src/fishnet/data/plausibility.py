"""What the classes, names and files of labelled images tell of a whole dataset, without decoding an image."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.entries import EntryDataset
from fishnet.data.findings import Finding
from fishnet.images.scanning import beside, skipped_line

SMALL = 3  # images of a class in train, below which it is reported
IMBALANCE = 20  # times as many images in the largest class as in the smallest
SKIPPED = 0.01  # share of the files that are not read, above which it is a warning
SAME_NAMES = 0.5  # share of a split's images whose names are those of images in train
SHOWN = 5  # names in a message


def plausibility(splits: Mapping[str, LabelledDataset]) -> list[Finding]:
    """What is doubtful in classification data.

    Args:
        sets: by split.

    Returns:
        Findings, dataset by dataset and split by split. Reads no image.
    """
    return [
        *class_names(splits),
        *_class_counts(splits),
        *_same_names(splits),
        *files_beside(splits),
    ]


def files_beside(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """What the opening of sets noted: files that were skipped, links that were not followed, columns not used."""
    yield from files_skipped(splits)
    yield from dict.fromkeys(note for part in splits.values() for note in part.notes)


def files_skipped(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Files that were not read, and links that were not followed; of any level."""
    total = sum(len(part) for part in splits.values())
    skipped = skipped_in(splits)
    if skipped:
        count = sum(skipped.values())
        code = "file-skipped-share" if count > SKIPPED * (total + count) else "file-skipped"
        yield Finding(code, skipped_line(skipped), count=count)
    for link in dict.fromkeys(link for part in splits.values() for link in part.links):
        yield Finding("link-not-followed", f"{link}: leads outside of the dataset", file=str(link))


def skipped_in(splits: Mapping[str, ImageDataset]) -> Counter[str]:
    """How many files beside the images of all splits were not read, by ending."""
    annotated = [part for part in splits.values() if isinstance(part, EntryDataset)]
    paths = [
        entry.path for part in annotated for entry in part.entries if isinstance(getattr(entry, "path", None), Path)
    ]
    if paths:
        return beside(paths)
    counted = {id(part.skipped): part.skipped for part in splits.values()}  # what is held out has that of the rest
    return sum((Counter(dict(skipped)) for skipped in counted.values()), Counter[str]())


def note_lines(splits: Mapping[str, ImageDataset]) -> list[str]:
    """The notes of the opening that a training says: what was skipped, left out or found in another place."""
    findings = [one for one in files_beside(splits) if one.severity == "note"]
    return [one.message for one in findings]


def class_names(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Classes whose names differ in case and spaces alone; of any level."""
    names = next(iter(splits.values())).classes.names if splits else ()
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault("".join(normalize("NFKC", name).casefold().split()), []).append(name)
    for group in alike.values():
        if len(group) > 1:
            shown = ", ".join(repr(name) for name in group)
            yield Finding("class-alike", f"the classes {shown} differ in case or spaces alone", count=len(group))


def _class_counts(splits: Mapping[str, LabelledDataset]) -> Iterator[Finding]:
    split = "train" if "train" in splits else "all" if "all" in splits else ""
    if not split:
        return
    names = splits[split].classes.names
    counts = Counter(int(label) for label in splits[split].labels)
    small = [f"{name} ({counts[i]})" for i, name in enumerate(names) if counts[i] < SMALL]
    if small:
        message = f"{len(small):,} of {len(names):,} classes have fewer than {SMALL} images: {_listed(small)}"
        yield Finding("class-small", message, split, count=len(small))
    some = [count for count in counts.values() if count]
    if some and max(some) >= IMBALANCE * min(some):
        largest, smallest = (names[key] for key in (max(counts, key=counts.get), min(counts, key=counts.get)))  # type: ignore[arg-type]
        message = f"{largest} has {max(some):,} images, {smallest} {min(some):,}"
        yield Finding("class-imbalance", message, split)
    if split == "train" and "val" in splits:
        seen = set(map(int, splits["val"].labels))
        lacking = [names[i] for i in sorted(counts) if i not in seen]
        if lacking:
            message = f"{len(lacking):,} of {len(names):,} classes have no image in val: {_listed(lacking)}"
            yield Finding("class-unvalidated", message, "val", count=len(lacking))


def _same_names(splits: Mapping[str, LabelledDataset]) -> Iterator[Finding]:
    if "train" not in splits:
        return
    train = {(splits["train"].labels[i], _base(splits["train"], i)) for i in range(len(splits["train"]))}
    for split in ("val", "test"):
        part = splits.get(split)
        if part is None or not len(part):
            continue
        same = [i for i in range(len(part)) if (part.labels[i], base := _base(part, i)) in train and not _counts(base)]
        if len(same) > SAME_NAMES * len(part):
            message = f"{len(same):,} of {len(part):,} images have the name of an image of their class in train"
            yield Finding("image-same-name", f"{message} ({part.source(same[0])})", split, count=len(same))


def _base(part: LabelledDataset, index: int) -> str:
    return PurePath(part.key(index)).name


def _counts(name: str) -> bool:
    """Whether a name is a mere number, such as ``0007.png``, with which each folder may begin anew."""
    return re.fullmatch(r"\D{0,5}\d{1,6}\.\w+", name) is not None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
