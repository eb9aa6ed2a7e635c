"""YOLO's ``data.yaml``: names of the classes, and where the images of each split are. Torch-free."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fishnet.bundle.classes import Classes
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.documents import read_yaml as read_plain
from fishnet.files.reading import MIB
from fishnet.files.walking import inside, refuse_system_place

LARGEST = 4 * MIB  # bytes of a YAML file
_MOST_KEYPOINTS = 10_000


@dataclass(frozen=True)
class YoloFile:
    """A ``data.yaml``.

    Attributes:
        path: of the file.
        names: of the classes by number.
        parts: folders and lists of images of each split, as the file spells them.
        root: folder that these start from.
        keypoints: number of keypoints of an object and of values of each (``kpt_shape``); None where there are none.
        trusted: whether the splits may lie anywhere; else in the folder that holds the file's own folder.
    """

    path: Path
    names: dict[int, str]
    parts: dict[str, tuple[str, ...]]
    root: Path
    keypoints: tuple[int, int] | None = None
    trusted: bool = False

    def check_place(self, part: str, place: Path) -> None:
        """Looks at a folder or list that the file names before anything in it is read.

        Raises:
            InputError: a folder of the system, or one outside of the folder that holds the file's own.
        """
        refuse_system_place(os.path.realpath(place), f"{self.path}: {part}: {place}")
        around = self.path.absolute().parent.parent
        if not self.trusted and not inside(around, place):
            raise InputError(
                f"{self.path}: {part}: {place} lies outside of {around}: name the YAML file itself as DATA if you "
                "trust it, or put it beside the images"
            )


def read_yaml(path: Path, trusted: bool = False) -> YoloFile:
    """Reads a ``data.yaml``.

    Args:
        path: of the file.
        trusted: see :class:`YoloFile`.

    Raises:
        InputError: not YAML, no names, names that are not unique or not as many as ``nc`` says, or no part.
    """
    content = read_plain(path, LARGEST)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected the keys names, train and val")
    names = _names(path, content.get("names"))
    count = content.get("nc")
    if count is not None and count != len(names):
        raise InputError(f"{path}: nc is {str(count)[:20]}, but names has {len(names)} classes: correct one of them")
    found = {
        part: _listed(path, key, value) for key, value in content.items() if (part := split_named(str(key))) and value
    }
    if not found:
        raise InputError(f"{path}: names no part: train and val must say where the images are")
    base = content.get("path")
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: path must be a folder")
    root = path.parent / base if base else path.parent
    root = root if os.path.isdir(root) else path.parent  # noqa: PTH112 (of a name of any length)
    parts = {part: found[part] for part in in_order(found)}
    return YoloFile(path, names, parts, root, _keypoints(path, content.get("kpt_shape")), trusted)


def _names(path: Path, given: Any) -> dict[int, str]:
    numbered = dict(enumerate(given)) if isinstance(given, list) else given
    if isinstance(numbered, dict):
        numbered = {int(key) if isinstance(key, str) and key.isdecimal() else key: numbered[key] for key in numbered}
    if not isinstance(numbered, dict) or not numbered or not all(type(key) is int for key in numbered):
        raise InputError(f"{path}: names must list the classes: [cat, dog], or 0: cat, 1: dog")
    for key, name in numbered.items():
        if not isinstance(name, str | int | float) or isinstance(name, bool):
            raise InputError(f"{path}: name {key} is {name!r}, no text: put it in quotes")
    names = {key: str(name) for key, name in sorted(numbered.items())}
    try:
        classes = Classes(tuple(names.values()), tuple(names))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return dict(zip(names, classes.names, strict=True))


def _listed(path: Path, key: Any, value: Any) -> tuple[str, ...]:
    places = value if isinstance(value, list) else [value]
    if not all(isinstance(place, str) and "\0" not in place for place in places):
        raise InputError(f"{path}: {key} must be a folder, a .txt list of images, or several of these")
    return tuple(places)


def _keypoints(path: Path, given: Any) -> tuple[int, int] | None:
    if given is None:
        return None
    if (
        not isinstance(given, list)
        or [type(value) for value in given] != [int, int]
        or not 0 < given[0] <= _MOST_KEYPOINTS
        or given[1] not in (2, 3)
    ):
        raise InputError(f"{path}: kpt_shape must be [keypoints, 2] or [keypoints, 3], not {str(given)[:40]}")
    return given[0], given[1]
