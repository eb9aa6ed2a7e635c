"""From datasets to batches that can be reproduced image by image."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, reduce
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fishnet.data.base import ImageDataset, Order, derive_seed, shuffled
from fishnet.data.workers import prepare_worker
from fishnet.errors import InputError

Key = tuple[int, int]
"""Epoch and index of a sample."""


@contextmanager
def seeded_rng(seed: int) -> Iterator[None]:
    """Seeds torch's global CPU generator inside the block, and restores its state afterwards.

    ``torch.random.fork_rng`` does the same for every device, at a hundred times the cost for one image.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


@dataclass
class Batch:
    """What a loader yields.

    Attributes:
        images: (batch, channels, height, width) uint8; see :func:`collate` for images of unequal size.
        targets: see :func:`collate_targets`.
        indices: indices of the images in their dataset.
        broken: one message for each image that is missing because it could not be read.
        sizes: height and width of each image before it was padded to the largest of the batch, px.
    """

    images: Tensor
    targets: Any
    indices: list[int]
    broken: list[str]
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory. The loader calls this on machines with a GPU."""
        self.images = self.images.pin_memory()
        if isinstance(self.targets, list):
            self.targets = [target.pin_memory() if hasattr(target, "pin_memory") else target for target in self.targets]
        else:
            self.targets = self.targets.pin_memory()
        return self


Sample = tuple[Tensor, Any, int] | str | None
"""Image, target and index; a message for an image that cannot be read; None for padding (:data:`NO_IMAGE`)."""

NO_IMAGE = -1  # an index that pads the share of a process
_PARTNERS = 1  # separates the seed of a sample's partners from the seed of its transform


class Transform(Protocol):
    """What :class:`SeededDataset` applies to an image.

    Attributes:
        min_side: None: the transform takes images from :meth:`ImageDataset.read`. A number: it takes them from the
            faster ``read_tensor``, with at least that many px a side; 0 keeps the image's size.
    """

    min_side: int | None

    def __call__(self, image: Any, target: Any, /) -> tuple[Tensor, Any]:
        """The image as a tensor of shape (channels, height, width), and the target."""


class EvalTransform(Transform, Protocol):
    """A transform of validation images, whose targets can be had without the image."""

    def target(self, size: tuple[int, int], target: Any, /) -> Any:
        """The target of an image of this height and width, as the call returns it."""


@runtime_checkable
class MixingTransform(Transform, Protocol):
    """A transform that may combine an image with other images of the dataset."""

    def partners(self, length: int, /) -> list[int]:
        """Indices of the other images to combine, in a dataset of that length; drawn from torch's global generator."""

    def __call__(self, image: Any, target: Any, /, *others: tuple[Any, Any]) -> tuple[Tensor, Any]:
        """As :class:`Transform`; ``others`` are the partners, or empty if one of them could not be read."""


class SeededDataset(Dataset[Sample]):
    """A dataset with a transform whose randomness depends on (seed, epoch, index) alone.

    A sample depends neither on the number of workers nor on earlier reads, so resuming is exact. Indices beyond the
    dataset's length start again at its beginning, with other random numbers.

    Args:
        images: the dataset.
        transform: (image, target) to (tensor, target), drawing from torch's global generator.
        seed: the training's seed.
    """

    def __init__(self, images: ImageDataset, transform: Transform, seed: int = 0) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        if index == NO_IMAGE:
            return None
        number = index % len(self.images)
        try:
            image, target = self._read(number)
        except InputError as error:
            return str(error)
        others = self._partners(epoch, index)
        with seeded_rng(derive_seed(self.seed, epoch, index)):
            tensor, target = self.transform(image, target, *others)
        return tensor, target, number

    def _read(self, index: int) -> tuple[Any, Any]:
        min_side = self.transform.min_side
        return self.images.read(index) if min_side is None else self.images.read_tensor(index, min_side)

    def _partners(self, epoch: int, index: int) -> list[tuple[Any, Any]]:
        """The other images of a sample; empty if one cannot be read, which is reported when it is read for itself."""
        if not isinstance(self.transform, MixingTransform):
            return []
        with seeded_rng(derive_seed(self.seed, epoch, index, _PARTNERS)):
            drawn = self.transform.partners(len(self.images))
        try:
            return [self._read(i) for i in drawn]
        except InputError:
            return []


