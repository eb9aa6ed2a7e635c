"""The interface of every dataset, and reproducible batches from it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable
from zlib import crc32

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision import tv_tensors

from fishnet.bundle.classes import Classes
from fishnet.data.decode import decode_tensor, to_tensor
from fishnet.data.findings import Finding
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike, decode_image
from fishnet.images.reading import DEFAULT, Reading

Key = tuple[int, int]


class ImageDataset(Dataset[tuple[tv_tensors.Image, Any]], ABC):
    """Images with targets in one on-disk format, and the classes read from the data.

    ``self[i]`` is (image of shape (channels, height, width), target). Images are uint8. If ``channels`` is neither 1
    nor 3, files of floats or 16 bits give float32. Classification targets are class indices.

    Attributes:
        classes: names and original ids.
        channels: 3 (RGB), 1 (grey), or another number for files that hold as many.
        reading: how more than 8 bits a channel are read, and how large an image may be. May be set before the first
            image is read.
        skipped: how many files beside the images were not read, by their ending.
        links: linked folders that were not followed because they lead outside of the dataset.
        notes: findings made while opening, which :mod:`~fishnet.data.plausibility` passes on.
    """

    classes: Classes
    channels: int
    reading: Reading = DEFAULT
    skipped: Mapping[str, int] = MappingProxyType({})
    links: Sequence[Path] = ()
    notes: Sequence[Finding] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> tuple[ImageLike, Any]:
        """The image and its target. Raises InputError for an image that cannot be read.

        The image is an upright 8-bit PIL image. If ``channels`` is neither 1 nor 3, it is an array of shape (height,
        width, channels), uint8 or float32.
        """

    @abstractmethod
    def source(self, index: int) -> str:
        """The image's origin, for messages: a path, or a name and number."""

    def key(self, index: int) -> str:
        """The image's name within its dataset. It depends neither on the dataset's place nor on images added later.

        Keys decide which images are held out. The default is the index, which suits only a dataset that never changes.
        """
        return str(index)

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, Any]:
        """The image as a tensor of shape (channels, height, width), and its target; often faster than :meth:`read`.

        The image may be scaled down if that is faster, with no side below ``min_side`` px; 0 keeps its size.
        """
        image, target = self.read(index)
        return to_tensor(image), target

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Any]:
        image, target = self.read_tensor(index)
        return tv_tensors.Image(image), target


class LabelledDataset(ImageDataset):
    """A dataset whose targets are class indices, known without reading the images."""

    labels: Sequence[int]


class EncodedDataset(LabelledDataset):
    """A labelled dataset of image files, on disk or inside other files. A format only adds where their bytes are."""

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The image file's content. Raises InputError if it cannot be read."""

    def read(self, index: int) -> tuple[ImageLike, int]:
        """See :class:`ImageDataset`."""
        image = decode_image(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self.labels[index]

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, int]:
        """See :class:`ImageDataset`."""
        image = decode_tensor(self.encoded(index), self.channels, self.source(index), min_side, reading=self.reading)
        return image, self.labels[index]


class Subset(LabelledDataset):
    """Some images of a labelled dataset.

    Args:
        dataset: the dataset.
        indices: of the images.
        classes: another class table; by default the dataset's.
        labels: the class index of each image in ``classes``; by default the dataset's.
    """

    def __init__(
        self,
        dataset: LabelledDataset,
        indices: Sequence[int],
        classes: Classes | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.dataset, self.indices = dataset, list(indices)
        self.classes, self.channels = classes or dataset.classes, dataset.channels
        self.skipped, self.links, self.notes = dataset.skipped, dataset.links, dataset.notes
        self.labels = [dataset.labels[i] for i in self.indices] if labels is None else labels

    @property
    def reading(self) -> Reading:
        """The reading of the underlying dataset; setting it sets it there."""
        return self.dataset.reading

    @reading.setter
    def reading(self, reading: Reading) -> None:
        self.dataset.reading = reading

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[ImageLike, Any]:
        """See :class:`ImageDataset`."""
        return self.dataset.read(self.indices[index])[0], self.labels[index]

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, Any]:
        """See :class:`ImageDataset`."""
        return self.dataset.read_tensor(self.indices[index], min_side)[0], self.labels[index]

    def source(self, index: int) -> str:
        """See :class:`ImageDataset`."""
        return self.dataset.source(self.indices[index])

    def key(self, index: int) -> str:
        """See :class:`ImageDataset`."""
        return self.dataset.key(self.indices[index])


