"""Datasets and held-out images: the same for the same seed, whatever else happens."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset, Subset, derive_seed, hold_out
from fishnet.errors import InputError


class Noise(LabelledDataset):
    """Images of noise; those named as broken cannot be read."""

    channels = 3

    def __init__(self, labels: Iterable[int], broken: Iterable[int] = ()) -> None:
        self.labels, self.broken = list(labels), set(broken)
        self.classes = Classes.of(f"c{i}" for i in range(max(self.labels, default=0) + 1))

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[Image.Image, int]:
        if index in self.broken:
            raise InputError(f"{self.source(index)}: broken image")
        torch.rand(index % 5)  # a reader that draws random numbers of its own
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        return Image.fromarray(pixels), self.labels[index]

    def source(self, index: int) -> str:
        return f"noise[{index}]"


# hold_out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=60), st.floats(0.01, 0.9), st.integers(0, 2**62))
def test_hold_out_is_stratified(labels: list[int], fraction: float, seed: int) -> None:
    whole = Noise(labels)
    rest, held = hold_out(whole, fraction, seed)
    assert sorted(rest.indices + held.indices) == list(range(len(labels))), "each image is on one side"
    assert rest.indices == sorted(rest.indices)
    assert held.labels == [labels[i] for i in held.indices]
    for label, count in Counter(labels).items():
        out = held.labels.count(label)
        if count == 1:
            assert out == 0, "a class's only image is for training"
        else:
            assert 1 <= out <= count - 1
            assert abs(out - fraction * count) <= 1
    again = hold_out(whole, fraction, seed)
    assert (again[0].indices, again[1].indices) == (rest.indices, held.indices)


def test_hold_out_depends_on_the_seed_and_on_nothing_else() -> None:
    whole = Noise([0, 1] * 50)
    first = hold_out(whole, 0.2, 0)[1].indices
    torch.manual_seed(99)
    assert hold_out(whole, 0.2, 0)[1].indices == first
    assert hold_out(whole, 0.2, 1)[1].indices != first


def test_another_class_changes_no_other_split() -> None:
    few = hold_out(Noise([0] * 20 + [1] * 20), 0.3, 5)[1].indices
    more = hold_out(Noise([0] * 20 + [1] * 20 + [2] * 7), 0.3, 5)[1].indices
    assert more[: len(few)] == few


def test_subset() -> None:
    dataset = Noise([0, 1, 2, 0])
    subset = Subset(dataset, [3, 1])
    assert (len(subset), subset.labels, subset.channels, subset.classes) == (2, [0, 1], 3, dataset.classes)
    assert subset.source(0) == "noise[3]"
    assert subset.read(0)[0].tobytes() == dataset.read(3)[0].tobytes()
    image, target = subset[1]
    assert (image.shape, image.dtype, target) == ((3, 20, 24), torch.uint8, 1)


# seeds


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4))
def test_torch_accepts_derived_seeds(numbers: list[int]) -> None:
    assert 0 <= derive_seed(*numbers) < 2**63
    torch.Generator().manual_seed(derive_seed(*numbers))


def test_derived_seeds_are_equal_on_every_machine_and_distinct() -> None:
    assert derive_seed(0, 0, 0) == 1445694884619442965, "other seeds would make another training of a resumed one"
    seeds = {derive_seed(seed, epoch, index) for seed in range(5) for epoch in range(20) for index in range(100)}
    assert len(seeds) == 10_000
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert derive_seed(1) != derive_seed(1, 0)


# class tables


def test_class_tables() -> None:
    table = Classes(("a", "b", "c"), (5, 2, 9))
    assert Classes.from_list(table.to_list()) == table
    assert Classes.of(["c", "a"]).indices_in(table) == [2, 0]
    with pytest.raises(InputError, match="does not know: d, e"):
        Classes.of(["a", "d", "e"]).indices_in(table)
    with pytest.raises(InputError, match="not unique: a, b"):
        Classes.of(["b", "a", "b", "a", "c"])
    with pytest.raises(InputError, match="2 class names but 1 ids"):
        Classes(("a", "b"), (0,))
