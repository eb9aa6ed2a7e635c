"""Class tables: names and original ids of the classes, in the order of the model's outputs."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
        doubled = sorted(name for name, count in Counter(self.names).items() if count > 1)
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


Label = str | int


def labelling(
    labels: Sequence[Label], where: Callable[[int], str], classes: Classes | None = None
) -> tuple[Classes, list[int]]:
    """Class indices for labels as data spell them: names, or numbers.

    Without known classes, whole numbers make classes that are named by their number, in the order of the numbers, which
    are their ids; other labels make classes in the order of the alphabet, numbered 0, 1, ... With known classes, labels
    are their names; or, where they are not and the classes have other names than numbers, their ids.

    Args:
        labels: one per picture.
        where: the place of a label, for messages.
        classes: the classes that are known.

    Returns:
        (the classes, the index of each label in them).

    Raises:
        InputError: fewer than two classes, or a label that the known classes lack.
    """
    words = [str(label) for label in labels]
    distinct = dict.fromkeys(words)
    numbers = {word: int(word) for word in distinct if re.fullmatch(r"-?(0|[1-9]\d*)", word)}
    if classes is None:
        if len(distinct) < 2:
            raise InputError(f"has one class only ({next(iter(distinct), 'none')}): a classifier needs two or more")
        if len(numbers) == len(distinct):
            ids = sorted(numbers.values())
            classes = Classes(tuple(map(str, ids)), tuple(ids))
        else:
            classes = Classes.of(sorted(distinct))
    index = {name: i for i, name in enumerate(classes.names)}
    named_by_number = all(re.fullmatch(r"-?\d+", name) for name in classes.names)
    by_id = {} if named_by_number else {str(id_): i for i, id_ in enumerate(classes.ids)}
    if not index.keys() >= distinct.keys() and by_id.keys() >= distinct.keys():
        index = by_id
    unknown = [word for word in distinct if word not in index]
    if unknown:
        first = next((word for word in unknown if word not in by_id), unknown[0])
        known = ", ".join(classes.names[:5]) + (", ..." if len(classes) > 5 else "")
        raise InputError(
            f"{where(words.index(first))}: class {first!r} is not known: give names ({known}) or ids throughout"
        )
    return classes, [index[word] for word in words]


def named(
    names: Sequence[str], labels: Sequence[Label], where: Callable[[int], str], classes: Classes | None = None
) -> tuple[Classes, list[int]]:
    """Class indices for labels that count a list of names, from 0.

    Args:
        names: of all classes of the data.
        labels: whole numbers, one per picture.
        where: the place of a label, for messages.
        classes: the classes that are known, matched by name; by default those of ``names``.

    Returns:
        (the classes, the index of each label in them).

    Raises:
        InputError: a label without a name, fewer than two classes, or one that the known classes lack.
    """
    for i, label in enumerate(labels):
        if not str(label).isdecimal() or int(label) >= len(names):
            raise InputError(f"{where(i)}: label {label!r} is none of the {len(names)} classes")
    if classes is None:
        if len(names) < 2:
            raise InputError(f"has one class only ({', '.join(names)}): a classifier needs two or more")
        classes = Classes.of(names)
        return classes, [int(label) for label in labels]
    used = sorted({int(label) for label in labels})
    places = Classes(tuple(names[i] for i in used), tuple(used)).indices_in(classes)
    index = dict(zip(used, places, strict=True))
    return classes, [index[int(label)] for label in labels]
