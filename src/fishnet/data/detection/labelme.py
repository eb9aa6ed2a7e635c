"""labelme: a file of JSON for each image, with the shapes drawn on it."""

import base64
import binascii
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import first_problem, report
from fishnet.data.detection.bitmaps import BitmapReader
from fishnet.data.detection.image_places import ImagePlaces
from fishnet.data.detection.outlines import Bits, Outline, circle, points, rectangle
from fishnet.data.detection.shapes import Shape, ShapeDetection, ShapeEntry, by_split, once
from fishnet.errors import InputError
from fishnet.files.documents import read_json
from fishnet.files.reading import is_regular, open_regular
from fishnet.files.walking import is_system, walk
from fishnet.images.decoding import EXTENSIONS, decode_image, size_of

LAYOUTS = "labelme (a .json beside each image)"
IGNORED = "__ignore__"
"""labelme's label of what is neither learnt from nor measured."""

_WITHOUT_AREA = {"point": "points", "points": "points", "line": "lines", "linestrip": "lines"}
_POLYGONS = {"polygon", "rotation", "oriented_rectangle", "", None}
_HEAD = 1 << 16  # bytes in which a file shows what it is
_PROBED = 20  # files that are looked at in a folder
_LISTED = 1000  # entries of a folder in which these are looked for


class LabelmeFile(NamedTuple):
    """An annotation file as read.

    Attributes:
        entry: the image and its objects.
        ignored: how many shapes of each kind are no objects.
    """

    entry: ShapeEntry
    ignored: Counter[str]


class LabelmeSplit(NamedTuple):
    """The annotation files of a split.

    Attributes:
        root: the dataset's folder.
        files: one an image.
    """

    root: Path
    files: tuple[Path, ...]


class LabelmeDetection(ShapeDetection):
    """Images annotated with labelme: rectangles, polygons, circles and bitmaps.

    Shapes of one group and one label are one object. Points and lines have no area and are counted as ignored; so are
    shapes labelled ``__ignore__``.

    Args:
        part: where the files lie.
        channels: that images are read with.
        classes: the classes that are known, by name; by default those of the files, in the order of the alphabet.
        masks: whether objects come with segmentations.
        with_ignored: keep ``__ignore__`` as a class.

    Raises:
        InputError: a file that is none of labelme's, a shape that cannot be read, no image where it names one, no
            objects at all; see also :class:`~fishnet.data.detection.shapes.ShapeDetection`.
    """

    def __init__(
        self,
        part: LabelmeSplit,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        with_ignored: bool = False,
    ) -> None:
        places, ignored = ImagePlaces(part.root), Counter[str]()
        read = [one for file in part.files if (one := _read(file, places)) is not None]
        entries = once([each.entry for each in read])
        for each in read:
            ignored += each.ignored
        if not with_ignored:
            entries = [_without_ignored(entry, ignored) for entry in entries]
        names = {shape.name for entry in entries for shape in entry.shapes} - {IGNORED}
        if not names and classes is None:
            raise InputError(f"{part.root}: no object in {len(part.files)} labelme files{first_problem()}")
        known = classes or Classes.of([*sorted(names), *([IGNORED] if with_ignored else [])])
        super().__init__(part.root, entries, channels, known, masks=masks, ignored=ignored)
        annotated = {entry.path for entry in entries}
        folders = {entry.path.parent for entry in entries}
        self.left_out = tuple(
            str(path) for folder in sorted(folders) for path in _images(folder) if path not in annotated
        )

    def encoded(self, index: int) -> bytes:
        """The image file's content, or what the annotation file holds in its place."""
        entry: ShapeEntry = self.entries[index]
        return _embedded(entry.file) if entry.embedded else super().encoded(index)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image itself, px."""
        if not self.entries[index].embedded:
            return super().size(index)
        return size_of(decode_image(self.encoded(index), self.channels, self.source(index)))


def _read(file: Path, places: ImagePlaces) -> LabelmeFile | None:
    try:
        return read_labelme(file, places)
    except InputError as error:
        report(str(error), file=str(file))
        return None


def read_labelme(file: Path, places: ImagePlaces) -> LabelmeFile:
    """Reads an annotation file.

    Args:
        file: of labelme.
        places: of the dataset's images.

    Raises:
        InputError: not labelme's JSON, or no image.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{file}: no labelme file: it has no list of shapes")
    objects: dict[Any, Shape] = {}
    ignored, bitmaps = Counter[str](), BitmapReader()
    for number, shape in enumerate(content["shapes"]):
        where = f"shapes[{number}]"
        try:
            kind = _WITHOUT_AREA.get(str(shape.get("shape_type"))) if isinstance(shape, dict) else None
            if kind is not None:
                ignored[kind] += 1
                continue
            name, group, outline = _shape(shape, bitmaps)
        except InputError as error:
            report(f"{file}: {where}: {error}", file=str(file))
            continue
        key = (name, group) if group is not None else number
        before = objects.get(key)
        objects[key] = (
            before._replace(outline=before.outline.joined(outline)) if before else Shape(name, outline, where)
        )
    path, embedded = _image(file, content, places)
    entry = ShapeEntry(path, file, _size(content), tuple(objects.values()), embedded)
    return LabelmeFile(entry, ignored)


