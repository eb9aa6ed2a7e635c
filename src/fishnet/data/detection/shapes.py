"""What the formats share whose files hold the drawn shapes of one image each."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.files import FileDetection
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.outlines import Outline
from fishnet.data.findings import Finding
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError


class Shape(NamedTuple):
    """One object.

    Attributes:
        name: of its class.
        outline: its extent.
        where: in its file, such as ``shapes[3]``.
    """

    name: str
    outline: Outline
    where: str


@dataclass(frozen=True)
class ShapeEntry:
    """An image and its objects.

    Attributes:
        path: of the image.
        file: the annotation file.
        size: height and width that the file states; (0, 0) where it states none.
        shapes: the objects.
        embedded: whether the annotation file holds the image itself.
    """

    path: Path
    file: Path
    size: tuple[int, int]
    shapes: tuple[Shape, ...]
    embedded: bool = False


class ShapeDetection(FileDetection):
    """Images with one annotation file each.

    Args:
        folder: that keys start from.
        entries: one an image.
        channels: that images are read with.
        classes: the classes that are known, by name.
        masks: whether objects come with segmentations; rectangles are then filled, unless all are rectangles.
        ignored: how many shapes of each kind were left out, in words.

    Raises:
        InputError: an object of a class that ``classes`` lacks; masks are wanted and there are rectangles alone.
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
        self.entries = [_known(entry, self.index) for entry in entries]
        every = [shape for entry in self.entries for shape in entry.shapes]
        if masks and every and all(shape.outline.boxes_only for shape in every):
            raise InputError(f"{folder}: has boxes only (all shapes are rectangles): use train detect")
        self.used = frozenset(shape.name for shape in every)
        self.notes = _ignored(folder, ignored or Counter())

    def objects(self, index: int) -> Objects:
        """See :class:`~fishnet.data.detection.base.DetectionDataset`; with masks the image's header is read."""
        found = self.stated(index)
        if not self.with_masks:
            return found
        size = self.size(index)  # of the image: what the file states may be any number
        if found.size not in ((0, 0), size):
            raise InputError(
                f"{self.source(index)}: is {size[1]}x{size[0]} px, but annotated as {found.size[1]}x{found.size[0]} "
                f"({self.place(index, -1)}): correct the annotation or the image"
            )
        shapes = tuple(shape.outline.segmentation(size) for shape in self.entries[index].shapes)
        return replace(found, size=size, segmentations=shapes)

    def stated(self, index: int) -> Objects:
        """The same without segmentations."""
        entry: ShapeEntry = self.entries[index]
        outlines = [shape.outline for shape in entry.shapes]
        return Objects.of(
            [outline.box() for outline in outlines],
            [self.index[shape.name] for shape in entry.shapes],
            entry.size,
            areas=[outline.area() for outline in outlines],
        )

    def place(self, index: int, number: int) -> str:
        """The annotation file, and the object's place in it."""
        entry: ShapeEntry = self.entries[index]
        return f"{entry.file}: {entry.shapes[number].where}" if 0 <= number < len(entry.shapes) else str(entry.file)


def _known(entry: ShapeEntry, index: dict[str, int]) -> ShapeEntry:
    """The entry without objects of unknown classes."""
    known = []
    for shape in entry.shapes:
        if shape.name in index:
            known.append(shape)
            continue
        names = ", ".join(list(index)[:5]) + (", ..." if len(index) > 5 else "")
        message = f"{entry.file}: {shape.where}: class {shape.name!r} is not known ({names})"
        report(message, file=str(entry.file))
    return replace(entry, shapes=tuple(known))


def _ignored(folder: Path, ignored: Counter[str]) -> list[Finding]:
    if not ignored:
        return []
    listed = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common())
    message = f"{folder}: {listed}: not read as objects"
    return [Finding("shape-ignored", message, file=str(folder), count=ignored.total())]


def once(entries: Iterable[ShapeEntry]) -> list[ShapeEntry]:
    """The entries without those whose image another one has already.

    Raises:
        InputError: there is one (collected, see :mod:`fishnet.data.collector`).
    """
    files: dict[Path, ShapeEntry] = {}
    for entry in entries:
        before = files.setdefault(entry.path, entry)
        if before is not entry:
            message = f"{entry.file}: its image {entry.path} is that of {before.file} already: remove one"
            report(message, file=str(entry.file))
    return list(files.values())


def by_split(files: Iterable[Path], root: Path, what: str) -> dict[str, list[Path]]:
    """Files by the split that a folder on their way from the root is called after; ``all`` where none is.

    Args:
        files: below the root.
        root: the dataset's folder.
        what: the files are, in the plural, for messages.

    Raises:
        InputError: some lie in such a folder and others do not.
    """
    found: dict[str, list[Path]] = {}
    for file in files:
        words = file.relative_to(root).parts[:-1]
        split = next((split for word in words if (split := split_named(word))), "all")
        found.setdefault(split, []).append(file)
    if len(found) > 1 and "all" in found:
        rest = found["all"]
        raise InputError(
            f"{rest[0]}: lies in no train, val or test folder, where other {what} do "
            f"({len(rest):,} like it): move or remove it"
        )
    return {split: found[split] for split in in_order(found)}
