"""Id maps as runs."""

import numpy as np
import pytest

from fishnet.data.panoptic.idruns import IdRuns, LastRead


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (13, 17)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_runs(shape: tuple[int, int], dtype: type[np.integer]) -> None:
    random = np.random.default_rng(0)
    ids = (random.integers(0, 4, shape) * 50).astype(dtype)
    runs = IdRuns.of(ids)
    distinct, counts = np.unique(ids, return_counts=True)
    assert runs.size == shape
    assert np.array_equal(runs.ids, distinct)
    assert np.array_equal(runs.counts, counts)
    assert np.array_equal(runs.paint(runs.ids), ids)
    assert np.array_equal(runs.paint(np.arange(len(distinct)))[ids == distinct[-1]].min(), len(distinct) - 1)


def test_the_last_values_are_kept() -> None:
    reads: list[int] = []
    last = LastRead[int](2)

    def value(key: int) -> int:
        return last.get(key, lambda: reads.append(key) or 10 * key)

    assert [value(key) for key in (1, 1, 2, 1, 3, 2, 1)] == [10, 10, 20, 10, 30, 20, 10]
    assert reads == [1, 2, 3, 1]


def test_nothing_is_kept_of_a_failure() -> None:
    last = LastRead[int](2)
    with pytest.raises(ZeroDivisionError):
        last.get(1, lambda: 1 // 0)
    assert last.get(1, lambda: 5) == 5
