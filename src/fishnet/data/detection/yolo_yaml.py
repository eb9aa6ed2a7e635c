"""YOLO's ``data.yaml``: the class names, and where the images of each split are. Torch-free."""

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

MAX_BYTES = 4 * MIB  # bytes of a YAML file
_MAX_KEYPOINTS = 10_000


@dataclass(frozen=True)
class YoloFile:
    """A ``data.yaml``.

    Attributes:
        path: the YAML file.
        names: class names by number.
        splits: folders and image lists of each split, as the file spells them.
        root: the folder that ``splits`` are relative to.
        keypoints: number of keypoints per object and of values per keypoint (``kpt_shape``); None if there are none.
        trusted: whether the splits may be anywhere; otherwise they must be in the parent of the file's folder.
    """

    path: Path
    names: dict[int, str]
    splits: dict[str, tuple[str, ...]]
    root: Path
    keypoints: tuple[int, int] | None = None
    trusted: bool = False

    def check_source(self, split: str, source: Path) -> None:
        """Checks a folder or list that the file names, before anything in it is read.

        Raises:
            InputError: a system folder, or a path outside the parent of the file's folder unless ``trusted``.
        """
        refuse_system_place(os.path.realpath(source), f"{self.path}: {split}: {source}")
        around = self.path.absolute().parent.parent
        if not self.trusted and not inside(around, source):
            raise InputError(
                f"{self.path}: {split}: {source} is outside {around}: pass the YAML file itself as the data if you "
                "trust it, or move it next to the images"
            )


def read_yaml(path: Path, trusted: bool = False) -> YoloFile:
    """Reads a ``data.yaml``.

    Args:
        path: the YAML file.
        trusted: see :class:`YoloFile`.

    Raises:
        InputError: not YAML, no class names, names that are not unique or do not match ``nc``, or no split.
    """
    content = read_plain(path, MAX_BYTES)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected the keys names and at least one of train, val and test")
    names = _names(path, content.get("names"))
    count = content.get("nc")
    if count is not None and count != len(names):
        raise InputError(f"{path}: nc is {str(count)[:20]}, but names has {len(names)} classes: correct one of them")
    splits = {
        split: _listed(path, key, value) for key, value in content.items() if (split := split_named(str(key))) and value
    }
    if not splits:
        raise InputError(f"{path}: has no split: set at least one of train, val and test to where its images are")
    base = content.get("path")
    if base is not None and not isinstance(base, str):
        raise InputError(f"{path}: path must be a folder")
    root = path.parent / base if base else path.parent
    root = root if os.path.isdir(root) else path.parent  # noqa: PTH112 (False if the name is too long)
    splits = {split: splits[split] for split in in_order(splits)}
    return YoloFile(path, names, splits, root, _keypoints(path, content.get("kpt_shape")), trusted)


def _names(path: Path, value: Any) -> dict[int, str]:
    numbered = dict(enumerate(value)) if isinstance(value, list) else value
    if isinstance(numbered, dict):
        numbered = {int(key) if isinstance(key, str) and key.isdecimal() else key: numbered[key] for key in numbered}
    if not isinstance(numbered, dict) or not numbered or not all(type(key) is int for key in numbered):
        raise InputError(f"{path}: names must list the classes: [cat, dog], or 0: cat, 1: dog")
    for key, name in numbered.items():
        if not isinstance(name, str | int | float) or isinstance(name, bool):
            raise InputError(f"{path}: name {key} is {name!r}, which is not a text: put it in quotes")
    names = {key: str(name) for key, name in sorted(numbered.items())}
    try:
        classes = Classes(tuple(names.values()), tuple(names))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return dict(zip(names, classes.names, strict=True))


def _listed(path: Path, key: Any, value: Any) -> tuple[str, ...]:
    sources = value if isinstance(value, list) else [value]
    if not all(isinstance(source, str) and "\0" not in source for source in sources):
        raise InputError(f"{path}: {key} must be a folder, a .txt list of images, or several of these")
    return tuple(sources)


def _keypoints(path: Path, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if (
        not isinstance(value, list)
        or [type(number) for number in value] != [int, int]
        or not 0 < value[0] <= _MAX_KEYPOINTS
        or value[1] not in (2, 3)
    ):
        raise InputError(f"{path}: kpt_shape must be [keypoints, 2] or [keypoints, 3], not {str(value)[:40]}")
    return value[0], value[1]
