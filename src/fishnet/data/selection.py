"""Some of a dataset's classes: what ``--classes`` selects."""

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
        known: the classes that labels refer to: those of a model, or else the selected ones.
    """

    own: Classes
    selected: Classes
    known: Classes

    @classmethod
    def of(cls, splits: Mapping[str, ImageDataset], names: Sequence[str], classes: Classes | None) -> "ClassSelection":
        """Selects classes.

        Args:
            splits: datasets by split; the first has the classes of the data.
            names: of the selected classes.
            classes: the classes of a model, which then all stay.

        Raises:
            InputError: a name that is not a class.
        """
        own = next(iter(splits.values())).classes
        selected = (classes or own).select(names)
        return cls(own, selected, classes or selected)

    def labels(self, classes: Classes) -> list[int]:
        """For each of a split's classes its label in ``known``; -1 for a class that is left out."""
        return [self.known.names.index(name) if name in self.selected.names else -1 for name in classes.names]

    def shown(self, classes: Classes | None = None) -> str:
        """The first of the selected classes, or of others, for messages."""
        return ", ".join((classes or self.selected).names[:5])


def note_left_out(dataset: ImageDataset, notes: Sequence[Finding], message: str, split: str, count: int) -> None:
    """Notes that something is left out, behind the notes of the opening."""
    dataset.notes = [*notes, Finding("class-left-out", message, split, count=count)]
