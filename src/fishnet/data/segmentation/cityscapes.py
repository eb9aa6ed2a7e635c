"""Cityscapes: leftImg8bit and gtFine, with the dataset's own ids or training ids."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.files import MaskEntry, find_split_folders, subfolder
from fishnet.data.segmentation.base import IGNORE
from fishnet.data.segmentation.matching import Pairs
from fishnet.data.segmentation.names import Legend, find_legend
from fishnet.data.segmentation.pairs import MaskLayout
from fishnet.data.segmentation.survey import MaskReader, survey
from fishnet.errors import InputError
from fishnet.images.scanning import find_images

LAYOUTS = "Cityscapes (leftImg8bit/ and gtFine/)"
CLASSES = Classes(
    (
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33),
)  # fmt: skip
"""The 19 measured classes in the order of their training ids, 0 to 18 (Cordts et al., The Cityscapes Dataset, 2016)."""
_OTHER_IDS = tuple(id_ for id_ in range(34) if id_ not in CLASSES.ids)
_IMAGE, _MASK = "_leftImg8bit", "_gtFine_"


def find_cityscapes(data: Path) -> MaskLayout | None:
    """Finds the splits of Cityscapes; None for any other folder.

    Masks are ``*_gtFine_labelTrainIds.png`` if every image of the train split has one, else ``*_gtFine_labelIds.png``.
    Outputs have the dataset's own ids in both cases. A classes file may define other classes than the 19, by their own
    ids. A test split with blank masks, as Cityscapes distributes it, is left out.

    Args:
        data: a folder with ``leftImg8bit/SPLIT/CITY/`` and ``gtFine/SPLIT/CITY/``.

    Raises:
        InputError: no train, val or test folders, or no masks in any of them.
    """
    images, masks = subfolder(data, "leftimg8bit"), subfolder(data, "gtfine")
    if images is None or masks is None:
        return None
    folders = find_split_folders(images)
    if not folders:
        raise InputError(f"{images}: has no train, val or test folder")
    legend, kind = _find_legend(data, next(iter(folders.values())), masks)
    splits = {split: match_files(folder, masks, kind) for split, folder in folders.items()}
    if "test" in splits and not _has_labels(splits["test"], legend.values):
        del splits["test"]
    if not any(pairs.entries for pairs in splits.values()):
        raise InputError(f"{masks}: has no SPLIT/CITY/*{_MASK}labelIds.png for the images in {images}")
    return MaskLayout(splits, legend, data, definite=True)


def _find_legend(data: Path, train: Path, masks: Path) -> tuple[Legend, str]:
    """The classes, and which masks to read: labelTrainIds or labelIds."""
    legend = find_legend(data)
    if legend is not None:
        return replace(legend, ignored=(*legend.ignored, *_OTHER_IDS)), "labelIds"
    location = f"{data / 'classes.txt'} (the classes are Cityscapes' 19 without it)"
    if all(_mask(path, train, masks, "labelTrainIds").is_file() for path in _images(train)):
        values = tuple(range(len(CLASSES)))
        return Legend(location, CLASSES, values, ignored=(IGNORE,), from_file=False), "labelTrainIds"
    return Legend(location, CLASSES, CLASSES.ids, ignored=_OTHER_IDS, from_file=False), "labelIds"


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in find_images(folder) if path.stem.endswith(_IMAGE))


def _mask(image: Path, folder: Path, masks: Path, kind: str) -> Path:
    city = masks / folder.name / image.relative_to(folder).parent
    return city / f"{image.stem.removesuffix(_IMAGE)}{_MASK}{kind}.png"


def match_files(folder: Path, masks: Path, kind: str) -> Pairs:
    """The images in a split's folder with their masks.

    Args:
        folder: the folder of the split's images.
        masks: the folder gtFine.
        kind: what the masks hold, as their names say: ``labelIds``, ``labelTrainIds`` or ``instanceIds``.
    """
    entries = [MaskEntry(path, _mask(path, folder, masks, kind)) for path in _images(folder)]
    left_out = [f"{entry.path}: has no mask {entry.mask}" for entry in entries if not entry.mask.is_file()]
    matched = {entry.mask for entry in entries}
    mask_folder = masks / folder.name
    for path in find_images(mask_folder) if mask_folder.is_dir() else ():
        if path.name.endswith(f"{_MASK}{kind}.png") and path not in matched:
            left_out.append(f"{path}: has no image in {folder}")
    return Pairs(folder, [entry for entry in entries if entry.mask.is_file()], tuple(left_out))


def _has_labels(pairs: Pairs, values: tuple[int, ...]) -> bool:
    """Whether the first mask has a pixel of a class."""
    return bool(survey([entry.mask for entry in pairs.entries[:1]], MaskReader()).numbers & set(values))
