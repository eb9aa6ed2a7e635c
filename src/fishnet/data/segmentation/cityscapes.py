"""Cityscapes: leftImg8bit and gtFine, with the dataset's own ids or the ids of training."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.files import MaskEntry, child, part_folders
from fishnet.data.segmentation.base import IGNORE
from fishnet.data.segmentation.names import Legend, find_legend
from fishnet.data.segmentation.pairs import Found, Pairs
from fishnet.data.segmentation.survey import MaskReading, survey
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
"""The 19 that are measured, by training ids 0 to 18 (Cordts et al., The Cityscapes Dataset, 2016)."""
_OTHERS = tuple(id_ for id_ in range(34) if id_ not in CLASSES.ids)
_IMAGE, _MASK = "_leftImg8bit", "_gtFine_label"


def find_cityscapes(data: Path) -> Found | None:
    """The parts of Cityscapes; None where it is none.

    Masks are ``*_gtFine_labelTrainIds.png`` where every image of the train part has one, else
    ``*_gtFine_labelIds.png``; outputs have the dataset's own ids either way. A classes file names others than the 19
    classes, by these ids. A part whose masks are blank, as those of
    the test part that is given out, is left out.

    Args:
        data: a folder with ``leftImg8bit/PART/CITY/`` and ``gtFine/PART/CITY/``.

    Raises:
        InputError: no train, val or test folders, or no masks in any of them.
    """
    images, masks = child(data, "leftimg8bit"), child(data, "gtfine")
    if images is None or masks is None:
        return None
    folders = part_folders(images)
    if not folders:
        raise InputError(f"{images}: has no train, val or test folder")
    first = next(iter(folders.values()))
    legend = find_legend(data)
    train_ids = legend is None and all(_mask(path, first, masks, "TrainIds").is_file() for path in _images(first))
    kind = "TrainIds" if train_ids else "Ids"
    if legend is None:
        values = tuple(range(len(CLASSES))) if train_ids else CLASSES.ids
        place = f"{data / 'classes.txt'} (the classes are Cityscapes' 19 without it)"
        legend = Legend(place, CLASSES, values, given=False)
    legend = replace(legend, ignored=(*legend.ignored, *((IGNORE,) if train_ids else _OTHERS)))
    parts = {part: _pairs(folder, masks, kind) for part, folder in folders.items()}
    labelled = {part: pairs for part, pairs in parts.items() if part != "test" or _labelled(pairs, legend.values)}
    if not any(pairs.entries for pairs in labelled.values()):
        raise InputError(f"{masks}: has no PART/CITY/*{_MASK}Ids.png for the images in {images}")
    return Found(labelled, legend, data, definite=True)


def _images(folder: Path) -> Iterator[Path]:
    return (path for path in find_images(folder) if path.stem.endswith(_IMAGE))


def _mask(image: Path, folder: Path, masks: Path, kind: str) -> Path:
    below = masks / folder.name / image.relative_to(folder).parent
    return below / f"{image.stem.removesuffix(_IMAGE)}{_MASK}{kind}.png"


def _pairs(folder: Path, masks: Path, kind: str) -> Pairs:
    entries = [MaskEntry(path, _mask(path, folder, masks, kind)) for path in _images(folder)]
    alone = tuple(f"{entry.path}: has no mask {entry.mask}" for entry in entries if not entry.mask.is_file())
    found = {entry.mask for entry in entries}
    below = masks / folder.name
    others = find_images(below) if below.is_dir() else []
    alone += tuple(
        f"{path}: has no image in {folder}"
        for path in others
        if path.name.endswith(f"{_MASK}{kind}.png") and path not in found
    )
    return Pairs(folder, [entry for entry in entries if entry.mask.is_file()], alone)


def _labelled(pairs: Pairs, values: tuple[int, ...]) -> bool:
    """Whether some pixel is of a class; one mask tells."""
    return bool(survey([entry.mask for entry in pairs.entries[:1]], MaskReading()).numbers & set(values))
