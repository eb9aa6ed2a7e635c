"""Counts the values in the masks of a split. Each mask is read once; its counts are kept for the rest of the run."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.data.maskfiles import Mask, open_mask
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import InputError

MAX_NUMBERS = 65_536  # different numbers in all masks together
SLOW = 2.0  # seconds of reading after which a line is logged
MANY = 100  # no line is logged for fewer masks
_MIN_SMOOTHED = 3  # a strip with fewer different values cannot show anti-aliasing
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskFacts:
    """The values in one mask.

    Attributes:
        values: (n,) the distinct numbers or colours, in ascending order.
        counts: (n,) pixels of each value.
        inner: (n,) how many of the ``examined`` pixels have a right and a lower neighbour of the same value.
        examined: (n,) pixels of each value in strips with at least three values; other strips are not examined.
        beside_255: the values that are next to a pixel of 255.
        colours: whether the values are colours, 0xRRGGBB.
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    inner: NDArray[np.int64]
    examined: NDArray[np.int64]
    beside_255: frozenset[int]
    colours: bool


@dataclass
class MaskReader:
    """Counts the values in masks, and remembers the result. All splits of a dataset share one reader.

    Attributes:
        colours, palette, threshold: see :func:`~fishnet.data.maskfiles.open_mask`.
        facts: the facts of each mask, or the error message if it cannot be read.
    """

    colours: bool = False
    palette: bool = False
    threshold: int = 0
    facts: dict[Path, MaskFacts | str] = field(default_factory=dict)

    def read(self, path: Path) -> MaskFacts | str:
        """The facts of one mask, or the error message if it cannot be read."""
        if path not in self.facts:
            try:
                mask = open_mask(path, colours=self.colours, palette=self.palette, threshold=self.threshold)
                self.facts[path] = facts_of(mask)
            except InputError as error:
                self.facts[path] = str(error)
        return self.facts[path]


@dataclass
class Survey:
    """The numbers in the masks of a split, added up. Masks that hold colours are left out.

    Attributes:
        counts: pixels of each number.
        inner, examined: see :class:`MaskFacts`.
        beside_255: the numbers that are next to a pixel of 255.
        first_mask: the first mask with each number.
        unreadable: the error message of each mask that cannot be read.
    """

    counts: Counter[int] = field(default_factory=Counter)
    inner: Counter[int] = field(default_factory=Counter)
    examined: Counter[int] = field(default_factory=Counter)
    beside_255: set[int] = field(default_factory=set)
    first_mask: dict[int, Path] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, path: Path, facts: MaskFacts) -> None:
        """Adds the numbers of one mask."""
        if facts.colours:
            return
        for i, value in enumerate(facts.values.tolist()):
            self.first_mask.setdefault(value, path)
            self.counts[value] += int(facts.counts[i])
            self.inner[value] += int(facts.inner[i])
            self.examined[value] += int(facts.examined[i])
        self.beside_255 |= facts.beside_255

    @property
    def numbers(self) -> set[int]:
        """All numbers in the masks."""
        return set(self.counts)

    def share(self, *numbers: int) -> float:
        """The share of the pixels that have one of these numbers, 0..1."""
        return sum(self.counts[number] for number in numbers) / max(1, self.counts.total())


def survey(
    masks: Sequence[Path], reader: MaskReader, within: Collection[int] | None = None, *, strict: bool = True
) -> Survey:
    """Counts the values in masks. Logs a line if that takes long.

    Args:
        masks: the files.
        reader: reads the masks that it has not read yet.
        within: if given, stop at the first mask that holds any other number.
        strict: whether to raise the errors below.

    Raises:
        InputError: none of the masks can be read, or they hold more than 65,536 different numbers.
    """
    total, readable = Survey(), False
    for path in _announced(masks, reader):
        facts = reader.read(path)
        if isinstance(facts, str):
            total.unreadable.append(facts)
            continue
        readable = True
        total.add(path, facts)
        if strict and len(total.counts) > MAX_NUMBERS:
            raise InputError(f"{path}: the masks up to this one hold more than {MAX_NUMBERS:,} different numbers")
        if within is not None and not total.numbers <= set(within):
            break
    if strict and not readable and total.unreadable:
        raise InputError(total.unreadable[0])
    return total


def _announced(masks: Sequence[Path], reader: MaskReader) -> Iterator[Path]:
    """The masks. Logs once that they are being read if that takes long."""
    start = time.monotonic()
    unread = sum(path not in reader.facts for path in masks)
    silent = unread < MANY
    for path in masks:
        yield path
        if not silent and time.monotonic() - start > SLOW:
            silent = True
            _LOG.warning("reading %s masks ...", f"{unread:,}")


def facts_of(mask: Mask) -> MaskFacts:
    """Counts the values in a mask. Raises InputError if there are more than any set of classes has."""
    counts, inner, examined = Counter[int](), Counter[int](), Counter[int]()
    beside_255: set[int] = set()
    for _, rows in mask.strips():
        strip_counts = _count(rows)
        counts.update(strip_counts)
        mask.check_distinct(len(counts))
        if mask.colours:
            continue
        if len(strip_counts) >= _MIN_SMOOTHED:
            inner.update(_count(_inner_pixels(rows)))
            examined.update(strip_counts)
        if IGNORE in strip_counts and len(strip_counts) > 1:
            beside_255 |= _values_beside_255(rows)
    values = sorted(counts)
    arrays = [np.array([counter[value] for value in values], np.int64) for counter in (counts, inner, examined)]
    return MaskFacts(np.array(values, np.int64), arrays[0], arrays[1], arrays[2], frozenset(beside_255), mask.colours)


def _count(values: NDArray[np.integer]) -> dict[int, int]:
    """How often each value occurs."""
    if values.dtype == np.uint8:
        counts = np.bincount(values.ravel(), minlength=256)
        distinct = np.flatnonzero(counts)
        return dict(zip(distinct.tolist(), counts[distinct].tolist(), strict=True))
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def _inner_pixels(rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """The pixels whose right and lower neighbours have the same value."""
    upper_left = rows[:-1, :-1]
    inner: NDArray[np.integer] = upper_left[(upper_left == rows[1:, :-1]) & (upper_left == rows[:-1, 1:])]
    return inner


def _values_beside_255(rows: NDArray[np.integer]) -> set[int]:
    """The other values that are next to a pixel of 255."""
    is_255 = rows == IGNORE
    neighbours = (
        rows[1:][is_255[:-1]], rows[:-1][is_255[1:]], rows[:, 1:][is_255[:, :-1]], rows[:, :-1][is_255[:, 1:]],
    )  # fmt: skip
    return {value for values in neighbours for value in np.unique(values).tolist()} - {IGNORE}
