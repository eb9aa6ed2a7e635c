"""A folder per image, with ``images/`` and ``masks/`` of one file per object (Data Science Bowl 2018)."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.files import FileDetection, first_entries, one_per_split, split_in
from fishnet.data.detection.idmasks import ONLY, only_label, read_ids
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.outlines import Bits, Outline
from fishnet.data.splits import split_named
from fishnet.errors import InputError
from fishnet.files.walking import is_system
from fishnet.images.decoding import EXTENSIONS

LAYOUTS = "a folder per image with images/ and masks/ of one file per object"
_IMAGES, _MASKS = "images", "masks"
_PROBED = 20  # folders that are inspected


class ObjectFiles(NamedTuple):
    """An image and its mask files."""

    path: Path
    masks: tuple[Path, ...]


class ObjectFileDetection(FileDetection):
    """Images with one mask file per object, all of one class, ``object``.

    A mask is 0 outside its object and has a single other value inside. An empty mask is a box without area.

    Raises:
        InputError: a folder with masks and no image, or several.
    """

    def __init__(self, folder: Path, channels: int = 3, classes: Classes | None = None, *, masks: bool = False) -> None:
        self.folder, self.channels, self.with_masks = folder, channels, masks
        self.classes = classes or ONLY
        self.label = only_label(self.classes, folder)
        self.entries: list[ObjectFiles] = []
        left_out = []
        for image_folder in _folders(folder):
            images = _files(image_folder / _IMAGES)
            if not (image_folder / _MASKS).is_dir():
                left_out += [str(path) for path in images]
            elif len(images) == 1:
                self.entries.append(ObjectFiles(images[0], tuple(_files(image_folder / _MASKS))))
            else:
                message = f"{image_folder}: has {len(images)} images in {_IMAGES}/, but its masks need exactly one"
                report(message, file=str(image_folder))
        self.left_out = tuple(left_out)

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; all mask files are read."""
        masks = self.entries[index].masks
        sizes, outlines = [], []
        for path in masks:
            ids = read_ids(path)
            inside = ids != 0
            if (ids[inside] != ids.max(initial=0)).any():
                raise InputError(f"{path}: has several values besides 0: a mask of one object must have one")
            sizes.append((ids.shape[0], ids.shape[1]))
            if sizes[-1] != sizes[0]:
                raise InputError(f"{path}: has another size than {masks[0].name} in the same folder")
            outlines.append(Outline(bits=(Bits.of(inside),)))
        size = sizes[0] if sizes else (0, 0)
        return Objects.of(
            [outline.box() for outline in outlines],
            np.full(len(outlines), self.label),
            size,
            areas=[outline.area() for outline in outlines],
            segmentations=[outline.segmentation(size) for outline in outlines] if self.with_masks else None,
        )

    def annotated_boxes(self, index: int) -> Objects | None:
        """None: the objects are in the masks."""
        return None

    def location(self, index: int, number: int) -> str:
        """The object's mask file, or the folder of masks."""
        masks = self.entries[index].masks
        return str(masks[number] if 0 <= number < len(masks) else self.entries[index].path.parent.parent / _MASKS)


def _folders(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if not is_system(path.name) and (path / _IMAGES).is_dir()]


def _files(folder: Path) -> list[Path]:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in inside if path.suffix.lower() in EXTENSIONS and not is_system(path.name)]


def find_object_files(data: Path) -> dict[str, Path]:
    """Finds the folder of each split; ``all`` if there are no splits, empty if the data has another form.

    Args:
        data: a folder with a folder per image; or a folder of splits, such as ``stage1_train``, with these inside. A
            test folder without masks is ignored.

    Raises:
        InputError: two folders for a split.
    """
    if _holds_object_files(data):
        return {"all": data}
    folders = (
        [path for path in sorted(data.iterdir()) if path.is_dir() and split_in(path.name)] if data.is_dir() else []
    )
    return one_per_split(((split_in(path.name), path) for path in folders if _holds_object_files(path)), "folders")


def _holds_object_files(folder: Path) -> bool:
    """Whether most folders in a folder have masks/, and images/ with one image."""
    folders = first_entries(folder, only_folders=True)
    if any((folder / name).is_dir() for name in (_IMAGES, _MASKS)) or any(split_named(path.name) for path in folders):
        return False
    probed = folders[:_PROBED]
    matching = sum((path / _MASKS).is_dir() and len(_files(path / _IMAGES)) == 1 for path in probed)
    return bool(probed) and matching > len(probed) / 2
