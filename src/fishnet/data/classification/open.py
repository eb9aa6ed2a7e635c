"""Opens data for classification: finds its format, and its train, val and test splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledDataset, Subset, hold_out
from fishnet.data.classification import table
from fishnet.data.classification.folder import ImageFolder, beside_splits, split_folders
from fishnet.data.classification.hub import open_hub
from fishnet.data.classification.samples import FASHION_MNIST, FashionMNIST
from fishnet.data.classification.shards import open_shards
from fishnet.data.nearest_layout import NEAREST, nearest_layout
from fishnet.data.opening import training_splits
from fishnet.data.selection import ClassSelection, note_left_out
from fishnet.errors import InputError

_TABLES = ", ".join(table.SUFFIXES)
_REFUSED = {
    "hfids": "streams data, and a stream cannot be resumed exactly: give hfds/NAME, which has the same data",
    "tfds": "needs TensorFlow, which is not used here: write the data as a folder, a table or wds/ shards",
    "torch": "is not supported: write the data as a folder, a table or wds/ shards",
}


def open_classification(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    keep_splits: bool = False,
    only: Sequence[str] = (),
    fold: int = -1,
) -> dict[str, LabelledDataset]:
    """Opens classification data.

    Args:
        data: a folder of class folders, or of train / val / test folders of these; a table of path and label (.csv,
            .tsv, .parquet); ``wds/FOLDER`` with WebDataset shards; ``hfds/NAME`` or ``hfds/FOLDER``, a Hugging Face
            dataset; or ``fashion-mnist``. docs/data.md describes each.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images held out for validation if the data has no val split.
        seed: decides which images are held out.
        classes: the classes of a model; the data may then have fewer.
        keep_splits: return the splits that the data has; hold nothing out.
        only: names of the classes to keep; images of others are left out. Empty: all.
        fold: for tables with a column of folds, the fold to validate with; -1 for none. Ignored with ``keep_splits``.

    Returns:
        ``train`` and ``val``, and ``test`` if the data has it. With ``keep_splits``, the splits that the data has, or
        ``all`` if it has none.

    Raises:
        InputError: data that cannot be read, see the formats; no train split, or a class missing from it; a name in
            ``only`` that is not a class; a fold of data that has none.
        WorkError: ``fashion-mnist`` or a dataset of the hub could not be downloaded.
        ModuleNotFoundError: a format needs a package of the extra ``data``.
    """
    try:
        splits = _open_splits(data, channels, None if only else classes, -1 if keep_splits else fold)
    except InputError as error:
        raise _explained(data, error) if classes is None else error from None
    if only:
        splits = _choose(data, splits, only, classes)
    return splits if keep_splits else training_splits(data, splits, lambda train: hold_out(train, val_fraction, seed))


def _explained(data: str, error: InputError) -> InputError:
    """The error of data that was read as class folders. Says what the folder looks like instead, if anything."""
    near = nearest_layout(Path(data)) if not split_prefix(data)[0] and data and Path(data).is_dir() else ""
    return InputError(f"{data}: no known layout: {near} (read as class folders: {error})") if NEAREST in near else error


def _choose(
    data: str, splits: Mapping[str, LabelledDataset], only: Sequence[str], classes: Classes | None
) -> dict[str, LabelledDataset]:
    """Keeps the images of some classes, and adds a note about what is left out.

    Args:
        data: the data's name, for messages.
        splits: datasets by split, with classes of their own.
        only: names of the selected classes.
        classes: the classes of a model, all of which are kept; None if there is no model.

    Raises:
        InputError: a name that is not a class; a split without images of these classes; fewer than two classes for a
            new model.
    """
    selection = ClassSelection.of(splits, only, classes)
    if len(selection.known) < 2:
        raise InputError(f"--classes: one class only ({selection.known.names[0]}): a classifier needs two or more")
    selected: dict[str, LabelledDataset] = {}
    for split, dataset in splits.items():
        new_labels = selection.labels(dataset.classes)
        labels = [new_labels[label] for label in dataset.labels]
        kept = [i for i, label in enumerate(labels) if label >= 0]
        if not kept:
            raise InputError(f"{data}: no image in its split {split!r} is of the classes {selection.shown()}")
        selected[split] = Subset(dataset, kept, selection.known, [labels[i] for i in kept])
        present = set(dataset.labels)
        dropped = {label for label in present if new_labels[label] < 0}
        if dropped:
            count = len(labels) - len(kept)
            message = f"{split}: {len(dropped):,} of {len(present):,} classes left out, {count:,} images"
            note_left_out(selected[split], dataset.notes, message, split, count)
    return selected


def _open_splits(data: str, channels: int, classes: Classes | None, fold: int) -> dict[str, LabelledDataset]:
    if not data:
        raise InputError("the data's name is empty: give a folder, a table or a sample dataset (. is the current one)")
    if Path(data).suffix.lower() in table.SUFFIXES and not Path(data).is_dir():
        return dict(table.open_table(Path(data), channels, classes, fold))
    if fold >= 0:
        raise InputError(f"{data}: --fold {fold} needs a table with a column of folds")
    if data == FASHION_MNIST:
        return {"train": FashionMNIST(True, channels, classes), "test": FashionMNIST(False, channels, classes)}
    prefix, name = split_prefix(data)
    if prefix and not name:
        raise InputError(f"{data}: give what to open: {prefix}/NAME")
    if prefix in _REFUSED:
        raise InputError(f"{data}: {prefix}/ {_REFUSED[prefix]}")
    if prefix == "wds":
        return dict(open_shards(name, channels, classes))
    if prefix == "hfds":
        return dict(open_hub(name, channels, classes))
    folder = Path(data)
    if not folder.exists():
        raise InputError(f"{data}: no such folder or table (the sample dataset is called {FASHION_MNIST})")
    if folder.is_file():
        raise InputError(f"{data}: is a file: give a folder with one sub-folder per class, or a table ({_TABLES})")
    folders = split_folders(folder)
    if not folders:
        return {"all": ImageFolder(folder, channels, classes)}
    splits: dict[str, LabelledDataset] = {}
    for split, split_folder in folders.items():  # train comes first and defines the classes
        splits[split] = ImageFolder(split_folder, channels, classes, folder)
        classes = splits[split].classes
    first = next(iter(splits.values()))
    first.notes = [*first.notes, *beside_splits(folder, folders)]
    return splits


def split_prefix(data: str) -> tuple[str, str]:
    """timm's prefix of a data name (``wds/``, ``hfds/`` ...) in lower case, and the rest; "" for a plain path."""
    prefix, slash, name = data.partition("/")
    return (prefix.lower(), name) if slash and prefix.lower() in ("wds", "hfds", *_REFUSED) else ("", data)
