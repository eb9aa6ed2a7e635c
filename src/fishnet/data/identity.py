"""What identifies a training's data later: its location and image names, and the folders of its classes."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fishnet.data.base import ImageDataset, Subset
from fishnet.data.classification.folder import ImageFolder
from fishnet.data.classification.open import split_prefix
from fishnet.data.classification.samples import FASHION_MNIST


def fingerprint(data: str, splits: Mapping[str, ImageDataset]) -> dict[str, str]:
    """Hashes of the data's location and of its images' names, by which a training's data is recognised later."""
    names = sorted(dataset.key(i) for split, dataset in splits.items() if split != "test" for i in range(len(dataset)))
    prefix, name = split_prefix(data)
    is_hosted = data == FASHION_MNIST or (prefix == "hfds" and not Path(name).exists())
    location = data if is_hosted else str(Path(name).resolve())
    return {"place": _hash(location), "images": _hash("\n".join(names))}


def class_folders(data: str, splits: Mapping[str, ImageDataset]) -> list[Path]:
    """The resolved folders in which any new subfolder would be read as a class; none for data of other formats."""
    datasets = [_unwrapped(dataset) for dataset in splits.values()]
    folders = {dataset.folder.resolve() for dataset in datasets if isinstance(dataset, ImageFolder)}
    # A lone train folder beside others is a class itself: see split_folders.
    return sorted(folders) if len(folders) != 1 else [Path(data).resolve()]


def _unwrapped(dataset: ImageDataset) -> ImageDataset:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
