"""Finds the mask of each image by its name, in folders and in lists."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fishnet.data.collector import report
from fishnet.data.files import MaskEntry, find_split_folders, images_by_name, numbered_lines
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.images.decoding import EXTENSIONS

MASK_ENDS = (
    "", "_mask", "_masks", "_label", "_labels", "_L", "_P", "_gt", "_seg", "_segmentation", "_annotation", "-mask",
)  # fmt: skip
"""Suffixes that the stem of a mask may have in addition to its image's name."""
IMAGE_ENDS = ("", "_image", "_img", "_sat", "_rgb")
"""Suffixes that the stem of an image may have in addition to its mask's name."""


class Folders(NamedTuple):
    """The folders of a split's images and masks, perhaps the same one."""

    images: Path
    masks: Path


class Pairs(NamedTuple):
    """The images of a split with their masks.

    Attributes:
        folder: the folder of the images.
        entries: one entry per image with a mask.
        left_out: a line for each image without a mask, and each mask without an image.
    """

    folder: Path
    entries: Sequence[MaskEntry]
    left_out: tuple[str, ...] = ()


def split_folders(images: Path, masks: Path) -> dict[str, Folders]:
    """The folders of each split in a folder of images and in one of masks; empty if no split is in both.

    If a split is in only one of them, its other folder does not exist: reading the split reports that.

    Raises:
        InputError: two folders for the same split.
    """
    image_folders, mask_folders = find_split_folders(images), find_split_folders(masks)
    if not image_folders.keys() & mask_folders.keys():
        return {}
    names = {split: folder.name for split, folder in (mask_folders | image_folders).items()}
    return {
        split: Folders(image_folders.get(split, images / names[split]), mask_folders.get(split, masks / names[split]))
        for split in in_order(names)
    }


def match_files(folders: Folders, listed: Mapping[str, str] | None = None) -> Pairs:
    """Matches the images in and below a folder with the masks of the same names in another folder, or in the same one.

    Args:
        folders: the folders of the images and of the masks.
        listed: the rows of a split's list with their locations, see :func:`read_lists`; None for all images.

    Raises:
        InputError: two files with the same name; a listed name without an image, or without a mask although others have
            one; no pair at all.
    """
    images, masks = images_by_name(folders.images), images_by_name(folders.masks)
    matches = _match_names(images, masks)
    matched = {masks[name] for name in matches.values()}
    images = {name: path for name, path in images.items() if path not in matched}
    if images and masks and not matches:
        report(f"{folders.images}: no image has a mask of its name in {folders.masks} (such as {next(iter(images))})")
    if listed is not None:
        return _match_listed(folders, listed, images, {name: masks[match] for name, match in matches.items()})
    left_out = [f"{path}: has no mask in {folders.masks}" for name, path in images.items() if name not in matches]
    if folders.images != folders.masks:
        left_out += [f"{path}: has no image in {folders.images}" for path in masks.values() if path not in matched]
    entries = [MaskEntry(path, masks[matches[name]]) for name, path in images.items() if name in matches]
    return Pairs(folders.images, entries, tuple(left_out))


def _match_names(images: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, str]:
    """The name of each image's mask, by the image's name."""
    matches: dict[str, str] = {}
    for name, path in images.items():
        stems = [name.removesuffix(end) for end in IMAGE_ENDS if name.endswith(end)]
        candidates = (stem + end for stem in stems for end in MASK_ENDS)
        match = next((candidate for candidate in candidates if candidate in masks and masks[candidate] != path), None)
        if match is not None:
            matches[name] = match
    return matches


def _match_listed(
    folders: Folders, listed: Mapping[str, str], images: Mapping[str, Path], masks: Mapping[str, Path]
) -> Pairs:
    """The pairs of the images in a list; the keys of images and masks are the images' names."""
    locations = _locations_by_image(listed, images, folders.images)
    entries = [MaskEntry(images[name], masks[name], location) for name, location in locations.items() if name in masks]
    unmatched = [
        f"{location}: {images[name]} has no mask in {folders.masks}"
        for name, location in locations.items()
        if name not in masks
    ]
    if not entries:  # a test split whose masks are not public
        return Pairs(folders.images, entries, tuple(unmatched))
    for line in unmatched:
        report(line)
    return Pairs(folders.images, entries)


def _locations_by_image(listed: Mapping[str, str], images: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """The file and line of each listed image in its list. Reports rows that name no image."""
    locations: dict[str, str] = {}
    for row, location in listed.items():
        name = next((name for name in _image_names(row) if name in images), None)
        if name is None:
            report(f"{location}: no such image in {folder}: {row}")
        else:
            locations[name] = location
    return locations


def _image_names(row: str) -> Iterator[str]:
    """The names that a list's row may mean: the row or its first word, without extension, with or without folders."""
    for path in dict.fromkeys((row, row.split(maxsplit=1)[0])):
        name = path[: -len(Path(path).suffix)] if Path(path).suffix.lower() in EXTENSIONS else path
        yield from (name, Path(name).name)


def read_lists(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of each split's list in a folder, with file and line. ``trainval`` stands in for a missing train.

    Raises:
        InputError: a list that cannot be read, or two lists for the same split.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.txt")) if folder.is_dir() else ():
        split = "trainval" if path.stem.lower() == "trainval" else split_named(path.stem)
        if split in files:
            raise InputError(f"{folder}: two lists of one split: {files[split].name} and {path.name}: remove one")
        if split is not None:
            files[split] = path
    lists = {split: {row: f"{path} line {line}" for line, row in numbered_lines(path)} for split, path in files.items()}
    trainval = lists.pop("trainval", {})
    if "train" not in lists and trainval:
        lists["train"] = {row: location for row, location in trainval.items() if row not in lists.get("val", {})}
    return {split: lists[split] for split in in_order(lists)}
