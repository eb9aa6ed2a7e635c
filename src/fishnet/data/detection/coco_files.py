"""Finds the images of a COCO file."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fishnet.data.collector import is_strict, report
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.findings import Finding
from fishnet.data.resolving import TailIndex, spellings
from fishnet.errors import InputError
from fishnet.files.reading import is_regular
from fishnet.files.walking import walk

_PROBED = 20  # images that are looked for in each folder
_MAX_FILES = 300_000  # searched at most for images that are not where the annotation file says


@dataclass
class Located:
    """The image files of an annotation file.

    Attributes:
        folder: the folder that the names are relative to.
        paths: one path per name: where the image is, or should be if it is missing.
        by_tail: indices of the names that were found by the end of their path.
        missing: indices of the names without an image.
        doubtful: index and message for each name that fits several images.
    """

    folder: Path
    paths: list[Path] = field(default_factory=list)
    by_tail: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    doubtful: list[tuple[int, str]] = field(default_factory=list)


def locate(names: Sequence[str], folders: Sequence[Path], roots: Iterable[Path]) -> Located:
    """Finds the images that an annotation file names.

    Args:
        names: the image names, as the file spells them.
        folders: folders that the names may be relative to. The first one that holds any of the first images is used.
        roots: folders in which the other images are searched for, by the ends of their paths.
    """
    probed = [spelled for name in names[:_PROBED] for spelled in spellings(name)]
    chosen = next((folder for folder in folders if any(is_regular(folder / name) for name in probed)), folders[0])
    located, listing = Located(chosen), Listing()
    for number, name in enumerate(names):
        direct = [chosen / spelled for spelled in spellings(name)]
        path = next((path for path in direct if listing.has(path)), None)
        located.paths.append(path or direct[0])
        if path is None:
            located.missing.append(number)
    if located.missing:
        _find_by_tail(names, located, TailIndex(_below(roots)))
    return located


def report_located(
    path: Path,
    names: Sequence[str],
    folders: Sequence[Path],
    located: Located,
    place: Callable[[int], str],
    notes: list[Finding],
) -> None:
    """Reports images that are missing, ambiguous, or not where the annotation file says.

    Args:
        path: the annotation file.
        names, folders: the arguments of :func:`locate`.
        located: its result.
        place: returns the file, line and entry of an image, by its index.
        notes: the dataset's notes, to which findings are added.

    Raises:
        InputError: no image found, ambiguous ones, or more than 1 % missing, unless problems are collected.
    """
    for row, message in located.doubtful:
        report(f"{place(row)}: {message}", "image-missing", file=str(path))
    if names and len(located.missing) == len(names):
        searched = ", ".join(map(str, folders))
        report(f"{path}: none of its images found: {names[0]} is not in {searched}")
    elif is_strict():  # when problems are collected, each image is read and reported later
        missing = [f"{names[row]} ({place(row)})" for row in located.missing]
        what = f"images of {path} are neither in {located.folder} nor in the folders around it"
        report_orphans(missing, len(names), what, "add them, or remove their entries", "image-missing", notes)
    if located.by_tail:
        row, count = located.by_tail[0], len(located.by_tail)
        what = f"{count:,} of {len(names):,} images are elsewhere, such as {names[row]}: {located.paths[row]}"
        notes.append(Finding("image-found-by-tail", f"{path}: {what}", file=str(path), count=count))


class Listing:
    """The contents of folders, each listed once."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def names(self, folder: str) -> set[str]:
        """The names of everything in a folder; empty if it cannot be listed."""
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder))  # noqa: PTH208
            except (OSError, ValueError):
                self._names[folder] = set()
        return self._names[folder]

    def has(self, path: Path) -> bool:
        """Whether a path exists."""
        folder, name = os.path.split(path)
        return name in self.names(folder)


def _below(roots: Iterable[Path]) -> list[Path]:
    """The files below some folders, except folders with more than ``_MAX_FILES`` files."""
    files: list[Path] = []
    for root in roots:
        try:
            files += walk(root, max_entries=_MAX_FILES)
        except InputError:
            continue
    return files


def _find_by_tail(names: Sequence[str], located: Located, tails: TailIndex) -> None:
    """Finds missing images by the ends of their paths. Never assigns one image to two names."""
    absent = set(located.missing)
    taken = {path for number, path in enumerate(located.paths) if number not in absent}
    matches: dict[Path, list[int]] = {}
    for number in located.missing:
        try:
            path = tails.find(names[number], located.folder)
        except InputError as error:
            located.doubtful.append((number, str(error)))
            continue
        if path is not None and path not in taken:
            matches.setdefault(path, []).append(number)
    for path, numbers in matches.items():
        if len(numbers) == 1 or len({names[number] for number in numbers}) == 1:
            for number in numbers:
                located.paths[number] = path
                located.by_tail.append(number)
        else:
            first, second = (names[number] for number in numbers[:2])
            located.doubtful += [(number, f"{first} and {second} may both be {path}") for number in numbers]
    doubtful = {number for number, _ in located.doubtful}
    located.by_tail.sort()
    located.missing = [n for n in located.missing if n not in doubtful and n not in set(located.by_tail)]
