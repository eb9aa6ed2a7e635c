"""COCO: annotation files of JSON, with their pictures in the usual places."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fishnet.data.files import child, part_folders
from fishnet.data.findings import Finding
from fishnet.data.labels import Classes
from fishnet.data.problems import complain
from fishnet.data.regions.coco_table import CocoTable
from fishnet.data.regions.files import FileRegions
from fishnet.data.regions.objects import Objects
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError

ROBOFLOW = "_annotations.coco.json"
LAYOUTS = f"COCO (FILE.json, annotations/*train*.json or train/{ROBOFLOW})"
_PROBED = 20  # pictures that are looked for in each place


class CocoEntry(NamedTuple):
    """A picture: its path, and its place in the table."""

    path: str
    row: int


class CocoRegions(FileRegions):
    """One COCO annotation file.

    Args:
        path: of the JSON file.
        places: folders that ``file_name`` may start from; the first that holds one of the first pictures counts.
        channels: that pictures are read with.
        classes: the classes that are known, matched by name; by default the file's categories, in the order of their
            ids, which are kept.
        masks: whether objects come with segmentations.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: see :class:`~fishnet.data.regions.coco_table.CocoTable`; no picture in any place, or a class that
            ``classes`` lacks.
    """

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
        self.classes = classes or self.table.classes
        self.labels = self._labels(problems)
        names = [picture.file_name for picture in self.table.pictures]
        found = next((place for place in places if any((place / name).is_file() for name in names[:_PROBED])), None)
        if found is None and names:  # without any, what is wrong with each was said already
            looked = ", ".join(str(place) for place in places)
            complain(f"{path}: none of its pictures found: {names[0]} is not in {looked}", problems)
        self.folder = found or places[0]
        self.entries = [CocoEntry(str(self.folder / name), row) for row, name in enumerate(names)]

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
        """See :class:`~fishnet.data.regions.base.RegionSet`."""
        return self.table.objects(self.entries[index].row, self.labels)

    def place(self, index: int, number: int) -> str:
        """The annotation's file, line and place in its list; the picture's where there is no such object."""
        return self.table.place(self.entries[index].row, self.labels, number)


class CocoFile(NamedTuple):
    """An annotation file and where its pictures may be."""

    path: Path
    places: tuple[Path, ...]


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
    if not parts:
        own = [data / ROBOFLOW] if (data / ROBOFLOW).is_file() else []
        parts = _by_part(own or _inside(child(data, "annotations")) or [p for p in _inside(data) if _sniffed(p)])
    return {part: CocoFile(path, tuple(_places(data, path, part))) for part, path in parts.items()}


def open_coco(
    found: dict[str, CocoFile],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    problems: list[Finding] | None = None,
) -> dict[str, CocoRegions]:
    """Opens what :func:`find_coco` found; the first part says what the classes are. Raises InputError, see there."""
    sets: dict[str, CocoRegions] = {}
    for part, (path, places) in found.items():
        sets[part] = CocoRegions(path, places, channels, classes, masks=masks, problems=problems)
        classes = sets[part].classes
    return sets


def _inside(folder: Path | None) -> list[Path]:
    entries = sorted(folder.iterdir()) if folder else []
    return [entry for entry in entries if entry.suffix.lower() == ".json" and entry.name[0] != "." and entry.is_file()]


def _sniffed(path: Path) -> bool:
    """Whether a JSON file beside others may be COCO's."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"images"' in head


def _part_of(path: Path) -> str | None:
    """The part that a file's name speaks of: ``instances_train2017`` train."""
    return next((part for word in re.split(r"[^a-z]+", path.stem.lower()) if (part := split_named(word))), None)


def _by_part(files: list[Path]) -> dict[str, Path]:
    files = [path for path in files if path.name.startswith("instances")] or files
    if len(files) == 1:
        return {_part_of(files[0]) or "all": files[0]}
    found: dict[str, Path] = {}
    for path in files:
        part = _part_of(path)
        if part in found:
            raise InputError(f"{path.parent}: two files for the {part} part: {found[part].name} and {path.name}")
        if part is not None:
            found[part] = path
    if files and not found:
        names = ", ".join(path.name for path in files[:5])
        raise InputError(f"{files[0].parent}: no file name says train, val or test ({names}): name one of them")
    return {part: found[part] for part in in_order(found)}


def _places(data: Path, path: Path, part: str = "all") -> Iterator[Path]:
    """Where a file's pictures may start, the likeliest first."""
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
