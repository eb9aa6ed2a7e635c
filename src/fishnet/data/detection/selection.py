"""Some of the classes of data with objects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.objects import Objects
from fishnet.data.findings import Finding
from fishnet.errors import InputError


class SelectedDetection(DetectionDataset):
    """A region set without the objects of some classes; its images stay, if need be as images without objects.

    Args:
        whole: the set.
        classes: the table that labels count.
        places: the index in it for each label of ``whole``, -1 for those that are left out.
    """

    def __init__(self, whole: DetectionDataset, classes: Classes, places: NDArray[np.int64]) -> None:
        self.whole, self.classes, self.places = whole, classes, places
        self.entries, self.channels, self.with_masks = whole.entries, whole.channels, whole.with_masks
        self.skipped, self.links, self.notes = whole.skipped, whole.links, whole.notes

    def encoded(self, index: int) -> bytes:
        """See :class:`~fishnet.data.entries.EntryDataset`."""
        return self.whole.encoded(index)

    def source(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return self.whole.source(index)

    def key(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return self.whole.key(index)

    def size(self, index: int) -> tuple[int, int]:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        return self.whole.size(index)

    def objects(self, index: int) -> Objects:
        """The objects of the classes that are kept."""
        every = self.whole.objects(index)
        chosen = every.take(self.places[every.labels] >= 0)
        return replace(chosen, labels=self.places[chosen.labels])

    def place(self, index: int, number: int) -> str:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        if number < 0:
            return self.whole.place(index, number)
        kept = np.flatnonzero(self.places[self.whole.objects(index).labels] >= 0)
        return self.whole.place(index, int(kept[number]) if number < len(kept) else -1)

    def part(self, indices: Sequence[int]) -> Self:
        """See :class:`~fishnet.data.entries.EntryDataset`."""
        other = type(self)(self.whole.part(indices), self.classes, self.places)
        other.reading = self.reading
        return other


def choose(
    data: str, splits: Mapping[str, DetectionDataset], only: Sequence[str], classes: Classes | None
) -> dict[str, DetectionDataset]:
    """Some of the classes of data with objects; objects of others are left out, and this is noted.

    Args:
        data: its name, for messages.
        sets: by part, with classes of their own.
        only: names of the classes.
        classes: those that a model knows; by default the data's, of which the chosen ones then remain.

    Raises:
        InputError: a name that is no class, or none of which the data has.
    """
    own = next(iter(splits.values())).classes
    chosen = (classes or own).only(only)
    known = classes or chosen
    if not set(chosen.names) & set(own.names):
        raise InputError(
            f"{data}: has none of the classes {', '.join(chosen.names[:5])}, only {', '.join(own.names[:5])}"
        )
    result: dict[str, DetectionDataset] = {}
    for name, part in splits.items():
        places = np.array(
            [known.names.index(word) if word in chosen.names else -1 for word in part.classes.names], np.int64
        )
        result[name] = SelectedDetection(part, known, places)
        left = [word for word, place in zip(part.classes.names, places, strict=True) if place < 0]
        if left:
            shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
            message = (
                f"{name}: objects of {len(left):,} of {len(places):,} classes are left out ({shown}); their images stay"
            )
            result[name].notes = [*part.notes, Finding("class-left-out", message, name, count=len(left))]
    return result
