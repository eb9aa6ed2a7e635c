"""From what the user names to data sets: which format it is, and its train, val and test parts."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset, LabelledDataset, Subset, hold_out
from fishnet.data.classification import table
from fishnet.data.classification.folder import ImageFolder, beside_splits, split_folders
from fishnet.data.classification.hub import open_hub
from fishnet.data.classification.samples import FASHION_MNIST, FashionMNIST
from fishnet.data.classification.shards import open_shards
from fishnet.data.entries import Entries, hold_out_entries
from fishnet.data.findings import Finding
from fishnet.data.nearest_layout import NEAREST, nearest_layout
from fishnet.data.splits import in_order
from fishnet.errors import InputError

Set = TypeVar("Set", bound=ImageDataset)
Found = TypeVar("Found")
_TABLES = ", ".join(table.SUFFIXES)
_REFUSED = {
    "hfids": "streams, and a stream's order cannot be resumed exactly: give hfds/NAME, which has the same data",
    "tfds": "needs TensorFlow, which is not used here: write the data as a folder, a table or wds/ shards",
    "torch": "is not read here: write the data as a folder, a table or wds/ shards",
}


def open_classification(
    data: str,
    channels: int,
    *,
    val_fraction: float,
    seed: int,
    classes: Classes | None = None,
    whole: bool = False,
    only: Sequence[str] = (),
    fold: int = -1,
) -> dict[str, LabelledDataset]:
    """Opens classification data.

    Args:
        data: a folder of class folders, or of train / val / test folders of these; a table of path and label (.csv,
            .tsv, .parquet); ``wds/FOLDER`` with WebDataset shards; ``hfds/NAME`` or ``hfds/FOLDER``, a Hugging Face
            dataset; or ``fashion-mnist``. docs/data.md describes each.
        channels: 3 (RGB), 1 (grey), or as many as the files hold.
        val_fraction: share of the training images held out for validation where the data has no val part.
        seed: of that split.
        classes: the classes a model knows; the data may then have fewer.
        whole: hold nothing out.
        only: names of the classes that are wanted; images of others are left out. Empty for all.
        fold: of tables with a column of folds the one to validate with; -1 for none. ``whole`` holds none out.

    Returns:
        ``train`` and ``val``, and ``test`` where the data has it. With ``whole``, the parts that the data has, or
        ``all`` where it has none.

    Raises:
        InputError: data that cannot be read, see the formats; no train part, or a class missing from it; a name in
            ``only`` that is no class; a fold of data that has none.
        WorkError: ``fashion-mnist`` or a dataset of the hub could not be had.
        ModuleNotFoundError: a format needs a package of the extra ``data``.
    """
    try:
        splits = _parts(data, channels, None if only else classes, -1 if whole else fold)
    except InputError as error:
        raise _explained(data, error) if classes is None else error from None
    if only:
        splits = choose(data, splits, only, classes)
    return splits if whole else as_trained(data, splits, lambda train: hold_out(train, val_fraction, seed))


def as_trained(data: str, splits: dict[str, Set], split: Callable[[Set], tuple[Set, Set]]) -> dict[str, Set]:
    """The parts that a training takes: ``all`` is train, and without a val part some of train is.

    Args:
        data: its name, for messages.
        sets: the parts that the data has.
        split: of a set into what is trained on and what is held out.

    Raises:
        InputError: no train part, or nothing to hold out.
    """
    splits = {"train" if name == "all" else name: part for name, part in splits.items()}
    if "train" not in splits:
        raise InputError(f"{data}: has no train part, only {', '.join(splits)}")
    if "val" not in splits:
        splits["train"], splits["val"] = split(splits["train"])
        if not len(splits["val"]):
            few = "one image a class" if isinstance(splits["train"], LabelledDataset) else "one image"
            raise InputError(f"{data}: {few} leaves none to validate with: add images, or a val part")
    return {name: splits[name] for name in in_order(splits)}


def found_in(data: str, find: Callable[[Path], Found | None], held: str, layouts: str) -> Found:
    """What is found in annotated data.

    Args:
        data: its name.
        find: says what is at a path, None where that is of no known form.
        held: what is looked for, for messages.
        layouts: the known forms, for messages.

    Raises:
        InputError: an empty name, nothing of a known form, and what ``find`` raises.
    """
    if not data:
        raise InputError("the data's name is empty: give a folder or a file (. is the current folder)")
    path = Path(data)
    found = find(path)
    if found is not None:
        return found
    if not path.exists():
        raise InputError(f"{data}: no such file or folder: expected {layouts}")
    wrong = "is a file of none of the known forms" if path.is_file() else f"holds no {held} of a known form"
    near = nearest_layout(path)
    raise InputError(f"{data}: {wrong}{f': {near}' if near else ''}. Known: {layouts}")


def splits_of(
    data: str, splits: dict[str, Entries], *, val_fraction: float, seed: int, whole: bool, empty: bool
) -> dict[str, Entries]:
    """The parts of annotated data, as they are or as a training takes them.

    Args:
        data: its name, for messages.
        sets: the parts that the data has.
        val_fraction, seed, whole: see :func:`open_classification`.
        empty: whether a part may be without images.

    Raises:
        InputError: a part without images; see :func:`as_trained`.
    """
    without = next((name for name, part in splits.items() if not len(part)), None)
    if without is not None and not empty:
        raise InputError(f"{data}: no image in its part {without!r}")
    return splits if whole else as_trained(data, splits, lambda train: hold_out_entries(train, val_fraction, seed))


def _explained(data: str, error: InputError) -> InputError:
    """An error of data that was read as class folders: of a folder that looks like something else, it says so."""
    near = nearest_layout(Path(data)) if not _prefix(data)[0] and data and Path(data).is_dir() else ""
    return InputError(f"{data}: no known layout: {near} (read as class folders: {error})") if NEAREST in near else error


def choose(
    data: str, splits: Mapping[str, LabelledDataset], only: Sequence[str], classes: Classes | None
) -> dict[str, LabelledDataset]:
    """Some of the classes of labelled data; images of others are left out, and this is noted.

    Args:
        data: its name, for messages.
        sets: by part, with classes of their own.
        only: names of the classes.
        classes: those that a model knows; by default the data's, of which the chosen ones then remain.

    Raises:
        InputError: a name that is no class, none of whose images are there; fewer than two classes for a new model.
    """
    own = next(iter(splits.values())).classes
    chosen = (classes or own).select(only)
    known = classes or chosen
    if len(known) < 2:
        raise InputError(f"--classes: one class only ({known.names[0]}): a classifier needs two or more")
    places = {name: known.names.index(name) for name in chosen.names}
    result: dict[str, LabelledDataset] = {}
    for name, part in splits.items():
        names = [part.classes.names[label] for label in part.labels]
        kept = [i for i, label in enumerate(names) if label in places]
        if not kept:
            raise InputError(f"{data}: no image in its part {name!r} is of the classes {', '.join(chosen.names[:5])}")
        result[name] = Subset(part, kept, known, [places[names[i]] for i in kept])
        left = {label for label in names if label not in places}
        if left:
            message = (
                f"{name}: {len(left):,} of {len(set(names)):,} classes left out, {len(names) - len(kept):,} images"
            )
            result[name].notes = [*part.notes, Finding("class-left-out", message, name, count=len(names) - len(kept))]
    return result


def _parts(data: str, channels: int, classes: Classes | None, fold: int) -> dict[str, LabelledDataset]:
    if not data:
        raise InputError("the data's name is empty: give a folder, a table or a sample (. is the current folder)")
    if Path(data).suffix.lower() in table.SUFFIXES and not Path(data).is_dir():
        return dict(table.open_table(Path(data), channels, classes, fold))
    if fold >= 0:
        raise InputError(f"{data}: --fold {fold} is for tables with a column of folds")
    if data == FASHION_MNIST:
        return {"train": FashionMNIST(True, channels, classes), "test": FashionMNIST(False, channels, classes)}
    prefix, name = _prefix(data)
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
        raise InputError(f"{data}: no such folder or table (nor a sample: {FASHION_MNIST})")
    if folder.is_file():
        raise InputError(f"{data}: is a file: give a folder with one sub-folder per class, or a table ({_TABLES})")
    parts = split_folders(folder)
    if not parts:
        return {"all": ImageFolder(folder, channels, classes)}
    splits: dict[str, LabelledDataset] = {}
    for name, part in parts.items():  # train comes first, and says what the classes are
        splits[name] = ImageFolder(part, channels, classes, folder)
        classes = splits[name].classes
    first = next(iter(splits.values()))
    first.notes = [*first.notes, *beside_splits(folder, parts)]
    return splits


def fingerprint(data: str, splits: Mapping[str, ImageDataset]) -> dict[str, str]:
    """What a training's data is recognised by later: its place, and its images' names, both as hashes."""
    names = sorted(part.key(i) for name, part in splits.items() if name != "test" for i in range(len(part)))
    prefix, name = _prefix(data)
    named = data == FASHION_MNIST or (prefix == "hfds" and not Path(name).exists())
    place = data if named else str(Path(name).resolve())
    return {"place": _hash(place), "images": _hash("\n".join(names))}


def class_folders(data: str, splits: Mapping[str, ImageDataset]) -> list[Path]:
    """The folders, resolved, in which another folder would be taken for a class; none for data of other forms."""
    wholes = [_whole(part) for part in splits.values()]
    folders = {part.folder.resolve() for part in wholes if isinstance(part, ImageFolder)}
    # A lone train folder beside others is a class itself: see split_folders.
    return sorted(folders) if len(folders) != 1 else [Path(data).resolve()]


def _whole(part: ImageDataset) -> ImageDataset:
    while isinstance(part, Subset):
        part = part.dataset
    return part


def _prefix(data: str) -> tuple[str, str]:
    """timm's prefix of a name (``wds/``, ``hfds/`` ...) in lower case, and the rest; no prefix before a plain path."""
    prefix, slash, name = data.partition("/")
    return (prefix.lower(), name) if slash and prefix.lower() in ("wds", "hfds", *_REFUSED) else ("", data)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()
