"""From what the user names to data sets: which format it is, and its train, val and test parts."""

from pathlib import Path

from fishnet.data.base import LabelledSet, hold_out
from fishnet.data.folder import ImageFolder, split_folders
from fishnet.data.labels import Classes
from fishnet.data.pictures import Mode
from fishnet.data.samples import FASHION_MNIST, FashionMNIST
from fishnet.errors import InputError


def open_labelled(
    data: str, mode: Mode, *, val_fraction: float, seed: int, classes: Classes | None = None
) -> dict[str, LabelledSet]:
    """Opens classification data.

    Args:
        data: a folder of class folders, a folder of train / val / test folders of these, or ``fashion-mnist``.
        mode: ``RGB`` or ``L``.
        val_fraction: share of the training pictures held out for validation where the data has no val part.
        seed: of that split.
        classes: the classes a model knows; the data may then have fewer.

    Returns:
        ``train`` and ``val``, and ``test`` where the data has it.

    Raises:
        InputError: see :class:`~fishnet.data.folder.ImageFolder`; or a class missing from the training part.
        WorkError: ``fashion-mnist`` could not be had.
    """
    sets: dict[str, LabelledSet]
    if data == FASHION_MNIST:
        sets = {"train": FashionMNIST(True, mode, classes), "test": FashionMNIST(False, mode, classes)}
    else:
        folder = Path(data)
        if not folder.exists():
            raise InputError(f"{data}: no such folder (nor a sample: {FASHION_MNIST})")
        parts = split_folders(folder)
        train = ImageFolder(parts.pop("train", folder), mode, classes)
        sets = {"train": train}
        for name, part in parts.items():
            sets[name] = ImageFolder(part, mode, train.classes)
    if "val" not in sets:
        sets["train"], sets["val"] = hold_out(sets["train"], val_fraction, seed)
        if not len(sets["val"]):
            raise InputError(f"{data}: one picture a class leaves none to validate with: add pictures, or a folder val")
    return sets
