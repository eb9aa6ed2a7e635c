"""From what the user names to data sets: which format it is, and its train, val and test parts."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fishnet.data.base import LabelledSet, hold_out
from fishnet.data.folder import ImageFolder, split_folders
from fishnet.data.labels import Classes
from fishnet.data.samples import FASHION_MNIST, FashionMNIST
from fishnet.errors import InputError


def open_labelled(
    data: str, channels: int, *, val_fraction: float, seed: int, classes: Classes | None = None, whole: bool = False
) -> dict[str, LabelledSet]:
    """Opens classification data.

    Args:
        data: a folder of class folders, a folder of train / val / test folders of these, or ``fashion-mnist``.
        channels: 3 (RGB) or 1 (grey).
        val_fraction: share of the training pictures held out for validation where the data has no val part.
        seed: of that split.
        classes: the classes a model knows; the data may then have fewer.
        whole: hold nothing out.

    Returns:
        ``train`` and ``val``, and ``test`` where the data has it. With ``whole``, the parts that the data has, or
        ``all`` where it has none.

    Raises:
        InputError: see :class:`~fishnet.data.folder.ImageFolder`; no train part, or a class missing from it.
        WorkError: ``fashion-mnist`` could not be had.
    """
    sets = _parts(data, channels, classes)
    if whole:
        return sets
    if "all" in sets:
        sets["train"] = sets.pop("all")
    if "train" not in sets:
        raise InputError(f"{data}: has no train part, only {', '.join(sets)}")
    if "val" not in sets:
        sets["train"], sets["val"] = hold_out(sets["train"], val_fraction, seed)
        if not len(sets["val"]):
            raise InputError(f"{data}: one picture a class leaves none to validate with: add pictures, or a folder val")
    return sets


def _parts(data: str, channels: int, classes: Classes | None) -> dict[str, LabelledSet]:
    if data == FASHION_MNIST:
        return {"train": FashionMNIST(True, channels, classes), "test": FashionMNIST(False, channels, classes)}
    folder = Path(data)
    if not folder.exists():
        raise InputError(f"{data}: no such folder (nor a sample: {FASHION_MNIST})")
    parts = split_folders(folder) if folder.is_dir() else {}
    if not parts:
        return {"all": ImageFolder(folder, channels, classes)}
    sets: dict[str, LabelledSet] = {}
    for name, part in parts.items():  # train comes first, and says what the classes are
        sets[name] = ImageFolder(part, channels, classes)
        classes = sets[name].classes
    return sets


def marks(data: str, sets: Mapping[str, LabelledSet]) -> dict[str, str]:
    """What a training's data is recognised by later: its place, and its pictures' names, both as hashes."""
    names = sorted(part.key(i) for name, part in sets.items() if name != "test" for i in range(len(part)))
    place = data if data == FASHION_MNIST else str(Path(data).resolve())
    return {"place": _hash(place), "pictures": _hash("\n".join(names))}


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
