"""Class weights, computed by hand."""

import numpy as np
import pytest
import torch

from fishnet.tasks.weighting import class_weights

COUNTS = torch.tensor([60, 30, 10])


def test_none() -> None:
    assert class_weights("none", COUNTS, COUNTS) is None


def test_balanced() -> None:
    """100 / (3 * count): with these weights each class counts a third."""
    found = class_weights("balanced", COUNTS, COUNTS.sum().expand(3))
    assert found is not None
    assert found.tolist() == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    assert (found * COUNTS).tolist() == pytest.approx([100 / 3] * 3)
    assert found.dtype == torch.float32


def test_median() -> None:
    """Frequencies 60 / 100, 30 / 60 and 10 / 50; the median, 0.5, over each."""
    found = class_weights("median", COUNTS, torch.tensor([100, 60, 50]))
    assert found is not None
    assert found.tolist() == pytest.approx([0.5 / 0.6, 1.0, 0.5 / 0.2])
    assert found.dtype == torch.float32


@pytest.mark.parametrize("kind", ["balanced", "median"])
def test_a_class_that_never_occurs_weighs_nothing(kind: str) -> None:
    """Without this, label smoothing would change its scores with the weight of all other classes together."""
    counts = torch.tensor([60, 0, 30, 10])
    found = class_weights(kind, counts, torch.tensor([100, 0, 60, 50]))
    there = class_weights(kind, COUNTS, torch.tensor([100, 60, 50]))
    assert found is not None
    assert there is not None
    assert found[1] == 0
    share = found[[0, 2, 3]] / there
    assert share.tolist() == pytest.approx([float(share[0])] * 3)
    assert found.isfinite().all()


@pytest.mark.parametrize("kind", ["balanced", "median"])
def test_nothing_at_all(kind: str) -> None:
    nothing = torch.zeros(3, dtype=torch.int64)
    found = class_weights(kind, nothing, nothing)
    assert found is not None
    assert found.tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["balanced", "median"])
def test_counts_of_large_data(kind: str) -> None:
    """10^12 px do not overflow: datasets count in numpy's int64."""
    counts = np.array([9 * 10**11, 10**11], np.int64)
    found = class_weights(kind, torch.from_numpy(counts), torch.from_numpy(counts.sum() * np.ones(2, np.int64)))
    assert found is not None
    assert float(found[1] / found[0]) == pytest.approx(9)
