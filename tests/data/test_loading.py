"""Samples and batches: the same for the same seed, whatever else happens."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from fishnet.data.classification.folder import ImageFolder
from fishnet.data.classification.transforms import TrainTransform
from fishnet.data.loading import NO_IMAGE, EpochSampler, Key, Sample, SeededDataset, collate, seeded_rng
from fishnet.images.preprocess import Preprocess
from tests.data.test_base import Noise


def seeded(broken: Iterable[int] = (), seed: int = 3) -> SeededDataset:
    transform = TrainTransform(Preprocess((16, 16)), crop_scale=(0.2, 1.0), crop_ratio=(0.7, 1.4), flip=0.5)
    return SeededDataset(Noise([i % 3 for i in range(12)], broken), transform, seed)


def tensor(sample: Sample) -> Tensor:
    assert isinstance(sample, tuple)
    return sample[0]


@pytest.mark.parametrize("fails", [False, True])
def test_seeded_rng_restores_the_generator(fails: bool) -> None:
    expected = torch.Generator().manual_seed(0)
    torch.rand(3, generator=expected)
    torch.rand(3)  # the fixture has seeded with 0
    try:
        with seeded_rng(7):
            inside = torch.rand(5)
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert torch.equal(torch.rand(4), torch.rand(4, generator=expected))
    assert torch.equal(inside, torch.rand(5, generator=torch.Generator().manual_seed(7)))


# samples


def test_a_sample_depends_on_seed_epoch_and_index_alone() -> None:
    forwards = {key: tensor(seeded()[key]) for key in [(e, i) for e in range(2) for i in range(12)]}
    torch.manual_seed(99)
    data = seeded(broken=[2, 5])
    for key in reversed(forwards):
        sample = data[key]
        assert isinstance(sample, str) if key[1] in (2, 5) else torch.equal(tensor(sample), forwards[key])
    assert not torch.equal(forwards[0, 4], forwards[1, 4]), "another epoch, another crop"
    assert not torch.equal(tensor(seeded(seed=4)[0, 4]), forwards[0, 4]), "another seed, another crop"


def test_a_sample_takes_nothing_from_the_global_generator() -> None:
    images = Noise([0, 0])
    images.read = lambda index: (Image.new("RGB", (20, 20)), 0)  # type: ignore[method-assign]
    transform = TrainTransform(Preprocess((16, 16)), crop_scale=(0.2, 1.0), crop_ratio=(0.7, 1.4), flip=0.5)
    before = torch.get_rng_state()
    SeededDataset(images, transform)[0, 1]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_broken_image_is_a_message() -> None:
    assert seeded(broken=[1])[0, 1] == "noise[1]: broken image"


def batches(workers: int) -> list[tuple[Tensor, list[int], list[str]]]:
    sampler = EpochSampler(12, shuffle=True, seed=3)
    sampler.set_epoch(2)
    loader = DataLoader(
        seeded(broken=[7]),  # type: ignore[arg-type]
        batch_size=4,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
    )
    return [(batch.images, batch.indices, batch.broken) for batch in loader]


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_are_the_same_whatever_the_number_of_workers(workers: int) -> None:
    alone, shared = batches(0), batches(workers)
    assert [rest for _, *rest in alone] == [rest for _, *rest in shared]
    for (images, *_), (others, *_) in zip(alone, shared, strict=True):
        assert torch.equal(images, others)


def test_indices_beyond_the_dataset_repeat_it_with_other_random_numbers(folder: Path) -> None:
    images = ImageFolder(folder)

    class Draw:
        min_side = None

        def __call__(self, image: Any, target: Any) -> tuple[Tensor, Any]:
            return torch.rand(1), target

    seeded = SeededDataset(images, Draw(), seed=3)
    first, again = seeded[0, 2], seeded[0, 2 + len(images)]
    assert isinstance(first, tuple)
    assert isinstance(again, tuple)
    assert (first[1], first[2]) == (again[1], again[2])
    assert not torch.equal(first[0], again[0])


# the sampler


def keys(length: int, shuffle: bool, rank: int = 0, world_size: int = 1, seed: int = 0, epoch: int = 0) -> list[Key]:
    sampler = EpochSampler(length, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
    sampler.set_epoch(epoch)
    samples = list(sampler)
    assert len(samples) == len(sampler)
    return samples


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.integers(1, 6), st.booleans(), st.integers(0, 5))
def test_processes_share_an_epoch_without_overlap(length: int, world_size: int, shuffle: bool, epoch: int) -> None:
    shares = [keys(length, shuffle, rank, world_size, epoch=epoch) for rank in range(world_size)]
    images = [index for share in shares for _, index in share if index != NO_IMAGE]
    assert len(set(images)) == len(images)
    assert all(sample_epoch == epoch for share in shares for sample_epoch, _ in share)
    assert len({len(share) for share in shares}) == 1, "as many steps for each"
    if shuffle:
        assert len(images) == length // world_size * world_size, "nothing fills up what is learned from"
    else:
        assert sorted(images) == list(range(length)), "each image is counted once"
        assert all(index != NO_IMAGE for share in shares for _, index in share[:-1]), (
            "only the last of a share is padding"
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(1, 3), st.integers(0, 3), st.integers(0, 40))
def test_a_later_begin_skips_what_is_done(length: int, world_size: int, epoch: int, done: int) -> None:
    for rank in range(world_size):
        later = EpochSampler(length, shuffle=True, rank=rank, world_size=world_size, begin=(epoch, done))
        for now in range(4):
            later.set_epoch(now)
            expected = keys(length, True, rank, world_size, epoch=now)
            assert list(later) == (expected[done:] if now == epoch else expected)
        assert len(later) == length // world_size, "an epoch's length is that of a whole one: schedules count on it"
        ahead = EpochSampler(length, shuffle=True, rank=rank, world_size=world_size, begin=(epoch, done))
        assert list(ahead) == keys(length, True, rank, world_size, epoch=epoch)[done:], "workers read before set_epoch"


def test_padding_indices_give_no_sample() -> None:
    assert seeded()[0, NO_IMAGE] is None
    batch = collate([None, (torch.zeros(3, 4, 4, dtype=torch.uint8), 2, 10), None])
    assert (len(batch.images), batch.targets.tolist(), batch.indices, batch.broken) == (1, [2], [10], [])
    assert collate([None]).indices == []


def test_order() -> None:
    assert [index for _, index in keys(9, False)] == list(range(9))
    first = keys(50, True)
    assert sorted(first) == [(0, i) for i in range(50)]
    assert first == keys(50, True)
    assert [i for _, i in first] != [i for _, i in keys(50, True, epoch=1)]
    assert first != keys(50, True, seed=1)


def test_the_images_left_out_are_not_always_the_same() -> None:
    left = set()
    for epoch in range(20):
        seen = {i for rank in range(3) for _, i in keys(11, True, rank, 3, epoch=epoch)}
        left |= set(range(11)) - seen
    assert len(left) > 5


# batches


def test_collate() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    batch = collate([(image, 2, 10), "a: broken", (image + 1, 0, 11), "b: broken"])
    assert (batch.images.shape, batch.images.dtype) == ((2, 3, 4, 4), torch.uint8)
    assert batch.targets.tolist() == [2, 0]
    assert batch.targets.dtype == torch.int64
    assert (batch.indices, batch.broken) == ([10, 11], ["a: broken", "b: broken"])


def test_collate_of_broken_images_only() -> None:
    batch = collate(["a: broken"])
    assert (len(batch.images), len(batch.targets), batch.indices, batch.broken) == (0, 0, [], ["a: broken"])
