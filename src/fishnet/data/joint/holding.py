"""Holds out the same validation images in the datasets of all heads."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from fishnet.data.base import ImageDataset, Subset, key_rank

_RANKS = 2**63  # ranks are below this


def hold_out_by_name(dataset: ImageDataset, fraction: float, seed: int) -> tuple[Any, Any]:
    """Holds out a share of a dataset. File name and seed decide.

    So datasets that annotate the same files hold out the same ones, and later evaluations of one of them do, too. If
    several images have the same file name, their keys decide instead: otherwise they would all be held out, or none of
    them. Of small datasets the share can differ from the fraction. At least one image is held out, but never all.

    Args:
        dataset: the dataset.
        fraction: share to hold out, 0..1.
        seed: the same seed holds out the same images.

    Returns:
        (rest, held out).
    """
    names = [PurePath(dataset.source(index)).name for index in range(len(dataset))]
    counts = Counter(names)
    keys = [name if counts[name] == 1 else dataset.key(index) for index, name in enumerate(names)]
    ranks = [key_rank(key, seed) for key in keys]
    order = sorted(range(len(dataset)), key=lambda index: ranks[index])
    count = sum(rank < fraction * _RANKS for rank in ranks)
    count = min(max(1, count), len(dataset) - 1)
    return subset_of(dataset, sorted(order[count:])), subset_of(dataset, sorted(order[:count]))


def subset_of(dataset: Any, indices: Sequence[int]) -> Any:
    """A dataset of any level with only the images of these indices."""
    return dataset.subset(indices) if hasattr(dataset, "subset") else Subset(dataset, indices)
