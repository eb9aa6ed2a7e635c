"""What the detection formats share."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.files import FileDataset
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.files.walking import is_system


class FileDetection(FileDataset, DetectionDataset):
    """A detection dataset of image files: each entry has a ``path``.

    All formats are constructed as ``Format(source, channels=3, classes=None, *, masks=False)``:

    - source: the images and annotations of one split; its type depends on the format.
    - channels: number of channels that images are read with.
    - classes: the known classes, matched by name; by default those of the data.
    - masks: whether objects have segmentations.
    """

    def named_in(self, index: int) -> str:
        """The location of the image's annotation."""
        return self.location(index, -1)


Opened = TypeVar("Opened", bound=FileDataset)


def open_splits(
    dataset: Callable[..., Opened],
    sources: Mapping[str, Any],
    channels: int,
    *,
    classes: Classes | None = None,
    **options: Any,
) -> dict[str, Opened]:
    """Opens the splits of a format. Without ``classes``, the first split determines the classes of all.

    Args:
        dataset: the format's class, see :class:`FileDetection`.
        sources: the source of each split, from the format's ``find_...`` function.
        channels, classes: see :class:`FileDetection`.
        **options: further arguments of the class.

    Raises:
        InputError: see the class.
    """
    splits: dict[str, Opened] = {}
    for split, source in sources.items():
        splits[split] = dataset(source, channels, classes, **options)
        classes = splits[split].classes
    return splits


def one_per_split(paths: Iterable[tuple[str | None, Path]], kind: str) -> dict[str, Path]:
    """The path of each split, in the usual order; paths without a split are left out.

    Raises:
        InputError: two paths for the same split; the message calls them ``kind``, a plural.
    """
    splits: dict[str, Path] = {}
    for split, path in paths:
        if split in splits:
            raise InputError(f"{path.parent}: two {kind} for the {split} split: {splits[split].name} and {path.name}")
        if split is not None:
            splits[split] = path
    return {split: splits[split] for split in in_order(splits)}


def split_in(name: str) -> str | None:
    """The split that a file or folder is named after: train for ``instances_train2017``."""
    return next((split for word in re.split(r"[^a-z]+", name.lower()) if (split := split_named(word))), None)


def first_entries(folder: Path, limit: int = 1000, *, only_folders: bool = False) -> list[Path]:
    """Some of the files and folders in a folder, sorted; empty if it cannot be listed.

    Args:
        folder: the folder.
        limit: maximum number of entries.
        only_folders: leave out files, however many there are.
    """
    try:
        with os.scandir(folder) as entries:
            paths = (folder / entry.name for entry in entries if not is_system(entry.name))
            return sorted(islice((path for path in paths if not only_folders or path.is_dir()), limit))
    except OSError:
        return []


def json_head(path: Path) -> bytes:
    """The first 64 KiB of a file that looks like a JSON object; empty for any other file."""
    try:
        with open_regular(path) as file:
            head = file.read(1 << 16)
    except InputError:
        return b""
    return head if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else b""


def listed(names: Sequence[str], limit: int = 5) -> str:
    """The first names of a list, for messages."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def unknown_class(name: str, classes: Classes) -> str:
    """The message for an object whose class is not among the known ones."""
    return f"class {name!r} is not known ({listed(classes.names)})"