def hold_out(dataset: LabelledDataset, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Holds out a stratified share of a labelled dataset, the same one for the same seed.

    Every class with two images or more has at least one image on both sides. The images' keys decide which ones are
    held out, so images that are added later hardly change the choice.

    Args:
        dataset: the dataset.
        fraction: share to hold out, in (0, 1).
        seed: of the choice.

    Returns:
        (rest, held out).
    """
    by_class: dict[int, list[int]] = {}
    for i, label in enumerate(dataset.labels):
        by_class.setdefault(int(label), []).append(i)
    held: set[int] = set()
    for members in by_class.values():
        order = sorted(members, key=lambda i: key_rank(dataset.key(i), seed))
        held.update(order[: min(max(1, round(fraction * len(members))), len(members) - 1)])
    return Subset(dataset, [i for i in range(len(dataset)) if i not in held]), Subset(dataset, sorted(held))


def key_rank(key: str, seed: int) -> int:
    """A key's place in the order in which images are held out: random, but fixed for a key and a seed."""
    return derive_seed(seed, crc32(key.encode(errors="surrogateescape")))


def derive_seed(*numbers: int) -> int:
    """A 63-bit seed from several numbers. Equal numbers give equal seeds on every machine."""
    digest = hashlib.blake2b(b"".join(n.to_bytes(8, "little", signed=True) for n in numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


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
        targets: (batch,) int64 class indices, or a list of targets of any other kind.
        indices: of the images in their dataset.
        broken: one message for each image that is missing because it could not be read.
    """

    images: Tensor
    targets: Any
    indices: list[int]
    broken: list[str]

    def pin_memory(self) -> "Batch":
        """The batch in pinned memory. The loader calls this on machines with a GPU."""
        self.images = self.images.pin_memory()
        if isinstance(self.targets, list):
            self.targets = [target.pin_memory() if hasattr(target, "pin_memory") else target for target in self.targets]
        else:
            self.targets = self.targets.pin_memory()
        return self


Sample = tuple[Tensor, Any, int] | str | None
NO_IMAGE = -1  # an index that pads a process's share
_PARTNERS = 1  # separates the seed of a sample's partners from the seed of its transform


class Transform(Protocol):
    """What :class:`SeededDataset` applies to an image.

    Attributes:
        min_side: None: the transform takes images from :meth:`ImageDataset.read`. A number: it takes them from the
            faster ``read_tensor``, with at least so many px a side; 0 for the image's own size.
    """

    min_side: int | None

    def __call__(self, image: Any, target: Any, /) -> tuple[Tensor, Any]:
        """The image as a tensor of shape (channels, height, width), and the target."""


@runtime_checkable
class MixingTransform(Transform, Protocol):
    """A transform that may combine an image with other images of the dataset."""

    def partners(self, length: int, /) -> list[int]:
        """Indices of the other images to combine, in a dataset of that length; drawn from torch's global generator."""

    def __call__(self, image: Any, target: Any, /, *others: tuple[Any, Any]) -> tuple[Tensor, Any]:
        """As :class:`Transform`; ``others`` are the partners, or empty if one of them could not be read."""


class SeededDataset(Dataset[Sample]):
    """A dataset with a transform whose randomness depends on (seed, epoch, index) alone.

    Neither the number of workers nor earlier reads change a sample, so resuming is exact. Indices beyond the dataset's
    length start again at its beginning, with other random numbers.

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
        """The other images of a sample; empty if one cannot be read, which is reported when its own turn comes."""
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
        seed: the training's seed.
        rank, world_size: the number of this process, and how many there are.
        begin: an epoch, and how many of this process's images of that epoch are already done.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        begin: tuple[int, int] = (0, 0),
    ) -> None:
        self.length, self.shuffle, self.seed, self.rank, self.world_size = length, shuffle, seed, rank, world_size
        self.epoch, self.begin = begin[0], begin  # worker processes read ahead before the first set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world_size if self.shuffle else -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
            order = order[: len(self) * self.world_size]
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

    Images of unequal size are padded on the right and at the bottom to the largest height and width. Class indices
    become a tensor; targets of any other kind become a list and are not padded.

    Args:
        samples: of :class:`SeededDataset`.
        fill: the padding's colour, one value a channel or one for all, 0..255.
    """
    good = [sample for sample in samples if isinstance(sample, tuple)]
    targets = [target for _, target, _ in good]
    return Batch(
        images=_stack([image for image, _, _ in good], fill) if good else torch.empty(0),
        targets=torch.tensor(targets) if all(isinstance(target, Integral) for target in targets) else targets,
        indices=[index for _, _, index in good],
        broken=[sample for sample in samples if isinstance(sample, str)],
    )
