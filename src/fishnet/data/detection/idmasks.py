"""Images and masks paired by name: each number in a mask, except 0, is one object."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.idmaps import instances
from fishnet.data.detection.objects import Objects
from fishnet.data.files import MaskEntry, find_split_folders, images_by_name, subfolder
from fishnet.errors import InputError, first_line
from fishnet.images.decoding import read_file
from fishnet.images.opening import open_image
from fishnet.images.stacks import NPY, read_npy

LAYOUTS = "images/ and masks/ paired by name"
ONLY = Classes.of(["object"])


class MaskSplit(NamedTuple):
    """The two folders of a split."""

    images: Path
    masks: Path


def read_ids(path: Path) -> NDArray[Any]:
    """Reads the numbers of a mask: (height, width) integers.

    The indices of palette images are read, not their colours. The file may be a PNG, a TIFF (its first page) or a
    ``.npy`` of 1, 8, 16 or 32 bits.

    Raises:
        InputError: no such file, not an image, or not a single channel of integers.
    """
    content = read_file(path)
    try:
        if content.startswith(NPY):
            ids = read_npy(content)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about its size
                with open_image(content) as image:
                    ids = np.asarray(image)
    except Exception as error:  # Pillow raises nearly any type for a damaged file
        raise InputError(f"{path}: the mask cannot be read ({first_line(error)})") from None
    if ids.ndim != 2 or ids.dtype.kind not in "uib":
        kind = f"{ids.shape[2]} channels" if ids.ndim == 3 else f"{ids.dtype} values of shape {ids.shape}"
        raise InputError(f"{path}: has {kind}: a mask must be one channel of integers, a different one for each object")
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise InputError(f"{path}: has {ids.min()}: the numbers of objects must be 1 or more, and 0 is the background")
    return ids.astype(np.uint8) if ids.dtype.kind == "b" else ids.astype(ids.dtype.newbyteorder("="))


def only_label(classes: Classes, path: Path) -> int:
    """The index of the class ``object``. Raises InputError, with ``path`` in it, if it is not a known class."""
    try:
        return ONLY.indices_in(classes)[0]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class MaskDetection(FileDetection):
    """Images with masks of numbered objects, all of one class, ``object``.

    Masks may have another suffix than their images. Both may be in subfolders.

    Raises:
        InputError: images without a mask or masks without an image, or two with one name.
    """

    def __init__(
        self, folders: MaskSplit, channels: int = 3, classes: Classes | None = None, *, masks: bool = False
    ) -> None:
        self.folder, self.channels, self.with_masks = folders.images, channels, masks
        self.classes = classes or ONLY
        self.label = only_label(self.classes, folders.masks)
        image_paths, mask_paths = images_by_name(folders.images), images_by_name(folders.masks)
        for paths, others, folder in (
            (image_paths, mask_paths, folders.masks),
            (mask_paths, image_paths, folders.images),
        ):
            alone = [path for name, path in paths.items() if name not in others]
            more = f" (and {len(alone) - 1} more)" if is_strict() and len(alone) > 1 else ""
            for path in alone:
                report(f"{path}: no file in {folder} has its name{more}")
        self.entries = [MaskEntry(path, mask_paths[name]) for name, path in image_paths.items() if name in mask_paths]

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; the mask is read."""
        mask = self.entries[index].mask
        ids = read_ids(mask)
        try:
            objects = instances(ids)
        except InputError as error:
            raise InputError(f"{mask}: {error}") from None
        return Objects.of(
            objects.boxes,
            np.full(len(objects.ids), self.label),
            (ids.shape[0], ids.shape[1]),
            areas=objects.areas,
            segmentations=objects.segmentations if self.with_masks else None,
        )

    def annotated_boxes(self, index: int) -> None:
        """None: the objects are in the masks."""

    def location(self, index: int, number: int) -> str:
        """The mask, and the object's number in the mask."""
        mask = self.entries[index].mask
        ids = instances(read_ids(mask)).ids.tolist() if number >= 0 else []
        return f"{mask}: object {ids[number]}" if 0 <= number < len(ids) else str(mask)


def find_masks(data: Path) -> dict[str, MaskSplit]:
    """Finds folders of images and masks by split; ``all`` if there are no splits, empty if there are no such folders.

    Args:
        data: a folder with ``images/`` and ``masks/``, which may both have train, valid and test folders; or with
            train, valid and test folders that have both.

    Raises:
        InputError: two folders for one split, or a split in one of the two folders only.
    """
    images, masks = subfolder(data, "images"), subfolder(data, "masks")
    if images and masks:
        image_folders, mask_folders = find_split_folders(images), find_split_folders(masks)
        if image_folders.keys() != mask_folders.keys():
            odd = next(iter(image_folders.keys() ^ mask_folders.keys()))
            raise InputError(f"{data}: images and masks must have the same splits: only one of them has {odd}")
        pairs = {split: MaskSplit(image_folders[split], mask_folders[split]) for split in image_folders}
        return pairs or {"all": MaskSplit(images, masks)}
    splits: dict[str, MaskSplit] = {}
    incomplete: list[Path] = []
    for split, folder in find_split_folders(data).items():
        images, masks = subfolder(folder, "images"), subfolder(folder, "masks")
        if images and masks:
            splits[split] = MaskSplit(images, masks)
        elif split != "test" and (images or masks):
            incomplete.append(folder)
    if splits and incomplete:
        raise InputError(f"{incomplete[0]}: has only one of images and masks: add the other, or remove it")
    return splits
