"""COCO: annotation files of JSON, with their images in the usual places."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.detection.coco_files import Listed, Located, locate
from fishnet.data.detection.coco_table import CocoTable
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.files import child, part_folders
from fishnet.data.findings import Finding
from fishnet.data.problems import complain
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.images.decoding import EXTENSIONS

ROBOFLOW = "_annotations.coco.json"
LAYOUTS = f"COCO (FILE.json, annotations/*train*.json or train/{ROBOFLOW})"
_APART = ("annotations", "annotation", "json", "labels")  # folders of annotation files alone


class CocoEntry(NamedTuple):
    """An image: its path, and its place in the table."""

    path: str
    row: int


class CocoDetection(FileDetection):
    """One COCO annotation file.

    Args:
        path: of the JSON file.
        places: folders that ``file_name`` may start from; the first that holds one of the first images counts.
            Images that are not there are looked for by the end of their name in the folders around, see
            :func:`~fishnet.data.detection.coco_files.locate`.
        channels: that images are read with.
        classes: the classes that are known, matched by name; by default the file's categories, in the order of their
            ids, which are kept.
        masks: whether objects come with segmentations.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: see :class:`~fishnet.data.detection.coco_table.CocoTable`; no image in any place, or a class that
            ``classes`` lacks.
    """

    notes: list[Finding]

    def __init__(
        self,
        path: Path,
        places: Sequence[Path],
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        problems: list[Finding] | None = None,
    ) -> None:
        self.path, self.channels, self.with_masks = path, channels, masks
        self.table = CocoTable(path, masks, problems)
        self.notes = self.table.notes
        self.classes = classes or self.table.classes
        self.labels = self._labels(problems)
        names = [image.file_name for image in self.table.images]
        located = locate(names, places, [_around(path)])
        self._report(names, places, located, problems)
        self.folder = located.folder
        self.entries = [CocoEntry(str(found), row) for row, found in enumerate(located.paths)]

    def _report(
        self, names: list[str], places: Sequence[Path], located: Located, problems: list[Finding] | None
    ) -> None:
        """Reports what is missing, and what lies elsewhere than the file says."""
        for row, what in located.doubtful:
            place = self.table.place(row, self.labels, -1)
            complain(f"{place}: {what}", problems, "image-missing", file=str(self.path))
        if names and len(located.missing) == len(names):  # without any, what is wrong with each was said already
            looked = ", ".join(str(place) for place in places)
            complain(f"{self.path}: none of its images found: {names[0]} is not in {looked}", problems)
        elif problems is None:  # a check reads each of them
            missing = [f"{names[row]} ({self.table.place(row, self.labels, -1)})" for row in located.missing]
            what = f"images of {self.path} are not in {located.folder} nor around"
            report_orphans(
                missing, len(names), what, "add them, or remove their entries", "image-missing", problems, self.notes
            )
        if located.by_tail:
            row, count = located.by_tail[0], len(located.by_tail)
            what = f"{count:,} of {len(names):,} images lie elsewhere, such as {names[row]}: {located.paths[row]}"
            self.notes.append(Finding("image-found-by-tail", f"{self.path}: {what}", file=str(self.path), count=count))

    def _labels(self, problems: list[Finding] | None) -> dict[int, int]:
        """Class index of each category id."""
        used = self.table.used()
        index = {name: i for i, name in enumerate(self.classes.names)}
        try:
            used.indices_in(self.classes)
        except InputError as error:
            complain(f"{self.path}: {error}", problems)
        mine = self.table.classes
        return {id_: index[name] for name, id_ in zip(mine.names, mine.ids, strict=True) if name in index}

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        return self.table.objects(self.entries[index].row, self.labels)

    def stated(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        return self.table.objects(self.entries[index].row, self.labels, masks=False)

    def place(self, index: int, number: int) -> str:
        """The annotation's file, line and place in its list; the image's where there is no such object."""
        return self.table.place(self.entries[index].row, self.labels, number)


class CocoFile(NamedTuple):
    """An annotation file and where its images may be.

    Attributes:
        path: of the file.
        places: folders, the likeliest first.
        left_out: files beside it whose names say no split.
    """

    path: Path
    places: tuple[Path, ...]
    left_out: tuple[Path, ...] = ()


def find_coco(data: Path) -> dict[str, CocoFile]:
    """The COCO files that a name stands for, by part; ``all`` without parts, nothing where there are none.

    Args:
        data: a JSON file; a folder with ``annotations/*.json``, of which those called ``instances...`` count where
            there are some; of train, valid and test folders with Roboflow's ``_annotations.coco.json``; or with JSON
            files in itself.

    Raises:
        InputError: two files for a part, or several of which none says its part.
    """
    if data.suffix.lower() == ".json" and data.is_file():
        return {"all": CocoFile(data, tuple(_places(data.parent, data)))}
    if not data.is_dir():
        return {}
    parts = {part: folder / ROBOFLOW for part, folder in part_folders(data).items() if (folder / ROBOFLOW).is_file()}
    left_out: tuple[Path, ...] = ()
    if not parts:
        own = [data / ROBOFLOW] if (data / ROBOFLOW).is_file() else []
        files = own or _inside(child(data, "annotations")) or [path for path in _inside(data) if _sniffed(path)]
        parts, left_out = _by_part(files)
    return {part: CocoFile(path, tuple(_places(data, path, part)), left_out) for part, path in parts.items()}


def open_coco(
    found: dict[str, CocoFile],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    problems: list[Finding] | None = None,
) -> dict[str, CocoDetection]:
    """Opens what :func:`find_coco` found; the first part says what the classes are. Raises InputError, see there."""
    splits: dict[str, CocoDetection] = {}
    for part, file in found.items():
        splits[part] = CocoDetection(file.path, file.places, channels, classes, masks=masks, problems=problems)
        classes = splits[part].classes
    left_out = next((file.left_out for file in found.values()), ())
    for path in left_out:
        what = "its name says neither train, val nor test: left out"
        next(iter(splits.values())).notes.append(Finding("split-unnamed", f"{path}: {what}", file=str(path)))
    _find_unnamed(splits)
    return splits


def _find_unnamed(splits: dict[str, CocoDetection]) -> None:
    """Notes the images beside the annotated ones that no file names."""
    named = {Path(os.path.normpath(entry.path)): one for one in splits.values() for entry in one.entries}
    for folder, one in {path.parent: one for path, one in named.items()}.items():
        inside = sorted(name for name in Listed().names(str(folder)) if name.lower().endswith(EXTENSIONS))
        others = [path for name in inside if (path := folder / name) not in named]
        if others:
            what = f"{len(others):,} images are in no annotation file, such as {others[0]}"
            one.notes.append(Finding("image-not-annotated", f"{folder}: {what}", file=str(folder), count=len(others)))


def _around(path: Path) -> Path:
    """The folder whose images an annotation file may mean, wherever in it they are."""
    return path.parent.parent if path.absolute().parent.name.lower() in _APART else path.parent


def _inside(folder: Path | None) -> list[Path]:
    entries = sorted(folder.iterdir()) if folder else []
    return [entry for entry in entries if entry.suffix.lower() == ".json" and entry.name[0] != "." and entry.is_file()]


def _sniffed(path: Path) -> bool:
    """Whether a JSON file beside others may be COCO's."""
    try:
        with open_regular(path) as file:
            head = file.read(1 << 16)
    except InputError:
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"images"' in head


def _split_of(path: Path) -> str | None:
    """The part that a file's name speaks of: ``instances_train2017`` train."""
    return next((part for word in re.split(r"[^a-z]+", path.stem.lower()) if (part := split_named(word))), None)


def _by_part(files: list[Path]) -> tuple[dict[str, Path], tuple[Path, ...]]:
    """The file of each part, and those of no part."""
    files = [path for path in files if path.name.startswith("instances")] or files
    if len(files) == 1:
        return {_split_of(files[0]) or "all": files[0]}, ()
    found: dict[str, Path] = {}
    for path in files:
        part = _split_of(path)
        if part in found:
            raise InputError(f"{path.parent}: two files for the {part} part: {found[part].name} and {path.name}")
        if part is not None:
            found[part] = path
    if files and not found:
        names = ", ".join(path.name for path in files[:5])
        raise InputError(f"{files[0].parent}: no file name says train, val or test ({names}): name one of them")
    rest = tuple(path for path in files if _split_of(path) is None and _sniffed(path))
    return {part: found[part] for part in in_order(found)}, rest


def _places(data: Path, path: Path, part: str = "all") -> Iterator[Path]:
    """Where a file's images may start, the likeliest first."""
    word = next((word for word in path.stem.lower().split("_") if split_named(re.sub(r"\d+$", "", word))), "")
    seen: set[Path] = set()
    for base in (path.parent, data, path.parent.parent):
        if path.name == ROBOFLOW and base != path.parent:
            continue
        folders = [child(base / below, name) for below in (".", "images") for name in (word, part) if name]
        spelled = [part_folders(base / below).get(part) for below in (".", "images")]
        for place in (*folders, *spelled, child(base, "images"), base):
            if place is not None and place not in seen:
                seen.add(place)
                yield place
