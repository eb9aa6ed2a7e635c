"""What the formats with image files share: a base class, folders by their usual names, and text lists."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from fishnet.data.collector import report
from fishnet.data.entries import EntryDataset
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.reading import open_regular, read_text
from fishnet.images.decoding import EXTENSIONS, decode_image, read_file, size_of
from fishnet.images.opening import open_image
from fishnet.images.opening import upright_size as header_size
from fishnet.images.reading import DEFAULT, Reading
from fishnet.images.scanning import find_images


class MaskEntry(NamedTuple):
    """An image, its mask, and the file and line of the list that names it; "" without a list."""

    path: Path
    mask: Path
    location: str = ""


class FileDataset(EntryDataset):
    """A dataset of image files: each entry has a ``path``.

    Attributes:
        folder: the folder that keys are relative to.
        left_out: images without an annotation, which are not in the dataset.
    """

    folder: Path
    left_out: tuple[str, ...] = ()

    def named_in(self, index: int) -> str:
        """The annotation or list that names the image, for messages; empty if the image was found in its folder."""
        return ""

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.entries.EntryDataset`."""
        try:
            return read_file(self.entries[index].path)
        except InputError as error:
            where = self.named_in(index)
            raise InputError(f"{error} ({where})" if where else str(error)) from None

    def source(self, index: int) -> str:
        """The image's path."""
        return str(self.entries[index].path)

    def key(self, index: int) -> str:
        """The image's path below the folder."""
        return Path(os.path.relpath(self.entries[index].path, self.folder)).as_posix()

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the upright image, px; usually from the file's header alone.

        Raises:
            InputError: it cannot be read.
        """
        return upright_size(Path(self.entries[index].path), self.channels, self.reading)


def upright_size(path: Path, channels: int, reading: Reading = DEFAULT) -> tuple[int, int]:
    """Height and width of an image file, upright; usually from its header alone.

    Raises:
        InputError: see :func:`~fishnet.images.decoding.decode_image`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_regular(path, "image") as file, open_image(file, reading.max_pixels) as image:
                return header_size(image)
    except (OSError, ValueError, SyntaxError):
        return size_of(decode_image(read_file(path), channels, str(path), reading=reading))


def subfolder(folder: Path, *names: str) -> Path | None:
    """The first of some subfolders that exists; None if none does. ``names`` are lower case and match any case."""
    if not folder.is_dir():
        return None
    subfolders = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    return next((subfolders[name] for name in names if name in subfolders), None)


def find_split_folders(folder: Path) -> dict[str, Path]:
    """The train, val and test folders in a folder, by their usual names.

    Raises:
        InputError: two folders for the same split.
    """
    folders: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        split = split_named(entry.name)
        if split is None or not entry.is_dir():
            continue
        if split in folders:
            raise InputError(
                f"{folder}: two folders for the same split: {folders[split].name} and {entry.name}: "
                "rename or remove one"
            )
        folders[split] = entry
    return {split: folders[split] for split in in_order(folders)}


def images_by_name(folder: Path) -> dict[str, Path]:
    """The images in and below a folder, by their paths without extension.

    Raises:
        InputError: two images have the same name (collected, see :mod:`fishnet.data.collector`).
    """
    images: dict[str, Path] = {}
    for path in find_images(folder) if folder.is_dir() else ():  # a split may lack its folder
        name = normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if name in images:
            report(f"{path}: has the same name as {images[name].name}: rename one")
        images.setdefault(name, path)
    return images


def images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images directly in a folder, sorted, by their names without extension."""
    images: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith("."):
            images.setdefault(normalize("NFC", path.stem), []).append(path)
    return images


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1.

    Raises:
        InputError: the file cannot be read, or is not UTF-8.
    """
    for number, row in enumerate(read_text(path).splitlines(), 1):
        if row.strip():
            yield number, row.strip()
