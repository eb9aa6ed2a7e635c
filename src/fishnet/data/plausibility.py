"""Findings from the classes, names and files of a whole dataset, without decoding an image."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from unicodedata import normalize

from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.classification.multilabel import MultiLabelDataset
from fishnet.data.entries import EntryDataset
from fishnet.data.findings import Finding
from fishnet.images.scanning import beside, skipped_line

SMALL = 3  # images of a class in train; classes with fewer are reported
IMBALANCE = 20  # times as many images in the largest class as in the smallest
SKIPPED = 0.01  # share of files that are not read; a larger share is a warning
SAME_NAMES = 0.5  # share of a split's images that have the name of an image in train; a larger share is reported
SHOWN = 5  # names in a message


Classified = LabelledDataset | MultiLabelDataset


def plausibility(splits: Mapping[str, Classified]) -> list[Finding]:
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
    yield from _missing_labels(splits)


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


def images_per_class(dataset: Classified) -> Counter[int]:
    """The number of images of each class that has any, by class index."""
    if isinstance(dataset, MultiLabelDataset):
        return Counter({i: count for i, count in enumerate(dataset.positives.tolist()) if count})
    return Counter(int(label) for label in dataset.labels)


def _missing_labels(splits: Mapping[str, ImageDataset]) -> Iterator[Finding]:
    """Images without a label, labels that are unknown or not in val: for images that may have several labels."""
    for split, dataset in splits.items():
        if not isinstance(dataset, MultiLabelDataset):
            continue
        if dataset.without_label:
            message = f"{split}: {dataset.without_label:,} of {len(dataset):,} images have no label"
            yield Finding("image-all-negative", message, split, count=dataset.without_label)
        unknown = {dataset.classes.names[i]: n for i, n in enumerate(dataset.unknown.tolist()) if n}
        if unknown:
            shown = _listed([f"{name} ({n:,})" for name, n in sorted(unknown.items(), key=lambda item: -item[1])])
            total = sum(unknown.values())
            message = f"{split}: {total:,} labels are unknown, and ignored in loss and metrics: {shown}"
            yield Finding("label-unknown", message, split, count=total)
    yield from _without_val_images({k: v for k, v in splits.items() if isinstance(v, MultiLabelDataset)})


def _class_counts(splits: Mapping[str, Classified]) -> Iterator[Finding]:
    split = "train" if "train" in splits else "all" if "all" in splits else ""
    if not split:
        return
    names = splits[split].classes.names
    counts = images_per_class(splits[split])
    small = [f"{name} ({counts[i]})" for i, name in enumerate(names) if counts[i] < SMALL]
    if small:
        message = f"{len(small):,} of {len(names):,} classes have fewer than {SMALL} images: {_listed(small)}"
        yield Finding("class-small", message, split, count=len(small))
    if counts and max(counts.values()) >= IMBALANCE * min(counts.values()):
        largest, smallest = (names[key] for key in (max(counts, key=counts.get), min(counts, key=counts.get)))  # type: ignore[arg-type]
        message = f"{largest} has {max(counts.values()):,} images, {smallest} {min(counts.values()):,}"
        yield Finding("class-imbalance", message, split)
    yield from _without_val_images(splits)


def _without_val_images(splits: Mapping[str, Classified]) -> Iterator[Finding]:
    """Classes that are trained on but cannot be measured."""
    if not {"train", "val"} <= splits.keys():
        return
    names, seen = splits["train"].classes.names, images_per_class(splits["val"])
    lacking = [names[i] for i in sorted(images_per_class(splits["train"])) if i not in seen]
    if lacking:
        message = f"{len(lacking):,} of {len(names):,} classes have no image in val: {_listed(lacking)}"
        yield Finding("class-without-val-images", message, "val", count=len(lacking))


def _same_names(splits: Mapping[str, Classified]) -> Iterator[Finding]:
    if "train" not in splits:
        return
    train = {(_label(splits["train"], i), _base(splits["train"], i)) for i in range(len(splits["train"]))}
    for split in ("val", "test"):
        dataset = splits.get(split)
        if dataset is None or not len(dataset):
            continue
        names = [(_label(dataset, i), _base(dataset, i)) for i in range(len(dataset))]
        same = [i for i, (label, name) in enumerate(names) if (label, name) in train and not _is_number(name)]
        if len(same) > SAME_NAMES * len(dataset):
            message = f"{len(same):,} of {len(dataset):,} images have the name of an image of their class in train"
            yield Finding("image-same-name", f"{message} ({dataset.source(same[0])})", split, count=len(same))


def _label(dataset: Classified, index: int) -> object:
    """An image's class index, or its labels, to be compared with those of other images."""
    return dataset.matrix[index].tobytes() if isinstance(dataset, MultiLabelDataset) else dataset.labels[index]


def _base(dataset: Classified, index: int) -> str:
    return PurePath(dataset.key(index)).name


def _is_number(name: str) -> bool:
    """Whether a name is only a number, such as ``0007.png``: folders often count from the start again."""
    return re.fullmatch(r"\D{0,5}\d{1,6}\.\w+", name) is not None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
