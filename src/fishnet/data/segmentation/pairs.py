"""Datasets of image files with mask files, opened from the layout that a format finds."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict
from fishnet.data.findings import Finding
from fishnet.data.segmentation.base import LabelMap
from fishnet.data.segmentation.deciding import DEFAULT_THRESHOLD, Choices, Decision, Masks, decide
from fishnet.data.segmentation.files import FileSegmentation
from fishnet.data.segmentation.masks import MaskDecoder
from fishnet.data.segmentation.matching import Pairs
from fishnet.data.segmentation.names import Legend, assign_labels, colour_text
from fishnet.errors import InputError

_SHOWN = 5  # ids in a message
_MANY = 12  # a mask with more ids without a name is probably anti-aliased


class MaskLayout(NamedTuple):
    """What a format finds in a folder.

    Attributes:
        splits: the pairs of each split, train first; ``all`` if the data has no splits.
        legend: the meaning of the masks' values; None if neither the format nor a file defines it.
        folder: the folder where a classes file may be.
        definite: whether the data can hardly be anything but images with label maps.
    """

    splits: dict[str, Pairs]
    legend: Legend | None
    folder: Path
    definite: bool


class MaskSegmentation(FileSegmentation):
    """Image files with mask files.

    Args:
        pairs: the images and masks of one split.
        channels: the number of channels that images are read with.
        classes: the classes that are learned.
        decoder: reads the masks.
        decision: the meaning of the masks' values, and what was concluded from them.
    """

    def __init__(self, pairs: Pairs, channels: int, classes: Classes, decoder: MaskDecoder, decision: Decision) -> None:
        self.folder, self.entries, self.left_out = pairs
        self.channels, self.classes, self.decoder = channels, classes, decoder
        self.legend, self.mask_reader, self.conclusions = decision

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`."""
        path = self.entries[index].mask
        mask = self.decoder.open(path)
        labels, unnamed = self.decoder.labels(mask)
        if unnamed:
            raise InputError(f"{path}: {_describe_unnamed(unnamed, mask.colours, self.legend.location)}")
        return labels

    def location(self, index: int) -> str:
        """The mask's path."""
        return str(self.entries[index].mask)

    def named_in(self, index: int) -> str:
        """The file and line of the list that names the image."""
        location: str = self.entries[index].location
        return location


def _describe_unnamed(unnamed: Mapping[int, int], colours: bool, location: str) -> str:
    """The message about values without a name in a mask, with their numbers of pixels."""
    values = sorted(unnamed, key=lambda value: -unnamed[value])
    shown = [f"{colour_text(value) if colours else value} ({unnamed[value]:,} px)" for value in values[:_SHOWN]]
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    listed = f"{', '.join(shown)}{more}"
    if colours:
        return f"colours without a name: {listed}: add them to {location}"
    if len(values) > _MANY:
        return (
            f"ids without a name: {listed}: looks like an anti-aliased mask: save masks without smoothing, or read "
            f"masks of two classes with threshold_masks {DEFAULT_THRESHOLD}"
        )
    ids = " ".join(str(value) for value in sorted(values[:_SHOWN]))
    return f"ids without a name: {listed}: add them to {location}, or set ignore to {ids}"


def open_pairs(
    layout: MaskLayout,
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> dict[str, MaskSegmentation]:
    """Opens the splits that a format found, all with the classes of the first one.

    A test split without any mask is left out, unless problems are collected.

    Args:
        layout: the layout that the format found.
        channels, classes: see :func:`~fishnet.data.segmentation.open.open_segmentation`.
        choices: what is ignored, and how masks are read.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.names.assign_labels` and
            :func:`~fishnet.data.segmentation.deciding.decide`; a split without any pair of image and mask; no
            classes file and no mask that can be read.
    """
    kept = {name: pairs for name, pairs in layout.splits.items() if pairs.entries or name != "test" or not is_strict()}
    if is_strict():
        _check_not_empty(layout.folder, kept)
    masks = [[entry.mask for entry in pairs.entries] for pairs in layout.splits.values() if pairs.entries]
    decision = decide(Masks(masks, layout.legend, layout.folder), choices, classes)
    legend = decision.legend
    learned, labels = assign_labels(
        legend.classes, legend.location, ignore=choices.ignore, void=choices.void, only=choices.only, classes=classes
    )
    decoder = MaskDecoder(legend, labels, choices.ignore, threshold=decision.reader.threshold)
    splits = {name: MaskSegmentation(pairs, channels, learned, decoder, decision) for name, pairs in kept.items()}
    for name in layout.splits.keys() - kept.keys():
        if left_out := layout.splits[name].left_out:
            count = len(left_out)
            line = f"{name}: none of {count:,} images has a mask ({left_out[0]}): {name} is left out"
            first = next(iter(splits.values()))
            first.notes = [*first.notes, Finding("file-unpaired", line, name, count=count)]
    return splits


def _check_not_empty(folder: Path, splits: Mapping[str, Pairs]) -> None:
    """Raises InputError for a split without a pair."""
    for name, pairs in splits.items():
        if not pairs.entries:
            first = f" ({pairs.left_out[0]})" if pairs.left_out else ""
            raise InputError(f"{folder}: no image with a mask in its split {name!r}{first}")
