"""Class tables: names and original ids of the classes, in the order of the model's outputs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fishnet.errors import InputError


@dataclass(frozen=True)
class Classes:
    """The classes of a data set or a model.

    Attributes:
        names: one per output, unique.
        ids: the data's own ids, one per output (an image folder's are 0, 1, ...).
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ids):
            raise InputError(f"{len(self.names)} class names but {len(self.ids)} ids")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise InputError(f"class names are not unique: {', '.join(doubled)}")

    @classmethod
    def of(cls, names: Iterable[str]) -> "Classes":
        """Classes numbered 0, 1, ... in the order given."""
        names = tuple(names)
        return cls(names, tuple(range(len(names))))

    def __len__(self) -> int:
        return len(self.names)

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON: one ``{"id", "name"}`` per class."""
        return [{"id": id_, "name": name} for id_, name in zip(self.ids, self.names, strict=True)]

    @classmethod
    def from_list(cls, rows: Iterable[Mapping[str, Any]]) -> "Classes":
        """The inverse of :meth:`to_list`."""
        rows = list(rows)
        return cls(tuple(str(row["name"]) for row in rows), tuple(int(row["id"]) for row in rows))

    def indices_in(self, other: "Classes") -> list[int]:
        """For each class here, its index in ``other``, by name.

        Raises:
            InputError: naming the classes that ``other`` lacks.
        """
        index = {name: i for i, name in enumerate(other.names)}
        unknown = [name for name in self.names if name not in index]
        if unknown:
            some = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            known = ", ".join(other.names[:5]) + (", ..." if len(other) > 5 else "")
            raise InputError(f"the data has classes the model does not know: {some} (it knows {known})")
        return [index[name] for name in self.names]
