"""COCO panoptic: a JSON file of segments, and a folder of PNGs whose colours are the segments' ids."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.panoptic import SegmentClass
from fishnet.data.collector import is_strict, report
from fishnet.data.detection.coco import around, image_folders
from fishnet.data.detection.coco_files import locate, report_located
from fishnet.data.detection.files import one_per_split, split_in
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.files import find_split_folders, subfolder
from fishnet.data.panoptic.base import PanopticMap, PanopticSegmentation
from fishnet.data.panoptic.categories import Categories
from fishnet.data.panoptic.coco_table import PanopticTable
from fishnet.data.panoptic.idruns import IdRuns
from fishnet.data.splits import in_order
from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.images.segment_ids import read_png

LAYOUTS = "COCO panoptic (annotations/panoptic_train*.json beside the folder panoptic_train*/ of PNGs)"
_HEAD = 1 << 16  # bytes at each end of a JSON file by which it is recognized


class PanopticEntry(NamedTuple):
    """An image: its path, its index in the table, and the PNG of its segments."""

    path: str
    row: int
    png: Path


class PanopticFile(NamedTuple):
    """An annotation file and where its files may be.

    Attributes:
        path: the JSON file.
        images, pngs: folders that the names of images and of PNGs may be relative to, the likeliest first.
    """

    path: Path
    images: tuple[Path, ...]
    pngs: tuple[Path, ...]


class CocoPanoptic(PanopticSegmentation):
    """The images and segments of one COCO panoptic file.

    Images without an annotation are in ``left_out``.

    Args:
        file: the annotation file, and its folders.
        channels: the number of channels that images are read with.
        only, void, classes: see :func:`~fishnet.data.panoptic.open.open_panoptic`.

    Raises:
        InputError: see :class:`~fishnet.data.panoptic.coco_table.PanopticTable` and
            :meth:`~fishnet.data.panoptic.categories.Categories.of`; no image or no PNG found.
    """

    def __init__(
        self,
        file: PanopticFile,
        channels: int = 3,
        *,
        only: Sequence[str] = (),
        void: Sequence[str] = (),
        classes: Sequence[SegmentClass] | None = None,
    ) -> None:
        self.table = PanopticTable(file.path)
        own, used = self.table.categories, self.table.used()
        super().__init__(Categories.of(str(file.path), own, used, only=only, void=void, known=classes), channels)
        rows = [row for row, png in enumerate(self.table.pngs) if png]
        self.left_out = tuple(
            f"{image.file_name}: has no annotation ({self.table.location(row)})"
            for row, image in enumerate(self.table.images)
            if not self.table.pngs[row]
        )
        names = [self.table.images[row].file_name for row in rows]
        located = locate(names, file.images, [around(file.path)])
        report_located(
            file.path, names, file.images, located, lambda number: self.table.location(rows[number]), self.notes
        )
        self.folder = located.folder
        pngs = self._find_pngs(file, rows)
        self.entries = [PanopticEntry(str(path), *each) for path, each in zip(located.paths, pngs, strict=True)]

    def _find_pngs(self, file: PanopticFile, rows: Sequence[int]) -> list[tuple[int, Path]]:
        """The PNG of each image, by its row. Reports missing ones."""
        names = [self.table.pngs[row] for row in rows]
        located = locate(names, file.pngs, [])
        if names and len(located.missing) == len(names):
            searched = ", ".join(map(str, file.pngs))
            report(f"{file.path}: none of its PNGs found: {names[0]} is not in {searched}", "mask-unreadable")
        elif is_strict():  # when problems are collected, each PNG is read and reported later
            missing = [f"{names[i]} ({self.table.location(rows[i])})" for i in located.missing]
            what = f"PNGs of {file.path} are not in {located.folder}"
            report_orphans(missing, len(names), what, "add them, or remove their entries", "mask-missing", self.notes)
        return list(zip(rows, located.paths, strict=True))

    def read_map(self, index: int) -> PanopticMap:
        """See :class:`~fishnet.data.panoptic.base.PanopticSegmentation`."""
        entry: PanopticEntry = self.entries[index]
        ids = read_png(entry.png)
        size = self.table.images[entry.row].size
        if size not in ((0, 0), ids.shape):
            raise InputError(
                f"{entry.png}: is {ids.shape[1]}x{ids.shape[0]} px, but annotated as {size[1]}x{size[0]} "
                f"({self.table.location(entry.row)}): correct one of them"
            )
        return PanopticMap(IdRuns.of(ids), self.table.segments(entry.row))

    def location(self, index: int) -> str:
        """The PNG's path."""
        return str(self.entries[index].png)

    def named_in(self, index: int) -> str:
        """The file, line and entry of the image's annotation."""
        return self.table.location(self.entries[index].row)

    def describe_segment(self, index: int, id_: int) -> str:
        """The file, line and entry of the image's annotation, and the segment's id."""
        return self.table.location(self.entries[index].row, id_)


def find_coco_panoptic(data: Path) -> dict[str, PanopticFile]:
    """Finds COCO panoptic files by split; ``all`` if there are no splits, empty if there are no such files.

    Args:
        data: a JSON file; or a folder with such files in ``annotations/``, in the folder itself, or in train, valid and
            test folders.

    Raises:
        InputError: two files for one split, or several files without a split in any name.
    """
    if data.is_file():
        return {"all": _with_folders(data.parent, data, "all")} if _is_panoptic(data) else {}
    if not data.is_dir():
        return {}
    files = _by_split(_panoptic_files(subfolder(data, "annotations")) or _panoptic_files(data))
    if not files:
        inside = {split: _panoptic_files(folder) for split, folder in find_split_folders(data).items()}
        files = {split: next(iter(_by_split(paths).values())) for split, paths in inside.items() if paths}
    return {split: _with_folders(data, files[split], split) for split in in_order(files)}


def _panoptic_files(folder: Path | None) -> list[Path]:
    entries = sorted(folder.iterdir()) if folder else []
    return [entry for entry in entries if entry.suffix.lower() == ".json" and _is_panoptic(entry)]


def _is_panoptic(path: Path) -> bool:
    """Whether a JSON file is a COCO panoptic file: its first or its last entries have keys of no other format."""
    if path.suffix.lower() != ".json" or path.name.startswith("."):
        return False
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD)
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _HEAD))
            ends = head + file.read()
    except (InputError, OSError):
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and (b'"segments_info"' in ends or b'"isthing"' in ends)


def _by_split(files: Sequence[Path]) -> dict[str, Path]:
    """The file of each split."""
    if len(files) == 1:
        return {split_in(files[0].stem) or "all": files[0]}
    splits = one_per_split(((split_in(path.stem), path) for path in files), "files")
    if files and not splits:
        names = ", ".join(path.name for path in files[:5])
        raise InputError(
            f"{files[0].parent}: no file name contains train, val or test ({names}): pass one of the files"
        )
    return splits


def _with_folders(data: Path, path: Path, split: str) -> PanopticFile:
    """A file with the folders of its images and PNGs."""
    beside = path.with_suffix("")
    pngs = [beside, data / beside.name, *(subfolder(path.parent, name) for name in ("panoptic", "masks")), path.parent]
    images = tuple(folder for folder in image_folders(data, path, split) if folder != beside)
    return PanopticFile(path, images, tuple(dict.fromkeys(folder for folder in pngs if folder is not None)))
