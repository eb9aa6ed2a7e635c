"""From what mask files hold to labels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.data.maskfiles import Mask, open_mask
from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.segmentation.names import LARGEST, Legend

BINARY = (0, 255)  # the numbers of masks that say foreground or not


class Coding:
    """From what masks hold to labels.

    Args:
        legend: what the pixels stand for.
        labels: of the legend's classes, one each; 255 where ignored.
        ignore: further numbers that stand for no class, where the legend's values are its ids.
        threshold: see :func:`~fishnet.data.maskfiles.open_mask`.
    """

    def __init__(
        self, legend: Legend, labels: Sequence[int], ignore: Iterable[int] = (), *, threshold: int = 0
    ) -> None:
        self.palette = bool(legend.colours) and not legend.stated
        self.threshold = threshold
        more = ignore if legend.values == legend.classes.ids else ()
        ignored = dict.fromkeys((*legend.ignored, *more), IGNORE)
        self._numbers = _Table(ignored | dict(zip(legend.values, labels, strict=True)))
        self._colours = None
        if legend.colours and not threshold:
            ignored = dict.fromkeys(legend.ignored_colours, IGNORE)
            self._colours = _Table(ignored | dict(zip(legend.colours, labels, strict=True)))

    def read(self, path: Path) -> tuple[Mask, bool]:
        """An open mask, and whether its pixels are colours.

        Raises:
            InputError: see :func:`~fishnet.data.maskfiles.open_mask`.
        """
        mask = open_mask(path, colours=self._colours is not None, palette=self.palette, threshold=self.threshold)
        return mask, mask.colours

    def labels(self, mask: Mask, colours: bool = False) -> tuple[LabelMap, dict[int, int]]:
        """From what :meth:`read` gives.

        Returns:
            (height, width) of labels, 255 where nothing is known of a number; and the pixels of each such number.

        Raises:
            InputError: see :func:`~fishnet.data.maskfiles.open_mask`; more such numbers than any set of classes has.
        """
        table = self._colours if colours and self._colours is not None else self._numbers
        labels, unnamed = np.empty(mask.size, np.uint8), Counter[int]()
        for top, rows in mask.strips():
            labels[top : top + len(rows)], without = table(rows)
            unnamed.update(without)
            mask.check_distinct(len(unnamed))
        return labels, dict(unnamed)

    def label_counts(
        self, values: NDArray[np.int64], counts: NDArray[np.int64], colours: bool = False
    ) -> tuple[NDArray[np.int64], dict[int, int]]:
        """The pixels of each label, from those of each value of a mask.

        Args:
            values, counts: (n,), each value once, and its pixels.
            colours: whether the values are colours.

        Returns:
            (256,) pixels of each label, those of values without a name left out; and the pixels of each such value.
        """
        table = self._colours if colours and self._colours is not None else self._numbers
        labels, without = table(values)
        pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        unnamed = {value: pixels[value] for value in without}
        totals = np.bincount(labels, weights=counts, minlength=IGNORE + 1).astype(np.int64)
        totals[IGNORE] -= sum(unnamed.values())
        return totals, unnamed


class _Table:
    """A label for each number of 0 to 0xFFFFFF that has one; negative ones are ignored."""

    def __init__(self, labels: Mapping[int, int]) -> None:
        size = min(max(IGNORE, *labels), LARGEST) + 2  # the last is for all that lie beyond
        # Zeros take no memory until they are written: what is kept is each label + 1, so that 0 is 255 after all.
        self.after, self.known = np.zeros(size, np.uint8), np.zeros(size, np.bool_)
        for value, label in labels.items():
            if 0 <= value <= LARGEST:
                self.after[value], self.known[value] = (label + 1) & 0xFF, True

    def __call__(self, found: NDArray[Any]) -> tuple[LabelMap, dict[int, int]]:
        labels = self.after.take(found if found.dtype.kind == "u" else _not_below(found), mode="clip")
        labels -= 1  # wraps around
        without = found[labels == IGNORE]
        if without.size:
            without = without[~self.known.take(without, mode="clip")]
            if without.dtype.kind == "i":
                without = without[without >= 0]
        if not without.size:
            return labels, {}
        values, counts = np.unique(without, return_counts=True)
        return labels, dict(zip(values.tolist(), counts.tolist(), strict=True))


def _not_below(found: NDArray[Any]) -> NDArray[Any]:
    """Negative numbers as 0xFFFFFF + 1, which has no label."""
    return np.where(found < 0, LARGEST + 1, found) if (found < 0).any() else found
