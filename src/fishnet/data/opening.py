"""What the openers of all levels share: they find the format, and make the splits that training needs."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.entries import Entries, hold_out_entries
from fishnet.data.nearest_layout import nearest_layout
from fishnet.data.splits import in_order
from fishnet.errors import InputError

DatasetT = TypeVar("DatasetT", bound=ImageDataset)
FormatT = TypeVar("FormatT")


def find_format(data: str, find: Callable[[Path], FormatT | None], contents: str, layouts: str) -> FormatT:
    """The format of annotated data.

    Args:
        data: the data's name.
        find: returns the format at a path; None if it is not a known one.
        contents: what the data must hold, such as annotations, for messages.
        layouts: the known layouts, for messages.

    Raises:
        InputError: an empty name, or no known format; also what ``find`` raises.
    """
    if not data:
        raise InputError("the data's name is empty: give a folder or a file (. is the current folder)")
    path = Path(data)
    match = find(path)
    if match is not None:
        return match
    if not path.exists():
        raise InputError(f"{data}: no such file or folder: expected {layouts}")
    wrong = "is not a file of a known format" if path.is_file() else f"holds no {contents} of a known format"
    near = nearest_layout(path)
    raise InputError(f"{data}: {wrong}{f': {near}' if near else ''}. Known: {layouts}")


def finish_splits(
    data: str, splits: dict[str, Entries], *, val_fraction: float, seed: int, keep_splits: bool, allow_empty: bool
) -> dict[str, Entries]:
    """The splits of annotated data, unchanged or as training needs them.

    Args:
        data: the data's name, for messages.
        splits: the datasets that the data has, by split.
        val_fraction: share of train that is held out if there is no val split.
        seed: decides which images are held out.
        keep_splits: return the splits that the data has; hold nothing out.
        allow_empty: whether a split may have no images.

    Raises:
        InputError: a split without images; see :func:`training_splits`.
    """
    without_images = next((split for split, dataset in splits.items() if not len(dataset)), None)
    if without_images is not None and not allow_empty:
        raise InputError(f"{data}: no image in its split {without_images!r}")
    if keep_splits:
        return splits
    return training_splits(data, splits, lambda train: hold_out_entries(train, val_fraction, seed))


def training_splits(
    data: str, splits: dict[str, DatasetT], hold_out: Callable[[DatasetT], tuple[DatasetT, DatasetT]]
) -> dict[str, DatasetT]:
    """The splits that training needs: ``all`` becomes train, and without a val split some of train is held out.

    Args:
        data: the data's name, for messages.
        splits: the datasets that the data has, by split.
        hold_out: splits a dataset into images to train on and images to validate with.

    Raises:
        InputError: no train split, or nothing to hold out.
    """
    splits = {"train" if split == "all" else split: dataset for split, dataset in splits.items()}
    if "train" not in splits:
        raise InputError(f"{data}: has no train split, only {', '.join(splits)}")
    if "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"])
        if not len(splits["val"]):
            labelled = isinstance(splits["train"], LabelledDataset)
            few = "each class has only one image" if labelled else "there is only one image"
            raise InputError(f"{data}: {few}, so none can be held out for validation: add images, or a val split")
    return {split: splits[split] for split in in_order(splits)}
