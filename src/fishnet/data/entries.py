"""Sets of annotated image files, and the targets of such images, which are more than a number."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar
from zlib import crc32

from torch import Tensor

from fishnet.data.base import ImageDataset, derive_seed
from fishnet.data.decode import decode_tensor
from fishnet.images.decoding import ImageLike, decode_image, size_of


class EntryDataset(ImageDataset):
    """An image set of annotated files: a format fills in ``entries``, one record of its own kind an image.

    Attributes:
        entries: one an image.
    """

    entries: Sequence[Any]

    def __len__(self) -> int:
        return len(self.entries)

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The image file's content. Raises InputError where it cannot be had."""

    @abstractmethod
    def _fitting(self, index: int, size: tuple[int, int]) -> Any:
        """The target of an image of that height and width. Raises InputError where it is none, or of another size."""

    def read(self, index: int) -> tuple[ImageLike, Any]:
        """The image and its target.

        Raises:
            InputError: either cannot be read, or they are of different sizes.
        """
        image = decode_image(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self._fitting(index, size_of(image))

    def read_tensor(self, index: int, least: int = 0) -> tuple[Tensor, Any]:
        """See :class:`~fishnet.data.base.ImageDataset`; the image always comes in its own size."""
        image = decode_tensor(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self._fitting(index, (image.shape[1], image.shape[2]))

    def part(self, indices: Sequence[int]) -> Self:
        """Some of the images, by index."""
        other = copy.copy(self)
        other.entries = [self.entries[i] for i in indices]
        return other


Entries = TypeVar("Entries", bound=EntryDataset)


def hold_out_some(whole: Entries, fraction: float, seed: int) -> tuple[Entries, Entries]:
    """Splits off a share of a set, at least one image and never all; which ones depends on their keys and the seed.

    Returns:
        (rest, held out).
    """
    order = sorted(
        range(len(whole)), key=lambda i: derive_seed(seed, crc32(whole.key(i).encode(errors="surrogateescape")))
    )
    count = min(max(1, round(fraction * len(whole))), len(whole) - 1)
    return whole.part(sorted(order[count:])), whole.part(sorted(order[:count]))


@dataclass(eq=False)
class TensorTarget:
    """A target of several tensors, moved together; a dataclass whose other fields stay as they are."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device, as :meth:`torch.Tensor.to`."""
        return self._each(lambda value: value.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """In memory that a GPU reads from by itself, as :meth:`torch.Tensor.pin_memory`."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: change(value) for name, value in values.items() if isinstance(value, Tensor)})
