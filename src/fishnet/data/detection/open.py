"""Opens detection data: recognizes the format and opens the train, val and test splits."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict
from fishnet.data.detection import boxtable, coco, darknet, idmasks, labelme, objectfiles, supervisely, voc, yolo
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.files import open_splits
from fishnet.data.detection.selection import choose
from fishnet.data.nearest_layout import is_foreign
from fishnet.data.opening import find_format, finish_splits

FORMATS = (coco, yolo, darknet, voc, labelme, supervisely, boxtable, idmasks, objectfiles)
LAYOUTS = "; ".join(module.LAYOUTS for module in FORMATS)
Opener = Callable[..., Mapping[str, DetectionDataset]]


def open_detection(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    keep_splits: bool = False,
    masks: bool = False,
    only: Sequence[str] = (),
    difficult: voc.Difficult = "ignore",
) -> dict[str, DetectionDataset]:
    """Opens data for detection (boxes) or instance segmentation (boxes and masks).

    Args:
        data: a folder or file in one of the ``FORMATS``; docs/data.md describes each.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images held out for validation if the data has no val split.
        seed: decides which images are held out.
        classes: the classes of a model, matched by name. The data may have fewer.
        keep_splits: return the splits that the data has; hold nothing out.
        masks: whether to read segmentations; all objects must then have one.
        only: names of the classes to keep; objects of others are left out. Empty keeps all.
        difficult: how to treat objects that Pascal VOC marks difficult, see
            :class:`~fishnet.data.detection.voc.VocDetection`.

    Returns:
        ``train`` and ``val``, and ``test`` if the data has it. With ``keep_splits``, the splits of the data, or ``all``
        if it has none.

    Raises:
        InputError: the data cannot be read, see the formats, or has none of the known layouts; there is no train split;
            the train split or the model lacks a class; a name in ``only`` is not a class.
    """
    opener, source = find_format(data, lambda path: _recognize(path, masks, difficult), "annotations", LAYOUTS)
    known = None if only else classes
    splits = dict(opener(source, channels, classes=known, masks=masks))
    if only:
        splits = choose(data, splits, only, classes)
    return finish_splits(
        data, splits, val_fraction=val_fraction, seed=seed, keep_splits=keep_splits, allow_empty=not is_strict()
    )


def looks_like_detection(data: str) -> bool:
    """Whether the data has one of the detection formats. Raises InputError for an ambiguous layout."""
    return bool(data) and _recognize(Path(data), False) is not None


def _recognize(path: Path, masks: bool, difficult: voc.Difficult = "ignore") -> tuple[Opener, object] | None:
    """The opener of the data's format, and its argument; None if no format fits."""
    if is_foreign(path):
        return None
    finders: tuple[tuple[Callable[[Path], object], Opener], ...] = (
        (supervisely.find_supervisely, partial(open_splits, supervisely.SuperviselyDetection)),
        # before COCO, which accepts any JSON in annotations/
        (labelme.find_labelme, partial(open_splits, labelme.LabelmeDetection)),
        (coco.find_coco, coco.open_coco),
        (yolo.find_yolo, partial(yolo.open_yolo, trusted=path.is_file())),
        (lambda folder: voc.find_voc(folder, masks), partial(open_splits, voc.VocDetection, difficult=difficult)),
        (darknet.find_darknet, darknet.open_darknet),
        (boxtable.find_box_tables, boxtable.open_box_tables),
        (idmasks.find_masks, partial(open_splits, idmasks.MaskDetection)),
        (objectfiles.find_object_files, partial(open_splits, objectfiles.ObjectFileDetection)),
    )
    return next(((opener, source) for find, opener in finders if (source := find(path))), None)
