"""Opens panoptic data: finds its format, and its train, val and test splits."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fishnet.bundle.panoptic import SegmentClass
from fishnet.data.collector import is_strict
from fishnet.data.nearest_layout import is_foreign
from fishnet.data.opening import find_format, finish_splits
from fishnet.data.panoptic import cityscapes, coco, pairs
from fishnet.data.panoptic.base import PanopticSegmentation, PanopticSplit

FORMATS = (coco, cityscapes, pairs)
LAYOUTS = "; ".join(format_.LAYOUTS for format_ in FORMATS)
Opener = Callable[..., Mapping[str, PanopticSegmentation]]


def open_panoptic(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    only: Sequence[str] = (),
    classes: Sequence[SegmentClass] | None = None,
    keep_splits: bool = False,
    void: Sequence[str] = (),
) -> dict[str, PanopticSplit]:
    """Opens data for panoptic segmentation.

    Args:
        data: COCO panoptic, Cityscapes with instance ids, or a folder of objects with masks and label maps; see
            docs/data.md.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images that is held out for validation if the data has no val split.
        seed: decides which images are held out; they are the same in both views.
        only: names of the classes that are learned and measured; the pixels of others are void. Empty keeps all.
        classes: the classes of a model, matched by name; the data may have fewer.
        keep_splits: return the splits that the data has; hold nothing out.
        void: names of classes that are neither learned nor measured.

    Returns:
        ``train`` and ``val``, and ``test`` if the data has it. With ``keep_splits``, the splits that the data has, or
        ``all`` if it has none. All have the classes of the first split.

    Raises:
        InputError: data that cannot be read, see the formats; an unknown layout; no train split; no thing or no stuff
            class; a class that the model lacks or has as the other kind; an unknown name in ``only`` or ``void``.
    """
    opener, source = find_format(data, _find_format, "things and stuff", LAYOUTS)
    views = dict(opener(source, channels, only=only, void=void, classes=classes))
    splits = finish_splits(
        data, views, val_fraction=val_fraction, seed=seed, keep_splits=keep_splits, allow_empty=not is_strict()
    )
    return {split: PanopticSplit.of(view) for split, view in splits.items()}


def looks_like_panoptic(data: str) -> bool:
    """Whether the data is COCO panoptic, or Cityscapes with instance ids.

    Other folders of objects and label maps may be meant for either alone.

    Raises:
        InputError: an ambiguous layout.
    """
    path = Path(data)
    if not data or is_foreign(path):
        return False
    return bool(coco.find_coco_panoptic(path) or cityscapes.find_cityscapes_panoptic(path))


def _find_format(path: Path) -> tuple[Opener, object] | None:
    """The opener of the data's format, and its argument; None for an unknown layout."""
    if is_foreign(path):
        return None
    finders: tuple[tuple[Callable[[Path], object], Opener], ...] = (
        (coco.find_coco_panoptic, partial(_open_splits, coco.CocoPanoptic)),
        (cityscapes.find_cityscapes_panoptic, partial(_open_splits, cityscapes.CityscapesPanoptic)),
        (pairs.find_pairs, pairs.open_pairs),
    )
    return next(((opener, source) for find, opener in finders if (source := find(path))), None)


def _open_splits(
    dataset: Callable[..., PanopticSegmentation],
    sources: Mapping[str, Any],
    channels: int,
    *,
    only: Sequence[str],
    void: Sequence[str],
    classes: Sequence[SegmentClass] | None,
) -> dict[str, PanopticSegmentation]:
    """Opens the splits of a format. Without ``classes``, the first split determines the classes of all."""
    splits: dict[str, PanopticSegmentation] = {}
    for split, source in sources.items():
        splits[split] = dataset(source, channels, only=only, void=void, classes=classes)
        classes = splits[split].segments
    return splits
