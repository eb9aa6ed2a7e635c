"""Cityscapes: leftImg8bit and gtFine's instance ids."""

from collections.abc import Sequence
from pathlib import Path

from fishnet.bundle.panoptic import SegmentClass
from fishnet.data.files import MaskEntry, find_split_folders, subfolder
from fishnet.data.maskfiles import open_mask
from fishnet.data.panoptic.base import Annotated, PanopticMap, PanopticSegmentation
from fishnet.data.panoptic.categories import Categories
from fishnet.data.panoptic.idruns import IdRuns
from fishnet.data.segmentation.cityscapes import CLASSES, match_files
from fishnet.data.segmentation.matching import Pairs
from fishnet.errors import InputError
from fishnet.images.segment_ids import VOID

LAYOUTS = "Cityscapes (leftImg8bit/ and gtFine/ with *_gtFine_instanceIds.png)"
PER_CLASS = 1000
"""Ids from this number up are class id * 1000 + n, for the n-th object of the class; lower ones are class ids."""
_THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
SEGMENTS = tuple(SegmentClass(name, id_, name in _THINGS) for name, id_ in zip(CLASSES.names, CLASSES.ids, strict=True))
"""The 19 measured classes; the classes of persons and vehicles are things (Cordts et al., 2016)."""
_LABELS = 34  # ids of all labels, measured or not: 0 to 33
_COUNTABLE = frozenset({29, 30, *(each.id for each in SEGMENTS if each.is_thing)})  # and caravan, trailer: not measured


class CityscapesPanoptic(PanopticSegmentation):
    """One split of Cityscapes.

    An id below 1000 is all stuff of a class, or a group of things that could not be told apart: a crowd. The labels
    that are not measured are void.

    Args:
        pairs: the images and instance ids of the split.
        channels: the number of channels that images are read with.
        only, void, classes: see :func:`~fishnet.data.panoptic.open.open_panoptic`.

    Raises:
        InputError: see :meth:`~fishnet.data.panoptic.categories.Categories.of`.
    """

    def __init__(
        self,
        pairs: Pairs,
        channels: int = 3,
        *,
        only: Sequence[str] = (),
        void: Sequence[str] = (),
        classes: Sequence[SegmentClass] | None = None,
    ) -> None:
        used = range(len(SEGMENTS))
        super().__init__(Categories.of("Cityscapes", SEGMENTS, used, only=only, void=void, known=classes), channels)
        self.folder, self.entries, self.left_out = pairs
        self._own = {each.id: i for i, each in enumerate(SEGMENTS)}

    def read_map(self, index: int) -> PanopticMap:
        """See :class:`~fishnet.data.panoptic.base.PanopticSegmentation`."""
        runs = IdRuns.of(open_mask(self.entries[index].mask).read())
        annotated = {id_: each for id_ in runs.ids.tolist() if id_ != VOID and (each := self._annotated(id_))}
        return PanopticMap(runs, annotated)

    def _annotated(self, id_: int) -> Annotated | None:
        """The segment of an instance id; None for ids that no label has."""
        label = id_ if id_ < PER_CLASS else id_ // PER_CLASS
        if not 0 <= label < _LABELS or (id_ >= PER_CLASS and label not in _COUNTABLE):
            return None
        own = self._own.get(label, -1)
        return Annotated(own, own >= 0 and id_ < PER_CLASS and SEGMENTS[own].is_thing)

    def location(self, index: int) -> str:
        """The path of the instance ids."""
        return str(self.entries[index].mask)

    def named_in(self, index: int) -> str:
        """The file and line of the list that names the image."""
        location: str = self.entries[index].location
        return location

    def describe_segment(self, index: int, id_: int) -> str:
        """The path of the instance ids, and the id."""
        return f"{self.location(index)}: segment {id_}"


def find_cityscapes_panoptic(data: Path) -> dict[str, Pairs]:
    """Finds the splits of Cityscapes with instance ids; empty for any other folder.

    A test split with blank masks, as Cityscapes distributes it, is left out.

    Args:
        data: a folder with ``leftImg8bit/SPLIT/CITY/`` and ``gtFine/SPLIT/CITY/``.

    Raises:
        InputError: no train, val or test folders.
    """
    images, masks = subfolder(data, "leftimg8bit"), subfolder(data, "gtfine")
    if images is None or masks is None:
        return {}
    folders = find_split_folders(images)
    if not folders:
        raise InputError(f"{images}: has no train, val or test folder")
    splits = {split: match_files(folder, masks, "instanceIds") for split, folder in folders.items()}
    if "test" in splits and not _has_segments(splits["test"].entries[:1]):
        del splits["test"]
    return splits if any(pairs.entries for pairs in splits.values()) else {}


def _has_segments(entries: Sequence[MaskEntry]) -> bool:
    """Whether a mask has a pixel of a measured class."""
    for entry in entries:
        try:
            ids = IdRuns.of(open_mask(entry.mask).read()).ids
        except InputError:  # reported when it is read
            return True
        labels = set(ids[ids < PER_CLASS].tolist()) | set((ids // PER_CLASS).tolist())
        if labels & set(CLASSES.ids):
            return True
    return False
