"""The interface of every dataset of images, and how images are held out of it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from zlib import crc32

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from fishnet.bundle.classes import Classes
from fishnet.data.decode import decode_tensor, to_tensor
from fishnet.data.findings import Finding
from fishnet.images.decoding import ImageLike, decode_image
from fishnet.images.reading import DEFAULT, Reading

Order = Callable[[int, Generator], list[int]]
"""(length, generator) -> ``length`` indices of images for one training epoch."""


def shuffled(length: int, generator: Generator) -> list[int]:
    """All indices below ``length`` in a random order."""
    order: list[int] = torch.randperm(length, generator=generator).tolist()
    return order


class ImageDataset(Dataset[tuple[tv_tensors.Image, Any]], ABC):
    """Images with targets in one on-disk format, and the classes read from the data.

    ``self[i]`` is (image of shape (channels, height, width), target). Images are uint8. If ``channels`` is neither 1
    nor 3, files of floats or 16 bits give float32. Classification targets are class indices.

    Attributes:
        classes: names and original ids.
        channels: 3 (RGB), 1 (grey), or another number for files that hold as many.
        reading: how more than 8 bits a channel are read, and how large an image may be. May be set before the first
            image is read.
        skipped: the number of files beside the images that were not read, by file extension.
        links: linked folders that were not followed because they lead outside of the dataset.
        notes: findings made while opening the dataset; :mod:`~fishnet.data.plausibility` passes them on.
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

    def target(self, index: int, size: tuple[int, int]) -> Any:
        """The target of an image of this height and width, without decoding the image where possible.

        Raises:
            InputError: it cannot be read, or does not fit the size.
        """
        return self.read(index)[1]

    def epoch_order(self, length: int, generator: Generator) -> list[int]:
        """The indices of the images in one epoch of training; indices beyond the dataset begin it anew."""
        return shuffled(length, generator)

    def key(self, index: int) -> str:
        """The image's name within its dataset. It depends neither on the dataset's location nor on images added later.

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

    def target(self, index: int, size: tuple[int, int]) -> Any:
        """See :class:`ImageDataset`: the class index."""
        return self.labels[index]


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
        indices: indices of the images in the dataset.
        classes: the class table; by default the dataset's.
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
        seed: the same seed holds out the same images.

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
    """A key's rank in the order in which images are held out: random, but fixed for a key and a seed."""
    return derive_seed(seed, crc32(key.encode(errors="surrogateescape")))


def derive_seed(*numbers: int) -> int:
    """A 63-bit seed from several numbers. Equal numbers give equal seeds on every machine."""
    digest = hashlib.blake2b(b"".join(n.to_bytes(8, "little", signed=True) for n in numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
