"""From what the user names to data with objects: which format it is, and its train, val and test parts."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.classification.open import found_in, splits_of
from fishnet.data.collector import is_strict
from fishnet.data.detection import boxtable, coco, darknet, idmasks, labelme, objectfiles, supervisely, voc, yolo
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.selection import choose
from fishnet.data.nearest_layout import is_foreign

FORMATS = (coco, yolo, darknet, voc, labelme, supervisely, boxtable, idmasks, objectfiles)
LAYOUTS = "; ".join(one.LAYOUTS for one in FORMATS)
Opener = Callable[..., Mapping[str, DetectionDataset]]


def open_detection(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    whole: bool = False,
    masks: bool = False,
    only: Sequence[str] = (),
    difficult: voc.Difficult = "ignore",
) -> dict[str, DetectionDataset]:
    """Opens data for detection (boxes) or instance segmentation (boxes and masks).

    Args:
        data: of one of the ``FORMATS``; docs/data.md describes each.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images held out for validation where the data has no val part.
        seed: of that split.
        classes: the classes a model knows, matched by name; the data may then have fewer.
        whole: hold nothing out.
        masks: objects come with segmentations, which all of them must then have.
        only: names of the classes that are wanted; objects of others are left out. Empty for all.
        difficult: what becomes of Pascal VOC's objects that are marked so: see
            :class:`~fishnet.data.detection.voc.VocDetection`.

    Returns:
        ``train`` and ``val``, and ``test`` where the data has it. With ``whole``, the parts that the data has, or
        ``all`` where it has none.

    Raises:
        InputError: data that cannot be read, see the formats; none of the known layouts; no train part; a class that
            the train part or the model lacks; a name in ``only`` that is no class.
    """
    opener, place = found_in(data, lambda path: _opened(path, masks, difficult), "annotations", LAYOUTS)
    known = None if only else classes
    splits = dict(opener(place, channels, classes=known, masks=masks))
    if only:
        splits = choose(data, splits, only, classes)
    return splits_of(data, splits, val_fraction=val_fraction, seed=seed, whole=whole, empty=not is_strict())


def looks_like_detection(data: str) -> bool:
    """Whether a name stands for data of one of the formats with objects. Raises InputError for a doubtful layout."""
    return bool(data) and _opened(Path(data), False) is not None


def _opened(path: Path, masks: bool, difficult: voc.Difficult = "ignore") -> tuple[Opener, object] | None:
    """The format's opener, and what it opens."""
    if is_foreign(path):
        return None
    finders: tuple[tuple[Callable[[Path], object], Opener], ...] = (
        (supervisely.find_supervisely, supervisely.open_supervisely),
        (labelme.find_labelme, labelme.open_labelme),  # before COCO, which takes any JSON in annotations/
        (coco.find_coco, coco.open_coco),
        (yolo.find_yolo, partial(yolo.open_yolo, trusted=path.is_file())),
        (lambda folder: voc.find_voc(folder, masks), partial(voc.open_voc, difficult=difficult)),
        (darknet.find_darknet, darknet.open_darknet),
        (boxtable.find_box_tables, boxtable.open_box_tables),
        (idmasks.find_masks, idmasks.open_masks),
        (objectfiles.find_object_files, objectfiles.open_object_files),
    )
    return next(((opener, found) for find, opener in finders if (found := find(path))), None)
