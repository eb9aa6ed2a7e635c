"""What the detection formats share."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.files import FileDataset
from fishnet.data.splits import split_named
from fishnet.errors import InputError
from fishnet.files.reading import open_regular


class FileDetection(FileDataset, DetectionDataset):
    """A detection dataset of image files: each entry has a ``path``.

    All formats are created as ``Format(source, channels=3, classes=None, *, masks=False)``:

    - source: where the images and annotations of one split are.
    - channels: number of channels that images are read with.
    - classes: the known classes, matched by name; by default those of the data.
    - masks: whether objects have segmentations.
    """

    def named_in(self, index: int) -> str:
        """Where the image is annotated."""
        return self.place(index, -1)


Opened = TypeVar("Opened", bound=FileDetection)


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
        sources: by split, from the format's ``find_...`` function.
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


def split_in(name: str) -> str | None:
    """The split that a file or folder is named after: train for ``instances_train2017``."""
    return next((split for word in re.split(r"[^a-z]+", name.lower()) if (split := split_named(word))), None)


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
    """The message for an object of a class that is not among those that are known."""
    return f"class {name!r} is not known ({listed(classes.names)})"
