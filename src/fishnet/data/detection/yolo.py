"""YOLO: a ``data.yaml`` that names classes and images, and a text file of normalized objects for each image."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.detection.outlines import outline_area
from fishnet.data.detection.yolo_lines import Form, Row, form_of, read_rows
from fishnet.data.detection.yolo_pairs import Pairs, pair
from fishnet.data.detection.yolo_yaml import LARGEST, YoloFile, read_yaml
from fishnet.data.files import lines_of, upright_size
from fishnet.data.findings import Finding
from fishnet.data.splits import split_named
from fishnet.data.tails import Tails
from fishnet.errors import InputError
from fishnet.files.documents import read_yaml as read_plain
from fishnet.files.reading import is_regular
from fishnet.images.scanning import Scan, find_images, scan

LAYOUTS = "YOLO (data.yaml)"
_BESIDE = (".txt", ".cache")  # endings of what belongs to images: labels, and what training tools keep
_Wrong = list[tuple[int, str]]


class UnlabelledError(InputError):
    """No image of a split has a label file."""


@dataclass(frozen=True)
class YoloEntry:
    """An image and its objects.

    Attributes:
        path: of the image.
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


class YoloDetection(FileDetection):
    """One part of a YOLO data set: boxes ``class x y width height`` or outlines ``class x1 y1 x2 y2 x3 y3 ...``.

    Which label file is whose: see :func:`~fishnet.data.detection.yolo_pairs.pair`. An image without one has no
    objects. What a line holds: see :func:`~fishnet.data.detection.yolo_lines.form_of`; what follows a box is dropped.

    Args:
        file: the ``data.yaml``.
        part: train, val or test.
        channels: that images are read with.
        classes: the classes that are known, by name; by default those of the file, with their numbers.
        masks: whether objects come with segmentations, which takes outlines.

    Raises:
        InputError: no such images, none of them with a label file, label files without an image, or a line that is
            no object; file and line are named.
    """

    notes: list[Finding]

    def __init__(
        self,
        file: YoloFile,
        part: str,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
    ) -> None:
        self.file, self.folder, self.channels, self.with_masks = file, file.root, channels, masks
        self.part_name, self.names, self.notes = part, file.names, []
        numbers = sorted(file.names)
        self.classes = classes or Classes(tuple(file.names[number] for number in numbers), tuple(numbers))
        self.index = {name: i for i, name in enumerate(self.classes.names)}
        self._sizes: dict[Path, tuple[int, int]] = {}
        scanned = Scan()
        named = [path for place in file.parts[part] for path in _images(file, part, place, scanned)]
        images = list(dict.fromkeys(named))
        self.links = scanned.links
        self.skipped = {kind: count for kind, count in scanned.skipped.items() if kind not in _BESIDE}
        pairs = pair(images)
        if len(pairs.missing) == len(images):
            first = pairs.texts[images[0]] if images else "labels"
            raise UnlabelledError(
                f"{file.path}: no image of {part} has a label file: {first} is not there, nor any other"
            )
        self._report(pairs)
        if is_strict():  # a check reads each of them
            missing = [str(path) for path in images if not is_regular(path)]
            what = f"images of {part} that {file.path} names are not there"
            action = "add them, or remove them from their list"
            report_orphans(missing, len(images), what, action, "image-missing", self.notes, part)
        rows = {path: self._rows(pairs.texts[path]) for path in images}
        form = self._form(rows)
        self.entries = [self._entry(path, pairs.texts[path], *rows[path], form) for path in images]

    def objects(self, index: int) -> Objects:
        """See :class:`DetectionDataset`; reads the image's header, as the numbers are shares."""
        entry = self.entries[index]
        return self._scaled(entry, upright_size(entry.path, self.channels, self.reading), self.with_masks)

    def stated(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; reads each image's header once."""
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

    def place(self, index: int, number: int) -> str:
        """The label file, and the object's line."""
        entry = self.entries[index]
        return f"{entry.text} line {entry.lines[number]}" if 0 <= number < len(entry.lines) else str(entry.text)

    def _report(self, pairs: Pairs) -> None:
        """Reports what pairs with nothing, and what pairs by the end of its name alone."""
        report_orphans(
            [str(path) for path in pairs.alone], pairs.labels, "label files have no image",
            "name them like their images, or remove them", "label-without-image", self.notes,
            self.part_name,
        )  # fmt: skip
        missing = [str(path) for path in pairs.missing]
        if pairs.alone and not is_strict():  # a training stops for many labels alone: images may have no objects
            report_orphans(
                missing, len(pairs.texts), "images have no label file, while some label files have no image",
                "name the label files like their images", "image-without-label", self.notes, self.part_name,
            )  # fmt: skip
        elif missing:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            self._note("image-without-label", f"images of {len(pairs.texts):,} have no label file: {some}", missing)
        if pairs.by_tail:
            first = pairs.by_tail[0]
            what = f"images have a label file of another name, such as {first} and {pairs.texts[first].name}"
            self._note("label-paired-by-tail", what, pairs.by_tail)

    def _note(self, code: str, what: str, concerned: "list[str] | list[Path] | int") -> None:
        count = concerned if isinstance(concerned, int) else len(concerned)
        message = f"{self.file.path}: {self.part_name}: {count:,} {what}"
        self.notes.append(Finding(code, message, split=self.part_name, file=str(self.file.path), count=count))

    def _rows(self, text: Path) -> tuple[list[Row], _Wrong]:
        try:
            return read_rows(text) if os.path.exists(text) else ([], [])  # noqa: PTH110 (of a name of any length)
        except InputError as error:
            report(str(error), file=str(text))
        return [], []

    def _form(self, rows: dict[Path, tuple[list[Row], _Wrong]]) -> Form | None:
        """How the lines are read; None where a check found that nobody can say."""
        values = [row.values for some, _ in rows.values() for row in some]
        try:
            form = form_of(values, self.file.keypoints)
        except InputError as error:
            report(f"{self.file.path}: {self.part_name}: {error}", "label-ambiguous")
            return None
        more = sum(len(row) > 4 for row in values)
        if form.dropped and more:
            self._note("label-values-dropped", f"lines hold {form.dropped} after the box: dropped", more)
        if form.corners:
            what = "lines, which are all, hold four corners: read as outlines, whose upright boxes are learnt"
            self._note("label-four-corners", what, len(values))
        return form

    def _entry(self, path: Path, text: Path, rows: list[Row], wrong: _Wrong, form: Form | None) -> YoloEntry:
        faults, kept = list(wrong), []
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
            known = (
                ", ".join(map(str, self.names)) if len(self.names) <= 10 else f"{min(self.names)} to {max(self.names)}"
            )
            raise InputError(f"class {row.word[:20]} is not among the names, which have {known}")
        if self.names[int(number)] not in self.index:
            raise InputError(f"class {self.names[int(number)]!r} is not known ({', '.join(self.classes.names[:5])})")
        shape = form.shape(row.values)
        if self.with_masks and len(shape) == 4:
            raise InputError("a box (or an outline of two points), but masks take three points: use train detect")
        return int(number), shape


def _corners(shape: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2) corners of a box or an outline."""
    if len(shape) != 4:
        return shape.reshape(-1, 2)
    (x, y), (w, h) = shape[:2], shape[2:] / 2
    return np.array([(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)], np.float32)


def _images(file: YoloFile, part: str, named: str, scanned: Scan) -> Iterator[Path]:
    """The images of a folder or a list, which may be named from the file's folder, or wrongly from one beside it.

    ``scanned`` gathers what else lies in a folder.
    """
    bare = named
    while bare.startswith(("../", "./")):
        bare = bare.partition("/")[2]
    places = [folder / name for name in (named, bare) for folder in (file.root, file.path.parent)]
    place = next((place for place in places if os.path.exists(place)), None)  # noqa: PTH110 (of any length)
    if place is None:
        raise InputError(f"{file.path}: {part}: no such folder or list: {places[0]}")
    file.check_place(part, place)
    if place.is_dir():
        inside = scan(Path(os.path.normpath(place)), file.root)
        if not inside.images:
            raise InputError(f"{file.path}: {part}: no image in {place}")
        scanned.skipped.update(inside.skipped)
        scanned.links += inside.links
        yield from inside.images
        return
    tails: Tails | None = None
    for line, row in lines_of(place):
        path = Path(os.path.normpath((place.parent if row.startswith("./") else file.root) / row))
        if not is_regular(path):
            tails = tails or Tails(find_images(file.root))
            try:
                path = tails.find(row) or path
            except InputError as error:
                raise InputError(f"{place} line {line}: {error}") from None
        yield path


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
        content = read_plain(path, LARGEST)
    except InputError:
        return False
    return isinstance(content, dict) and "names" in content and any(split_named(str(key)) for key in content)


def open_yolo(
    path: Path,
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    trusted: bool = False,
) -> dict[str, YoloDetection]:
    """Opens a ``data.yaml``; ``trusted``: see :class:`~fishnet.data.detection.yolo_yaml.YoloFile`.

    A test split without any label file beside other splits is left out, and this is noted: often nobody has its labels.

    Raises:
        InputError: see :func:`~fishnet.data.detection.yolo_yaml.read_yaml` and :class:`YoloDetection`.
    """
    file = read_yaml(path, trusted)
    splits: dict[str, YoloDetection] = {}
    for part in file.parts:
        try:
            splits[part] = YoloDetection(file, part, channels, classes, masks=masks)
        except UnlabelledError as error:
            if part != "test" or not splits:
                raise
            finding = Finding("image-without-label", f"{error}: test is left out", part, str(path))
            next(iter(splits.values())).notes.append(finding)
    return splits
