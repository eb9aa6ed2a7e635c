"""Detection datasets with only some of their classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.files import listed
from fishnet.data.detection.objects import Objects
from fishnet.data.selection import ClassSelection, note_left_out
from fishnet.errors import InputError


class SelectedDetection(DetectionDataset):
    """A detection dataset without the objects of some classes. All images stay, even those left without objects.

    Args:
        dataset: the dataset with all classes.
        classes: the classes that labels refer to.
        labels: index in ``classes`` for each label of ``dataset``; -1 for classes that are left out.
    """

    def __init__(self, dataset: DetectionDataset, classes: Classes, labels: NDArray[np.int64]) -> None:
        self.dataset, self.classes, self.labels = dataset, classes, labels
        self.entries, self.channels, self.with_masks = dataset.entries, dataset.channels, dataset.with_masks
        self.skipped, self.links, self.notes = dataset.skipped, dataset.links, dataset.notes

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.entries.EntryDataset`."""
        return self.dataset.encoded(index)

    def source(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return self.dataset.source(index)

    def key(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return self.dataset.key(index)

    def size(self, index: int) -> tuple[int, int]:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        return self.dataset.size(index)

    def objects(self, index: int) -> Objects:
        """The objects of the selected classes."""
        objects = self.dataset.objects(index)
        kept = objects.take(self.labels[objects.labels] >= 0)
        return replace(kept, labels=self.labels[kept.labels])

    def location(self, index: int, number: int) -> str:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        if number < 0:
            return self.dataset.location(index, number)
        kept = np.flatnonzero(self.labels[self.dataset.objects(index).labels] >= 0)
        return self.dataset.location(index, int(kept[number]) if number < len(kept) else -1)

    def subset(self, indices: Sequence[int]) -> Self:
        """See :class:`~fishnet.data.entries.EntryDataset`."""
        subset = type(self)(self.dataset.subset(indices), self.classes, self.labels)
        subset.reading = self.reading
        return subset


def choose(
    data: str, splits: Mapping[str, DetectionDataset], only: Sequence[str], classes: Classes | None
) -> dict[str, DetectionDataset]:
    """Keeps some of the classes. Objects of others are left out, with a note.

    Args:
        data: the data's name, for messages.
        splits: datasets by split, with the classes of the data.
        only: names of the selected classes.
        classes: the classes of a model, all of which are kept; None if there is no model: only the selected classes of
            the data are kept.

    Raises:
        InputError: a name that is not a class, or no selected class in the data.
    """
    selection = ClassSelection.of(splits, only, classes)
    if not set(selection.selected.names) & set(selection.own.names):
        raise InputError(f"{data}: has none of the classes {selection.shown()}, only {selection.shown(selection.own)}")
    selected: dict[str, DetectionDataset] = {}
    for split, dataset in splits.items():
        labels, names = selection.labels(dataset.classes), dataset.classes.names
        selected[split] = SelectedDetection(dataset, selection.known, np.array(labels, np.int64))
        dropped = [name for name, label in zip(names, labels, strict=True) if label < 0]
        if dropped:
            message = (
                f"{split}: objects of {len(dropped):,} of {len(names):,} classes are left out ({listed(dropped)}); "
                "their images stay"
            )
            note_left_out(selected[split], dataset.notes, message, split, len(dropped))
    return selected
