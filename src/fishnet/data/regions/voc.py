"""Pascal VOC: a file of XML for each picture, in VOC's own folders or beside the pictures."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.data.files import by_stem, child, lines_of, part_folders
from fishnet.data.findings import Finding
from fishnet.data.labels import Classes
from fishnet.data.problems import complain
from fishnet.data.regions.files import FileRegions
from fishnet.data.regions.idmaps import instances
from fishnet.data.regions.idmasks import read_ids
from fishnet.data.regions.objects import Objects
from fishnet.data.regions.voc_xml import VocAnnotation, read_xml
from fishnet.data.splits import in_order
from fishnet.errors import InputError

LAYOUTS = "Pascal VOC (Annotations/*.xml, or .xml beside the pictures)"
_NO_OBJECT = (0, 255)  # of SegmentationObject: background, and outlines


class VocEntry(NamedTuple):
    """A picture, its annotation file and what that holds."""

    path: Path
    xml: Path
    annotation: VocAnnotation


class VocPart(NamedTuple):
    """Where a part lies.

    Attributes:
        folder: that holds everything.
        xmls, pictures: the folders.
        stems: the names in the part's list with their places; None for all.
    """

    folder: Path
    xmls: Path
    pictures: Path
    stems: dict[str, str] | None = None


class VocRegions(FileRegions):
    """Pictures annotated in Pascal VOC's XML.

    Boxes keep the numbers of the file: x1 = xmin ... y2 = ymax. (VOC itself counts pixels from 1 and includes the last
    one; most tools that write its format do neither.) ``difficult`` and ``truncated`` objects are like others. With
    masks, objects are those of ``SegmentationObject/<name>.png``, each of the class of the box that it overlaps best.

    Args:
        part: where it lies.
        channels: that pictures are read with.
        classes: the classes that are known, by name; by default those of the files, in the order of the alphabet.
        masks: whether objects come with segmentations.
        problems: collects what is wrong, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: see :func:`~fishnet.data.regions.voc_xml.read_xml`; a listed name without annotation, an object of a
            class that ``classes`` lacks, no objects at all, no SegmentationObject though masks are wanted.
    """

    def __init__(
        self,
        part: VocPart,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        problems: list[Finding] | None = None,
    ) -> None:
        self.folder, self.channels, self.with_masks = part.pictures, channels, masks
        self.masks = child(part.folder, "segmentationobject")
        if masks and self.masks is None:
            raise InputError(
                f"{part.folder}: has boxes only (no SegmentationObject folder with masks): use train detect"
            )
        pictures = by_stem(part.pictures)
        if part.stems is None and part.xmls == part.pictures:
            missing = [paths for stem, paths in pictures.items() if not (part.xmls / f"{stem}.xml").is_file()]
            self.left_out = tuple(str(path) for paths in missing for path in paths)
        self.entries = list(_entries(part, pictures, problems))
        self.classes = classes or self._found_classes(part)
        self.index = {name: i for i, name in enumerate(self.classes.names)}
        self._find_unknown(problems)

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.regions.base.RegionSet`; with masks their file is read."""
        found = self.entries[index].annotation
        known = [i for i, name in enumerate(found.names) if name in self.index]
        boxes = Objects.of(found.boxes[known], [self.index[found.names[i]] for i in known], found.size)
        return self._masked(index, boxes) if self.with_masks else boxes

    def place(self, index: int, number: int) -> str:
        """The XML file, and the object's line."""
        entry = self.entries[index]
        lines = [
            line
            for line, name in zip(entry.annotation.lines, entry.annotation.names, strict=True)
            if name in self.index
        ]
        return f"{entry.xml} line {lines[number]}" if 0 <= number < len(lines) else str(entry.xml)

    def _found_classes(self, part: VocPart) -> Classes:
        names = {name for entry in self.entries for name in entry.annotation.names}
        if not names:
            raise InputError(f"{part.xmls}: no object in {len(self.entries)} annotation files")
        return Classes.of(sorted(names))

    def _find_unknown(self, problems: list[Finding] | None) -> None:
        for entry in self.entries:
            for name, line in zip(entry.annotation.names, entry.annotation.lines, strict=True):
                if name not in self.index:
                    known = ", ".join(self.classes.names[:5]) + (", ..." if len(self.classes) > 5 else "")
                    complain(f"{entry.xml} line {line}: class {name!r} is not known ({known})", problems)

    def _masked(self, index: int, boxes: Objects) -> Objects:
        entry = self.entries[index]
        path = (self.masks or self.folder) / f"{entry.xml.stem}.png"
        map_ = read_ids(path)
        found = instances(map_, _NO_OBJECT)
        if boxes.size not in ((0, 0), map_.shape):
            size, stated = map_.shape[::-1], boxes.size[::-1]
            raise InputError(f"{path}: is {size[0]}x{size[1]} px, but {entry.xml} says {stated[0]}x{stated[1]}")
        of = _matched(found.boxes, boxes.boxes)
        if (of < 0).any():
            raise InputError(f"{path}: object {found.ids[of < 0][0]} lies in none of the boxes of {entry.xml}")
        order = np.argsort(of)  # as the boxes come, so that the place of one is known
        if len(order) < len(boxes):
            missing = next(i for i in range(len(boxes)) if i not in of)
            raise InputError(f"{self.place(index, missing)}: this object has no mask in {path}")
        return Objects.of(
            found.boxes[order],
            boxes.labels[of[order]],
            (map_.shape[0], map_.shape[1]),
            areas=found.areas[order],
            segmentations=[found.segmentations[i] for i in order.tolist()],
        )


