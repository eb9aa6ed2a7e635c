"""YOLO: a ``data.yaml`` that names classes and pictures, and a text file of normalised objects for each picture."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from fishnet.data.files import lines_of, upright_size
from fishnet.data.findings import Finding
from fishnet.data.labels import Classes
from fishnet.data.pictures import find_pictures
from fishnet.data.problems import complain
from fishnet.data.regions.files import FileRegions, outline_area
from fishnet.data.regions.objects import Objects
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError

LAYOUTS = "YOLO (data.yaml)"
_BEYOND = 1e-3  # that values may be outside of 0..1 by


@dataclass(frozen=True)
class YoloEntry:
    """A picture and its objects.

    Attributes:
        path: of the picture.
        text: of its label file, which need not exist.
        classes: (n,) numbers in the file's names.
        shapes: n arrays of 4 numbers (box: centre x, y, width, height) or of more (corners x, y, ...), 0..1.
        lines: (n,) of the label file.
    """

    path: Path
    text: Path
    classes: tuple[int, ...]
    shapes: tuple[NDArray[np.float32], ...]
    lines: tuple[int, ...]


@dataclass(frozen=True)
class YoloFile:
    """A ``data.yaml``.

    Attributes:
        path: of the file.
        names: of the classes by number.
        parts: folders and lists of pictures of each part, as the file spells them.
        root: folder that these start from.
    """

    path: Path
    names: dict[int, str]
    parts: dict[str, tuple[str, ...]]
    root: Path


class YoloRegions(FileRegions):
    """One part of a YOLO data set: boxes ``class x y width height`` or outlines ``class x1 y1 x2 y2 x3 y3 ...``.

    Label files lie where the picture does, with the last folder ``images`` of its path called ``labels``. A picture
    without one has no objects.

    Args:
        file: the ``data.yaml``.
        part: train, val or test.
        channels: that pictures are read with.
        classes: the classes that are known, by name; by default those of the file, with their numbers.
        masks: whether objects come with segmentations, which takes outlines.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: no such pictures, none of them with a label file, or a line that is no object; file and line are
            named.
    """

    def __init__(
        self,
        file: YoloFile,
        part: str,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        problems: list[Finding] | None = None,
    ) -> None:
        self.folder, self.channels, self.with_masks = file.root, channels, masks
        self.names = file.names
        numbers = sorted(file.names)
        self.classes = classes or Classes(tuple(file.names[number] for number in numbers), tuple(numbers))
        self.index = {name: i for i, name in enumerate(self.classes.names)}
        pictures = [path for named in file.parts[part] for path in _pictures(file, part, named)]
        self.entries = [self._entry(path, problems) for path in dict.fromkeys(pictures)]
        if not any(entry.text.is_file() for entry in self.entries):
            first = self.entries[0].text if self.entries else "labels"
            raise InputError(f"{file.path}: no picture of {part} has a label file: {first} is not there, nor any other")

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.regions.base.RegionSet`; reads the picture's header, as the numbers are shares."""
        entry = self.entries[index]
        size = upright_size(entry.path, self.channels)
        scale = np.array([size[1], size[0]], np.float64)
        outlines = [_corners(shape).astype(np.float64) * scale for shape in entry.shapes]
        return Objects.of(
            [(*corners.min(0), *corners.max(0)) for corners in outlines],
            [self.index[self.names[number]] for number in entry.classes],
            size,
            areas=[outline_area(corners) for corners in outlines],
            segmentations=[[corners.reshape(-1).tolist()] for corners in outlines] if self.with_masks else None,
        )

    def place(self, index: int, number: int) -> str:
        """The label file, and the object's line."""
        entry = self.entries[index]
        return f"{entry.text} line {entry.lines[number]}" if 0 <= number < len(entry.lines) else str(entry.text)

    def _entry(self, path: Path, problems: list[Finding] | None) -> YoloEntry:
        text = _text_of(path)
        rows = []
        try:
            for line, row in lines_of(text) if text.is_file() else ():
                try:
                    rows.append((*self._object(row), line))
                except InputError as error:
                    complain(f"{text} line {line}: {error}", problems)
        except InputError as error:
            complain(str(error), problems)
        classes, shapes, lines = zip(*rows, strict=True) if rows else ((), (), ())
        return YoloEntry(path, text, classes, shapes, lines)

    def _object(self, row: str) -> tuple[int, NDArray[np.float32]]:
        word, *words = row.split()
        try:
            number, values = float(word), np.array([float(word) for word in words], np.float32)
        except ValueError:
            raise InputError(f"holds something that is no number: {row[:40]!r}") from None
        if number not in self.names:
            known = (
                ", ".join(map(str, self.names)) if len(self.names) <= 10 else f"{min(self.names)} to {max(self.names)}"
            )
            raise InputError(f"class {word} is not among the names, which have {known}")
        if self.names[int(number)] not in self.index:
            raise InputError(f"class {self.names[int(number)]!r} is not known ({', '.join(self.classes.names[:5])})")
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise InputError(
                f"{len(values)} numbers after the class: a box has 4, an outline x and y of three points or more"
            )
        if not ((values >= -_BEYOND) & (values <= 1 + _BEYOND)).all():
            bad = values[~((values >= -_BEYOND) & (values <= 1 + _BEYOND))][0]
            raise InputError(f"{bad:g} is outside of 0 to 1: values are shares of the picture's width and height")
        if self.with_masks and len(values) == 4:
            raise InputError("a box (or an outline of two points), but masks take three points: use train detect")
        return int(number), values


