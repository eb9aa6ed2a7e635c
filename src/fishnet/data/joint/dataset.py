"""Merges the datasets of several heads: an image that several of them annotate is one sample."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Generator, Tensor

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.joint.identity import Identity, image_identities
from fishnet.data.joint.sampling import Sampling
from fishnet.errors import InputError
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.reading import Reading

Row = dict[str, int]
"""A sample: for each head that annotates its image, the image's index in the head's dataset."""


class JointDataset(ImageDataset):
    """The images of several heads' datasets. The target is ``{head: target}`` of the heads that annotate the image.

    A head that is missing in a target does not annotate the image, which never means that it shows nothing.

    Args:
        datasets: one split's dataset of each head, by the head's name. All must have as many channels.
        rows: the samples; see :func:`merge`.
        sampling: how an epoch of training draws the samples; None visits each once.

    Raises:
        InputError: datasets with different numbers of channels.
    """

    def __init__(
        self, datasets: Mapping[str, ImageDataset], rows: Sequence[Row], sampling: Sampling | None = None
    ) -> None:
        self.datasets, self.rows, self.sampling = dict(datasets), rows, sampling
        channels = {name: dataset.channels for name, dataset in datasets.items()}
        if len(set(channels.values())) > 1:
            counts = ", ".join(f"{name} has {count}" for name, count in channels.items())
            raise InputError(f"the data of all heads must have the same number of channels: {counts}")
        self.channels = next(iter(channels.values()))
        self.classes = Classes.of(
            [f"{name}/{label}" for name, data in datasets.items() for label in data.classes.names]
        )

    @property
    def reading(self) -> Reading:
        """How images are read, the same for all heads; setting it sets it in every head's dataset."""
        return next(iter(self.datasets.values())).reading

    @reading.setter
    def reading(self, reading: Reading) -> None:
        for dataset in self.datasets.values():
            dataset.reading = reading

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> tuple[ImageLike, dict[str, Any]]:
        """See :class:`~fishnet.data.base.ImageDataset`. The image is decoded once for all heads."""
        name, number = self._first(index)
        image, target = self.datasets[name].read(number)
        return image, {name: target, **self._others(index, name, size_of(image))}

    def read_tensor(self, index: int, min_side: int = 0) -> tuple[Tensor, dict[str, Any]]:
        """See :class:`~fishnet.data.base.ImageDataset`. The image is decoded once for all heads."""
        name, number = self._first(index)
        image, target = self.datasets[name].read_tensor(number, min_side)
        return image, {name: target, **self._others(index, name, (image.shape[1], image.shape[2]))}

    def source(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`: as the first head's dataset names it."""
        name, number = self._first(index)
        return self.datasets[name].source(number)

    def key(self, index: int) -> str:
        """See :class:`~fishnet.data.base.ImageDataset`: as in the first head's dataset."""
        name, number = self._first(index)
        return f"{name}/{self.datasets[name].key(number)}"

    def lost_classes(self) -> dict[str, list[str]]:
        """For each head whose images have one class each: the classes that its data have, but none of the samples."""
        lost = {}
        for name, dataset in self.datasets.items():
            if isinstance(dataset, LabelledDataset):
                left = {dataset.labels[row[name]] for row in self.rows if name in row}
                lost[name] = [dataset.classes.names[label] for label in sorted({*dataset.labels} - left)]
        return {name: classes for name, classes in lost.items() if classes}

    def epoch_order(self, length: int, generator: Generator) -> list[int]:
        """See :class:`~fishnet.data.base.ImageDataset`."""
        return (
            super().epoch_order(length, generator) if self.sampling is None else self.sampling.order(length, generator)
        )

    def _first(self, index: int) -> tuple[str, int]:
        return next(iter(self.rows[index].items()))

    def _others(self, index: int, first: str, size: tuple[int, int]) -> dict[str, Any]:
        """The targets of all heads but the first, which came with the image."""
        others = {name: number for name, number in self.rows[index].items() if name != first}
        return {name: self.datasets[name].target(number, size) for name, number in others.items()}


def merge(datasets: Mapping[str, ImageDataset], identities: Mapping[str, Identity] | None = None) -> list[Row]:
    """The samples of several heads' datasets. Entries of different heads for the same image become one sample.

    An image that one dataset lists twice stays two samples.

    Args:
        datasets: by the head's name.
        identities: which images are the same, by their sources; see
            :func:`~fishnet.data.joint.identity.image_identities`, which is called if they are None.
    """
    if identities is None:
        identities = image_identities(datasets.items())
    rows: dict[tuple[Identity, int], Row] = {}
    for name, dataset in datasets.items():
        repeats = Counter[Identity]()
        for index in range(len(dataset)):
            identity = identities[dataset.source(index)]
            rows.setdefault((identity, repeats[identity]), {})[name] = index
            repeats[identity] += 1
    return list(rows.values())


def merge_splits(
    splits: Mapping[str, Mapping[str, ImageDataset]],
) -> tuple[dict[str, dict[str, ImageDataset]], dict[str, list[Row]], int]:
    """Merges the splits of several heads. No image is trained on by one head and held out by another.

    Args:
        splits: for each head by name, its datasets by split; all have ``train`` and ``val``.

    Returns:
        For each split its datasets by head; for each split its samples; and the number of samples that are left out of
        train, because another head's data has them in val or test.
    """
    by_split = {
        split: {name: head[split] for name, head in splits.items() if split in head}
        for split in ("train", "val", "test")
    }
    identities = image_identities((name, dataset) for heads in by_split.values() for name, dataset in heads.items())
    rows = {split: merge(datasets, identities) for split, datasets in by_split.items() if datasets}
    withheld = {
        identities[dataset.source(index)]
        for split in ("val", "test")
        for dataset in by_split[split].values()
        for index in range(len(dataset))
    }
    train = by_split["train"]
    kept = [row for row in rows["train"] if identities[_source(train, row)] not in withheld]
    left_out = len(rows["train"]) - len(kept)
    rows["train"] = kept
    return by_split, rows, left_out


def _source(datasets: Mapping[str, ImageDataset], row: Row) -> str:
    name, index = next(iter(row.items()))
    return datasets[name].source(index)
