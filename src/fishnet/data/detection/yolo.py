"""YOLO: a ``data.yaml`` that names classes and images, and a text file of normalized boxes or outlines per image."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.detection.files import FileDetection, listed, unknown_class
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.detection.outlines import outline_area
from fishnet.data.detection.yolo_lines import Form, Row, form_of, read_rows
from fishnet.data.detection.yolo_pairs import Pairs, pair
from fishnet.data.detection.yolo_yaml import MAX_BYTES, YoloFile, read_yaml
from fishnet.data.files import numbered_lines, upright_size
from fishnet.data.findings import Finding
from fishnet.data.resolving import TailIndex
from fishnet.data.splits import split_named
from fishnet.errors import InputError
from fishnet.files.documents import read_yaml as read_plain
from fishnet.files.reading import is_regular
from fishnet.images.scanning import Scan, find_images, scan

LAYOUTS = "YOLO (data.yaml)"
_COMPANIONS = (".txt", ".cache")  # suffixes of label files, and of files that training tools write beside images
_Faults = list[tuple[int, str]]  # line and message


class UnlabelledError(InputError):
    """No image of a split has a label file."""


@dataclass(frozen=True)
class YoloEntry:
    """An image and its objects.

    Attributes:
        path: the image file.
        text: the label file, which need not exist.
        classes: (n,) class numbers as in the ``data.yaml``.
        shapes: n arrays of 4 values (a box: centre x, y, width, height) or more (corners x, y, ...), 0..1.
        lines: (n,) line numbers in the label file.
    """

    path: Path
    text: Path
    classes: tuple[int, ...]
    shapes: tuple[NDArray[np.float32], ...]
    lines: tuple[int, ...]


class YoloDetection(FileDetection):
    """One split of a YOLO dataset: boxes ``class x y width height`` or outlines ``class x1 y1 x2 y2 x3 y3 ...``.

    Images are paired with label files by :func:`~fishnet.data.detection.yolo_pairs.pair`. An image without one has no
    objects. For the forms of lines see :func:`~fishnet.data.detection.yolo_lines.form_of`; values after a box are
    dropped. By default the classes are those of the file, with their numbers. Masks need outlines.

    Args:
        file: the ``data.yaml``.
        split: train, val or test.
        channels, classes, masks: see :class:`~fishnet.data.detection.files.FileDetection`.

    Raises:
        InputError: no such images, no label file for any of them, label files without an image, or a line that is not
            an object. The message gives file and line.
    """

    notes: list[Finding]

    def __init__(
        self,
        file: YoloFile,
        split: str,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
    ) -> None:
        self.file, self.folder, self.channels, self.with_masks = file, file.root, channels, masks
        self.split, self.names, self.notes = split, file.names, []
        numbers = sorted(file.names)
        self.classes = classes or Classes(tuple(file.names[number] for number in numbers), tuple(numbers))
        self.index = {name: i for i, name in enumerate(self.classes.names)}
        self._sizes: dict[Path, tuple[int, int]] = {}
        scanned = Scan()
        named = [path for source in file.splits[split] for path in _images(file, split, source, scanned)]
        images = list(dict.fromkeys(named))
        self.links = scanned.links
        self.skipped = {suffix: count for suffix, count in scanned.skipped.items() if suffix not in _COMPANIONS}
        pairs = pair(images)
        if len(pairs.missing) == len(images):
            first = pairs.texts[images[0]] if images else "labels"
            raise UnlabelledError(
                f"{file.path}: no image of {split} has a label file: there is no {first}, nor any other"
            )
        self._report(pairs)
        if is_strict():  # when problems are collected, each image is read and reported later
            missing = [str(path) for path in images if not is_regular(path)]
            what = f"images of {split} that {file.path} names do not exist"
            action = "add them, or remove them from their list"
            report_orphans(missing, len(images), what, action, "image-missing", self.notes, split)
        rows = {path: self._rows(pairs.texts[path]) for path in images}
        form = self._form(rows)
        self.entries = [self._entry(path, pairs.texts[path], *rows[path], form) for path in images]

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`. Reads the image's header."""
        entry = self.entries[index]
        return self._scaled(entry, upright_size(entry.path, self.channels, self.reading), self.with_masks)

    def annotated_boxes(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`. Reads each image's header once."""
        entry = self.entries[index]
        if entry.path not in self._sizes:
            self._sizes[entry.path] = upright_size(entry.path, self.channels, self.reading)
        return self._scaled(entry, self._sizes[entry.path], False)

    def _scaled(self, entry: YoloEntry, size: tuple[int, int], masks: bool) -> Objects:
        scale = np.array([size[1], size[0]], np.float64)
        outlines = [_corners(shape).astype(np.float64) * scale for shape in entry.shapes]
        return Objects.of(
            [(*corners.min(0), *corners.max(0)) for corners in outlines],
            [self.index[self.names[number]] for number in entry.classes],
            size,
            areas=[outline_area(corners) for corners in outlines],
            segmentations=[[corners.reshape(-1).tolist()] for corners in outlines] if masks else None,
        )

    def location(self, index: int, number: int) -> str:
        """The label file, and the object's line."""
        entry = self.entries[index]
        return f"{entry.text} line {entry.lines[number]}" if 0 <= number < len(entry.lines) else str(entry.text)

    def _report(self, pairs: Pairs) -> None:
        """Reports label files without an image, images without a label file, and pairs whose names differ."""
        action, code = "name them like their images, or remove them", "label-without-image"
        unused = [str(path) for path in pairs.alone]
        report_orphans(unused, pairs.labels, "label files have no image", action, code, self.notes, self.split)
        missing = [str(path) for path in pairs.missing]
        if unused and not is_strict():  # otherwise no problem: images may have no objects
            what = "images have no label file, while some label files have no image"
            action, code = "name the label files like their images", "image-without-label"
            report_orphans(missing, len(pairs.texts), what, action, code, self.notes, self.split)
        elif missing:
            what = f"images of {len(pairs.texts):,} have no label file: {listed(missing, 3)}"
            self._note("image-without-label", what, len(missing))
        if pairs.by_tail:
            first = pairs.by_tail[0]
            what = f"images have a label file of another name, such as {first} and {pairs.texts[first].name}"
            self._note("label-paired-by-tail", what, len(pairs.by_tail))

    def _note(self, code: str, what: str, count: int) -> None:
        message = f"{self.file.path}: {self.split}: {count:,} {what}"
        self.notes.append(Finding(code, message, split=self.split, file=str(self.file.path), count=count))

    def _rows(self, text: Path) -> tuple[list[Row], _Faults]:
        try:
            return read_rows(text) if os.path.exists(text) else ([], [])  # noqa: PTH110 (False if the name is too long)
        except InputError as error:
            report(str(error), file=str(text))
        return [], []

    def _form(self, rows: dict[Path, tuple[list[Row], _Faults]]) -> Form | None:
        """The form of all lines; None if it is ambiguous."""
        values = [row.values for text_rows, _ in rows.values() for row in text_rows]
        try:
            form = form_of(values, self.file.keypoints)
        except InputError as error:
            report(f"{self.file.path}: {self.split}: {error}", "label-ambiguous")
            return None
        longer = sum(len(row) > 4 for row in values)
        if form.dropped and longer:
            self._note("label-values-dropped", f"lines have {form.dropped} after the box: dropped", longer)
        if form.corners:
            what = "lines (all of them) have four corners: read as outlines, whose upright boxes are learned"
            self._note("label-four-corners", what, len(values))
        return form

    def _entry(self, path: Path, text: Path, rows: list[Row], faults: _Faults, form: Form | None) -> YoloEntry:
        faults, kept = list(faults), []
        for row in rows if form else ():
            try:
                kept.append((*self._object(row, form or Form()), row.line))
            except InputError as error:
                faults.append((row.line, str(error)))
        for line, fault in sorted(faults):
            report(f"{text} line {line}: {fault}", file=str(text), line=line)
        classes, shapes, lines = zip(*kept, strict=True) if kept else ((), (), ())
        return YoloEntry(path, text, classes, shapes, lines)

    def _object(self, row: Row, form: Form) -> tuple[int, NDArray[np.float32]]:
        number = float(row.word)
        if number not in self.names:
            numbers = list(self.names)
            known = ", ".join(map(str, numbers)) if len(numbers) <= 10 else f"{numbers[0]} to {numbers[-1]}"
            raise InputError(f"class {row.word[:20]} is not among the names, which have {known}")
        if self.names[int(number)] not in self.index:
            raise InputError(unknown_class(self.names[int(number)], self.classes))
        shape = form.shape(row.values)
        if self.with_masks and len(shape) == 4:
            raise InputError("a box (or an outline of two points), but masks need three points: use train detect")
        return int(number), shape


def _corners(shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """The (n, 2) corners of a box or an outline."""
    if len(shape) != 4:
        return shape.reshape(-1, 2)
    (x, y), (w, h) = shape[:2], shape[2:] / 2
    return np.array([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)], np.float32)


def _images(file: YoloFile, split: str, named: str, scanned: Scan) -> Iterator[Path]:
    """The images of a folder or a list that a ``data.yaml`` names.

    The name is relative to the root or to the file's folder. Some tools write it relative to a folder beside the file:
    if it leads nowhere, its leading ``../`` are dropped. Skipped files and links are added to ``scanned``.
    """
    bare = named
    while bare.startswith(("../", "./")):
        bare = bare.partition("/")[2]
    candidates = [folder / name for name in (named, bare) for folder in (file.root, file.path.parent)]
    source = next((path for path in candidates if os.path.exists(path)), None)  # noqa: PTH110 (False if too long)
    if source is None:
        raise InputError(f"{file.path}: {split}: no such folder or list: {candidates[0]}")
    file.check_source(split, source)
    if source.is_dir():
        contents = scan(Path(os.path.normpath(source)), file.root)
        if not contents.images:
            raise InputError(f"{file.path}: {split}: no image in {source}")
        scanned.skipped.update(contents.skipped)
        scanned.links += contents.links
        yield from contents.images
        return
    tails: TailIndex | None = None
    for line, row in numbered_lines(source):
        path = Path(os.path.normpath((source.parent if row.startswith("./") else file.root) / row))
        if not is_regular(path):
            tails = tails or TailIndex(find_images(file.root))
            try:
                path = tails.find(row) or path
            except InputError as error:
                raise InputError(f"{source} line {line}: {error}") from None
        yield path


def find_yolo(data: Path) -> Path | None:
    """A YAML file, or the only one in a folder that has ``names`` and a split; None if there is none."""
    suffixes = (".yaml", ".yml")
    if data.is_file():
        return data if data.suffix.lower() in suffixes else None
    inside = sorted(data.iterdir()) if data.is_dir() else []
    files = [path for path in inside if path.suffix.lower() in suffixes and path.is_file()]
    matching = [path for path in files if path.stem == "data"] or [path for path in files if _is_yolo(path)]
    return matching[0] if len(matching) == 1 else None


def _is_yolo(path: Path) -> bool:
    try:
        content = read_plain(path, MAX_BYTES)
    except InputError:
        return False
    return isinstance(content, dict) and "names" in content and any(split_named(str(key)) for key in content)


def open_yolo(path: Path, channels: int, *, trusted: bool = False, **options: Any) -> dict[str, YoloDetection]:
    """Opens a ``data.yaml``. A test split without any label file is left out, with a note, if there are other splits.

    Args:
        path: the YAML file.
        channels: number of channels that images are read with.
        trusted: see :class:`~fishnet.data.detection.yolo_yaml.YoloFile`.
        **options: further arguments of :class:`YoloDetection`.

    Raises:
        InputError: see :func:`~fishnet.data.detection.yolo_yaml.read_yaml` and :class:`YoloDetection`.
    """
    file = read_yaml(path, trusted)
    splits: dict[str, YoloDetection] = {}
    for split in file.splits:
        try:
            splits[split] = YoloDetection(file, split, channels, **options)
        except UnlabelledError as error:
            if split != "test" or not splits:
                raise
            finding = Finding("image-without-label", f"{error}: test is left out", split, str(path))
            next(iter(splits.values())).notes.append(finding)
    return splits
