"""The shape of every data set, and its way into batches that can be reproduced image by image."""

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
    """One on-disk format: images with targets, and the classes read from the data.

    ``self[i]`` is (image of shape (channels, height, width), target): uint8, or float32 for files of other numbers of
    channels than 1 and 3 that hold floats or 16 bits. Classification targets are class indices.

    Attributes:
        classes: names and original ids.
        channels: that images are read with: 3 (RGB), 1 (grey), or another number for files that hold as many.
        reading: what becomes of more than 8 bits a channel, and how large an image may be; whoever opens a set may set
            it, before it is read.
        skipped: how many files beside the images were not read, by their ending.
        links: linked folders that were not followed, since they lead outside of the dataset.
        notes: findings of the opening, which :mod:`~fishnet.data.plausibility` passes on.
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
        """The image and its target. Raises InputError for an unreadable one.

        The image is an upright 8-bit PIL image; for other numbers of channels than 1 and 3 an array of shape (height,
        width, channels), uint8 or float32.
        """

    @abstractmethod
    def source(self, index: int) -> str:
        """Where the image comes from, for messages: a path, or a name and number."""

    def key(self, index: int) -> str:
        """The image's name within its set, the same wherever the set lies and whatever else is added to it.

        Decides what is held out. By default its number, which suits only a set that never changes.
        """
        return str(index)

    def read_tensor(self, index: int, least: int = 0) -> tuple[Tensor, Any]:
        """What :meth:`read` gives, as a tensor of shape (channels, height, width), by the fastest way.

        It may come smaller, neither side below ``least`` px, where that is faster; 0 keeps its size.
        """
        image, target = self.read(index)
        return to_tensor(image), target

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Any]:
        image, target = self.read_tensor(index)
        return tv_tensors.Image(image), target


class LabelledDataset(ImageDataset):
    """An image set whose targets are class indices, known without reading the images."""

    labels: Sequence[int]


class EncodedDataset(LabelledDataset):
    """A labelled set of image files, on disk or inside others: all that a format adds is where their bytes are."""

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The image file's content. Raises InputError where it cannot be had."""

    def read(self, index: int) -> tuple[ImageLike, int]:
        """See :class:`ImageDataset`."""
        image = decode_image(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self.labels[index]

    def read_tensor(self, index: int, least: int = 0) -> tuple[Tensor, int]:
        """See :class:`ImageDataset`."""
        image = decode_tensor(self.encoded(index), self.channels, self.source(index), least, reading=self.reading)
        return image, self.labels[index]


class Subset(LabelledDataset):
    """Some images of a labelled set, by index.

    Args:
        whole: the set.
        indices: of the images.
        classes: a table that counts them otherwise; by default the whole set's.
        labels: the class index of each image in it; by default the whole set's.
    """

    def __init__(
        self,
        whole: LabelledDataset,
        indices: Sequence[int],
        classes: Classes | None = None,
        labels: Sequence[int] | None = None,
    ) -> None:
        self.whole, self.indices = whole, list(indices)
        self.classes, self.channels = classes or whole.classes, whole.channels
        self.skipped, self.links, self.notes = whole.skipped, whole.links, whole.notes
        self.labels = [whole.labels[i] for i in self.indices] if labels is None else labels

    @property
    def reading(self) -> Reading:
        """The whole set's, for reading and for setting."""
        return self.whole.reading

    @reading.setter
    def reading(self, reading: Reading) -> None:
        self.whole.reading = reading

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[ImageLike, Any]:
        """See :class:`ImageDataset`."""
        return self.whole.read(self.indices[index])[0], self.labels[index]

    def read_tensor(self, index: int, least: int = 0) -> tuple[Tensor, Any]:
        """See :class:`ImageDataset`."""
        return self.whole.read_tensor(self.indices[index], least)[0], self.labels[index]

    def source(self, index: int) -> str:
        """See :class:`ImageDataset`."""
        return self.whole.source(self.indices[index])

    def key(self, index: int) -> str:
        """See :class:`ImageDataset`."""
        return self.whole.key(self.indices[index])


def hold_out(whole: LabelledDataset, fraction: float, seed: int) -> tuple[Subset, Subset]:
    """Splits off a stratified share of a labelled set, the same one for the same seed.

    Every class with two images or more gives at least one to the held-out part and keeps at least one. Which ones
    depends on their keys, so that images added later hardly move the others.

    Args:
        whole: the set.
        fraction: share to hold out, in (0, 1).
        seed: of the shuffle.

    Returns:
        (rest, held out).
    """
    by_class: dict[int, list[int]] = {}
    for i, label in enumerate(whole.labels):
        by_class.setdefault(int(label), []).append(i)
    held: list[int] = []
    for members in by_class.values():
        drawn = sorted(members, key=lambda i: derive_seed(seed, crc32(whole.key(i).encode(errors="surrogateescape"))))
        held += drawn[: min(max(1, round(fraction * len(members))), len(members) - 1)]
    out = set(held)
    return Subset(whole, [i for i in range(len(whole)) if i not in out]), Subset(whole, sorted(out))


def derive_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, well spread and the same on every machine."""
    digest = hashlib.blake2b(b"".join(n.to_bytes(8, "little", signed=True) for n in numbers), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Torch's global CPU generator seeded inside, and as it was afterwards.

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
        targets: (batch,) int64 class indices, or a list with whatever else each image's target is.
        indices: of the images in their set.
        broken: one line for each image that could not be read and is therefore missing.
    """

    images: Tensor
    targets: Any
    indices: list[int]
    broken: list[str]

    def pin_memory(self) -> "Batch":
        """For the loader's own use, on machines with a GPU."""
        self.images = self.images.pin_memory()
        if isinstance(self.targets, list):
            self.targets = [target.pin_memory() if hasattr(target, "pin_memory") else target for target in self.targets]
        else:
            self.targets = self.targets.pin_memory()
        return self


Sample = tuple[Tensor, Any, int] | str | None
NOTHING = -1  # an index without an image, that fills up a process's share
_PARTNERS = 1  # tells the draw of a sample's partners from the draws of its transform


class Transform(Protocol):
    """What :class:`Seeded` applies to an image.

    Attributes:
        least: None for what :meth:`ImageDataset.read` gives; a number for what ``read_tensor`` gives, faster: the px
            that either side must have, 0 for the image's own size.
    """

    least: int | None

    def __call__(self, image: Any, target: Any, /) -> tuple[Tensor, Any]:
        """The image as a tensor of shape (channels, height, width), and the target."""


@runtime_checkable
class MixingTransform(Transform, Protocol):
    """A transform that may want other images of the set beside the one at hand, to make one of all of them."""

    def partners(self, length: int, /) -> list[int]:
        """Which others this sample is made with, of a set of so many; drawn from torch's global generator."""

    def __call__(self, image: Any, target: Any, /, *others: tuple[Any, Any]) -> tuple[Tensor, Any]:
        """As :class:`Transform`; ``others`` are those that were asked for, or none where one could not be read."""


class Seeded(Dataset[Sample]):
    """An image set under a transform whose randomness depends on (seed, epoch, index) alone.

    Neither the number of workers nor what was read before changes a sample, which is what makes resuming exact. Indices
    beyond the set begin it again, under a randomness of their own.

    Args:
        images: the set.
        transform: (image, target) to (tensor, target), drawing from torch's global generator.
        seed: the training's.
    """

    def __init__(self, images: ImageDataset, transform: Transform, seed: int = 0) -> None:
        self.images, self.transform, self.seed = images, transform, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Sample:
        epoch, index = key
        if index == NOTHING:
            return None
        number = index % len(self.images)
        try:
            image, target = self._read(number)
        except InputError as error:
            return str(error)
        others = self._partners(epoch, index)
        with drawn_from(derive_seed(self.seed, epoch, index)):
            tensor, target = self.transform(image, target, *others)
        return tensor, target, number

    def _read(self, index: int) -> tuple[Any, Any]:
        least = self.transform.least
        return self.images.read(index) if least is None else self.images.read_tensor(index, least)

    def _partners(self, epoch: int, index: int) -> list[tuple[Any, Any]]:
        """The other images of a sample; none where one of them cannot be read, which is said in its own turn."""
        if not isinstance(self.transform, MixingTransform):
            return []
        with drawn_from(derive_seed(self.seed, epoch, index, _PARTNERS)):
            drawn = self.transform.partners(len(self.images))
        try:
            return [self._read(i) for i in drawn]
        except InputError:
            return []


class EpochSampler(Sampler[Key]):
    """Yields (epoch, index): shuffled by (seed, epoch), shared among processes without overlap.

    When shuffling, every process gets the same number of images (at most processes - 1 are left out of an epoch, not
    always the same). In order, every image comes once; processes that would get one fewer are given ``NOTHING``, so
    that all make equally many steps.

    Args:
        length: images in the set.
        shuffle: whether to shuffle.
        seed: the training's.
        rank, world: this process and their number.
        begin: an epoch, and how many of this process's images of that epoch are done already.
    """

    def __init__(
        self,
        length: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        begin: tuple[int, int] = (0, 0),
    ) -> None:
        self.length, self.shuffle, self.seed, self.rank, self.world = length, shuffle, seed, rank, world
        self.epoch, self.begin = begin[0], begin  # worker processes read ahead before the first set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.world if self.shuffle else -(-self.length // self.world)

    def __iter__(self) -> Iterator[Key]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
            order = order[: len(self) * self.world]
        else:
            order = list(range(self.length))
            order += [NOTHING] * (len(self) * self.world - self.length)
        mine = order[self.rank :: self.world]
        done = self.begin[1] if self.epoch == self.begin[0] else 0
        return ((self.epoch, index) for index in mine[done:])


def _stack(images: Sequence[Tensor], fill: Sequence[float]) -> Tensor:
    """(channels, height, width) each -> (batch, channels, height, width), channels last in memory."""
    rows = [image.permute(1, 2, 0) for image in images]
    if len({row.shape for row in rows}) == 1:
        return torch.stack(rows).permute(0, 3, 1, 2)
    height, width = (max(row.shape[axis] for row in rows) for axis in (0, 1))
    kind = reduce(torch.promote_types, (row.dtype for row in rows))
    pages = torch.tensor(fill, dtype=kind).expand(len(rows), height, width, rows[0].shape[2]).contiguous()
    for page, row in zip(pages, rows, strict=True):
        page[: row.shape[0], : row.shape[1]] = row
    return pages.permute(0, 3, 1, 2)


def collate(samples: Sequence[Sample], fill: Sequence[float] = (0,)) -> Batch:
    """Stacks samples, channels last in memory; images that could not be read become lines in ``broken``.

    Images of unequal size are padded right and below to the highest and the widest. Class indices become a tensor,
    targets of any other kind a list; nothing is padded in these.

    Args:
        samples: what :class:`Seeded` gives.
        fill: colour of what is added, one value a channel or one for all, in the images' own 0..255.
    """
    good = [sample for sample in samples if isinstance(sample, tuple)]
    targets = [target for _, target, _ in good]
    return Batch(
        images=_stack([image for image, _, _ in good], fill) if good else torch.empty(0),
        targets=torch.tensor(targets) if all(isinstance(target, Integral) for target in targets) else targets,
        indices=[index for _, _, index in good],
        broken=[sample for sample in samples if isinstance(sample, str)],
    )
