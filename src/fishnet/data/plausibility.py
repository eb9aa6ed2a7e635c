"""Findings from the classes, names and files of a whole dataset, without decoding an image."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.entries import EntryDataset
from fishnet.data.findings import Finding
from fishnet.images.scanning import beside, skipped_line

SMALL = 3  # images of a class in train; classes with fewer are reported
IMBALANCE = 20  # times as many images in the largest class as in the smallest
SKIPPED = 0.01  # share of files that are not read; a larger share is a warning
SAME_NAMES = 0.5  # share of a split's images that have the name of an image in train; a larger share is reported
SHOWN = 5  # names in a message


def plausibility(splits: Mapping[str, LabelledDataset]) -> list[Finding]:
    """What is doubtful in classification data. Reads no image.

    Args:
        splits: datasets by split.
    """
    return [
        *class_names(splits),
        *_class_counts(splits),
        *_same_names(splits),
        *files_beside(splits),
    ]


def files_beside(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """What was noted when the datasets were opened: skipped files, links that were not followed, unused columns."""
    yield from files_skipped(splits)
    yield from dict.fromkeys(note for dataset in splits.values() for note in dataset.notes)


def files_skipped(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Files that were not read, and links that were not followed, for any level."""
    total = sum(len(dataset) for dataset in splits.values())
    skipped = skipped_in(splits)
    if skipped:
        count = sum(skipped.values())
        code = "file-skipped-share" if count > SKIPPED * (total + count) else "file-skipped"
        yield Finding(code, skipped_line(skipped), count=count)
    for link in dict.fromkeys(link for dataset in splits.values() for link in dataset.links):
        yield Finding("link-not-followed", f"{link}: leads outside of the dataset", file=str(link))


def skipped_in(splits: Mapping[str, ImageDataset]) -> Counter[str]:
    """The number of files beside the images of all splits that were not read, by file extension."""
    annotated = [dataset for dataset in splits.values() if isinstance(dataset, EntryDataset)]
    entries = [entry for dataset in annotated for entry in dataset.entries]
    paths = [entry.path for entry in entries if isinstance(getattr(entry, "path", None), Path)]
    if paths:
        return beside(paths)
    counts = {id(dataset.skipped): dataset.skipped for dataset in splits.values()}  # held-out images share train's
    return sum((Counter(dict(skipped)) for skipped in counts.values()), Counter[str]())


def note_lines(splits: Mapping[str, ImageDataset]) -> list[str]:
    """The notes that training logs: what was skipped, left out or found elsewhere."""
    return [finding.message for finding in files_beside(splits) if finding.severity == "note"]


def class_names(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Classes whose names differ only in case and spaces, for any level."""
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
    if counts and max(counts.values()) >= IMBALANCE * min(counts.values()):
        largest, smallest = (names[key] for key in (max(counts, key=counts.get), min(counts, key=counts.get)))  # type: ignore[arg-type]
        message = f"{largest} has {max(counts.values()):,} images, {smallest} {min(counts.values()):,}"
        yield Finding("class-imbalance", message, split)
    if split == "train" and "val" in splits:
        seen = set(map(int, splits["val"].labels))
        lacking = [names[i] for i in sorted(counts) if i not in seen]
        if lacking:
            message = f"{len(lacking):,} of {len(names):,} classes have no image in val: {_listed(lacking)}"
            yield Finding("class-without-val-images", message, "val", count=len(lacking))


def _same_names(splits: Mapping[str, LabelledDataset]) -> Iterator[Finding]:
    if "train" not in splits:
        return
    train = {(splits["train"].labels[i], _base(splits["train"], i)) for i in range(len(splits["train"]))}
    for split in ("val", "test"):
        dataset = splits.get(split)
        if dataset is None or not len(dataset):
            continue
        names = [(label, _base(dataset, i)) for i, label in enumerate(dataset.labels)]
        same = [i for i, (label, name) in enumerate(names) if (label, name) in train and not _is_number(name)]
        if len(same) > SAME_NAMES * len(dataset):
            message = f"{len(same):,} of {len(dataset):,} images have the name of an image of their class in train"
            yield Finding("image-same-name", f"{message} ({dataset.source(same[0])})", split, count=len(same))


def _base(dataset: LabelledDataset, index: int) -> str:
    return PurePath(dataset.key(index)).name


def _is_number(name: str) -> bool:
    """Whether a name is only a number, such as ``0007.png``: folders often count from the start again."""
    return re.fullmatch(r"\D{0,5}\d{1,6}\.\w+", name) is not None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
