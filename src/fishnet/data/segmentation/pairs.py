"""Image files paired with mask files: which belong together, and the set that they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import is_strict, report
from fishnet.data.files import MaskEntry, by_name, lines_of, part_folders
from fishnet.data.findings import Finding
from fishnet.data.segmentation.base import LabelMap
from fishnet.data.segmentation.deciding import DEFAULT_THRESHOLD, Choices, Decision, Masks, decide
from fishnet.data.segmentation.files import FileSegmentation
from fishnet.data.segmentation.masks import Coding
from fishnet.data.segmentation.names import Legend, colour_text, assign_labels
from fishnet.data.segmentation.survey import MaskReading
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.images.decoding import EXTENSIONS

MASK_ENDS = (
    "", "_mask", "_masks", "_label", "_labels", "_L", "_P", "_gt", "_seg", "_segmentation", "_annotation", "-mask",
)  # fmt: skip
"""What masks have at the end of their stem that their images do not."""
IMAGE_ENDS = ("", "_image", "_img", "_sat", "_rgb")
"""The same the other way round."""
SHOWN = 5  # ids in a message
MANY = 12  # of them in one mask: they are hardly classes that were forgotten
Place = tuple[Path, Path]
"""The folders of images and of masks, perhaps the same one."""


class Pairs(NamedTuple):
    """A part.

    Attributes:
        folder: of the images.
        entries: one an image.
        left_out: a line for each image without a mask, and each mask without an image.
    """

    folder: Path
    entries: Sequence[MaskEntry]
    left_out: tuple[str, ...] = ()


class Found(NamedTuple):
    """What a format is told by.

    Attributes:
        parts: train first; ``all`` where the data has none.
        legend: what the masks hold; None where nothing says it.
        place: where a classes file would be looked for.
        definite: whether this can hardly be anything but data with a class for every pixel.
    """

    parts: dict[str, Pairs]
    legend: Legend | None
    place: Path
    definite: bool


class MaskSegmentation(FileSegmentation):
    """Image files with mask files.

    Args:
        pairs: the part.
        channels: that images are read with.
        classes: those that are learnt.
        coding: from masks to their indices.
        decision: what the masks hold, and what was concluded from them.
    """

    def __init__(self, pairs: Pairs, channels: int, classes: Classes, coding: Coding, decision: Decision) -> None:
        self.folder, self.entries, self.left_out = pairs
        self.channels, self.classes, self.coding, self.legend = channels, classes, coding, decision.legend
        self.mask_reading: MaskReading = decision.reading
        self.conclusions = tuple(decision.notes)

    def label_map(self, index: int) -> LabelMap:
        """See :class:`~fishnet.data.segmentation.base.SegmentationDataset`."""
        mask = self.entries[index].mask
        found, colours = self.coding.read(mask)
        labels, unnamed = self.coding.labels(found, colours)
        if unnamed:
            raise InputError(f"{mask}: {_without_names(unnamed, colours, self.legend.place)}")
        return labels

    def place(self, index: int) -> str:
        """The mask's path."""
        return str(self.entries[index].mask)

    def named_in(self, index: int) -> str:
        """The list's line."""
        place: str = self.entries[index].place
        return place


def _without_names(unnamed: Mapping[int, int], colours: bool, place: str) -> str:
    largest = sorted(unnamed, key=lambda value: -unnamed[value])
    shown = [f"{colour_text(value) if colours else value} ({unnamed[value]:,} px)" for value in largest[:SHOWN]]
    more = f" and {len(largest) - SHOWN} more" if len(largest) > SHOWN else ""
    listed = f"{', '.join(shown)}{more}"
    if len(largest) > MANY and not colours:
        return (
            f"ids without a name: {listed}: looks like an anti-aliased mask: save masks without smoothing, or read "
            f"masks of two classes with --threshold-masks {DEFAULT_THRESHOLD}"
        )
    if colours:
        return f"colours without a name: {listed}: add them to {place}"
    ids = " ".join(str(value) for value in sorted(largest[:SHOWN]))
    return f"ids without a name: {listed}: add them to {place}, or train with --ignore {ids}"


