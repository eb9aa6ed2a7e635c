"""CSV tables of boxes, with the columns of DeepForest, RetinaNet, TensorFlow or Open Images."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import first_problem, report
from fishnet.data.detection.boxrows import SUFFIXES, BoxRows, Columns, columns_in
from fishnet.data.detection.files import FileDetection, listed, one_per_split, split_in, unknown_class
from fishnet.data.detection.image_finder import ImageFinder
from fishnet.data.detection.objects import Objects
from fishnet.data.files import find_split_folders, images_by_stem, numbered_lines, subfolder, upright_size
from fishnet.data.splits import in_order
from fishnet.errors import InputError
from fishnet.files.reading import is_regular
from fishnet.files.walking import is_system

LAYOUTS = "a table of boxes (.csv with image_path, xmin, ymin, xmax, ymax, label, or Open Images' columns)"
_DESCRIPTIONS = "class-descriptions"
_IMAGE_FOLDERS = ("images", "image", "imgs", "img", "data", "jpegimages")


class BoxTable(NamedTuple):
    """A table of boxes.

    Attributes:
        path: the file.
        columns: its columns.
        root: the dataset's folder, which contains the images.
        split: the split that the file or its folder is named after; empty if none.
    """

    path: Path
    columns: Columns
    root: Path
    split: str = ""


class BoxEntry(NamedTuple):
    """An image, and its index in the table."""

    path: Path
    row: int


class BoxTableDetection(FileDetection):
    """The images of one split of a table of boxes.

    Args:
        rows: the content of the table.
        members: indices of the split's images in the table.
        paths: the paths of all images of the table.
        root: the folder that keys are relative to.
        channels, classes: see :class:`~fishnet.data.detection.files.FileDetection`.
        names: class names, by the table's labels.

    Raises:
        InputError: a class that ``classes`` lacks.
    """

    def __init__(
        self,
        rows: BoxRows,
        members: Sequence[int],
        paths: Sequence[Path],
        root: Path,
        channels: int,
        names: Sequence[str],
        classes: Classes,
    ) -> None:
        self.rows, self.folder, self.channels, self.with_masks, self.classes = rows, root, channels, False, classes
        index = {name: i for i, name in enumerate(classes.names)}
        self.labels = np.array([index.get(name, -1) for name in names], np.int64)
        image = np.asarray(rows.image, np.int64)
        self.boxes = np.asarray(rows.box, np.float32).reshape(-1, 4)
        self.label = self.labels[np.asarray(rows.label, np.int64)] if len(names) else np.zeros(0, np.int64)
        self._report_unknown(set(members), image, names)
        order = np.argsort(image, kind="stable")
        self.order = order[self.label[order] >= 0]
        self.starts = np.searchsorted(image[self.order], np.arange(len(rows.images) + 1))
        self.entries = [BoxEntry(paths[row], row) for row in members]

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`. Reads the image's header if boxes are shares."""
        entry: BoxEntry = self.entries[index]
        chosen = self._boxes_of(entry.row)
        boxes, size = self.boxes[chosen], self.rows.sizes[entry.row]
        if self.rows.columns.shares:
            size = upright_size(entry.path, self.channels)
            boxes = boxes * np.array([size[1], size[0]] * 2, np.float32)
        crowd = np.asarray(self.rows.crowd, bool)[chosen] if len(chosen) else np.zeros(0, bool)
        return Objects.of(boxes, self.label[chosen], size, crowd=crowd)

    def location(self, index: int, number: int) -> str:
        """The table, and the line of the object or else of the image."""
        row = self.entries[index].row
        chosen = self._boxes_of(row)
        line = self.rows.line[chosen[number]] if 0 <= number < len(chosen) else self.rows.lines[row]
        return f"{self.rows.path} line {line}"

    def _boxes_of(self, row: int) -> NDArray[np.int64]:
        """The indices of an image's boxes."""
        return self.order[self.starts[row] : self.starts[row + 1]]

    def _report_unknown(self, members: set[int], image: NDArray[np.int64], names: Sequence[str]) -> None:
        for box in np.flatnonzero(self.label < 0).tolist():
            if int(image[box]) in members:
                path, line = self.rows.path, self.rows.line[box]
                message = unknown_class(names[self.rows.label[box]], self.classes)
                report(f"{path} line {line}: {message}", file=str(path), line=line)


def find_box_tables(data: Path) -> list[BoxTable]:
    """Finds tables of boxes; empty if the data has another form.

    Args:
        data: a table; or a folder with tables, also in ``annotations/``, in ``labels/``, or in train, valid and test
            folders.

    Raises:
        InputError: several tables, some of them without a split in the name, or two for one split.
    """
    if data.suffix.lower() in SUFFIXES and data.is_file():
        columns = columns_in(data)
        return [BoxTable(data, columns, data.parent)] if columns else []
    if not data.is_dir():
        return []
    tables = [
        BoxTable(path, columns, data, split)
        for split, folder in find_split_folders(data).items()
        for path, columns in _tables(folder)
    ]
    for folder in (data, subfolder(data, "annotations"), subfolder(data, "labels")):
        if not tables and folder is not None:
            tables = [BoxTable(path, columns, data, split_in(path.stem) or "") for path, columns in _tables(folder)]
    if len(tables) > 1 and not all(table.split for table in tables):
        names = listed([table.path.name for table in tables])
        raise InputError(
            f"{data}: several tables of boxes ({names}), and not all names contain train, val or test: pass one of them"
        )
    one_per_split(((table.split, table.path) for table in tables), "tables")
    return sorted(tables, key=lambda table: in_order(["train", "val", "test", "all"]).index(table.split or "all"))