def _matched(masks: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each mask's box the annotated one that it overlaps best, each once, the best pairs first; -1 for none."""
    shared = np.minimum(masks[:, None, 2:], boxes[None, :, 2:]) - np.maximum(masks[:, None, :2], boxes[None, :, :2])
    overlap = shared.clip(min=0).prod(-1)
    areas = [(sides[:, 2:] - sides[:, :2]).clip(min=0).prod(1) for sides in (masks, boxes)]
    iou = overlap / np.maximum(areas[0][:, None] + areas[1][None] - overlap, 1e-9)
    of = np.full(len(masks), -1, np.int64)
    for _ in range(min(iou.shape)):
        mask, box = np.unravel_index(int(iou.argmax()), iou.shape)
        if iou[mask, box] <= 0:
            break
        of[mask] = box
        iou[mask], iou[:, box] = 0, 0
    return of


def _entries(part: VocPart, pictures: dict[str, list[Path]], problems: list[Finding] | None) -> Iterable[VocEntry]:
    listed = {part.xmls / f"{stem}.xml": place for stem, place in (part.stems or {}).items()}
    for xml in _xmls(part.xmls) if part.stems is None else listed:
        try:
            if xml in listed and not xml.is_file():
                raise InputError(f"{listed[xml]}: no such annotation: {xml}")
            annotation = read_xml(xml, problems)
        except InputError as error:
            complain(str(error), problems)
            continue
        named = Path(annotation.filename).name or f"{xml.stem}.jpg"
        same = pictures.get(xml.stem, [])
        chosen = next((path for path in same if path.name == named), next(iter(same), part.pictures / named))
        yield VocEntry(chosen, xml, annotation)


def _xmls(folder: Path) -> list[Path]:
    """The annotation files in a folder; GDAL's ``.aux.xml`` beside a picture are none."""
    inside = sorted(folder.iterdir())
    return [path for path in inside if path.suffix.lower() == ".xml" and not path.name.lower().endswith(".aux.xml")]


def find_voc(data: Path, masks: bool = False) -> dict[str, VocPart]:
    """The parts of a VOC folder; ``all`` without parts, nothing where it is none.

    Args:
        data: a folder with ``Annotations/`` and ``JPEGImages/`` (or ``images/``, or the pictures), with or without
            lists in ``ImageSets/Main``; one of pictures with XML beside them; or of train, valid and test folders of
            either.
        masks: whether the lists of ``ImageSets/Segmentation`` come first.

    Raises:
        InputError: a list that cannot be read, or two folders for a part.
    """
    whole = _whole(data)
    if whole is None:
        parts = {part: _whole(folder) for part, folder in part_folders(data).items()}
        return {part: found for part, found in parts.items() if found is not None}
    lists = _lists(whole, ("segmentation", "main") if masks else ("main",))
    return {part: whole._replace(stems=stems) for part, stems in lists.items()} or {"all": whole}


def _whole(folder: Path) -> VocPart | None:
    """A folder as one part; None where it has no XML."""
    if not folder.is_dir():
        return None
    below = child(folder, "annotations")
    if below is not None and _xmls(below):
        return VocPart(folder, below, child(folder, "jpegimages", "images", "pngimages") or folder)
    return VocPart(folder, folder, folder) if _xmls(folder) else None


def _lists(whole: VocPart, kinds: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The names of each part and where each is listed; trainval stands for a train that is not there."""
    sets = child(whole.folder, "imagesets")
    folder = next((found for kind in kinds if sets and (found := child(sets, kind))), None)
    if folder is None:
        return {}
    read = functools.partial(_list, folder)
    lists = {part: read(part) for part in ("train", "val", "test") if (folder / f"{part}.txt").is_file()}
    if "train" not in lists and (folder / "trainval.txt").is_file():
        held = lists.get("val", {})
        lists["train"] = {stem: place for stem, place in read("trainval").items() if stem not in held}
    return {part: lists[part] for part in in_order(lists)}


def _list(folder: Path, name: str) -> dict[str, str]:
    path = folder / f"{name}.txt"
    return {stem: f"{path} line {line}" for line, stem in lines_of(path)}


def open_voc(
    found: dict[str, VocPart],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    problems: list[Finding] | None = None,
) -> dict[str, VocRegions]:
    """Opens what :func:`find_voc` found; the first part says what the classes are. Raises InputError, see there."""
    sets: dict[str, VocRegions] = {}
    for name, part in found.items():
        sets[name] = VocRegions(part, channels, classes, masks=masks, problems=problems)
        classes = sets[name].classes
    return sets
