"""What the formats with one file of drawn shapes per image share."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.files import FileDetection, unknown_class
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.outlines import Outline
from fishnet.data.findings import Finding
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError


class Shape(NamedTuple):
    """One object.

    Attributes:
        name: the name of the object's class.
        outline: the object's extent.
        where: the object's position in the file, such as ``shapes[3]``.
    """

    name: str
    outline: Outline
    where: str


@dataclass(frozen=True)
class ShapeEntry:
    """An image and its objects.

    Attributes:
        path: the image file.
        file: the annotation file.
        size: height and width according to the file; (0, 0) if unknown.
        shapes: the objects.
        embedded: whether the image itself is in the annotation file.
    """

    path: Path
    file: Path
    size: tuple[int, int]
    shapes: tuple[Shape, ...]
    embedded: bool = False


class ShapeDetection(FileDetection):
    """Images with one annotation file each.

    Args:
        folder: the folder that keys are relative to.
        entries: one per image.
        channels, classes: see :class:`~fishnet.data.detection.files.FileDetection`.
        masks: whether objects have segmentations. Rectangles are then filled, but not all shapes may be rectangles.
        ignored: the number of shapes that were left out, by kind, such as ``points``.

    Raises:
        InputError: an object of a class that ``classes`` lacks, or, with ``masks``, only rectangles.
    """

    def __init__(
        self,
        folder: Path,
        entries: Sequence[ShapeEntry],
        channels: int,
        classes: Classes,
        *,
        masks: bool = False,
        ignored: Counter[str] | None = None,
    ) -> None:
        self.folder, self.channels, self.with_masks, self.classes = folder, channels, masks, classes
        self.index = {name: i for i, name in enumerate(classes.names)}
        self.entries = [self._known(entry) for entry in entries]
        shapes = [shape for entry in self.entries for shape in entry.shapes]
        if masks and shapes and all(shape.outline.boxes_only for shape in shapes):
            raise InputError(f"{folder}: has boxes only (all shapes are rectangles): use train detect")
        self.used = frozenset(shape.name for shape in shapes)
        if ignored:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common())
            message = f"{folder}: {counts}: not read as objects"
            self.notes = [Finding("shape-ignored", message, file=str(folder), count=ignored.total())]

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`. With masks, reads the image's header."""
        objects = self.annotated_boxes(index)
        if not self.with_masks:
            return objects
        size = self.size(index)  # the size in the annotation file may be wrong
        if objects.size not in ((0, 0), size):
            raise InputError(
                f"{self.source(index)}: is {size[1]}x{size[0]} px, but annotated as {objects.size[1]}x"
                f"{objects.size[0]} ({self.location(index, -1)}): correct the annotation or the image"
            )
        segmentations = tuple(shape.outline.segmentation(size) for shape in self.entries[index].shapes)
        return replace(objects, size=size, segmentations=segmentations)

    def annotated_boxes(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`."""
        entry: ShapeEntry = self.entries[index]
        outlines = [shape.outline for shape in entry.shapes]
        return Objects.of(
            [outline.box() for outline in outlines],
            [self.index[shape.name] for shape in entry.shapes],
            entry.size,
            areas=[outline.area() for outline in outlines],
        )

    def location(self, index: int, number: int) -> str:
        """The annotation file, and the object's position in the file."""
        entry: ShapeEntry = self.entries[index]
        return f"{entry.file}: {entry.shapes[number].where}" if 0 <= number < len(entry.shapes) else str(entry.file)

    def _known(self, entry: ShapeEntry) -> ShapeEntry:
        """The entry without objects of unknown classes, which are reported."""
        for shape in entry.shapes:
            if shape.name not in self.index:
                message = f"{entry.file}: {shape.where}: {unknown_class(shape.name, self.classes)}"
                report(message, file=str(entry.file))
        return replace(entry, shapes=tuple(shape for shape in entry.shapes if shape.name in self.index))


def drop_duplicates(entries: Iterable[ShapeEntry]) -> list[ShapeEntry]:
    """The entries without those whose image belongs to an earlier entry, which are reported."""
    by_image: dict[Path, ShapeEntry] = {}
    for entry in entries:
        first = by_image.setdefault(entry.path, entry)
        if first is not entry:
            message = f"{entry.file}: its image {entry.path} belongs to {first.file} too: remove one of them"
            report(message, file=str(entry.file))
    return list(by_image.values())


def size_in_file(height: Any, width: Any) -> tuple[int, int]:
    """An image's height and width as given in a file; (0, 0) if either is not a valid size."""
    valid = all(type(side) is int and 0 < side < 1 << 24 for side in (height, width))
    return (height, width) if valid else (0, 0)


def by_split(files: Iterable[Path], root: Path, what: str) -> dict[str, list[Path]]:
    """Groups files by the split that a folder in their path is named after; ``all`` if there is none.

    Args:
        files: files below the root.
        root: the dataset's folder.
        what: a plural that names the files in messages.

    Raises:
        InputError: some files are in such a folder and others are not.
    """
    splits: dict[str, list[Path]] = {}
    for file in files:
        folders = file.relative_to(root).parts[:-1]
        split = next((split for name in folders if (split := split_named(name))), "all")
        splits.setdefault(split, []).append(file)
    if len(splits) > 1 and "all" in splits:
        rest = splits["all"]
        raise InputError(
            f"{rest[0]}: is not in a train, val or test folder, but other {what} are "
            f"({len(rest):,} such file{'s' * (len(rest) > 1)}): move or remove {'them' if len(rest) > 1 else 'it'}"
        )
    return {split: splits[split] for split in in_order(splits)}
