"""Image folders: one sub-folder per class, with or without train / val / test above them."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fishnet.bundle.classes import Classes, to_nfc
from fishnet.data.base import EncodedDataset
from fishnet.data.findings import Finding
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.walking import inside, is_system, refuse_system_place, walk
from fishnet.images.decoding import EXTENSIONS, read_file
from fishnet.images.scanning import scan, skipped_line


class ImageFolder(EncodedDataset):
    """``FOLDER/<class>/**/<image>``: classes are the sub-folders' names in NFC, sorted.

    Two folders whose names are the same text in other Unicode forms are one class.

    Args:
        folder: the folder of class folders.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the expected classes; by default those of the folder.
        root: the dataset's folder, inside of which links to folders are followed; by default ``folder``.

    Raises:
        InputError: no such folder, no class folders, a class folder that is a link out of the root, or a class that
            ``classes`` does not have; without ``classes``, fewer than two classes or an empty class folder.
    """

    def __init__(
        self, folder: Path, channels: int = 3, classes: Classes | None = None, root: Path | None = None
    ) -> None:
        self.folder, self.channels = folder, channels
        root = root or folder
        by_class: dict[str, list[str]] = {}
        for name in class_folders(folder, root):
            by_class.setdefault(to_nfc(os.fsencode(name).decode(errors="backslashreplace")), []).append(name)
        names = sorted(by_class)
        if classes is None and len(names) < 2:
            raise InputError(f"{folder}: has one class only ({names[0]}): a classifier needs two class folders or more")
        own = Classes.of(names)
        self.classes = classes or own
        try:
            places = own.indices_in(self.classes)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        self.paths: list[Path] = []
        self.labels: list[int] = []
        skipped, links = Counter[str](), list[Path]()
        for name, label in zip(names, places, strict=True):
            scans = [scan(folder / spelling, root) for spelling in by_class[name]]
            images = sorted(path for one in scans for path in one.images)
            others = sum((one.skipped for one in scans), Counter[str]())
            if not images and classes is None:
                raise InputError(f"{folder / by_class[name][0]}: empty class folder: {_lacks(others)}")
            self.paths += images
            self.labels += [label] * len(images)
            skipped.update(others)
            links += [link for one in scans for link in one.links]
        self.skipped, self.links = skipped, links
        self.notes = _beside(folder)

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.base.EncodedDataset`."""
        return read_file(self.paths[index])

    def source(self, index: int) -> str:
        """The image's path."""
        return str(self.paths[index])

    def key(self, index: int) -> str:
        """The image's path below the folder."""
        return self.paths[index].relative_to(self.folder).as_posix()


def class_folders(folder: Path, root: Path | None = None) -> Sequence[str]:
    """The sorted names of a folder's class folders.

    Raises:
        InputError: no such folder, none inside, or one that is a link to a place outside of the root.
    """
    if not folder.exists():
        raise InputError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file: give a folder with one sub-folder per class")
    names = [entry.name for entry in _folders_in(folder, root or folder)]
    if not names:
        shards = f"; for WebDataset shards give wds/{folder}" if any(folder.glob("*.tar")) else ""
        raise InputError(f"{folder}: no class folders inside: expected {folder / '<class>' / '<image>'}{shards}")
    return names


def split_folders(folder: Path) -> dict[str, Path]:
    """The train / val / test folders inside a folder, by their usual names, as far as they hold class folders.

    Empty where the folder's sub-folders are classes themselves. One of these may be called train: it is a class where
    it is the only part and stands beside other folders of images.

    Raises:
        InputError: two folders for the same part, or one that is a link to a place outside of the folder.
    """
    within = _folders_in(folder, folder)
    splits = [(split, entry) for entry in within if (split := split_named(entry.name)) and _has_folders(entry)]
    others = [entry for entry in within if split_named(entry.name) is None]
    parts = {split for split, _ in splits}
    if "train" in parts:
        if parts == {"train"} and any(_has_images(entry) for entry in others):
            return {}
    elif len(splits) < len(within):
        return {}
    for split in parts:
        names = [entry.name for other, entry in splits if other == split]
        if len(names) > 1:
            raise InputError(f"{folder}: two folders for the same part: {' and '.join(names)}: rename or remove one")
    places = dict(splits)
    return {split: places[split] for split in in_order(parts)}


def beside_splits(folder: Path, parts: Mapping[str, Path]) -> list[Finding]:
    """What to say of images that lie beside the folders of the splits, and in other folders there.

    Args:
        folder: of the dataset.
        parts: the folders of its splits, see :func:`split_folders`.
    """
    counts = {
        entry.name: len(scan(entry, folder).images)
        for entry in _folders_in(folder, folder)
        if entry not in parts.values()
    }
    loose = sum(entry.suffix.lower() in EXTENSIONS and not is_system(entry.name) for entry in folder.iterdir())
    places = [f"{name} ({count:,})" for name, count in counts.items() if count]
    total = sum(counts.values()) + loose
    if not total:
        return []
    message = f"{folder}: {total:,} image{'s' * (total != 1)} beside {', '.join(parts)}, in no split"
    message += f": in {', '.join(places[:5])}" if places else ""
    return [Finding("image-without-split", message, count=total)]


def _folders_in(folder: Path, root: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones and those that systems leave behind are left out."""
    refuse_system_place(os.path.realpath(folder), folder)
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_system(entry.name))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error})") from None
    for entry in entries:
        if entry.is_symlink() and not inside(root, entry):
            raise InputError(
                f"{entry}: is a link to {os.path.realpath(entry)}, outside of {root}: links to folders are followed "
                "inside of a dataset only: copy the folder, or link its files one by one (cp -rs)"
            )
    return entries


def _has_folders(folder: Path) -> bool:
    return any(entry.is_dir() and not is_system(entry.name) for entry in folder.iterdir())


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in EXTENSIONS for path in walk(folder))


def _lacks(skipped: Counter[str]) -> str:
    """Why there is no image in a class folder."""
    line = skipped_line(skipped)
    return f"no image inside ({line or ' '.join(EXTENSIONS)}); add some or remove the folder"


def _beside(folder: Path) -> list[Finding]:
    """What to say of images that lie beside the class folders."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in EXTENSIONS and entry.is_file())
    names = [name for name in names if not is_system(name)]
    if not names:
        return []
    message = (
        f"{folder}: {len(names):,} image{'s' * (len(names) != 1)} beside the class folders, of no class ({names[0]}"
    )
    return [Finding("image-without-class", message + (", ...)" if len(names) > 1 else ")"), count=len(names))]
