"""From what the user names to data with label maps: which format it is, and its train, val and test parts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.classification.open import found_in, splits_of
from fishnet.data.collector import collecting, is_strict
from fishnet.data.detection.coco import LAYOUTS as COCO
from fishnet.data.detection.coco import find_coco
from fishnet.data.nearest_layout import is_foreign
from fishnet.data.segmentation import ade, cityscapes, coco, drawn, folder, voc
from fishnet.data.segmentation.base import SegmentationDataset
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.pairs import Found, open_pairs

FORMATS = (voc, cityscapes, ade, folder)
LAYOUTS = "; ".join((*(one.LAYOUTS for one in FORMATS), COCO, drawn.LAYOUTS))
Finder = Callable[[Path], object]
Opener = Callable[..., Mapping[str, SegmentationDataset]]


def open_segmentation(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    whole: bool = False,
    ignore: Sequence[int | str] = (),
    void: Sequence[str] = (),
    only: Sequence[str] = (),
    threshold: int = 0,
) -> dict[str, SegmentationDataset]:
    """Opens data for semantic segmentation.

    Args:
        data: folders of images and masks, Pascal VOC, Cityscapes, ADE20K or COCO; docs/data.md describes each.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images held out for validation where the data has no val part.
        seed: of that split.
        classes: the classes a model knows, matched by name; the data may then have fewer.
        whole: hold nothing out.
        ignore: ids in masks that are neither learnt from nor measured; ``none`` among them: no others are but the
            format's own. Without it, what 255 is follows from the masks of the train part, see
            :func:`~fishnet.data.segmentation.deciding.decide`; for a model 255 is then ignored unless it has a name.
        void: names of classes that are treated so, and are then no classes.
        only: names of the classes that are learnt and measured; the pixels of all others are ignored. Empty: all.
        threshold: above 0, masks are read as black and white: 255 from that number on; see
            :func:`~fishnet.data.maskfiles.open_mask`.

    Returns:
        ``train`` and ``val``, and ``test`` where the data has it. With ``whole``, the parts that the data has, or
        ``all`` where it has none. All have the classes of the first part.

    Raises:
        InputError: data that cannot be read, see the formats; none of the known layouts; no train part; fewer than two
            classes; a class that the model lacks, or a void one that the data lacks; masks that may mean two things.
    """
    opener, found = found_in(data, _opened, "masks", LAYOUTS)
    choices = Choices.of(ignore, void, only, threshold)
    splits = dict(opener(found, channels, classes=classes, choices=choices))
    return splits_of(data, splits, val_fraction=val_fraction, seed=seed, whole=whole, empty=not is_strict())


def looks_like_segmentation(data: str) -> bool:
    """Whether a name stands for data that has a class for every pixel and can hardly be anything else.

    Folders of images and masks are such with a classes file only: without one, masks may as well be of objects. COCO
    is for detection unless it is said.

    Raises:
        InputError: a doubtful layout.
    """
    with collecting():  # of faulty files the layout counts alone
        opened = _opened(Path(data)) if data else None
    return opened is not None and isinstance(opened[1], Found) and opened[1].definite


def _opened(path: Path) -> tuple[Opener, object] | None:
    """The format's opener, and what it opens."""
    if is_foreign(path):
        return None
    finders: tuple[tuple[Finder, Opener], ...] = (
        (voc.find_voc, open_pairs),
        (cityscapes.find_cityscapes, open_pairs),
        (ade.find_ade, open_pairs),
        (folder.find_folder, open_pairs),
        (drawn.find_drawn, drawn.open_drawn),  # before COCO, which takes any JSON in annotations/
        (find_coco, coco.open_coco),
    )
    return next(((opener, found) for find, opener in finders if (found := find(path))), None)
