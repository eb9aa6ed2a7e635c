"""A folder an image, with ``images/`` and ``masks/`` of one file an object (Data Science Bowl 2018)."""

import os
import re
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.idmasks import ONLY, read_ids
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.outlines import Bits, Outline
from fishnet.data.findings import Finding
from fishnet.data.problems import complain
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.walking import is_system
from fishnet.images.decoding import EXTENSIONS

LAYOUTS = "a folder for each image with images/ and masks/ of one file an object"
_IMAGES, _MASKS = "images", "masks"
_PROBED = 20  # folders that are looked at


class ObjectFiles(NamedTuple):
    """An image and its objects' files."""

    path: Path
    masks: tuple[Path, ...]


class ObjectFileDetection(FileDetection):
    """Images with one mask file for each object, all of one class, ``object``.

    A mask is 0 outside of its object and has one other value inside. An empty one is a box without area.

    Args:
        folder: with a folder for each image.
        channels: that images are read with.
        classes: the classes that are known; ``object`` must be one.
        masks: whether objects come with segmentations; boxes are those of the masks either way.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: a folder with masks and without an image, or with several.
    """

    def __init__(
        self,
        folder: Path,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        problems: list[Finding] | None = None,
    ) -> None:
        self.folder, self.channels, self.with_masks = folder, channels, masks
        self.classes = classes or ONLY
        try:
            self.label = ONLY.indices_in(self.classes)[0]
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        self.entries: list[ObjectFiles] = []
        left_out = []
        for place in _folders(folder):
            images = _files(place / _IMAGES)
            if not (place / _MASKS).is_dir():
                left_out += [str(path) for path in images]
            elif len(images) == 1:
                self.entries.append(ObjectFiles(images[0], tuple(_files(place / _MASKS))))
            else:
                message = f"{place}: has {len(images)} images in {_IMAGES}/, where one is needed for its masks"
                complain(message, problems, file=str(place))
        self.left_out = tuple(left_out)

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; all mask files are read."""
        masks = self.entries[index].masks
        sizes, outlines = [], []
        for path in masks:
            ids = read_ids(path)
            inside = ids != 0
            if (ids[inside] != ids.max(initial=0)).any():
                raise InputError(f"{path}: holds several values beside 0, where a mask of one object has one")
            sizes.append((ids.shape[0], ids.shape[1]))
            if sizes[-1] != sizes[0]:
                raise InputError(f"{path}: is of another size than {masks[0].name} beside it")
            outlines.append(Outline(bits=(Bits.of(inside),)))
        size = sizes[0] if sizes else (0, 0)
        return Objects.of(
            [outline.box() for outline in outlines],
            np.full(len(outlines), self.label),
            size,
            areas=[outline.area() for outline in outlines],
            segmentations=[outline.segmentation(size) for outline in outlines] if self.with_masks else None,
        )

    def stated(self, index: int) -> Objects | None:
        """None: boxes are those of the masks."""
        return None

    def place(self, index: int, number: int) -> str:
        """The object's file; without one the folder of them."""
        masks = self.entries[index].masks
        return str(masks[number] if 0 <= number < len(masks) else self.entries[index].path.parent.parent / _MASKS)


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not is_system(path.name) and (path / _IMAGES).is_dir()]


def _files(folder: Path) -> list[Path]:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in inside if path.suffix.lower() in EXTENSIONS and not is_system(path.name)]


def find_object_files(data: Path) -> dict[str, Path]:
    """The folders of each split; ``all`` without splits, nothing where the data is none.

    Args:
        data: a folder with a folder for each image, or of folders such as ``stage1_train`` with these inside. A test
            folder without masks is passed over.

    Raises:
        InputError: two folders for a split.
    """
    if _holds_object_files(data):
        return {"all": data}
    found: dict[str, Path] = {}
    for folder in sorted(data.iterdir()) if data.is_dir() else ():
        words = re.split(r"[^a-z]+", folder.name.lower())
        split = next((split for word in words if (split := split_named(word))), None)
        if split is None or not folder.is_dir() or not _holds_object_files(folder):
            continue
        if split in found:
            raise InputError(f"{data}: two folders for the same split: {found[split].name} and {folder.name}")
        found[split] = folder
    return {split: found[split] for split in in_order(found)}


def _holds_object_files(folder: Path) -> bool:
    """Whether the folders in a folder, but for a few, have images/ with one image and masks/ inside."""
    try:
        with os.scandir(folder) as entries:
            some = list(
                islice(
                    (folder / one.name for one in entries if (folder / one.name).is_dir() and not is_system(one.name)),
                    1000,
                )
            )
    except OSError:
        return False
    if any((folder / name).is_dir() for name in (_IMAGES, _MASKS)) or any(split_named(path.name) for path in some):
        return False
    probed = sorted(some)[:_PROBED]
    fitting = sum((path / _MASKS).is_dir() and len(_files(path / _IMAGES)) == 1 for path in probed)
    return bool(probed) and fitting > len(probed) / 2


def open_object_files(
    found: dict[str, Path],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    problems: list[Finding] | None = None,
) -> dict[str, ObjectFileDetection]:
    """Opens what :func:`find_object_files` found. Raises InputError, see :class:`ObjectFileDetection`."""
    return {
        name: ObjectFileDetection(folder, channels, classes, masks=masks, problems=problems)
        for name, folder in found.items()
    }
