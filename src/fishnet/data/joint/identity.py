"""Which entries of several datasets are the same image."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from fishnet.data.base import ImageDataset

Identity = tuple[int, int] | str
"""Device and inode of a file, or text."""

_END = 4096  # bytes of a file's beginning and end that are compared first


def file_identity(source: str) -> Identity:
    """Device and inode of a file; its path on file systems without inodes; the name itself if it is not a file."""
    return _identity(source)[0]


def image_identities(datasets: Iterable[tuple[str, ImageDataset]]) -> dict[str, Identity]:
    """The identity of each image, by its source; those that are the same image have the same.

    Images are the same if they are one file on disk, also through links, or if two heads' data have copies of a file.
    Images inside other files are the same if their datasets name them alike. Only files whose size occurs in the data
    of two heads are read: their beginnings and ends, and all of them only where those agree.

    Args:
        datasets: heads' names, and datasets of theirs.
    """
    found: dict[str, Identity] = {}
    files: dict[int, dict[Identity, str]] = defaultdict(dict)  # size -> its files, by identity
    heads: dict[int, set[str]] = defaultdict(set)
    for head, dataset in datasets:
        for index in range(len(dataset)):
            source = dataset.source(index)
            found[source], size = _identity(source)
            if size:
                files[size].setdefault(found[source], source)
                heads[size].add(head)
    same: dict[Identity, Identity] = {}
    for size, of_size in files.items():
        if len(of_size) > 1 and len(heads[size]) > 1:
            same |= _copies(of_size)
    return {source: same.get(identity, identity) for source, identity in found.items()}


def _identity(source: str) -> tuple[Identity, int]:
    """The identity of one file, and its size in bytes; 0 if it is none."""
    try:
        stat = Path(source).stat()
    except (OSError, ValueError):
        return source, 0
    return ((stat.st_dev, stat.st_ino) if stat.st_ino else str(Path(source).resolve())), stat.st_size


def _copies(files: Mapping[Identity, str]) -> dict[Identity, Identity]:
    """For files of one size: the first identity with the same content. A file that cannot be read has no copies."""
    same: dict[Identity, Identity] = {}
    for alike in _groups(files, list(files), whole=False):
        for equal in _groups(files, alike, whole=True):
            same |= dict.fromkeys(equal, equal[0])
    return same


def _groups(files: Mapping[Identity, str], identities: Iterable[Identity], whole: bool) -> list[list[Identity]]:
    """Groups of two files or more whose content, or whose beginning and end, is the same."""
    groups: dict[bytes, list[Identity]] = defaultdict(list)
    for identity in identities:
        try:
            groups[_digest(files[identity], whole)].append(identity)
        except OSError:
            continue
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: str, whole: bool) -> bytes:
    with Path(path).open("rb") as file:
        if whole:
            return hashlib.file_digest(file, "sha256").digest()
        start = file.read(_END)
        file.seek(-min(_END, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return hashlib.sha256(start + file.read(_END)).digest()