def _shape(shape: Any, bitmaps: BitmapReader) -> tuple[str, Any, Outline]:
    """Label, group and extent of a shape."""
    if not isinstance(shape, dict):
        raise InputError("is no shape with label and points")
    name, group, kind = shape.get("label"), shape.get("group_id"), shape.get("shape_type")
    if type(name) not in (str, int) or not str(name).strip():
        raise InputError("has no label")
    if type(group) not in (int, str, type(None)):
        raise InputError("group_id must be a whole number")
    return str(name), group, _outline(kind, shape, bitmaps)


def _outline(kind: Any, shape: dict[str, Any], bitmaps: BitmapReader) -> Outline:
    corners = shape.get("points")
    if kind == "rectangle":
        return rectangle(points(corners, 2, 4))
    if kind == "circle":
        return circle(points(corners, 2, 2))
    if kind == "mask":
        (left, top), (right, bottom) = points(corners, 2, 2).astype(int).tolist()
        bits = bitmaps.read(shape.get("mask"), (abs(bottom - top) + 1, abs(right - left) + 1))
        return Outline(bits=(Bits.of(bits, min(left, right), min(top, bottom)),))
    if isinstance(kind, str | None) and kind in _POLYGONS:
        return Outline((points(corners, 3),))
    raise InputError(
        f"shape_type {str(kind)[:40]!r} is not known: rectangle, polygon, circle, mask, points and lines are"
    )


def _size(content: dict[str, Any]) -> tuple[int, int]:
    sides = [content.get(key) for key in ("imageHeight", "imageWidth")]
    height, width = (side if type(side) is int and 0 < side < 1 << 24 else 0 for side in sides)
    return (height, width) if height and width else (0, 0)


def _image(file: Path, content: dict[str, Any], places: ImagePlaces) -> tuple[Path, bool]:
    """The image's path, and whether the annotation file itself holds it."""
    named = content.get("imagePath")
    name = named if isinstance(named, str) else ""
    own = (f"{file.stem}{suffix}" for suffix in EXTENSIONS)
    path = next((path for one in (name, *own) if one and (path := places.at(one, file.parent))), None)
    if path is not None:
        return path, False
    if content.get("imageData"):
        return file.with_suffix(".png"), True
    try:
        return places.find(name or file.with_suffix("").name, file.parent), False
    except InputError as error:
        raise InputError(f"{file}: imagePath: {error}, and the file holds no imageData") from None


def _embedded(file: Path) -> bytes:
    """The image that an annotation file holds."""
    content = read_json(file)
    data = content.get("imageData") if isinstance(content, dict) else None
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except (binascii.Error, ValueError):
        raise InputError(f"{file}: imageData is no base64 text") from None


def _without_ignored(entry: ShapeEntry, ignored: Counter[str]) -> ShapeEntry:
    kept = tuple(shape for shape in entry.shapes if shape.name != IGNORED)
    if len(kept) < len(entry.shapes):
        ignored[f"{IGNORED} shapes"] += len(entry.shapes) - len(kept)
    return replace(entry, shapes=kept)


def _images(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in sorted(folder.iterdir()) if path.suffix.lower() in EXTENSIONS)


def find_labelme(data: Path) -> dict[str, LabelmeSplit]:
    """The splits of a folder of labelme files; ``all`` without splits, nothing where it holds none.

    Args:
        data: a folder of images and JSON files, or with such folders inside: by split, by session, or one of images
            and one of files.

    Raises:
        InputError: some files lie in a folder of a split, others in none.
    """
    if not data.is_dir() or not _holds_labelme(data):
        return {}
    files = [path for path in walk(data) if path.suffix.lower() == ".json"]
    files = [path for path in files if not is_regular(path) or _sniffed(path)]  # what is no file is said when read
    return {split: LabelmeSplit(data, tuple(some)) for split, some in by_split(files, data, "labelme files").items()}


def _holds_labelme(data: Path) -> bool:
    """Whether the first JSON files in a folder, or in the folders below it, are labelme's."""
    own, below = _first(data)
    if own:
        return _mostly(own)
    for folder in below:
        own, inner = _first(folder)
        if own:
            return _mostly(own)
        if any(_mostly(_first(one)[0]) for one in inner):
            return True
    return False


def _mostly(files: list[Path]) -> bool:
    return bool(files) and sum(map(_sniffed, files)) >= len(files) / 2


def _first(folder: Path) -> tuple[list[Path], list[Path]]:
    """The first JSON files in a folder, and the first folders."""
    try:
        with os.scandir(folder) as entries:
            some = [entry for entry in islice(entries, _LISTED) if not is_system(entry.name)]
    except OSError:
        return [], []
    some.sort(key=lambda entry: entry.name)
    files = [folder / entry.name for entry in some if entry.name.lower().endswith(".json")]
    return files[:_PROBED], [place for entry in some if (place := folder / entry.name).is_dir()][:_PROBED]


def _sniffed(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
    except InputError:
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"shapes"' in head and b'"annotations"' not in head


def open_labelme(
    found: dict[str, LabelmeSplit],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    with_ignored: bool = False,
) -> dict[str, LabelmeDetection]:
    """Opens what :func:`find_labelme` found; the first split says what the classes are. Raises InputError."""
    splits: dict[str, LabelmeDetection] = {}
    for name, part in found.items():
        splits[name] = LabelmeDetection(part, channels, classes, masks=masks, with_ignored=with_ignored)
        classes = splits[name].classes
    return splits
