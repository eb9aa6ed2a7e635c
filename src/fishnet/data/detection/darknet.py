"""YOLO without ``data.yaml``: a list of class names beside the images, or Darknet's ``obj.data``."""

import os
from pathlib import Path
from typing import Any

from fishnet.bundle.classes import Classes
from fishnet.data.detection.yolo import YoloDetection
from fishnet.data.detection.yolo_yaml import YoloFile
from fishnet.data.files import find_split_folders, numbered_lines, subfolder
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.reading import is_regular
from fishnet.files.walking import inside
from fishnet.images.decoding import EXTENSIONS

LAYOUTS = "YOLO without data.yaml (classes.txt or obj.data and obj.names)"
NAMES = ("classes.txt", "obj.names", "classes.names", "labels.txt", "_darknet.labels")
_MAX_NAMES = 100_000


def read_names(path: Path) -> dict[int, str]:
    """Reads a list of class names by number, one per line from number 0. Blank lines at the end are ignored.

    Raises:
        InputError: no names, a blank line among them, or a repeated name.
    """
    rows = list(numbered_lines(path))
    if not rows or len(rows) > _MAX_NAMES:
        raise InputError(f"{path}: has {len(rows):,} class names: there must be 1 to {_MAX_NAMES:,}")
    for number, (line, _) in enumerate(rows, 1):
        if line != number:
            raise InputError(f"{path} line {number}: is blank: remove it, since line numbers are class numbers")
    names = [name for _, name in rows]
    try:
        Classes.of(names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return dict(enumerate(names))


def find_darknet(data: Path) -> YoloFile | None:
    """Finds the class names and the images; None if the data has another form.

    Args:
        data: a ``.data`` file; a folder with one; or a folder with a list of class names and images, which may be in
            ``images/``, in train, valid and test folders, or in the folder itself. Label files are next to the images
            or in ``labels/``.

    Raises:
        InputError: see :func:`read_names`; a ``.data`` file without names or without images.
    """
    if data.is_file():
        return _read_data(data) if data.suffix.lower() == ".data" else None
    if not data.is_dir():
        return None
    files = [path for path in sorted(data.glob("*.data")) if is_regular(path)]
    if len(files) == 1:
        return _read_data(files[0])
    names = next((path for name in NAMES if is_regular(path := data / name)), None)
    splits = _splits(data) if names else {}
    if names is None or not splits:
        return None
    return YoloFile(names, read_names(names), splits, data)


def _splits(data: Path) -> dict[str, tuple[str, ...]]:
    """The folder of images of each split; empty if there is no label file in the usual folders."""
    bases = [base for base in (subfolder(data, "images"), data) if base]
    for base in bases:
        folders = {split: subfolder(folder, "images") or folder for split, folder in find_split_folders(base).items()}
        folders = {split: folder for split, folder in folders.items() if _has_images(folder)}
        if any(_has_labels(data, folder) for folder in folders.values()):
            return {split: (str(folders[split]),) for split in in_order(folders)}
    return next(({"all": (str(base),)} for base in bases if _has_images(base) and _has_labels(data, base)), {})


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir())


def _has_labels(data: Path, images: Path) -> bool:
    """Whether there is a label file next to the images, or where ``labels`` replaces ``images`` in their path."""
    parts = list(images.relative_to(data).parts)
    indices = [i for i, part in enumerate(parts) if part.lower() == "images"]
    swapped = [*parts[: indices[-1]], "labels", *parts[indices[-1] + 1 :]] if indices else parts
    for folder in {images, data.joinpath(*swapped)}:
        texts = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        if any(path.name not in NAMES and _is_label(path) for path in texts[:20]):
            return True
    return False


def _is_label(path: Path) -> bool:
    try:
        _, row = next(numbered_lines(path), (0, ""))
        values = [float(word) for word in row.split()]
    except (InputError, ValueError):
        return False
    return len(values) >= 5


def _read_data(path: Path) -> YoloFile:
    """Reads a Darknet ``.data`` file: lines ``key = value``, with ``names``, ``train``, ``valid``."""
    values: dict[str, str] = {}
    for line, row in numbered_lines(path):
        if row.startswith("#"):
            continue
        key, equals, value = row.partition("=")
        if not equals:
            raise InputError(f"{path} line {line}: expected key = value")
        values[key.strip().lower()] = value.strip()
    if "names" not in values:
        raise InputError(f"{path}: names no file of class names (names = obj.names)")
    names = _resolved(path, values["names"], "names")
    splits = {split: value for key, value in values.items() if value and (split := split_named(key))}
    sources: dict[str, Path] = {}
    for split in in_order(splits):
        source = _resolved(path, splits[split], split)
        if source not in sources.values():  # train and valid of an export may be the same list
            sources[split] = source
    if not sources:
        raise InputError(f"{path}: names no images (train = train.txt)")
    root = _root(path, next(iter(sources.values())))
    return YoloFile(path, read_names(names), {split: (str(source),) for split, source in sources.items()}, root)


def _resolved(path: Path, value: str, key: str) -> Path:
    """A path in a ``.data`` file: relative to the file's folder or its parent, or its last component in the folder."""
    spelled = value.replace("\\", "/")
    around = path.parent.absolute().parent
    for candidate in (path.parent / spelled, path.parent.parent / spelled, path.parent / Path(spelled).name):
        if os.path.exists(candidate) and inside(around, candidate):  # noqa: PTH110 (False if the name is too long)
            return candidate
    raise InputError(f"{path}: {key}: no {value} in its folder or the one above")


def _root(path: Path, images: Path) -> Path:
    """The folder that the rows of a list are relative to: the one in which the first row exists."""
    row = next((row for _, row in numbered_lines(images)), "") if images.is_file() else ""
    folders = (path.parent, path.parent.parent, images.parent)
    return next((folder for folder in folders if row and is_regular(folder / row)), path.parent)


def open_darknet(file: YoloFile, channels: int, **options: Any) -> dict[str, YoloDetection]:
    """Opens the result of :func:`find_darknet`; for the options and errors see :class:`YoloDetection`."""
    return {split: YoloDetection(file, split, channels, **options) for split in file.splits}