class EpochSampler(Sampler[Key]):
    """Yields (epoch, index): shuffled by (seed, epoch), divided among the processes without overlap.

    With shuffling, every process gets the same number of images; each epoch leaves out at most ``world_size - 1``
    images, not always the same ones. Without shuffling, every image comes once; processes with one image fewer get
    ``NO_IMAGE``, so that all processes make equally many steps.

    Args:
        length: images in the dataset.
        shuffle: whether to shuffle.
        order: (length, generator) -> the indices that a shuffled epoch visits, as many.
        seed: the training's seed.
        rank, world_size: the number of this process, and how many there are.
        begin: an epoch, and how many of this process's images of that epoch are already done.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        order: Order = shuffled,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        begin: tuple[int, int] = (0, 0),
    ) -> None:
        self.length, self.shuffle, self.order = length, shuffle, order
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch, self.begin = begin[0], begin  # worker processes read ahead before the first set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size if self.shuffle else -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
            order = self.order(self.length, generator)[: len(self) * self.world_size]
        else:
            order = list(range(self.length))
            order += [NO_IMAGE] * (len(self) * self.world_size - self.length)
        share = order[self.rank :: self.world_size]
        done = self.begin[1] if self.epoch == self.begin[0] else 0
        return ((self.epoch, index) for index in share[done:])


def _stack(images: Sequence[Tensor], fill: Sequence[float]) -> Tensor:
    """Images of (channels, height, width) as (batch, channels, height, width), channels last in memory."""
    rows = [image.permute(1, 2, 0) for image in images]
    if len({row.shape for row in rows}) == 1:
        return torch.stack(rows).permute(0, 3, 1, 2)
    height, width = (max(row.shape[axis] for row in rows) for axis in (0, 1))
    dtype = reduce(torch.promote_types, (row.dtype for row in rows))
    padded = torch.tensor(fill, dtype=dtype).expand(len(rows), height, width, rows[0].shape[2]).contiguous()
    for canvas, row in zip(padded, rows, strict=True):
        canvas[: row.shape[0], : row.shape[1]] = row
    return padded.permute(0, 3, 1, 2)


def collate(samples: Sequence[Sample], fill: Sequence[float] = (0,)) -> Batch:
    """Stacks samples, channels last in memory; images that could not be read become messages in ``broken``.

    Images of unequal size are padded on the right and at the bottom to the largest height and width.

    Args:
        samples: samples of a :class:`SeededDataset`.
        fill: the padding's colour, one value a channel or one for all, 0..255.
    """
    good = [sample for sample in samples if isinstance(sample, tuple)]
    return Batch(
        images=_stack([image for image, _, _ in good], fill) if good else torch.empty(0),
        targets=collate_targets([target for _, target, _ in good]),
        indices=[index for _, _, index in good],
        broken=[sample for sample in samples if isinstance(sample, str)],
        sizes=[(image.shape[1], image.shape[2]) for image, _, _ in good],
    )


def collate_targets(targets: Sequence[Any]) -> Any:
    """The targets of a batch: (batch,) int64 for class indices, and (batch, ...) for tensors of equal shape.

    Targets of any other kind become a list, without padding.
    """
    if all(isinstance(target, Integral) for target in targets):
        return torch.tensor(targets)
    return torch.stack(list(targets)) if all(isinstance(target, Tensor) for target in targets) else list(targets)


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
        seed: seed of the order and of the transform.
        fill: the colour that pads the smaller images of a batch, 0..255.
        shuffle: whether each epoch has a new order.
        repeats: how often each image comes in an epoch.
        rank, world_size: the number of this process, and how many there are.
        begin: an epoch, and how many batches of it are already done.
    """
    sampler = EpochSampler(
        len(images) * repeats,
        shuffle=shuffle,
        order=images.epoch_order,
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