def _tables(folder: Path) -> list[tuple[Path, Columns]]:
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and not is_system(path.name)]
    return [(path, columns) for path in files if is_regular(path) and (columns := columns_in(path))]


def open_box_tables(
    tables: Sequence[BoxTable], channels: int, *, classes: Classes | None = None, masks: bool = False
) -> dict[str, BoxTableDetection]:
    """Opens the result of :func:`find_box_tables`. The first split determines the classes of all.

    Raises:
        InputError: ``masks`` is set, a table cannot be read, a row is not a box, an image is not inside the dataset's
            folder, or there are no boxes.
    """
    if masks:
        raise InputError(f"{tables[0].path}: has boxes only: use train detect")
    splits: dict[str, BoxTableDetection] = {}
    for table in tables:
        rows = BoxRows(table.path, table.columns)
        if not rows.images:
            raise InputError(f"{table.path}: names no image{first_problem()}")
        names, ids = _names(table, rows)
        members: dict[str, list[int]] = {}
        for row, split in enumerate(rows.splits):
            members.setdefault(table.split if split == "all" and table.split else split, []).append(row)
        repeated = members.keys() & splits.keys()
        if repeated:
            raise InputError(f"{table.path}: has split {next(iter(repeated))!r}, which another table also has")
        paths = _paths(table, rows)
        for split in in_order(members):
            kept = [row for row in members[split] if paths[row] is not None]
            classes = classes or _classes(rows, members[split], names, ids)
            known = [path or table.root for path in paths]
            splits[split] = BoxTableDetection(rows, kept, known, table.root, channels, names, classes)
    return {split: splits[split] for split in in_order(splits)}


def _classes(rows: BoxRows, members: Iterable[int], names: Sequence[str], ids: dict[str, int]) -> Classes:
    """The classes of a split's boxes: in the order of their ids if there are any, else alphabetical."""
    chosen = set(members)
    used = sorted({names[label] for image, label in zip(rows.image, rows.label, strict=True) if image in chosen})
    if not used:
        raise InputError(f"{rows.path}: no box in {len(rows.images)} images{first_problem()}")
    if ids and used[0] in ids and all(name in ids for name in used):
        ordered = sorted(ids, key=lambda name: ids[name])
        return Classes(tuple(ordered), tuple(ids[name] for name in ordered))
    return Classes.of(used)


def _names(table: BoxTable, rows: BoxRows) -> tuple[list[str], dict[str, int]]:
    """The class names by the table's labels, and their ids if ``classes.csv`` has them."""
    folders = dict.fromkeys((table.path.parent, table.root, table.path.parent.parent))
    inside = [folder for folder in folders if folder == table.root or folder.is_relative_to(table.root)]
    files = [path for folder in inside for path in sorted(folder.glob("*.csv")) if is_regular(path)]
    described = next((path for path in files if _DESCRIPTIONS in path.name), None)
    if described is not None and table.columns.shares:
        names = dict(_pairs(described))
        return [names.get(label, label) for label in rows.labels], {}
    listed = next((path for path in files if path.name.lower() in ("classes.csv", "class.csv")), None)
    pairs = _pairs(listed) if listed is not None else []
    usable = all(value.isdecimal() and len(value) < 10 for _, value in pairs) and len(dict(pairs)) == len(pairs)
    ids = {name: int(value) for name, value in pairs} if usable else {}
    return rows.labels, ids if len(set(ids.values())) == len(ids) else {}


def _pairs(path: Path) -> list[tuple[str, str]]:
    """The rows ``first,second`` of a list; the second value may contain commas."""
    rows = [row.partition(",") for _, row in numbered_lines(path)]
    return [(first.strip().strip('"'), second.strip().strip('"')) for first, comma, second in rows if comma]


def _paths(table: BoxTable, rows: BoxRows) -> list[Path | None]:
    """The file of each image of the table; None if it was not found, which is reported."""
    if table.columns.shares:
        return list(_by_id(table, rows))
    bases = [table.path.parent, *_image_folders(table), table.root]
    finder = ImageFinder(table.root)
    paths: list[Path | None] = []
    for name, line in zip(rows.images, rows.lines, strict=True):
        try:
            paths.append(finder.find(name, *bases))
        except InputError as error:
            paths.append(None)
            report(f"{table.path} line {line}: {error}", "image-unreadable", file=str(table.path), line=line)
    return paths


def _by_id(table: BoxTable, rows: BoxRows) -> list[Path]:
    """The images of Open Images, named by id. They need not exist."""
    folders = [folder for folder in (*_image_folders(table), table.path.parent, table.root) if folder.is_dir()]
    stems = {folder: images_by_stem(folder) for folder in folders}
    paths = []
    for id_ in rows.images:
        name = os.path.basename(id_.replace("\\", "/")) or "image"  # noqa: PTH119
        path = next((images[name][0] for images in stems.values() if name in images), None)
        paths.append(path or folders[0] / f"{name}.jpg")
    return paths


def _image_folders(table: BoxTable) -> list[Path]:
    """The folders where a table's images may be, the likeliest first."""
    folders: list[Path] = []
    for folder in (table.path.parent, table.root):
        below = find_split_folders(folder).get(table.split) if table.split else None
        images = subfolder(folder, *_IMAGE_FOLDERS)
        inner = find_split_folders(images).get(table.split) if images and table.split else None
        folders += [path for path in (inner, below, images) if path is not None]
    return folders
