"""labelme: a JSON file per image, with the shapes drawn on it."""

import base64
import binascii
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import first_problem, report
from fishnet.data.detection.bitmaps import BitmapReader
from fishnet.data.detection.files import first_entries, json_head
from fishnet.data.detection.image_finder import ImageFinder
from fishnet.data.detection.outlines import Bits, Outline, circle, points, rectangle
from fishnet.data.detection.shapes import Shape, ShapeDetection, ShapeEntry, by_split, drop_duplicates, size_in_file
from fishnet.errors import InputError
from fishnet.files.documents import read_json
from fishnet.files.reading import is_regular
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS, decode_image, size_of

LAYOUTS = "labelme (a .json beside each image)"
IGNORED = "__ignore__"
"""labelme's label for shapes that are neither trained on nor evaluated."""

_WITHOUT_AREA = {"point": "points", "points": "points", "line": "lines", "linestrip": "lines"}
_POLYGONS = {"polygon", "rotation", "oriented_rectangle", "", None}
_PROBED = 20  # files and folders in a folder that are inspected


class LabelmeFile(NamedTuple):
    """The content of an annotation file.

    Attributes:
        entry: the image and its objects.
        ignored: the number of shapes that are not objects, by kind.
    """

    entry: ShapeEntry
    ignored: Counter[str]


class LabelmeSplit(NamedTuple):
    """The annotation files of a split.

    Attributes:
        root: the dataset's folder.
        files: one per image.
    """

    root: Path
    files: tuple[Path, ...]


class LabelmeDetection(ShapeDetection):
    """Images annotated with labelme: rectangles, polygons, circles and bitmaps.

    Shapes with the same group and label are one object. Points and lines, which have no area, and shapes labelled
    ``__ignore__`` are counted as ignored. By default the classes are those of the files, in alphabetical order.

    Args:
        source, channels, classes, masks: see :class:`~fishnet.data.detection.files.FileDetection`.
        with_ignored: whether to keep ``__ignore__`` as a class.

    Raises:
        InputError: not a labelme file, a shape that cannot be read, a missing image, or no objects; see also
            :class:`~fishnet.data.detection.shapes.ShapeDetection`.
    """

    def __init__(
        self,
        source: LabelmeSplit,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        with_ignored: bool = False,
    ) -> None:
        finder, ignored = ImageFinder(source.root), Counter[str]()
        contents = [content for file in source.files if (content := _read(file, finder)) is not None]
        entries = drop_duplicates(content.entry for content in contents)
        for content in contents:
            ignored += content.ignored
        if not with_ignored:
            entries = [_without_ignored(entry, ignored) for entry in entries]
        names = {shape.name for entry in entries for shape in entry.shapes} - {IGNORED}
        if not names and classes is None:
            raise InputError(f"{source.root}: no object in {len(source.files)} labelme files{first_problem()}")
        known = classes or Classes.of([*sorted(names), *([IGNORED] if with_ignored else [])])
        super().__init__(source.root, entries, channels, known, masks=masks, ignored=ignored)
        annotated = {entry.path for entry in entries}
        folders = {entry.path.parent for entry in entries}
        images = (path for folder in sorted(folders) if folder.is_dir() for path in sorted(folder.iterdir()))
        self.left_out = tuple(
            str(path) for path in images if path.suffix.lower() in EXTENSIONS and path not in annotated
        )

    def encoded(self, index: int) -> bytes:
        """The content of the image file, or of the image in the annotation file."""
        entry: ShapeEntry = self.entries[index]
        return _embedded(entry.file) if entry.embedded else super().encoded(index)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the image itself, px."""
        if not self.entries[index].embedded:
            return super().size(index)
        return size_of(decode_image(self.encoded(index), self.channels, self.source(index)))


def _read(file: Path, images: ImageFinder) -> LabelmeFile | None:
    try:
        return read_labelme(file, images)
    except InputError as error:
        report(str(error), file=str(file))
        return None


def read_labelme(file: Path, images: ImageFinder) -> LabelmeFile:
    """Reads an annotation file.

    Args:
        file: the annotation file.
        images: finds the dataset's images.

    Raises:
        InputError: not a labelme file, or no image.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{file}: not a labelme file: it has no list of shapes")
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
        first = objects.get(key)
        objects[key] = first._replace(outline=first.outline.joined(outline)) if first else Shape(name, outline, where)
    path, embedded = _image(file, content, images)
    size = size_in_file(content.get("imageHeight"), content.get("imageWidth"))
    return LabelmeFile(ShapeEntry(path, file, size, tuple(objects.values()), embedded), ignored)


