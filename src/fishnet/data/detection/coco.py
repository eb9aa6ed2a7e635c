"""COCO: JSON annotation files, with images in the usual folders."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.coco_files import Listing, locate, report_located
from fishnet.data.detection.coco_table import CocoTable
from fishnet.data.detection.files import FileDetection, json_head, one_per_split, open_splits, split_in
from fishnet.data.detection.objects import Objects
from fishnet.data.files import find_split_folders, subfolder
from fishnet.data.findings import Finding
from fishnet.data.splits import split_named
from fishnet.errors import InputError
from fishnet.images.decoding import EXTENSIONS

ROBOFLOW = "_annotations.coco.json"
LAYOUTS = f"COCO (FILE.json, annotations/*train*.json or train/{ROBOFLOW})"
_ANNOTATION_FOLDERS = ("annotations", "annotation", "json", "labels")  # hold no images


class CocoEntry(NamedTuple):
    """An image: its path, and its index in the table."""

    path: str
    row: int


class CocoFile(NamedTuple):
    """An annotation file and where its images may be.

    Attributes:
        path: the JSON file.
        folders: folders that ``file_name`` may be relative to, the likeliest first. The first one that holds any of
            the first images is used. Images that are not there are searched for in the surrounding folder by the end
            of their path, see :func:`~fishnet.data.detection.coco_files.locate`.
        left_out: COCO files in the same folder whose names mention no split.
    """

    path: Path
    folders: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


class CocoDetection(FileDetection):
    """The images and objects of one COCO annotation file.

    By default the classes are the file's categories, in the order of their ids, which are kept.

    Raises:
        InputError: see :class:`~fishnet.data.detection.coco_table.CocoTable`; no image found, or a class that
            ``classes`` lacks.
    """

    notes: list[Finding]

    def __init__(
        self, file: CocoFile, channels: int = 3, classes: Classes | None = None, *, masks: bool = False
    ) -> None:
        self.path, self.channels, self.with_masks = file.path, channels, masks
        self.table = CocoTable(file.path, masks)
        self.notes = self.table.notes
        self.classes = classes or self.table.classes
        self.labels = self._labels()
        names = [image.file_name for image in self.table.images]
        located = locate(names, file.folders, [around(file.path)])
        report_located(file.path, names, file.folders, located, self._image_place, self.notes)
        for path in file.left_out:
            message = f"{path}: its name contains neither train, val nor test: left out"
            self.notes.append(Finding("split-unnamed", message, file=str(path)))
        self.folder = located.folder
        self.entries = [CocoEntry(str(path), row) for row, path in enumerate(located.paths)]

    def _labels(self) -> dict[int, int]:
        """Class index of each category id."""
        index = {name: i for i, name in enumerate(self.classes.names)}
        try:
            self.table.used().indices_in(self.classes)
        except InputError as error:
            report(f"{self.path}: {error}")
        categories = self.table.classes
        return {id_: index[name] for name, id_ in zip(categories.names, categories.ids, strict=True) if name in index}

    def _image_place(self, row: int) -> str:
        """The file, line and entry of an image."""
        return self.table.location(row, self.labels, -1)

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        return self.table.objects(self.entries[index].row, self.labels)

    def annotated_boxes(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        return self.table.objects(self.entries[index].row, self.labels, masks=False)

    def location(self, index: int, number: int) -> str:
        """The file, line and entry of the annotation, or of the image if there is no such object."""
        return self.table.location(self.entries[index].row, self.labels, number)


def find_coco(data: Path) -> dict[str, CocoFile]:
    """Finds COCO files by split; ``all`` if there are no splits, empty if there are no COCO files.

    Args:
        data: a JSON file, or a folder. A folder has ``annotations/*.json`` (only the files called ``instances...`` if
            there are any), or train, valid and test folders that hold Roboflow's ``_annotations.coco.json``, or JSON
            files.

    Raises:
        InputError: two files for one split, or several files without a split in any name.
    """
    if data.suffix.lower() == ".json" and data.is_file():
        return {"all": CocoFile(data, tuple(image_folders(data.parent, data)))}
    if not data.is_dir():
        return {}
    roboflow = {split: folder / ROBOFLOW for split, folder in find_split_folders(data).items()}
    files = {split: path for split, path in roboflow.items() if path.is_file()}
    left_out: tuple[Path, ...] = ()
    if not files:
        own = [data / ROBOFLOW] if (data / ROBOFLOW).is_file() else _inside(subfolder(data, "annotations"))
        files, left_out = _by_split(own or [path for path in _inside(data) if _is_coco(path)])
    by_split = {split: CocoFile(path, tuple(image_folders(data, path, split))) for split, path in files.items()}
    if left_out:
        first = next(iter(by_split))  # notes the files that are left out
        by_split[first] = by_split[first]._replace(left_out=left_out)
    return by_split


def open_coco(files: dict[str, CocoFile], channels: int, **options: Any) -> dict[str, CocoDetection]:
    """Opens the result of :func:`find_coco`, see :func:`~fishnet.data.detection.files.open_splits`."""
    splits = open_splits(CocoDetection, files, channels, **options)
    _note_unannotated(splits)
    return splits


def _note_unannotated(splits: dict[str, CocoDetection]) -> None:
    """Notes images that lie in the folders of annotated images but are in no annotation file."""
    datasets = {Path(os.path.normpath(entry.path)): dataset for dataset in splits.values() for entry in dataset.entries}
    for folder, dataset in {path.parent: dataset for path, dataset in datasets.items()}.items():
        images = sorted(name for name in Listing().names(str(folder)) if name.lower().endswith(EXTENSIONS))
        others = [path for name in images if (path := folder / name) not in datasets]
        if others:
            message = f"{folder}: {len(others):,} images are in no annotation file, such as {others[0]}"
            dataset.notes.append(Finding("image-not-annotated", message, file=str(folder), count=len(others)))


def around(path: Path) -> Path:
    """The folder that is searched for the images of an annotation file."""
    return path.parent.parent if path.absolute().parent.name.lower() in _ANNOTATION_FOLDERS else path.parent


def _inside(folder: Path | None) -> list[Path]:
    entries = sorted(folder.iterdir()) if folder else []
    return [entry for entry in entries if entry.suffix.lower() == ".json" and entry.name[0] != "." and entry.is_file()]


def _is_coco(path: Path) -> bool:
    """Whether a JSON file may be a COCO file."""
    return b'"images"' in json_head(path)


def _by_split(files: list[Path]) -> tuple[dict[str, Path], tuple[Path, ...]]:
    """The file of each split, and the COCO files that belong to no split."""
    files = [path for path in files if path.name.startswith("instances")] or files
    if len(files) == 1:
        return {split_in(files[0].stem) or "all": files[0]}, ()
    splits = one_per_split(((split_in(path.stem), path) for path in files), "files")
    if files and not splits:
        names = ", ".join(path.name for path in files[:5])
        raise InputError(
            f"{files[0].parent}: no file name contains train, val or test ({names}): pass one of the files"
        )
    return splits, tuple(path for path in files if split_in(path.stem) is None and _is_coco(path))


def image_folders(data: Path, path: Path, split: str = "all") -> Iterator[Path]:
    """The folders that a file's image names may be relative to, the likeliest first."""
    word = next((word for word in path.stem.lower().split("_") if split_named(re.sub(r"\d+$", "", word))), "")
    seen: set[Path] = set()
    for base in (path.parent, data, path.parent.parent):
        if path.name == ROBOFLOW and base != path.parent:
            continue
        folders = [subfolder(base / below, name) for below in (".", "images") for name in (word, split) if name]
        aliases = [find_split_folders(base / below).get(split) for below in (".", "images")]
        for folder in (*folders, *aliases, subfolder(base, "images"), base):
            if folder is not None and folder not in seen:
                seen.add(folder)
                yield folder
