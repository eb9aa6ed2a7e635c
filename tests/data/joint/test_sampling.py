"""How an epoch draws from the data of several heads."""

from collections import Counter

import pytest
import torch

from fishnet.data.joint.dataset import JointDataset
from fishnet.data.joint.sampling import Sampling
from fishnet.data.loading import EpochSampler
from tests.data.joint.test_dataset import Files

INDICES = {"a": list(range(30)), "b": list(range(30, 40))}


def order(sampling: Sampling, length: int, seed: int = 0) -> list[int]:
    return sampling.order(length, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ({"a": 1.0, "b": 1.0}, (20, 20)),
        ({"a": 3.0, "b": 1.0}, (30, 10)),
        ({"a": 0.0, "b": 2.0}, (0, 40)),
        ({"a": 30**0.5, "b": 10**0.5}, (25, 15)),  # 25.36 and 14.64
    ],
)
def test_shares(weights: dict[str, float], shares: tuple[int, int]) -> None:
    drawn = [index % 40 for index in order(Sampling.of(INDICES, weights, 40), 40)]
    assert (sum(index < 30 for index in drawn), sum(index >= 30 for index in drawn)) == shares


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40, 41, 99, 400])
def test_an_epoch_has_exactly_its_length(length: int) -> None:
    three = {"a": [0, 1, 2], "b": [3], "c": [1, 4]}
    for weights in ({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.1, "b": 0.7, "c": 1e-9}):
        drawn = order(Sampling.of(three, weights, 5), length)
        assert len(drawn) == len(set(drawn)) == length
        assert all(0 <= index % 5 < 5 for index in drawn)


def test_each_sample_comes_once_before_any_comes_again() -> None:
    drawn = order(Sampling.of(INDICES, {"a": 1.0, "b": 1.0}, 40), 50)
    counts = Counter(index % 40 for index in drawn)
    assert {counts[i] for i in INDICES["a"]} == {0, 1}, "25 draws of 30"
    assert sorted(counts[i] for i in INDICES["b"]) == [2] * 5 + [3] * 5, "25 draws of 10"


def test_a_sample_that_comes_again_has_an_index_of_its_own() -> None:
    drawn = order(Sampling.of({"a": [0], "b": [0, 1]}, {"a": 1.0, "b": 1.0}, 2), 10)
    for sample in (0, 1):
        mine = [index for index in drawn if index % 2 == sample]
        assert mine == [sample + 2 * k for k in range(len(mine))], "in the order in which they come"


def test_the_generator_decides() -> None:
    sampling = Sampling.of(INDICES, {"a": 1.0, "b": 1.0}, 40)
    assert order(sampling, 40, 3) == order(sampling, 40, 3)
    assert order(sampling, 40, 3) != order(sampling, 40, 4)


def test_a_head_without_samples_has_no_share() -> None:
    sampling = Sampling.of({**INDICES, "c": []}, {"a": 1.0, "b": 1.0, "c": 8.0}, 40)
    assert sampling.shares == {"a": 0.5, "b": 0.5}


def test_the_sampler_of_an_epoch_uses_it() -> None:
    files = Files([str(i) for i in range(40)])
    sampling = Sampling.of(INDICES, {"a": 0.0, "b": 1.0}, 40)
    joint = JointDataset({"a": files}, [{"a": i} for i in range(40)], sampling)
    keys = list(EpochSampler(len(joint), shuffle=True, order=joint.epoch_order))
    assert len(keys) == 40
    assert {index % 40 for _, index in keys} == set(INDICES["b"])
    shares = [
        list(EpochSampler(len(joint), shuffle=True, order=joint.epoch_order, rank=rank, world_size=2))
        for rank in (0, 1)
    ]
    assert sorted(shares[0] + shares[1]) == sorted(keys), "two processes draw what one draws"


def test_without_sampling_each_sample_comes_once() -> None:
    joint = JointDataset({"a": Files([str(i) for i in range(9)])}, [{"a": i} for i in range(9)])
    assert sorted(joint.epoch_order(9, torch.Generator().manual_seed(0))) == list(range(9))
