"""Image folders: one sub-folder per class, with or without train / val / test above them."""

from collections.abc import Sequence
from pathlib import Path

from fishnet.data.base import EncodedSet
from fishnet.data.labels import Classes
from fishnet.data.pictures import EXTENSIONS, find_pictures, read_file
from fishnet.errors import InputError

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test",)}


class ImageFolder(EncodedSet):
    """``FOLDER/<class>/**/<picture>``: classes are the sub-folders' names, sorted.

    Args:
        folder: the folder of class folders.
        channels: 3 (RGB) or 1 (grey).
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
        found = Classes.of(names)
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
        raise InputError(f"{folder}: no class folders inside: expected {folder / '<class>' / '<picture>'}")
    return names


def split_folders(folder: Path) -> dict[str, Path]:
    """The train / val / test folders inside a folder, by their usual names, as far as they hold class folders.

    Empty where the folder's sub-folders are classes themselves (one of which may be called train).
    """
    found = {split: folder / name for split, names in SPLITS.items() for name in names if _has_folders(folder / name)}
    others = {entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    return found if "train" in found or others <= set(found.values()) else {}


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in folder.iterdir())
