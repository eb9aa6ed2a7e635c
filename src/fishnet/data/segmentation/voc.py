"""Pascal VOC's masks: images, SegmentationClass, and lists of each part's names."""

from dataclasses import replace
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.files import child
from fishnet.data.segmentation.names import Legend, find_legend
from fishnet.data.segmentation.pairs import Found, lists_in, paired
from fishnet.errors import InputError
from fishnet.images.scanning import find_images

LAYOUTS = "Pascal VOC (JPEGImages/ and SegmentationClass/)"
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Of the ids 0 to 20 (Everingham et al., The Pascal Visual Object Classes Challenge, 2010)."""
_OUTLINE = 255  # of an object, or an object that is not told apart


def voc_colour(id_: int) -> int:
    """The colour, as 0xRRGGBB, that VOC's own palette gives an id of 0 to 255.

    The id's bits 0, 1 and 2 are the highest of red, green and blue, its bits 3, 4 and 5 the next lower ones, and so on.
    """
    colour = 0
    for bit in range(8):
        colour |= (id_ >> bit & 1) << (16 - 8 * (bit % 3)) + 7 - bit // 3
    return colour


def find_voc(data: Path) -> Found | None:
    """The parts of a VOC folder; ``all`` without lists, None where it is none.

    Args:
        data: a folder with ``SegmentationClass/`` and ``JPEGImages/`` (or ``images/``, ``PNGImages/``), with or without
            lists in ``ImageSets/Segmentation``. Masks are PNGs of ids with any palette, of VOC's colours, or arrays as
            labelme writes them. Classes are VOC's 21 where no classes file names others.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.pairs.paired`,
            :func:`~fishnet.data.segmentation.names.read_legend`; no images.
    """
    folders = (child(data, f"segmentationclass{end}") for end in ("", "png", "npy"))
    masks = next((folder for folder in folders if folder is not None and find_images(folder)), None)
    if masks is None:
        return None
    images = child(data, "jpegimages", "images", "pngimages")
    if images is None:
        raise InputError(f"{data}: has {masks.name}, but no JPEGImages folder with the images")
    splits = child(data, "imagesets")
    folder = child(splits, "segmentation") if splits is not None else None
    lists = lists_in(folder) if folder is not None else {}
    parts = {part: paired(images, masks, rows) for part, rows in lists.items()}
    legend = find_legend(data, masks) or _legend(masks)
    if _OUTLINE not in legend.values:
        legend = replace(legend, ignored=(*legend.ignored, _OUTLINE))
    return Found(
        parts or {"all": paired(images, masks)},
        legend,
        data,
        definite=child(data, "annotations") is None,
    )


def _legend(masks: Path) -> Legend:
    classes = Classes.of(NAMES)
    return Legend(
        f"{masks.parent / 'class_names.txt'} (the classes are VOC's 21 without it)",
        classes,
        classes.ids,
        tuple(map(voc_colour, classes.ids)),
        ignored_colours=(voc_colour(_OUTLINE),),
        given=False,
    )
