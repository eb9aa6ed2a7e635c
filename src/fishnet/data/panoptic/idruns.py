"""Id maps as runs of equal ids, and the ones that were read last. Torch-free."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fishnet.images.segment_ids import run_starts

ValueT = TypeVar("ValueT")


@dataclass(frozen=True)
class IdRuns:
    """An id map as runs of equal ids in its rows: mostly far smaller than the map, and quick to count and to rename.

    Attributes:
        size: height and width, px.
        ids: (n,) int64, the distinct ids in ascending order.
        counts: (n,) int64, pixels of each id.
        numbers: (runs,) index into ``ids`` of each run.
        lengths: (runs,) pixels of each run.
    """

    size: tuple[int, int]
    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    numbers: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, id_map: NDArray[np.integer]) -> "IdRuns":
        """The runs of an id map of shape (height, width), which is not empty."""
        starts, lengths = run_starts(id_map)
        ids, numbers = np.unique(id_map.reshape(-1)[starts].astype(np.int64), return_inverse=True)
        counts = np.zeros(len(ids), np.int64)
        np.add.at(counts, numbers, lengths)
        return cls((id_map.shape[0], id_map.shape[1]), ids, counts, numbers.reshape(-1), lengths)

    def paint(self, values: NDArray[Any]) -> NDArray[Any]:
        """A map of shape (height, width).

        Args:
            values: (n,) the value of each id, in the order of ``ids``.
        """
        return np.repeat(values[self.numbers], self.lengths).reshape(self.size)


class LastRead(Generic[ValueT]):
    """Keeps the last few values that were read, so that two datasets of the same images read each file once.

    Copies of it in other processes start empty. Threads may read a value twice, but never a wrong one.

    Args:
        limit: number of values that are kept.
    """

    def __init__(self, limit: int = 2) -> None:
        self.limit = limit
        self._kept: tuple[tuple[Hashable, ValueT], ...] = ()

    def get(self, key: Hashable, read: Callable[[], ValueT]) -> ValueT:
        """The value of a key, from memory or read anew. If ``read`` raises, nothing is kept."""
        for known, value in self._kept:
            if known == key:
                return value
        value = read()
        self._kept = (*self._kept, (key, value))[-self.limit :]
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "_kept": ()}
