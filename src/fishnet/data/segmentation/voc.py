"""Pascal VOC: images, masks in SegmentationClass, and a list of names for each split."""

from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.files import subfolder
from fishnet.data.segmentation.matching import Folders, match_files, read_lists
from fishnet.data.segmentation.names import Legend, find_legend
from fishnet.data.segmentation.pairs import MaskLayout
from fishnet.errors import InputError
from fishnet.images.scanning import find_images

LAYOUTS = "Pascal VOC (JPEGImages/ and SegmentationClass/)"
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The classes of the ids 0 to 20 (Everingham et al., The Pascal Visual Object Classes Challenge, 2010)."""
_OUTLINE = 255  # outlines of objects, and objects of unclear class


def voc_colour(id_: int) -> int:
    """The colour of an id, 0 to 255, in VOC's palette, as 0xRRGGBB.

    Bits 0, 1 and 2 of the id are the highest bits of red, green and blue; bits 3, 4 and 5 the next lower ones; and so
    on.
    """
    colour = 0
    for bit in range(8):
        colour |= (id_ >> bit & 1) << (16 - 8 * (bit % 3)) + 7 - bit // 3
    return colour


def find_voc(data: Path) -> MaskLayout | None:
    """Finds the splits of a VOC folder; ``all`` if it has no lists, None for any other folder.

    Args:
        data: a folder with ``SegmentationClass/`` and ``JPEGImages/`` (or ``images/``, ``PNGImages/``), with or without
            lists in ``ImageSets/Segmentation``. Masks are PNGs of ids with any palette, of VOC's colours, or arrays as
            labelme writes them. The classes are VOC's 21, unless a classes file names others.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.matching.match_files`,
            :func:`~fishnet.data.segmentation.names.read_legend`; no images.
    """
    candidates = (subfolder(data, f"segmentationclass{end}") for end in ("", "png", "npy"))
    masks = next((folder for folder in candidates if folder is not None and find_images(folder)), None)
    if masks is None:
        return None
    images = subfolder(data, "jpegimages", "images", "pngimages")
    if images is None:
        raise InputError(f"{data}: has {masks.name}, but no JPEGImages folder with the images")
    folders = Folders(images, masks)
    splits = {split: match_files(folders, rows) for split, rows in _read_lists(data).items()}
    legend = find_legend(data, masks) or _legend(masks)
    if _OUTLINE not in legend.values:
        legend = replace(legend, ignored=(*legend.ignored, _OUTLINE))
    has_boxes = subfolder(data, "annotations") is not None
    return MaskLayout(splits or {"all": match_files(folders)}, legend, data, definite=not has_boxes)


def _read_lists(data: Path) -> dict[str, dict[str, str]]:
    image_sets = subfolder(data, "imagesets")
    folder = subfolder(image_sets, "segmentation") if image_sets is not None else None
    return read_lists(folder) if folder is not None else {}


def _legend(masks: Path) -> Legend:
    classes = Classes.of(NAMES)
    return Legend(
        f"{masks.parent / 'class_names.txt'} (the classes are VOC's 21 without it)",
        classes,
        classes.ids,
        tuple(map(voc_colour, classes.ids)),
        ignored_colours=(voc_colour(_OUTLINE),),
        from_file=False,
    )
