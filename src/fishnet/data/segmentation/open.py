"""Opens data for segmentation: finds its format, and its train, val and test splits."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting, is_strict
from fishnet.data.detection.coco import LAYOUTS as COCO
from fishnet.data.detection.coco import find_coco
from fishnet.data.nearest_layout import is_foreign
from fishnet.data.opening import find_format, finish_splits
from fishnet.data.segmentation import ade, cityscapes, coco, drawn, folder, voc
from fishnet.data.segmentation.base import SegmentationDataset
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.pairs import MaskLayout, open_pairs

FORMATS = (voc, cityscapes, ade, folder)
LAYOUTS = "; ".join((*(format_.LAYOUTS for format_ in FORMATS), COCO, drawn.LAYOUTS))
Finder = Callable[[Path], object]
Opener = Callable[..., Mapping[str, SegmentationDataset]]


def open_segmentation(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    keep_splits: bool = False,
    ignore: Sequence[int | str] = (),
    void: Sequence[str] = (),
    only: Sequence[str] = (),
    threshold: int = 0,
) -> dict[str, SegmentationDataset]:
    """Opens data for semantic segmentation.

    Args:
        data: a folder of images and masks, Pascal VOC, Cityscapes, ADE20K, COCO or another format; see docs/data.md.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images that is held out for validation if the data has no val split.
        seed: decides which images are held out.
        classes: the classes of a model, matched by name; the data may have fewer.
        keep_splits: return the splits that the data has; hold nothing out.
        ignore: ids in masks that are neither learned nor measured. If it contains ``none``, only these and the format's
            own are ignored. By default the masks of the train split decide about 255, see
            :func:`~fishnet.data.segmentation.deciding.decide`; for a model 255 is then ignored unless it has a name.
        void: names of classes that are neither learned nor measured.
        only: names of the classes that are learned and measured; all others are ignored. Empty: all are learned.
        threshold: if above 0, masks are read as black and white: numbers of at least ``threshold`` become 255; see
            :func:`~fishnet.data.maskfiles.open_mask`.

    Returns:
        ``train`` and ``val``, and ``test`` if the data has it. With ``keep_splits``, the splits that the data has, or
        ``all`` if it has none. All have the classes of the first split.

    Raises:
        InputError: data that cannot be read, see the formats; an unknown layout; no train split; fewer than two
            classes; a class that the model lacks, or a void one that the data lacks; masks with two possible meanings.
    """
    opener, layout = find_format(data, _find_format, "masks", LAYOUTS)
    choices = Choices.of(ignore, void, only, threshold)
    splits = dict(opener(layout, channels, classes=classes, choices=choices))
    return finish_splits(
        data, splits, val_fraction=val_fraction, seed=seed, keep_splits=keep_splits, allow_empty=not is_strict()
    )


def looks_like_segmentation(data: str) -> bool:
    """Whether the data can hardly be anything but images with label maps.

    Folders of images and masks are only recognized with a classes file: without one, the masks may be of objects. COCO
    data is for detection by default.

    Raises:
        InputError: an ambiguous layout.
    """
    with collecting():  # faulty files do not matter here
        opened = _find_format(Path(data)) if data else None
    return opened is not None and isinstance(opened[1], MaskLayout) and opened[1].definite


def _find_format(path: Path) -> tuple[Opener, object] | None:
    """The opener of the data's format, and its argument; None for an unknown layout."""
    if is_foreign(path):
        return None
    finders: tuple[tuple[Finder, Opener], ...] = (
        (voc.find_voc, open_pairs),
        (cityscapes.find_cityscapes, open_pairs),
        (ade.find_ade, open_pairs),
        (folder.find_folder, open_pairs),
        (drawn.find_drawn, drawn.open_drawn),  # before COCO, which accepts any JSON file in annotations/
        (find_coco, coco.open_coco),
    )
    return next(((opener, layout) for find, opener in finders if (layout := find(path))), None)
