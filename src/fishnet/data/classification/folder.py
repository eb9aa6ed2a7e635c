"""Image folders: one sub-folder per class, with or without train / val / test folders around them."""

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

    Two folders whose names differ only in their Unicode form are one class.

    Args:
        folder: the folder of class folders.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        classes: the known classes; by default those of the folder.
        root: the dataset's folder; links to folders are only followed if they stay inside it. By default ``folder``.

    Raises:
        InputError: no such folder, no class folders, a class folder that links outside of the root, or a class that
            ``classes`` lacks; without ``classes``, fewer than two classes or an empty class folder.
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
            labels = own.indices_in(self.classes)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        self.paths: list[Path] = []
        self.labels: list[int] = []
        skipped, links = Counter[str](), list[Path]()
        for name, label in zip(names, labels, strict=True):
            scans = [scan(folder / spelling, root) for spelling in by_class[name]]
            images = sorted(path for scanned in scans for path in scanned.images)
            others = sum((scanned.skipped for scanned in scans), Counter[str]())
            if not images and classes is None:
                raise InputError(f"{folder / by_class[name][0]}: empty class folder: {_lacks(others)}")
            self.paths += images
            self.labels += [label] * len(images)
            skipped.update(others)
            links += [link for scanned in scans for link in scanned.links]
        self.skipped, self.links = skipped, links
        self.notes = _images_without_class(folder)

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
        InputError: no such folder, no class folders inside, or one that links outside of the root.
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
    """The train / val / test folders inside a folder, by their usual names, if they contain class folders.

    Empty if the sub-folders are classes themselves. A class may be called train: a folder of that name is a class if
    no other folder is named after a split and there are other folders of images beside it.

    Raises:
        InputError: two folders for the same split, or one that links outside of the folder.
    """
    entries = _folders_in(folder, folder)
    candidates = [(split, entry) for entry in entries if (split := split_named(entry.name)) and _has_folders(entry)]
    others = [entry for entry in entries if split_named(entry.name) is None]
    splits = {split for split, _ in candidates}
    if "train" in splits:
        if splits == {"train"} and any(_has_images(entry) for entry in others):
            return {}
    elif len(candidates) < len(entries):
        return {}
    for split in splits:
        names = [entry.name for candidate, entry in candidates if candidate == split]
        if len(names) > 1:
            raise InputError(f"{folder}: two folders for the same split: {' and '.join(names)}: rename or remove one")
    folders = dict(candidates)
    return {split: folders[split] for split in in_order(splits)}


def beside_splits(folder: Path, splits: Mapping[str, Path]) -> list[Finding]:
    """The finding about images that lie beside the folders of the splits, or in other folders there.

    Args:
        folder: the dataset's folder.
        splits: the folders of its splits, see :func:`split_folders`.
    """
    counts = {
        entry.name: len(scan(entry, folder).images)
        for entry in _folders_in(folder, folder)
        if entry not in splits.values()
    }
    loose = sum(entry.suffix.lower() in EXTENSIONS and not is_system(entry.name) for entry in folder.iterdir())
    listed = [f"{name} ({count:,})" for name, count in counts.items() if count]
    total = sum(counts.values()) + loose
    if not total:
        return []
    message = f"{folder}: {total:,} image{'s' * (total != 1)} beside {', '.join(splits)}, in no split"
    message += f": in {', '.join(listed[:5])}" if listed else ""
    return [Finding("image-without-split", message, count=total)]


def _folders_in(folder: Path, root: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden folders and system folders."""
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
    """The message about a class folder without images."""
    line = skipped_line(skipped)
    return f"no image inside ({line or ' '.join(EXTENSIONS)}); add some or remove the folder"


def _images_without_class(folder: Path) -> list[Finding]:
    """The finding about images that lie beside the class folders."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in EXTENSIONS and entry.is_file())
    names = [name for name in names if not is_system(name)]
    if not names:
        return []
    message = (
        f"{folder}: {len(names):,} image{'s' * (len(names) != 1)} beside the class folders, of no class ({names[0]}"
    )
    return [Finding("image-without-class", message + (", ...)" if len(names) > 1 else ")"), count=len(names))]
