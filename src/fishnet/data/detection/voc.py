"""Pascal VOC: a file of XML for each image, in VOC's own folders or beside the images."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.idmaps import instances
from fishnet.data.detection.idmasks import read_ids
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.detection.voc_layout import LAYOUTS, Images, VocSplit, annotations_of, find_voc
from fishnet.data.detection.voc_xml import VocAnnotation, read_xml
from fishnet.data.files import child
from fishnet.data.findings import Finding
from fishnet.errors import InputError
from fishnet.files.reading import is_regular

__all__ = ["LAYOUTS", "Difficult", "VocDetection", "VocEntry", "find_voc", "open_voc"]
Difficult = Literal["ignore", "use"]
_NO_OBJECT = (0, 255)  # of SegmentationObject: background, and outlines


class VocEntry(NamedTuple):
    """An image, its annotation file, what that holds, and the folder with everything."""

    path: Path
    xml: Path
    annotation: VocAnnotation
    folder: Path


class VocDetection(FileDetection):
    """Images annotated in Pascal VOC's XML.

    Boxes keep the numbers of the file: x1 = xmin ... y2 = ymax. (VOC itself counts pixels from 1 and includes the last
    one; most tools that write its format do neither.) ``difficult`` objects are neither trained on nor counted, as in
    VOC's own evaluation; ``truncated`` objects are like others. With masks, objects are those of
    ``SegmentationObject/<name>.png``, each of the class of the box that it overlaps best.

    Args:
        parts: where it lies; several for several years.
        channels: that images are read with.
        classes: the classes that are known, by name; by default those of the files, in the order of the alphabet.
        masks: whether objects come with segmentations.
        difficult: ``use`` takes difficult objects like others.

    Raises:
        InputError: see :func:`~fishnet.data.detection.voc_xml.read_xml`; a listed name without annotation, an object of
            a class that ``classes`` lacks, no objects at all, no SegmentationObject though masks are wanted; more than
            1 % of the annotations without an image, or of the images without an annotation.
    """

    notes: list[Finding]

    def __init__(
        self,
        parts: Sequence[VocSplit],
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        difficult: Difficult = "ignore",
    ) -> None:
        self.folder = Path(os.path.commonpath([part.images for part in parts]))
        self.channels, self.with_masks, self.difficult, self.notes = channels, masks, difficult, []
        self.masks = {part.folder: child(part.folder, "segmentationobject") for part in parts}
        for folder, inside in self.masks.items():
            if masks and inside is None:
                raise InputError(
                    f"{folder}: has boxes only (no SegmentationObject folder with masks): use train detect"
                )
        self.entries = [entry for part in parts for entry in self._entries(part)]
        self.classes = classes or self._found_classes(parts)
        self.index = {name: i for i, name in enumerate(self.classes.names)}
        self._find_unknown()
        self._note_difficult()

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; with masks their file is read."""
        boxes = self.stated(index)
        return self._masked(index, boxes) if self.with_masks else boxes

    def stated(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        found = self.entries[index].annotation
        known = [i for i, name in enumerate(found.names) if name in self.index]
        labels = [self.index[found.names[i]] for i in known]
        crowd = [self.difficult == "ignore" and found.difficult[i] for i in known]
        return Objects.of(found.boxes[known], labels, found.size, crowd=crowd)

    def place(self, index: int, number: int) -> str:
        """The XML file, and the object's line."""
        entry = self.entries[index]
        lines = [
            line
            for line, name in zip(entry.annotation.lines, entry.annotation.names, strict=True)
            if name in self.index
        ]
        return f"{entry.xml} line {lines[number]}" if 0 <= number < len(lines) else str(entry.xml)

    def _entries(self, part: VocSplit) -> Iterator[VocEntry]:
        images = Images(part)
        self.links = [*self.links, *images.scanned.links]
        self.skipped = Counter(images.scanned.skipped) + Counter(dict(self.skipped))
        entries, missing = [], []
        for xml, place in annotations_of(part):
            try:
                if place and not is_regular(xml):
                    raise InputError(f"{place}: no such annotation: {xml}")
                annotation = read_xml(xml)
            except InputError as error:
                report(str(error), file=str(xml))
                continue
            entry = VocEntry(images.of(xml, part.xmls, annotation.filename), xml, annotation, part.folder)
            entries.append(entry)
            if not is_regular(entry.path):
                missing.append(f"{xml} (no {entry.path})")
        if is_strict():  # a check reads each of them
            what = f"annotation files of {part.xmls} have no image"
            action = "add the images, or remove the annotations"
            report_orphans(missing, len(entries), what, action, "label-without-image", self.notes)
        self._find_alone(part, images, entries)
        return iter(entries)

    def _find_alone(self, part: VocSplit, images: Images, entries: list[VocEntry]) -> None:
        """Reports images without annotation, annotations in no list, and lists of no split."""
        for path in part.left_out:
            what = f"{path}: its name says neither train, val nor test: left out"
            self.notes.append(Finding("split-unnamed", what, file=str(path)))
        if part.stems is not None:
            return
        used = {entry.path for entry in entries}
        alone = [str(path) for same in images.paths.values() if used.isdisjoint(same) for path in same]
        self.left_out = (*self.left_out, *alone)
        what, action = f"images of {part.images} have no annotation and are left out", "annotate or remove them"
        report_orphans(alone, len(images.paths), what, action, "image-left-out", self.notes)

    def _note_difficult(self) -> None:
        marks = [mark for entry in self.entries for mark in entry.annotation.difficult]
        if self.difficult == "ignore" and any(marks):
            what = f"{sum(marks):,} of {len(marks):,} objects are marked difficult: neither trained on nor counted"
            message = f"{self.folder}: {what} (--difficult use counts them)"
            self.notes.append(Finding("object-difficult", message, count=sum(marks)))

    def _found_classes(self, parts: Sequence[VocSplit]) -> Classes:
        names = {name for entry in self.entries for name in entry.annotation.names}
        if not names:
            raise InputError(f"{parts[0].xmls}: no object in {len(self.entries)} annotation files")
        return Classes.of(sorted(names))

    def _find_unknown(self) -> None:
        for entry in self.entries:
            for name, line in zip(entry.annotation.names, entry.annotation.lines, strict=True):
                if name not in self.index:
                    known = ", ".join(self.classes.names[:5]) + (", ..." if len(self.classes) > 5 else "")
                    what = f"{entry.xml} line {line}: class {name!r} is not known ({known})"
                    report(what, file=str(entry.xml), line=line)

    def _masked(self, index: int, boxes: Objects) -> Objects:
        entry = self.entries[index]
        path = (self.masks[entry.folder] or entry.folder) / f"{entry.xml.stem}.png"
        map_ = read_ids(path)
        try:
            found = instances(map_, _NO_OBJECT)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
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
            crowd=boxes.crowd[of[order]],
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


def open_voc(
    found: dict[str, tuple[VocSplit, ...]],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
    difficult: Difficult = "ignore",
) -> dict[str, VocDetection]:
    """Opens what :func:`find_voc` found; the first part says what the classes are. Raises InputError, see there."""
    splits: dict[str, VocDetection] = {}
    for name, parts in found.items():
        splits[name] = VocDetection(parts, channels, classes, masks=masks, difficult=difficult)
        classes = splits[name].classes
    return splits
