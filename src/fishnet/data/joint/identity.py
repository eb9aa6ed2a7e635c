"""Which entries of several datasets are the same image."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fishnet.data.base import ImageDataset
from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.files.tensors import hash_file

Identity = tuple[int, int] | str
"""Device and inode of a file, or text."""

_END = 4096  # bytes of a file's beginning and end that are compared first


@dataclass
class _File:
    """A file, and the heads whose data have it."""

    path: str
    heads: set[str] = field(default_factory=set)


_Files = Mapping[Identity, _File]


def file_identity(source: str) -> Identity:
    """Device and inode of a file; its path on file systems without inodes; the name itself if it is not a file."""
    return _identity(source)[0]


def image_identities(datasets: Iterable[tuple[str, ImageDataset]]) -> dict[str, Identity]:
    """The identity of each image, by its source; those that are the same image have the same.

    Images are the same if they are one file on disk, also through links, or if one file is a copy of the other and two
    heads' data have them. Images inside other files are the same if their datasets name them alike. Only files whose
    size occurs in the data of two heads are read: their beginnings and ends, and all of them only where those agree.

    Args:
        datasets: heads' names, and datasets of theirs.
    """
    found: dict[str, Identity] = {}
    files: dict[int, dict[Identity, _File]] = defaultdict(dict)  # by size
    for head, dataset in datasets:
        for index in range(len(dataset)):
            source = dataset.source(index)
            found[source], size = _identity(source)
            if size:
                files[size].setdefault(found[source], _File(source)).heads.add(head)
    same: dict[Identity, Identity] = {}
    for of_size in files.values():
        for equal in _copies(of_size):
            same |= dict.fromkeys(equal, next(iter(equal)))
    return {source: same.get(identity, identity) for source, identity in found.items()}


def _identity(source: str) -> tuple[Identity, int]:
    """The identity of one file, and its size in bytes; 0 if it is none."""
    try:
        stat = Path(source).stat()
    except (OSError, ValueError):
        return source, 0
    return ((stat.st_dev, stat.st_ino) if stat.st_ino else str(Path(source).resolve())), stat.st_size


def _copies(files: _Files) -> Iterator[_Files]:
    """Of files of one size, those with the same content that two heads' data have."""
    for alike in _groups(files, _ends):
        yield from _groups(alike, hash_file)


def _groups(files: _Files, digest: Callable[[str], object]) -> list[_Files]:
    """The files by their digest; only groups that two heads' data have. A file that cannot be read is in none."""
    groups: dict[object, dict[Identity, _File]] = defaultdict(dict)
    if _shared(files):
        for identity, file in files.items():
            with suppress(OSError, InputError):
                groups[digest(file.path)][identity] = file
    return [group for group in groups.values() if _shared(group)]


def _shared(files: _Files) -> bool:
    """Whether these are several files, and of two heads or more."""
    return len(files) > 1 and len(set().union(*(file.heads for file in files.values()))) > 1


def _ends(path: str) -> bytes:
    """The beginning and the end of a file."""
    with open_regular(path, "image") as file:
        start = file.read(_END)
        file.seek(-min(_END, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return start + file.read(_END)
