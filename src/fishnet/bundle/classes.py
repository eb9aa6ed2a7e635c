"""Class tables: names and original ids of the classes, in the order of the model's outputs."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fishnet.errors import InputError, nearest

MAX_NAME = 10_000  # maximum number of characters of a class's name


def to_nfc(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared: an ``e`` with accent is one character."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset or a model.

    Attributes:
        names: one per output, unique; converted to NFC.
        ids: the data's original ids, one per output (0, 1, ... for an image folder).
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.ids):
            raise InputError(f"{len(self.names)} class names but {len(self.ids)} ids")
        object.__setattr__(self, "names", tuple(map(to_nfc, self.names)))
        long = next((name for name in self.names if len(name) > MAX_NAME), None)
        if long is not None:
            raise InputError(f"a class name of {len(long):,} letters ({long[:20]}...): at most {MAX_NAME:,}")
        duplicates = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if duplicates:
            raise InputError(f"class names are not unique: {', '.join(duplicates)}")

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
            InputError: ``other`` lacks some of the classes; the message names them.
        """
        index = {name: i for i, name in enumerate(other.names)}
        unknown = [name for name in self.names if name not in index]
        if unknown:
            missing = ", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            known = ", ".join(other.names[:5]) + (", ..." if len(other) > 5 else "")
            raise InputError(f"the data has classes the model does not know: {missing} (it knows {known})")
        return [index[name] for name in self.names]

    def select(self, names: Sequence[str]) -> "Classes":
        """Some of the classes, in the order and with the ids that they have here.

        Args:
            names: the names of the classes to select. A string that is not a class's name is split at commas.

        Raises:
            InputError: an unknown name; the nearest ones are offered.
        """
        words = [to_nfc(word) for word in names]
        words = [name for word in words for name in ([word] if word in self.names else word.split(","))]
        chosen = {word.strip() if word.strip() in self.names else word for word in words} - {""}
        for word in words:
            if word and word not in self.names and word.strip() not in self.names:
                raise InputError(f"classes: no class {word!r}: {nearest(word, self.names)}")
        kept = [i for i, name in enumerate(self.names) if name in chosen]
        return Classes(tuple(self.names[i] for i in kept), tuple(self.ids[i] for i in kept))


Label = str | int
MAX_FRACTIONS = 20  # maximum number of classes that are numbers with fractions: more of them are measurements
_MAX_DIGITS = 18  # of the number of a class
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]+)?")
_WHOLE = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0+)?")


def index_labels(
    labels: Sequence[Label], where: Callable[[int], str], classes: Classes | None = None
) -> tuple[Classes, list[int]]:
    """Finds the class index of each label. Labels are names or numbers.

    Without known classes, whole numbers become classes that are named after their number and sorted by it; the numbers
    are their ids, and ``3`` equals ``3.0``. Other labels become classes in alphabetical order, numbered 0, 1, ... With
    known classes, labels are the classes' names, or else their ids, unless the classes are named by numbers. Names are
    compared in Unicode's composed form.

    Args:
        labels: one per image.
        where: returns the place of a label, by its index, for messages.
        classes: the known classes.

    Returns:
        (the classes, the class index of each label).

    Raises:
        InputError: fewer than two classes, or a label that is not among the known classes.
    """
    words = [to_nfc(str(label)) for label in labels]
    if classes is None or not set(words) <= set(classes.names):
        words = _whole_numbers(words)
    distinct = dict.fromkeys(words)
    if classes is None:
        classes = _classes_of(distinct)
    index = {name: i for i, name in enumerate(classes.names)}
    named_by_number = all(_NUMBER.fullmatch(name) for name in classes.names)
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


def _whole_numbers(words: Sequence[str]) -> list[str]:
    """Removes fractions of zeros (``3.0``) if all labels are whole numbers; otherwise returns the labels unchanged."""
    distinct = {word: _WHOLE.fullmatch(word) for word in set(words)}
    plain = {word: match[1] for word, match in distinct.items() if match}
    return [plain[word] for word in words] if len(plain) == len(distinct) else list(words)


def _classes_of(words: Collection[str]) -> Classes:
    """The classes made of distinct labels. Raises InputError for fewer than two labels, and for measurements."""
    if len(words) < 2:
        raise InputError(f"has one class only ({next(iter(words), 'none')}): a classifier needs two or more")
    if all(_WHOLE.fullmatch(word) for word in words):
        ids = sorted(map(int, words))
        return Classes(tuple(map(str, ids)), tuple(ids))
    numbers = [float(word) for word in words if _NUMBER.fullmatch(word)]
    if len(words) > MAX_FRACTIONS and len(numbers) == len(words) and any(number % 1 for number in numbers):
        raise InputError(
            f"its labels are {len(words):,} different numbers with fractions ({next(iter(words))}, ...): these look "
            "like measurements, and a classifier needs classes: give names, or whole numbers"
        )
    return Classes.of(sorted(words))


def index_named_labels(
    names: Sequence[str], labels: Sequence[Label], where: Callable[[int], str], classes: Classes | None = None
) -> tuple[Classes, list[int]]:
    """Finds the class index of each label. Labels are positions, from 0, in a list of names.

    Args:
        names: the names of all classes of the data.
        labels: whole numbers, one per image.
        where: returns the place of a label, by its index, for messages.
        classes: the known classes, matched by name; by default those of ``names``.

    Returns:
        (the classes, the class index of each label).

    Raises:
        InputError: a label without a name, fewer than two classes, or a name that is not among the known classes.
    """
    for i, label in enumerate(labels):
        if not (text := str(label)).isdecimal() or len(text) > _MAX_DIGITS or int(text) >= len(names):
            raise InputError(f"{where(i)}: label {text[:40]} is not one of the {len(names)} classes")
    if classes is None:
        if len(names) < 2:
            raise InputError(f"has one class only ({', '.join(names)}): a classifier needs two or more")
        classes = Classes.of(names)
        return classes, [int(label) for label in labels]
    used = sorted({int(label) for label in labels})
    indices = Classes(tuple(names[i] for i in used), tuple(used)).indices_in(classes)
    index = dict(zip(used, indices, strict=True))
    return classes, [index[int(label)] for label in labels]
