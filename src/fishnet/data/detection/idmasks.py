"""Images and masks paired by name: each number but 0 in a mask is one object."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.idmaps import instances
from fishnet.data.detection.objects import Objects
from fishnet.data.files import MaskEntry, by_name, child, part_folders
from fishnet.data.findings import Finding
from fishnet.data.problems import complain
from fishnet.errors import InputError, first_line
from fishnet.images.decoding import read_file
from fishnet.images.opening import open_image
from fishnet.images.stacks import NPY, read_npy

LAYOUTS = "images/ and masks/ paired by name"
ONLY = Classes.of(["object"])


class MaskSplit(NamedTuple):
    """The two folders of a part."""

    images: Path
    masks: Path


def read_ids(path: Path) -> NDArray[Any]:
    """A mask's numbers, as they are: (height, width) of whole numbers.

    A palette's numbers count, not its colours; PNG, TIFF (the first page) or ``.npy``, of 1, 8, 16 or 32 bits.

    Raises:
        InputError: no such file, not an image, or something else than one channel of whole numbers.
    """
    content = read_file(path)
    try:
        if content.startswith(NPY):
            ids = read_npy(content)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of size
                with open_image(content) as image:
                    ids = np.asarray(image)
    except Exception as error:  # Pillow's readers raise nearly every kind for a damaged file
        raise InputError(f"{path}: not a mask that can be read ({first_line(error)})") from None
    if ids.ndim != 2 or ids.dtype.kind not in "uib":
        kind = f"{ids.shape[2]} channels" if ids.ndim == 3 else f"an array of {ids.dtype} and shape {ids.shape}"
        raise InputError(f"{path}: holds {kind}: a mask is one channel of whole numbers, each object's its own")
    if ids.dtype.kind == "i" and ids.size and ids.min() < 0:
        raise InputError(f"{path}: holds {ids.min()}: the numbers of objects are 0 or more, 0 for none")
    return ids.astype(np.uint8) if ids.dtype.kind == "b" else ids.astype(ids.dtype.newbyteorder("="))


class MaskDetection(FileDetection):
    """Images with masks of numbered objects, all of one class, ``object``.

    Args:
        part: the two folders; masks may have another ending than their images, and images may lie in folders below.
        channels: that images are read with.
        classes: the classes that are known; ``object`` must be one.
        masks: whether objects come with segmentations; boxes are those of the masks either way.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: images or masks without their other half, or two with one name.
    """

    def __init__(
        self,
        part: MaskSplit,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        problems: list[Finding] | None = None,
    ) -> None:
        self.folder, self.channels, self.with_masks = part.images, channels, masks
        self.classes = classes or ONLY
        try:
            self.label = ONLY.indices_in(self.classes)[0]
        except InputError as error:
            raise InputError(f"{part.masks}: {error}") from None
        images, found = by_name(part.images, problems), by_name(part.masks, problems)
        for some, others, folder in ((images, found, part.masks), (found, images, part.images)):
            alone = [path for name, path in some.items() if name not in others]
            if problems is None and alone:
                more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
                raise InputError(f"{alone[0]}: nothing in {folder} has its name{more}")
            for path in alone:
                complain(f"{path}: nothing in {folder} has its name", problems)
        self.entries = [MaskEntry(path, found[name]) for name, path in images.items() if name in found]

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; the mask is read."""
        mask = self.entries[index].mask
        ids = read_ids(mask)
        try:
            found = instances(ids)
        except InputError as error:
            raise InputError(f"{mask}: {error}") from None
        return Objects.of(
            found.boxes,
            np.full(len(found.ids), self.label),
            (ids.shape[0], ids.shape[1]),
            areas=found.areas,
            segmentations=found.segmentations if self.with_masks else None,
        )

    def stated(self, index: int) -> None:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`: objects are in the masks."""
        return

    def place(self, index: int, number: int) -> str:
        """The mask, and the object's number in it."""
        mask = self.entries[index].mask
        ids = instances(read_ids(mask)).ids.tolist() if number >= 0 else []
        return f"{mask}: object {ids[number]}" if 0 <= number < len(ids) else str(mask)


def find_masks(data: Path) -> dict[str, MaskSplit]:
    """The parts of a folder of images and masks; ``all`` without parts, nothing where it is none.

    Args:
        data: a folder with ``images/`` and ``masks/``, with or without train, valid and test folders in both; or of
            train, valid and test folders with both inside.

    Raises:
        InputError: two folders for a part, or a part in one of the two folders only.
    """
    images, masks = child(data, "images"), child(data, "masks")
    if images and masks:
        inside, beside = part_folders(images), part_folders(masks)
        if inside.keys() != beside.keys():
            odd = next(iter(inside.keys() ^ beside.keys()))
            raise InputError(f"{data}: images and masks must have the same parts: {odd} is in one of them only")
        return {part: MaskSplit(inside[part], beside[part]) for part in inside} or {"all": MaskSplit(images, masks)}
    found: dict[str, MaskSplit] = {}
    halves: list[Path] = []
    for part, folder in part_folders(data).items():
        images, masks = child(folder, "images"), child(folder, "masks")
        if images and masks:
            found[part] = MaskSplit(images, masks)
        elif part != "test" and (images or masks):
            halves.append(folder)
    if found and halves:
        raise InputError(f"{halves[0]}: has only one of images and masks: add the other, or remove it")
    return found


def open_masks(
    found: dict[str, MaskSplit],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    problems: list[Finding] | None = None,
) -> dict[str, MaskDetection]:
    """Opens what :func:`find_masks` found. Raises InputError, see :class:`MaskDetection`."""
    return {
        name: MaskDetection(part, channels, classes, masks=masks, problems=problems) for name, part in found.items()
    }
