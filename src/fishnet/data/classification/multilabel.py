"""Images with several labels each: the dataset, its held-out images, and the choice of its classes."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset, key_rank
from fishnet.data.decode import decode_tensor
from fishnet.data.findings import Finding
from fishnet.data.selection import ClassSelection, note_left_out
from fishnet.images.decoding import ImageLike, decode_image

UNKNOWN = -1  # of a class that is not annotated in an image, which is not the same as negative


def shown_labels(values: Sequence[float], classes: Classes) -> str:
    """The names of the labels with value 1; names with a question mark for unknown ones.

    Args:
        values: 1, 0 or -1 for each class.
        classes: the classes.
    """
    names = [
        f"{name}?" if value == UNKNOWN else name for name, value in zip(classes.names, values, strict=True) if value
    ]
    return " + ".join(names) or "no label"


class EncodedImages(Protocol):
    """Image files, on disk or inside other files, such as those of a table or of a dataset of objects."""

    def encoded(self, index: int) -> bytes:
        """The image file's content. Raises InputError if it cannot be read."""
        ...

    def source(self, index: int) -> str:
        """The image's origin, for messages."""
        ...

    def key(self, index: int) -> str:
        """The image's name within its dataset."""
        ...


class MultiLabelDataset(ImageDataset):
    """Images with any number of labels, also none. Targets are (classes,) int8 tensors of 1, 0 and -1 (unknown).

    Args:
        images: where the images are.
        matrix: (images, classes) int8: 1 if the image has the label, 0 if not, -1 if that is unknown.
        classes: the classes of the matrix.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        notes: findings made while opening the dataset.

    Attributes:
        matrix: (len(self), classes), known without reading the images.
        members: the index in ``images`` of each image of this dataset.
    """

    def __init__(
        self,
        images: EncodedImages,
        matrix: NDArray[np.int8],
        classes: Classes,
        channels: int,
        notes: Iterable[Finding] = (),
    ) -> None:
        self.images, self.matrix, self.classes, self.channels = images, matrix, classes, channels
        self.members: Sequence[int] = range(len(matrix))
        self.notes = list(notes)

    def __len__(self) -> int:
        return len(self.matrix)

    def encoded(self, index: int) -> bytes:
        """The image file's content. Raises InputError if it cannot be read."""
        return self.images.encoded(self.members[index])

    def source(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return self.images.source(self.members[index])

    def key(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return self.images.key(self.members[index])

    def target(self, index: int, size: tuple[int, int] = (0, 0)) -> Tensor:
        """(classes,) int8: 1, 0 or -1 for each class; see :class:`~fishnet.data.base.ImageDataset`."""
        return torch.from_numpy(self.matrix[index].copy())

    def read(self, index: int) -> tuple[ImageLike, Any]:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        image = decode_image(self.encoded(index), self.channels, self.source(index), reading=self.reading)
        return image, self.target(index)

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, Any]:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        image = decode_tensor(self.encoded(index), self.channels, self.source(index), min_side, reading=self.reading)
        return image, self.target(index)

    def shown(self, index: int) -> str:
        """The names of an image's labels, for messages and drawings; with a question mark where unknown."""
        return shown_labels(self.matrix[index].tolist(), self.classes)

    def subset(self, indices: Sequence[int]) -> Self:
        """The dataset with only the images of these indices."""
        subset = copy.copy(self)
        subset.members = [self.members[i] for i in indices]
        subset.matrix = self.matrix[list(indices)]
        return subset

    def in_classes(self, classes: Classes, positions: Sequence[int]) -> Self:
        """The dataset in other classes. Those that it does not annotate are unknown in all images.

        Args:
            classes: the other classes.
            positions: for each class here, its index there; -1 leaves it out.
        """
        changed = copy.copy(self)
        changed.classes = classes
        changed.matrix = np.full((len(self), len(classes)), UNKNOWN, np.int8)
        kept = [i for i, position in enumerate(positions) if position >= 0]
        changed.matrix[:, [positions[i] for i in kept]] = self.matrix[:, kept]
        return changed

    @property
    def positives(self) -> NDArray[np.int64]:
        """(classes,) number of images that have each label."""
        counts: NDArray[np.int64] = (self.matrix == 1).sum(0)
        return counts

    @property
    def without_label(self) -> int:
        """The number of images that are known to have no label."""
        return int((self.matrix == 0).all(1).sum())

    @property
    def unknown(self) -> NDArray[np.int64]:
        """(classes,) number of images for which it is unknown whether they have each label."""
        counts: NDArray[np.int64] = (self.matrix == UNKNOWN).sum(0)
        return counts


def select_classes(
    splits: Mapping[str, MultiLabelDataset], only: Sequence[str], classes: Classes | None
) -> dict[str, MultiLabelDataset]:
    """Keeps some classes, and adds a note about what is left out. All images stay: the others have no label.

    Args:
        splits: datasets by split, with classes of their own.
        only: names of the selected classes.
        classes: the classes of a model, all of which are kept, those that are not selected as unknown; None if there
            is no model.

    Raises:
        InputError: a name that is not a class.
    """
    selection = ClassSelection.of(splits, only, classes)
    selected = {}
    for split, dataset in splits.items():
        positions = selection.labels(dataset.classes)
        selected[split] = dataset.in_classes(selection.known, positions)
        if dropped := sum(position < 0 for position in positions):
            message = f"{split}: {dropped:,} of {len(positions):,} classes left out"
            note_left_out(selected[split], dataset.notes, message, split, dropped)
    return selected


def conform(splits: Mapping[str, MultiLabelDataset], classes: Classes) -> dict[str, MultiLabelDataset]:
    """The splits in a model's classes; those that the data does not annotate are unknown.

    Raises:
        InputError: a class that the model does not know.
    """
    return {
        split: dataset.in_classes(classes, dataset.classes.indices_in(classes)) for split, dataset in splits.items()
    }


def hold_out_multi_label(
    dataset: MultiLabelDataset, fraction: float, seed: int
) -> tuple[MultiLabelDataset, MultiLabelDataset]:
    """Holds out a share of a dataset: at least one image, but never all. A dataset with one image keeps it.

    The keys and the seed decide which ones. Then images are exchanged so that each label of two images or more is on
    both sides, as far as the labels that occur together allow it. The rarest labels come first, and no exchange moves
    the last image that another label has on a side.

    Returns:
        (rest, held out).
    """
    order = sorted(range(len(dataset)), key=lambda i: key_rank(dataset.key(i), seed))
    count = min(max(1, round(fraction * len(dataset))), len(dataset) - 1)
    held = np.zeros(len(dataset), bool)
    held[order[:count]] = True
    positive = dataset.matrix == 1
    counts = positive.sum(0)
    for label in np.argsort(counts, kind="stable").tolist():
        members = [i for i in order if positive[i, label]]
        for side in (True, False):
            if len(members) > 1 and not any(held[i] == side for i in members):
                _move_one(members if side else members[::-1], held, positive, counts)
    return dataset.subset(np.flatnonzero(~held).tolist()), dataset.subset(np.flatnonzero(held).tolist())


def _move_one(
    members: Sequence[int], held: NDArray[np.bool_], positive: NDArray[np.bool_], counts: NDArray[np.int64]
) -> None:
    """Moves an image to the other side: the first whose labels all keep another image on its side, if there is one.

    Args:
        members: indices of the images, all on one side, the first choice first.
        held: (images,) whether each image is held out; changed in place.
        positive: (images, classes) whether each image has each label.
        counts: (classes,) images of each label. A label with a single image may leave its side.
    """
    for i in members:
        own_side = positive[held == held[i]].sum(0)
        if (held == held[i]).sum() > 1 and (own_side[positive[i] & (counts > 1)] > 1).all():
            held[i] = not held[i]
            return
