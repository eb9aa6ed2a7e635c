"""Converts the values in mask files to labels."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.data.maskfiles import Mask, open_mask
from fishnet.data.segmentation.base import IGNORE, LabelMap
from fishnet.data.segmentation.names import MAX_ID, Legend

BINARY = (0, 255)  # the numbers in black and white masks


class MaskDecoder:
    """Opens masks and replaces the values in them by labels.

    Args:
        legend: the meaning of the values.
        labels: the label of each class of the legend; 255 if the class is ignored.
        ignore: further ids to ignore; only used if the legend's values are its ids.
        threshold: see :func:`~fishnet.data.maskfiles.open_mask`.
    """

    def __init__(
        self, legend: Legend, labels: Sequence[int], ignore: Iterable[int] = (), *, threshold: int = 0
    ) -> None:
        self.palette = bool(legend.colours) and not legend.has_ids
        self.threshold = threshold
        ids = ignore if legend.values == legend.classes.ids else ()
        ignored = dict.fromkeys((*legend.ignored, *ids), IGNORE)
        self._numbers = _Table(ignored | dict(zip(legend.values, labels, strict=True)))
        self._colours: _Table | None = None
        if legend.colours and not threshold:
            ignored = dict.fromkeys(legend.ignored_colours, IGNORE)
            self._colours = _Table(ignored | dict(zip(legend.colours, labels, strict=True)))

    def open(self, path: Path) -> Mask:
        """Opens a mask. Raises InputError, see :func:`~fishnet.data.maskfiles.open_mask`."""
        return open_mask(path, colours=self._colours is not None, palette=self.palette, threshold=self.threshold)

    def labels(self, mask: Mask) -> tuple[LabelMap, dict[int, int]]:
        """The labels of an open mask.

        Returns:
            (height, width) labels, 255 for values without a name; and the number of pixels of each such value.

        Raises:
            InputError: see :func:`~fishnet.data.maskfiles.open_mask`; too many different values without a name.
        """
        table = self._table(mask.colours)
        labels, unnamed = np.empty(mask.size, np.uint8), Counter[int]()
        for top, rows in mask.strips():
            labels[top : top + len(rows)], unnamed_in_strip = table(rows)
            unnamed.update(unnamed_in_strip)
            mask.check_distinct(len(unnamed))
        return labels, dict(unnamed)

    def label_counts(
        self, values: NDArray[np.int64], counts: NDArray[np.int64], colours: bool = False
    ) -> tuple[NDArray[np.int64], dict[int, int]]:
        """The pixels of each label, from the pixels of each value in a mask.

        Args:
            values, counts: (n,) each value once, and its pixels.
            colours: whether the values are colours.

        Returns:
            (256,) pixels of each label, without those of unnamed values; and the pixels of each unnamed value.
        """
        labels, unnamed = self._table(colours)(values)
        count_of = dict(zip(values.tolist(), counts.tolist(), strict=True))
        unnamed = {value: count_of[value] for value in unnamed}
        label_counts = np.bincount(labels, weights=counts, minlength=IGNORE + 1).astype(np.int64)
        label_counts[IGNORE] -= sum(unnamed.values())
        return label_counts, unnamed

    def _table(self, colours: bool) -> "_Table":
        return self._colours if colours and self._colours is not None else self._numbers


class _Table:
    """The label of each number from 0 to 0xFFFFFF that has one. Negative numbers are ignored."""

    def __init__(self, labels: Mapping[int, int]) -> None:
        size = min(max(IGNORE, *labels), MAX_ID) + 2  # the last entry is for all larger numbers
        # np.zeros takes no memory until it is written. Each entry is label + 1, so that 0 stands for 255.
        self.successors, self.named = np.zeros(size, np.uint8), np.zeros(size, np.bool_)
        for value, label in labels.items():
            if 0 <= value <= MAX_ID:
                self.successors[value], self.named[value] = (label + 1) & 0xFF, True

    def __call__(self, values: NDArray[Any]) -> tuple[LabelMap, dict[int, int]]:
        """The labels of values, and the number of pixels of each value without a name."""
        labels = self.successors.take(values if values.dtype.kind == "u" else _without_negatives(values), mode="clip")
        labels -= 1  # 0 wraps around to 255
        unnamed = values[labels == IGNORE]
        if unnamed.size:
            unnamed = unnamed[~self.named.take(unnamed, mode="clip")]
            if unnamed.dtype.kind == "i":
                unnamed = unnamed[unnamed >= 0]
        if not unnamed.size:
            return labels, {}
        distinct, counts = np.unique(unnamed, return_counts=True)
        return labels, dict(zip(distinct.tolist(), counts.tolist(), strict=True))


def _without_negatives(values: NDArray[Any]) -> NDArray[Any]:
    """Replaces negative numbers by 0xFFFFFF + 1, which has no label."""
    return np.where(values < 0, MAX_ID + 1, values) if (values < 0).any() else values
