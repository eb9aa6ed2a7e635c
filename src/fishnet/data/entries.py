"""Datasets of annotated image files, and targets that are more than a class index."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeVar

from torch import Tensor

from fishnet.data.base import ImageDataset, key_rank
from fishnet.data.decode import decode_tensor
from fishnet.images.decoding import ImageLike, decode_image, size_of


class EntryDataset(ImageDataset):
    """A dataset of annotated image files.

    Attributes:
        entries: one record for each image, of a type that the format chooses.
    """

    entries: Sequence[Any]

    def __len__(self) -> int:
        return len(self.entries)

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """The image file's content. Raises InputError if it cannot be read."""

    def target(self, index: int, size: tuple[int, int]) -> Any:
        """See :class:`~fishnet.data.base.ImageDataset`: reads the annotation alone."""
        return self._target(index, size)

    @abstractmethod
    def _target(self, index: int, size: tuple[int, int]) -> Any:
        """The target of an image of this height and width. Raises InputError if it is invalid or of another size."""

    def read(self, index: int) -> tuple[ImageLike, Any]:
        """The image and its target.

        Raises:
            InputError: the image or the target cannot be read, or their sizes differ.
        """
        image = decode_image(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self._target(index, size_of(image))

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, Any]:
        """See :class:`~fishnet.data.base.ImageDataset`; the image always keeps its size."""
        image = decode_tensor(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self._target(index, (image.shape[1], image.shape[2]))

    def subset(self, indices: Sequence[int]) -> Self:
        """The dataset with only the images of these indices."""
        subset = copy.copy(self)
        subset.entries = [self.entries[i] for i in indices]
        return subset


Entries = TypeVar("Entries", bound=EntryDataset)


def hold_out_entries(dataset: Entries, fraction: float, seed: int) -> tuple[Entries, Entries]:
    """Holds out a share of a dataset: at least one image, but never all, so none of a dataset with one image.

    The keys and the seed decide which ones.

    Returns:
        (rest, held out).
    """
    order = sorted(range(len(dataset)), key=lambda i: key_rank(dataset.key(i), seed))
    count = min(max(1, round(fraction * len(dataset))), len(dataset) - 1)
    return dataset.subset(sorted(order[count:])), dataset.subset(sorted(order[:count]))


@dataclass(eq=False)
class TensorTarget:
    """A dataclass with tensors that are moved to a device together; its other fields stay as they are."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """A copy with its tensors on another device or of another dtype, see :meth:`torch.Tensor.to`."""
        return self._map(lambda value: value.to(*args, **kwargs))

    def pin_memory(self) -> Self:
        """A copy with its tensors in pinned memory, see :meth:`torch.Tensor.pin_memory`."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(value) for name, value in values.items() if isinstance(value, Tensor)})
