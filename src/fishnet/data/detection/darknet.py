"""YOLO without ``data.yaml``: a list of class names beside the images, or Darknet's ``obj.data``."""

import os
from pathlib import Path

from fishnet.bundle.classes import Classes
from fishnet.data.detection.yolo import YoloDetection
from fishnet.data.detection.yolo_yaml import YoloFile
from fishnet.data.files import child, lines_of, part_folders
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.reading import is_regular
from fishnet.files.walking import inside
from fishnet.images.decoding import EXTENSIONS

LAYOUTS = "YOLO without data.yaml (classes.txt or obj.data and obj.names)"
NAMES = ("classes.txt", "obj.names", "classes.names", "labels.txt", "_darknet.labels")
_MOST = 100_000  # class names


def read_names(path: Path) -> dict[int, str]:
    """The class names of a list, one a line; the first is number 0. Blank lines at its end do not count.

    Raises:
        InputError: no names, a blank line between others, or one name twice.
    """
    rows = list(lines_of(path))
    if not rows or len(rows) > _MOST:
        raise InputError(f"{path}: {len(rows):,} class names, where 1 to {_MOST:,} are possible")
    for number, (line, _) in enumerate(rows, 1):
        if line != number:
            raise InputError(f"{path} line {number}: is blank: numbers of classes are counted by lines")
    names = [name for _, name in rows]
    try:
        Classes.of(names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return dict(enumerate(names))


def find_darknet(data: Path) -> YoloFile | None:
    """The names and the images that a name stands for; None where it is something else.

    Args:
        data: a ``.data`` file; a folder with one; or a folder with a list of class names and, with label files beside
            the images or in ``labels/``, the images: in ``images/``, in train, valid and test folders, or in itself.

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
    parts = _parts(data) if names else {}
    if names is None or not parts:
        return None
    return YoloFile(names, read_names(names), parts, data)


def _parts(data: Path) -> dict[str, tuple[str, ...]]:
    """The folders of images of each split; none where no label file lies where one would."""
    images = child(data, "images")
    for base in (images, data):
        splits = part_folders(base) if base else {}
        found = {split: child(folder, "images") or folder for split, folder in splits.items()}
        labelled = {split: (str(folder),) for split, folder in found.items() if _has_images(folder)}
        if any(_has_labels(data, Path(folder)) for (folder,) in labelled.values()):
            return {split: labelled[split] for split in in_order(labelled)}
    return next(
        ({"all": (str(base),)} for base in (images, data) if base and _has_images(base) and _has_labels(data, base)), {}
    )


def _has_images(folder: Path) -> bool:
    return any(path.suffix.lower() in EXTENSIONS for path in folder.iterdir())


def _has_labels(data: Path, images: Path) -> bool:
    """Whether a text of numbers lies beside the images, or where their folder ``images`` is called ``labels``."""
    parts = list(images.relative_to(data).parts)
    places = [i for i, part in enumerate(parts) if part.lower() == "images"]
    swapped = [*parts[: places[-1]], "labels", *parts[places[-1] + 1 :]] if places else parts
    for folder in {images, data.joinpath(*swapped)}:
        texts = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        if any(path.name not in NAMES and _is_label(path) for path in texts[:20]):
            return True
    return False


def _is_label(path: Path) -> bool:
    try:
        _, row = next(lines_of(path), (0, ""))
        values = [float(word) for word in row.split()]
    except (InputError, ValueError):
        return False
    return len(values) >= 5


def _read_data(path: Path) -> YoloFile:
    """A Darknet ``.data`` file: lines ``key = value``, with ``names``, ``train``, ``valid``."""
    values: dict[str, str] = {}
    for line, row in lines_of(path):
        if row.startswith("#"):
            continue
        key, equals, value = row.partition("=")
        if not equals:
            raise InputError(f"{path} line {line}: expected key = value")
        values[key.strip().lower()] = value.strip()
    if "names" not in values:
        raise InputError(f"{path}: names no file of class names (names = obj.names)")
    names = _place(path, values["names"], "names")
    splits = {split: value for key, value in values.items() if value and (split := split_named(key))}
    places: dict[str, Path] = {}
    for split in in_order(splits):
        place = _place(path, splits[split], split)
        if place not in places.values():  # an export's train and valid may be one list
            places[split] = place
    if not places:
        raise InputError(f"{path}: names no images (train = train.txt)")
    root = _root(path, next(iter(places.values())))
    return YoloFile(path, read_names(names), {split: (str(place),) for split, place in places.items()}, root)


def _place(path: Path, value: str, key: str) -> Path:
    """What a ``.data`` file names: from its own folder or the one above, or by its last name."""
    spelled = value.replace("\\", "/")
    around = path.parent.absolute().parent
    for place in (path.parent / spelled, path.parent.parent / spelled, path.parent / Path(spelled).name):
        if os.path.exists(place) and inside(around, place):  # noqa: PTH110 (False of a name too long)
            return place
    raise InputError(f"{path}: {key}: no {value} in its folder or the one above")


def _root(path: Path, images: Path) -> Path:
    """The folder that a list's rows start from: where the first of them is."""
    row = next((row for _, row in lines_of(images)), "") if images.is_file() else ""
    folders = (path.parent, path.parent.parent, images.parent)
    return next((folder for folder in folders if row and is_regular(folder / row)), path.parent)


def open_darknet(
    file: YoloFile,
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
) -> dict[str, YoloDetection]:
    """Opens what :func:`find_darknet` found. Raises InputError, see :class:`YoloDetection`."""
    return {part: YoloDetection(file, part, channels, classes, masks=masks) for part in file.parts}