def open_pairs(
    found: Found,
    channels: int,
    *,
    classes: Classes | None = None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> dict[str, MaskSegmentation]:
    """The sets of what a format found, all with the classes of the first part; not a test part without a mask.

    Args:
        found: by the format.
        channels, classes: see :func:`~fishnet.data.segmentation.open.open_segmentation`.
        choices: what is ignored, and how masks are read.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.names.assign_labels` and
            :func:`~fishnet.data.segmentation.deciding.decide`; a part without an image with a mask; no classes file
            and no mask that can be read.
    """
    parts = {name: pairs for name, pairs in found.parts.items() if pairs.entries or name != "test" or not is_strict()}
    if is_strict():
        _check_some(found.place, parts)
    masks = [[entry.mask for entry in pairs.entries] for pairs in found.parts.values() if pairs.entries]
    decision = decide(Masks(masks, found.legend, found.place), choices, classes)
    legend = decision.legend
    learnt, labels = assign_labels(
        legend.classes, legend.place, ignore=choices.ignore, void=choices.void, only=choices.only, classes=classes,
    )  # fmt: skip
    coding = Coding(legend, labels, choices.ignore, threshold=decision.reading.threshold)
    splits = {name: MaskSegmentation(pairs, channels, learnt, coding, decision) for name, pairs in parts.items()}
    for name, pairs in found.parts.items():
        if name not in splits and pairs.left_out:
            count = len(pairs.left_out)
            line = f"{name}: none of {count:,} images has a mask ({pairs.left_out[0]}): {name} is left out"
            first = next(iter(splits.values()))
            first.notes = [*first.notes, Finding("file-unpaired", line, name, count=count)]
    return splits


def _check_some(place: Path, parts: Mapping[str, Pairs]) -> None:
    """Raises InputError for a part without a pair."""
    for name, pairs in parts.items():
        if not pairs.entries:
            first = f" ({pairs.left_out[0]})" if pairs.left_out else ""
            raise InputError(f"{place}: no image with a mask in its part {name!r}{first}")


def split_places(images: Path, masks: Path) -> dict[str, Place]:
    """The folders of each part in a folder of images and one of masks; none where no part is in both.

    What a part lacks in either is said when it is read: its folder there is then one that does not exist.

    Raises:
        InputError: two folders for the same part.
    """
    inside, beside = part_folders(images), part_folders(masks)
    names = {part: folder.name for part, folder in (beside | inside).items()} if inside.keys() & beside.keys() else {}
    return {
        part: (inside.get(part, images / names[part]), beside.get(part, masks / names[part]))
        for part in in_order(names)
    }


def paired(images: Path, masks: Path, listed: Mapping[str, str] | None = None) -> Pairs:
    """The images in a folder and below it with the masks of the same name in another, or in the same one.

    Args:
        images: the folder.
        masks: of the masks, whose stems may have something usual at their end.
        listed: the names in a part's list, of images or stems, with their places; None takes all images.

    Raises:
        InputError: two files of one name, a listed name without an image, one without a mask where others have one,
            not one pair.
    """
    every, others = by_name(images), by_name(masks)
    pairs = _pairs(every, others)
    found = {others[name] for name in pairs.values()}
    every = {name: path for name, path in every.items() if path not in found}
    if every and others and not pairs:
        report(f"{images}: no image has a mask of its name in {masks} (such as {next(iter(every))})")
    if listed is not None:
        names = _listed(listed, every, images)
        entries = [MaskEntry(every[name], others[pairs[name]], place) for name, place in names.items() if name in pairs]
        alone = [f"{place}: {every[name]} has no mask in {masks}" for name, place in names.items() if name not in pairs]
        if entries and alone:  # none at all is a test part that is kept from us
            for line in alone:
                report(line)
        return Pairs(images, entries, () if entries else tuple(alone))
    alone = [f"{path}: has no mask in {masks}" for name, path in every.items() if name not in pairs]
    if images != masks:
        alone += [f"{path}: has no image in {images}" for path in others.values() if path not in found]
    entries = [MaskEntry(path, others[pairs[name]]) for name, path in every.items() if name in pairs]
    return Pairs(images, entries, tuple(alone))


def _pairs(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    """For each image's name its mask's."""
    pairs: dict[str, str] = {}
    for name, path in images.items():
        bases = [name.removesuffix(end) for end in IMAGE_ENDS if name.endswith(end)]
        tried = (base + end for base in bases for end in MASK_ENDS)
        mask = next((one for one in tried if one in masks and masks[one] != path), None)
        if mask is not None:
            pairs[name] = mask
    return pairs


def _listed(listed: Mapping[str, str], images: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """The images' names in a list, and where each stands."""
    names: dict[str, str] = {}
    for row, place in listed.items():
        name = next((name for name in _spelled(row) if name in images), None)
        if name is None:
            report(f"{place}: no such image in {folder}: {row}")
        else:
            names[name] = place
    return names


def _spelled(row: str) -> list[str]:
    """The names that a list's row may mean: as it is, its first word, without folders in front, without an ending."""
    found: list[str] = []
    for word in dict.fromkeys((row, row.split(maxsplit=1)[0])):
        plain = word[: -len(Path(word).suffix)] if Path(word).suffix.lower() in EXTENSIONS else word
        found += [plain, Path(plain).name]
    return found


def lists_in(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of each part's list in a folder, with their places; trainval stands for a train that is not there.

    Raises:
        InputError: a list that cannot be read, or two for a part.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
        part = "trainval" if path.stem.lower() == "trainval" else split_named(path.stem)
        if part is not None and part in files:
            raise InputError(f"{folder}: two lists of a part: {files[part].name} and {path.name}: remove one")
        if part is not None:
            files[part] = path
    lists = {part: {row: f"{path} line {line}" for line, row in lines_of(path)} for part, path in files.items()}
    rest = lists.pop("trainval", {})
    if "train" not in lists and rest:
        lists["train"] = {row: place for row, place in rest.items() if row not in lists.get("val", {})}
    return {part: lists[part] for part in in_order(lists)}
