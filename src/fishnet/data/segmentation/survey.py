"""What the masks of a split hold altogether: read once, kept for all that asks later in the same run."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.data.maskfiles import Mask, open_mask
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import InputError

ALTOGETHER = 65_536  # in all masks
SLOW = 2.0  # seconds after which a line says what is read
MANY = 100  # masks from which it does
_SHOWN = 3  # values from which a mask may be an anti-aliased one
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskFacts:
    """What one mask holds.

    Attributes:
        values: (n,) each number or colour once, rising.
        counts: (n,) the pixels of each.
        inner: (n,) of these, pixels whose right and lower neighbours have the same value.
        looked: (n,) the pixels among which inner ones were counted: of masks, or strips, with three values or more.
        beside: the values next to a pixel of 255.
        colours: whether the values are colours, as 0xRRGGBB.
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]
    inner: NDArray[np.int64]
    looked: NDArray[np.int64]
    beside: frozenset[int]
    colours: bool


@dataclass
class MaskReading:
    """How masks are opened, and what was found in each: one for all splits of a dataset.

    Attributes:
        colours, palette, threshold: see :func:`~fishnet.data.maskfiles.open_mask`.
        facts: of each mask that was read, or the line that says why it cannot be.
    """

    colours: bool = False
    palette: bool = False
    threshold: int = 0
    facts: dict[Path, MaskFacts | str] = field(default_factory=dict)

    def of(self, path: Path) -> MaskFacts | str:
        """The facts of one mask, or why it cannot be read."""
        if path not in self.facts:
            try:
                mask = open_mask(path, colours=self.colours, palette=self.palette, threshold=self.threshold)
                self.facts[path] = facts_of(mask)
            except InputError as error:
                self.facts[path] = str(error)
        return self.facts[path]


@dataclass
class Survey:
    """The masks of a split, added up. Numbers and colours are apart where a split has masks of both.

    Attributes:
        pixels: of each number.
        inner, looked: see :class:`MaskFacts`.
        beside: the numbers next to a pixel of 255.
        first: the first mask with each number.
        unreadable: a line for each mask that cannot be read.
    """

    pixels: dict[int, int] = field(default_factory=dict)
    inner: dict[int, int] = field(default_factory=dict)
    looked: dict[int, int] = field(default_factory=dict)
    beside: set[int] = field(default_factory=set)
    first: dict[int, Path] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, path: Path, facts: MaskFacts) -> None:
        """Adds a mask's numbers; its colours are not looked at."""
        if facts.colours:
            return
        for i, value in enumerate(facts.values.tolist()):
            count = int(facts.counts[i])
            self.pixels[value] = self.pixels.get(value, 0) + count
            self.first.setdefault(value, path)
            self.inner[value] = self.inner.get(value, 0) + int(facts.inner[i])
            self.looked[value] = self.looked.get(value, 0) + int(facts.looked[i])
        self.beside |= facts.beside

    @property
    def numbers(self) -> set[int]:
        """All numbers that the masks hold."""
        return set(self.pixels)


def survey(
    masks: Sequence[Path], reading: MaskReading, within: Collection[int] | None = None, *, strict: bool = True
) -> Survey:
    """Reads masks that were not read yet. A line on standard error says so where that takes long.

    Args:
        masks: the files.
        reading: how, and where what is found is kept.
        within: stops at the first mask with a number that is none of these.
        strict: whether anything is raised.

    Raises:
        InputError: none of the masks can be read, or they hold more numbers than any set of classes has.
    """
    total, read = Survey(), False
    for path in _announced(masks, reading):
        facts = reading.of(path)
        if isinstance(facts, str):
            total.unreadable.append(facts)
            continue
        read = True
        total.add(path, facts)
        if strict and len(total.pixels) > ALTOGETHER:
            raise InputError(f"{path}: the masks up to this one hold more than {ALTOGETHER:,} different numbers")
        if within is not None and not total.numbers <= set(within):
            break
    if strict and not read and total.unreadable:
        raise InputError(total.unreadable[0])
    return total


def _announced(masks: Sequence[Path], reading: MaskReading) -> Iterable[Path]:
    began, said = time.monotonic(), False
    new = sum(path not in reading.facts for path in masks)
    for path in masks:
        yield path
        if new >= MANY and not said and time.monotonic() - began > SLOW:
            said = True
            _LOG.warning("reading %s masks ...", f"{new:,}")


def facts_of(mask: Mask) -> MaskFacts:
    """What an open mask holds. Raises InputError for more numbers or colours than any set of classes has."""
    pixels, inner, looked = Counter[int](), Counter[int](), Counter[int]()
    beside: set[int] = set()
    for _, rows in mask.strips():
        counts = _counted(rows)
        pixels.update(counts)
        mask.check_distinct(len(pixels))
        if mask.colours:
            continue
        if len(counts) >= _SHOWN:
            inner.update(_counted(_inner(rows)))
            looked.update(counts)
        if IGNORE in counts and len(counts) > 1:
            beside |= _beside(rows)
    values = sorted(pixels)
    arrays = [np.array([counter[value] for value in values], np.int64) for counter in (pixels, inner, looked)]
    return MaskFacts(np.array(values, np.int64), arrays[0], arrays[1], arrays[2], frozenset(beside), mask.colours)


def _counted(rows: NDArray[np.integer]) -> dict[int, int]:
    """The pixels of each value."""
    if rows.dtype == np.uint8:
        counts = np.bincount(rows.ravel(), minlength=256)
        values = np.flatnonzero(counts)
        return dict(zip(values.tolist(), counts[values].tolist(), strict=True))
    values, counts = np.unique(rows, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _inner(rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """The pixels whose right and lower neighbours have the same value."""
    part = rows[:-1, :-1]
    inner: NDArray[np.integer] = part[(part == rows[1:, :-1]) & (part == rows[:-1, 1:])]
    return inner


def _beside(rows: NDArray[np.integer]) -> set[int]:
    """The values next to a pixel of 255."""
    void = rows == IGNORE
    pairs = (
        (rows[1:], void[:-1]), (rows[:-1], void[1:]), (rows[:, 1:], void[:, :-1]), (rows[:, :-1], void[:, 1:]),
    )  # fmt: skip
    return {value for values, beside in pairs for value in np.unique(values[beside]).tolist()} - {IGNORE}
