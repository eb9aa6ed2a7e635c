"""Image folders: one sub-folder per class, with or without train / val / test above them."""

import os
from collections.abc import Sequence
from pathlib import Path

from fishnet.data.base import EncodedSet
from fishnet.data.labels import Classes
from fishnet.data.pictures import EXTENSIONS, find_pictures, read_file
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError


class ImageFolder(EncodedSet):
    """``FOLDER/<class>/**/<picture>``: classes are the sub-folders' names, sorted.

    Args:
        folder: the folder of class folders.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the expected classes; by default those of the folder.

    Raises:
        InputError: no such folder, no class folders, or a class that ``classes`` does not have; without ``classes``,
            fewer than two classes or an empty class folder.
    """

    def __init__(self, folder: Path, channels: int = 3, classes: Classes | None = None) -> None:
        self.folder, self.channels = folder, channels
        names = class_folders(folder)
        if classes is None and len(names) < 2:
            raise InputError(f"{folder}: has one class only ({names[0]}): a classifier needs two class folders or more")
        found = Classes.of(os.fsencode(name).decode(errors="backslashreplace") for name in names)  # for all writers
        self.classes = classes or found
        try:
            places = found.indices_in(self.classes)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        self.paths: list[Path] = []
        self.labels: list[int] = []
        for name, label in zip(names, places, strict=True):
            pictures = find_pictures(folder / name)
            if not pictures and classes is None:
                raise InputError(
                    f"{folder / name}: empty class folder: no picture inside ({' '.join(EXTENSIONS)}); "
                    "add some or remove the folder"
                )
            self.paths += pictures
            self.labels += [label] * len(pictures)

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedSet`."""
        return read_file(self.paths[index])

    def source(self, index: int) -> str:
        """The picture's path."""
        return str(self.paths[index])

    def key(self, index: int) -> str:
        """The picture's path below the folder."""
        return self.paths[index].relative_to(self.folder).as_posix()


def class_folders(folder: Path) -> Sequence[str]:
    """The sorted names of a folder's class folders.

    Raises:
        InputError: no such folder, or none inside.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file: give a folder with one sub-folder per class")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        shards = f"; for WebDataset shards give wds/{folder}" if any(folder.glob("*.tar")) else ""
        raise InputError(f"{folder}: no class folders inside: expected {folder / '<class>' / '<picture>'}{shards}")
    return names


def split_folders(folder: Path) -> dict[str, Path]:
    """The train / val / test folders inside a folder, by their usual names, as far as they hold class folders.

    Empty where the folder's sub-folders are classes themselves. One of these may be called train: it is a class where
    it is the only part and stands beside other folders of pictures.

    Raises:
        InputError: two folders for the same part.
    """
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = [(split, entry) for entry in inside if (split := split_named(entry.name)) and _has_folders(entry)]
    others = [entry for entry in inside if split_named(entry.name) is None]
    parts = {split for split, _ in found}
    if "train" in parts:
        if parts == {"train"} and any(_has_pictures(entry) for entry in others):
            return {}
    elif len(found) < len(inside):
        return {}
    for split in parts:
        names = [entry.name for other, entry in found if other == split]
        if len(names) > 1:
            raise InputError(f"{folder}: two folders for the same part: {' and '.join(names)}: rename or remove one")
    places = dict(found)
    return {split: places[split] for split in in_order(parts)}


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir())


def _has_pictures(folder: Path) -> bool:
    walk = os.walk(folder)
    return any(Path(name).suffix.lower() in EXTENSIONS for _, _, names in walk for name in names)
