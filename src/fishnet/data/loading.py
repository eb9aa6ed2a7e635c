"""From datasets to batches."""

from collections.abc import Sequence
from functools import partial

import torch
from torch.utils.data import DataLoader

from fishnet.data.base import Batch, EpochSampler, ImageDataset, SeededDataset, Transform, collate
from fishnet.data.workers import prepare_worker


def batches(
    images: ImageDataset,
    transform: Transform,
    *,
    batch_size: int,
    workers: int,
    seed: int,
    fill: Sequence[float],
    shuffle: bool = False,
    repeats: int = 1,
    rank: int = 0,
    world_size: int = 1,
    begin: tuple[int, int] = (0, 0),
) -> DataLoader[Batch]:
    """One process's batches of a dataset. With shuffling, the last batch of an epoch is dropped if it is smaller.

    Args:
        images: the dataset.
        transform: applied to each image.
        batch_size: images in this process's batches.
        workers: processes that read images.
        seed: of the order and of the transform.
        fill: the colour that pads the smaller images of a batch, 0..255.
        shuffle: whether each epoch has a new order.
        repeats: how often each image comes in an epoch.
        rank, world_size: the number of this process, and how many there are.
        begin: an epoch, and how many batches of it are already done.
    """
    sampler = EpochSampler(
        len(images) * repeats,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world_size=world_size,
        begin=(begin[0], begin[1] * batch_size),
    )
    return DataLoader(
        SeededDataset(images, transform, seed),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=partial(collate, fill=fill),
        drop_last=shuffle and len(sampler) > batch_size,
        persistent_workers=workers > 0,
        worker_init_fn=prepare_worker,
        pin_memory=torch.cuda.is_available(),
    )
