"""From data sets to batches of pixels."""

from collections.abc import Sequence
from functools import partial

import torch
from torch.utils.data import DataLoader

from fishnet.data.base import Batch, EpochSampler, ImageDataset, Seeded, Transform, collate
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
    world: int = 1,
    begin: tuple[int, int] = (0, 0),
) -> DataLoader[Batch]:
    """A process's batches of a data set; the last, smaller one of an epoch is left out when shuffling.

    Args:
        images: the set.
        transform: of each image.
        batch_size: images of this process's batches.
        workers: processes that read.
        seed: of the order and of what the transform draws.
        fill: the colour that fills up images of a batch that are smaller than its largest, 0..255.
        shuffle: another order in each epoch.
        repeats: how often an epoch shows each image.
        rank, world: which of how many processes that share the set.
        begin: an epoch, and how many batches of it are done already.
    """
    sampler = EpochSampler(
        len(images) * repeats,
        shuffle=shuffle,
        seed=seed,
        rank=rank,
        world=world,
        begin=(begin[0], begin[1] * batch_size),
    )
    return DataLoader(
        Seeded(images, transform, seed),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=partial(collate, fill=fill),
        drop_last=shuffle and len(sampler) > batch_size,
        persistent_workers=workers > 0,
        worker_init_fn=prepare_worker,
        pin_memory=torch.cuda.is_available(),
    )