def _corners(shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2) corners of a box or an outline."""
    if len(shape) != 4:
        return shape.reshape(-1, 2)
    (x, y), (w, h) = shape[:2], shape[2:] / 2
    return np.array([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)], np.float32)


def _text_of(picture: Path) -> Path:
    """The label file of a picture."""
    parts = list(picture.with_suffix(".txt").parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts)


def _pictures(file: YoloFile, part: str, named: str) -> Iterator[Path]:
    """The pictures of a folder or a list, which may be named from the file's folder, or wrongly from one beside it."""
    bare = named
    while bare.startswith(("../", "./")):
        bare = bare.partition("/")[2]
    places = [folder / name for name in (named, bare) for folder in (file.root, file.path.parent)]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise InputError(f"{file.path}: {part}: no such folder or list: {places[0]}")
    if place.is_dir():
        found = find_pictures(Path(os.path.normpath(place)))
        if not found:
            raise InputError(f"{file.path}: {part}: no picture in {place}")
        yield from found
        return
    for _, row in lines_of(place):
        yield Path(os.path.normpath((place.parent if row.startswith("./") else file.root) / row))


def find_yolo(data: Path) -> Path | None:
    """The YAML file that a name stands for: itself, or the only one in a folder that has ``names`` and ``train``."""
    suffixes = (".yaml", ".yml")
    if data.is_file():
        return data if data.suffix.lower() in suffixes else None
    inside = sorted(data.iterdir()) if data.is_dir() else []
    files = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
    named = [path for path in files if path.stem == "data"] or [path for path in files if _fits(path)]
    return named[0] if len(named) == 1 else None


def _fits(path: Path) -> bool:
    try:
        content = yaml.safe_load(path.read_bytes())
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "names" in content and any(split_named(str(key)) for key in content)


def read_yaml(path: Path) -> YoloFile:
    """Reads a ``data.yaml``.

    Raises:
        InputError: not YAML, no names, names that are not unique, or no part.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected the keys names, train and val")
    given = content.get("names")
    numbered = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(numbered, dict) or not numbered or not all(type(key) is int for key in numbered):
        raise InputError(f"{path}: names must list the classes: [cat, dog], or 0: cat, 1: dog")
    names = {key: str(name) for key, name in sorted(numbered.items())}
    try:
        Classes(tuple(names.values()), tuple(names))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    found = {
        part: _listed(path, key, value) for key, value in content.items() if (part := split_named(str(key))) and value
    }
    if not found:
        raise InputError(f"{path}: names no part: train and val must say where the pictures are")
    base = content.get("path")
    root = path.parent / str(base) if base else path.parent
    return YoloFile(
        path, names, {part: found[part] for part in in_order(found)}, root if root.is_dir() else path.parent
    )


def _listed(path: Path, key: Any, value: Any) -> tuple[str, ...]:
    places = value if isinstance(value, list) else [value]
    if not all(isinstance(place, str) for place in places):
        raise InputError(f"{path}: {key} must be a folder, a .txt list of pictures, or several of these")
    return tuple(places)


def open_yolo(
    path: Path,
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    problems: list[Finding] | None = None,
) -> dict[str, YoloRegions]:
    """Opens a ``data.yaml``. Raises InputError, see :func:`read_yaml` and :class:`YoloRegions`."""
    file = read_yaml(path)
    return {part: YoloRegions(file, part, channels, classes, masks=masks, problems=problems) for part in file.parts}
