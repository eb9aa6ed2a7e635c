"""Listing the files below a folder: bounded, in a fixed order, and inside the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from fishnet.errors import InputError

SYSTEM_FOLDERS = frozenset(
    {"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "__pycache__", "#recycle"}
)
"""Folders that file servers and operating systems leave beside the user's files, in lower case."""

SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
"""Files that they leave there, in lower case."""

MAX_ENTRIES = 20_000_000  # maximum number of files and folders of one walk
_MAX_DEPTH = 64
_SYSTEM_ROOTS = ("/proc", "/sys", "/dev", "/run")


def is_system(name: str) -> bool:
    """Whether the name of a file or folder is hidden (``.name``) or one of those above."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS or name.lower() in SYSTEM_FILES


def walk(root: Path, *, max_entries: int = MAX_ENTRIES, skipped: list[Path] | None = None) -> Iterator[Path]:
    """Yields the files in a folder and below it, sorted by path within each folder, files before folders.

    Hidden and system files and folders are skipped. Links to files are followed wherever they lead. A link to a folder
    is followed if it leads inside the root; one that leads outside, or to a folder that contains it, is skipped.

    Args:
        root: the folder; it may be a link itself.
        max_entries: maximum files and folders looked at.
        skipped: collects the linked folders that were not followed.

    Raises:
        InputError: a root that is a system folder (``/proc``, ``/sys``, ``/dev``), too many entries, or folders nested
            too deeply.
    """
    top = os.path.realpath(root)
    refuse_system_place(top, root)
    count = 0
    stack = [(Path(root), 0)]
    while stack:
        folder, depth = stack.pop()
        if depth > _MAX_DEPTH:
            raise InputError(
                f"{folder}: more than {_MAX_DEPTH} folders inside each other: name the dataset's own folder"
            )
        below: list[tuple[Path, int]] = []
        for entry in sorted(_entries(folder), key=lambda item: item.name):
            count += 1
            if count > max_entries:
                raise InputError(
                    f"{root}: more than {max_entries:,} files and folders inside: name the dataset's own folder"
                )
            if is_system(entry.name):
                continue
            place = folder / entry.name
            if not _is_folder(entry):
                yield place
            elif not entry.is_symlink() or _leads_inside(place, top):
                below.append((place, depth + 1))
            elif skipped is not None:
                skipped.append(place)
        stack.extend(reversed(below))


def inside(root: Path, path: Path) -> bool:
    """Whether a path, with its links followed, is a folder or lies below it."""
    top, place = os.path.realpath(root), os.path.realpath(path)
    return place == top or place.startswith(top.rstrip(os.sep) + os.sep)


def refuse_system_place(place: str, name: str | Path) -> None:
    """Refuses a virtual folder of the system.

    Raises:
        InputError: ``place`` is ``/proc``, ``/sys``, ``/dev`` or ``/run``, or lies below one of them; or it is ``/``.
    """
    if place.startswith(("/dev/shm/", "/run/media/")):
        return
    if place == os.sep or any(place == root or place.startswith(f"{root}/") for root in _SYSTEM_ROOTS):
        raise InputError(f"{name}: is a folder of the system, not a dataset")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _leads_inside(place: Path, top: str) -> bool:
    """Whether a linked folder leads inside the root, and not to a folder above itself."""
    target = os.path.realpath(place)
    within = target.startswith(top.rstrip(os.sep) + os.sep)
    parent = os.path.realpath(place.parent)
    return within and parent != target and not parent.startswith(target + os.sep)
