"""Pascal VOC: one XML file per image, in VOC's own folders or beside the images."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.detection.files import FileDetection, unknown_class
from fishnet.data.detection.idmaps import instances
from fishnet.data.detection.idmasks import read_ids
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.orphans import report_orphans
from fishnet.data.detection.voc_layout import LAYOUTS, Images, VocSplit, annotations_of, find_voc
from fishnet.data.detection.voc_xml import VocAnnotation, read_xml
from fishnet.data.files import subfolder
from fishnet.data.findings import Finding
from fishnet.errors import InputError
from fishnet.files.reading import is_regular

__all__ = ["LAYOUTS", "Difficult", "VocDetection", "VocEntry", "find_voc"]
Difficult = Literal["ignore", "use"]
_BACKGROUND = (0, 255)  # of SegmentationObject: the background, and the outlines


class VocEntry(NamedTuple):
    """An image, its annotation file, the file's content, and the dataset's folder."""

    path: Path
    xml: Path
    annotation: VocAnnotation
    folder: Path


class VocDetection(FileDetection):
    """Images annotated in Pascal VOC's XML.

    Boxes are used as they are in the file: x1 = xmin ... y2 = ymax. (VOC itself counts pixels from 1 and includes the
    last one; most tools that write its format do neither.) ``difficult`` objects are neither trained on nor counted, as
    in VOC's own evaluation; ``truncated`` objects are like any other. With masks, the objects are those of
    ``SegmentationObject/<name>.png``, each of the class of the box that it overlaps best. By default the classes are
    those of the files, in alphabetical order.

    Args:
        sources: the locations of the split, one per year.
        channels, classes, masks: see :class:`~fishnet.data.detection.files.FileDetection`.
        difficult: ``use`` treats difficult objects like any other.

    Raises:
        InputError: see :func:`~fishnet.data.detection.voc_xml.read_xml`; a listed name without an annotation, an object
            of a class that ``classes`` lacks, no objects, no SegmentationObject folder for masks, or more than 1 % of
            the annotations without an image or of the images without an annotation.
    """

    notes: list[Finding]

    def __init__(
        self,
        sources: Sequence[VocSplit],
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
        difficult: Difficult = "ignore",
    ) -> None:
        self.folder = Path(os.path.commonpath([source.images for source in sources]))
        self.channels, self.with_masks, self.difficult, self.notes = channels, masks, difficult, []
        self.masks = {source.folder: subfolder(source.folder, "segmentationobject") for source in sources}
        for folder, mask_folder in self.masks.items():
            if masks and mask_folder is None:
                raise InputError(
                    f"{folder}: has boxes only (no SegmentationObject folder with masks): use train detect"
                )
        self.entries = [entry for source in sources for entry in self._read(source)]
        self.classes = classes or self._named_classes(sources)
        self.index = {name: i for i, name in enumerate(self.classes.names)}
        self._report_unknown()
        self._note_difficult()

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`. With masks, reads the mask file."""
        boxes = self.annotated_boxes(index)
        return self._masked(index, boxes) if self.with_masks else boxes

    def annotated_boxes(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        annotation = self.entries[index].annotation
        known = [i for i, name in enumerate(annotation.names) if name in self.index]
        labels = [self.index[annotation.names[i]] for i in known]
        crowd = [self.difficult == "ignore" and annotation.difficult[i] for i in known]
        return Objects.of(annotation.boxes[known], labels, annotation.size, crowd=crowd)

    def location(self, index: int, number: int) -> str:
        """The XML file, and the object's line."""
        entry = self.entries[index]
        objects = zip(entry.annotation.lines, entry.annotation.names, strict=True)
        lines = [line for line, name in objects if name in self.index]
        return f"{entry.xml} line {lines[number]}" if 0 <= number < len(lines) else str(entry.xml)

    def _read(self, source: VocSplit) -> list[VocEntry]:
        images = Images(source)
        self.links = [*self.links, *images.scanned.links]
        self.skipped = Counter(images.scanned.skipped) + Counter(dict(self.skipped))
        entries, missing = [], []
        for xml, location in annotations_of(source):
            try:
                if location and not is_regular(xml):
                    raise InputError(f"{location}: no such annotation: {xml}")
                annotation = read_xml(xml)
            except InputError as error:
                report(str(error), file=str(xml))
                continue
            entry = VocEntry(images.of(xml, source.xmls, annotation.filename), xml, annotation, source.folder)
            entries.append(entry)
            if not is_regular(entry.path):
                missing.append(f"{xml} (no {entry.path})")
        if is_strict():  # when problems are collected, each image is read and reported later
            what = f"annotation files of {source.xmls} have no image"
            action = "add the images, or remove the annotations"
            report_orphans(missing, len(entries), what, action, "label-without-image", self.notes)
        self._report_left_out(source, images, entries)
        return entries

    def _report_left_out(self, source: VocSplit, images: Images, entries: list[VocEntry]) -> None:
        """Reports lists that belong to no split, and, without lists, images that have no annotation."""
        for path in source.left_out:
            message = f"{path}: its name contains neither train, val nor test: left out"
            self.notes.append(Finding("split-unnamed", message, file=str(path)))
        if source.stems is not None:
            return
        used = {entry.path for entry in entries}
        unused = [str(path) for paths in images.paths.values() if used.isdisjoint(paths) for path in paths]
        self.left_out = (*self.left_out, *unused)
        what, action = f"images of {source.images} have no annotation and are left out", "annotate or remove them"
        report_orphans(unused, len(images.paths), what, action, "image-left-out", self.notes)

    def _note_difficult(self) -> None:
        difficult = [flag for entry in self.entries for flag in entry.annotation.difficult]
        if self.difficult == "ignore" and (count := sum(difficult)):
            what = f"{count:,} of {len(difficult):,} objects are marked difficult: neither trained on nor counted"
            message = f"{self.folder}: {what} (difficult=use counts them)"
            self.notes.append(Finding("object-difficult", message, count=count))

    def _named_classes(self, sources: Sequence[VocSplit]) -> Classes:
        names = {name for entry in self.entries for name in entry.annotation.names}
        if not names:
            raise InputError(f"{sources[0].xmls}: no object in {len(self.entries)} annotation files")
        return Classes.of(sorted(names))

    def _report_unknown(self) -> None:
        for entry in self.entries:
            for name, line in zip(entry.annotation.names, entry.annotation.lines, strict=True):
                if name not in self.index:
                    message = f"{entry.xml} line {line}: {unknown_class(name, self.classes)}"
                    report(message, file=str(entry.xml), line=line)

    def _masked(self, index: int, boxes: Objects) -> Objects:
        entry = self.entries[index]
        path = (self.masks[entry.folder] or entry.folder) / f"{entry.xml.stem}.png"
        ids = read_ids(path)
        try:
            masks = instances(ids, _BACKGROUND)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if boxes.size not in ((0, 0), ids.shape):
            size, annotated = ids.shape[::-1], boxes.size[::-1]
            raise InputError(f"{path}: is {size[0]}x{size[1]} px, but {entry.xml} has {annotated[0]}x{annotated[1]}")
        matches = _match(masks.boxes, boxes.boxes)
        if (matches < 0).any():
            raise InputError(f"{path}: object {masks.ids[matches < 0][0]} is in none of the boxes of {entry.xml}")
        order = np.argsort(matches)  # the order of the boxes, which `location` relies on
        if len(order) < len(boxes):
            missing = next(i for i in range(len(boxes)) if i not in matches)
            raise InputError(f"{self.location(index, missing)}: this object has no mask in {path}")
        return Objects.of(
            masks.boxes[order],
            boxes.labels[matches[order]],
            (ids.shape[0], ids.shape[1]),
            crowd=boxes.crowd[matches[order]],
            areas=masks.areas[order],
            segmentations=[masks.segmentations[i] for i in order.tolist()],
        )


def _match(masks: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    """Assigns each mask's box to the annotated box that it overlaps best, greedily and one to one; -1 for none."""
    sides = np.minimum(masks[:, None, 2:], boxes[None, :, 2:]) - np.maximum(masks[:, None, :2], boxes[None, :, :2])
    intersection = sides.clip(min=0).prod(-1)
    areas = [(corners[:, 2:] - corners[:, :2]).clip(min=0).prod(1) for corners in (masks, boxes)]
    iou = intersection / np.maximum(areas[0][:, None] + areas[1][None] - intersection, 1e-9)
    matches = np.full(len(masks), -1, np.int64)
    for _ in range(min(iou.shape)):
        mask, box = np.unravel_index(int(iou.argmax()), iou.shape)
        if iou[mask, box] <= 0:
            break
        matches[mask] = box
        iou[mask], iou[:, box] = 0, 0
    return matches
