"""Selects some of a dataset's classes (``--classes``)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.findings import Finding


@dataclass(frozen=True)
class ClassSelection:
    """The selected classes of a dataset.

    Attributes:
        own: the dataset's classes.
        selected: the classes that are kept.
        known: the classes that labels refer to: the model's, or the selected ones if there is no model.
    """

    own: Classes
    selected: Classes
    known: Classes

    @classmethod
    def of(cls, splits: Mapping[str, ImageDataset], names: Sequence[str], classes: Classes | None) -> "ClassSelection":
        """Selects classes.

        Args:
            splits: datasets by split; the first has the classes of the data.
            names: names of the selected classes.
            classes: the classes of a model, all of which are kept; None if there is no model.

        Raises:
            InputError: a name that is not a class.
        """
        own = next(iter(splits.values())).classes
        selected = (classes or own).select(names)
        return cls(own, selected, classes or selected)

    def labels(self, classes: Classes) -> list[int]:
        """The label in ``known`` of each of a split's classes; -1 for a class that is left out."""
        return [self.known.names.index(name) if name in self.selected.names else -1 for name in classes.names]

    def shown(self, classes: Classes | None = None) -> str:
        """The first few of the selected classes, or of ``classes``, for messages."""
        return ", ".join((classes or self.selected).names[:5])


def note_left_out(dataset: ImageDataset, notes: Sequence[Finding], message: str, split: str, count: int) -> None:
    """Adds a note about classes that are left out to ``notes``, those made while opening the dataset."""
    dataset.notes = [*notes, Finding("class-left-out", message, split, count=count)]