def _shape(shape: Any, bitmaps: BitmapReader) -> tuple[str, Any, Outline]:
    """The label, the group and the outline of a shape."""
    if not isinstance(shape, dict):
        raise InputError("is not a shape with label and points")
    name, group, kind = shape.get("label"), shape.get("group_id"), shape.get("shape_type")
    if type(name) not in (str, int) or not str(name).strip():
        raise InputError("has no label")
    if type(group) not in (int, str, type(None)):
        raise InputError("group_id must be an integer or a text")
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
        f"shape_type {str(kind)[:40]!r} is not supported: rectangle, polygon, circle, mask, points and lines are"
    )


def _image(file: Path, content: dict[str, Any], images: ImageFinder) -> tuple[Path, bool]:
    """The path of the image, and whether it is inside the annotation file."""
    named = content.get("imagePath")
    name = named if isinstance(named, str) else ""
    names = (name, *(f"{file.stem}{suffix}" for suffix in EXTENSIONS))
    path = next((path for name in names if name and (path := images.at(name, file.parent))), None)
    if path is not None:
        return path, False
    if content.get("imageData"):
        return file.with_suffix(".png"), True
    try:
        return images.find(name or file.with_suffix("").name, file.parent), False
    except InputError as error:
        raise InputError(f"{file}: imagePath: {error}, and the file has no imageData") from None


def _embedded(file: Path) -> bytes:
    """The image file inside an annotation file."""
    content = read_json(file)
    data = content.get("imageData") if isinstance(content, dict) else None
    try:
        return base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except (binascii.Error, ValueError):
        raise InputError(f"{file}: imageData is not base64 text") from None


def _without_ignored(entry: ShapeEntry, ignored: Counter[str]) -> ShapeEntry:
    kept = tuple(shape for shape in entry.shapes if shape.name != IGNORED)
    if len(kept) < len(entry.shapes):
        ignored[f"{IGNORED} shapes"] += len(entry.shapes) - len(kept)
    return replace(entry, shapes=kept)


def find_labelme(data: Path) -> dict[str, LabelmeSplit]:
    """Finds labelme files by split; ``all`` if there are no splits, empty if there are no such files.

    Args:
        data: a folder of images and JSON files, or a folder with such folders inside: one per split, one per session,
            or one of images and one of JSON files.

    Raises:
        InputError: some files are in a train, val or test folder and others are not.
    """
    if not data.is_dir() or not _holds_labelme(data):
        return {}
    files = [path for path in walk(data) if path.suffix.lower() == ".json"]
    files = [path for path in files if not is_regular(path) or _is_labelme(path)]  # reading the others raises an error
    return {split: LabelmeSplit(data, tuple(paths)) for split, paths in by_split(files, data, "labelme files").items()}


def _holds_labelme(data: Path) -> bool:
    """Whether the first JSON files in a folder, or in the folders up to two levels below, are labelme's."""
    files, folders = _first(data)
    if files:
        return _mostly_labelme(files)
    for folder in folders:
        files, subfolders = _first(folder)
        if files:
            return _mostly_labelme(files)
        if any(_mostly_labelme(_first(subfolder)[0]) for subfolder in subfolders):
            return True
    return False


def _mostly_labelme(files: list[Path]) -> bool:
    return bool(files) and sum(map(_is_labelme, files)) >= len(files) / 2


def _first(folder: Path) -> tuple[list[Path], list[Path]]:
    """The first JSON files and the first folders in a folder."""
    paths = first_entries(folder)
    files = [path for path in paths if path.name.lower().endswith(".json")]
    return files[:_PROBED], [path for path in paths if path.is_dir()][:_PROBED]


def _is_labelme(path: Path) -> bool:
    head = json_head(path)
    return b'"shapes"' in head and b'"annotations"' not in head
