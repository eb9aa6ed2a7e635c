"""Folders of pictures and of masks, paired by name."""

from pathlib import Path

from fishnet.data.files import child, part_folders
from fishnet.data.pictures import EXTENSIONS, find_pictures
from fishnet.data.pixels.names import find_legend
from fishnet.data.pixels.pairs import MASK_ENDS, Found, Pairs, lists_in, paired, spelled

LAYOUTS = "images/ and masks/ paired by name (in train/ and val/, or with these inside, or with train.txt and val.txt)"
_PICTURES = ("images", "image", "imgs", "img", "pictures", "photos")
_MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentation",
    "segmentations", "gt", "ground_truth", "groundtruth",
)  # fmt: skip
_BESIDE = ("_labels", "_label", "_masks", "_mask", "annot", "_annot", "_annotations", "_gt")  # train and train_labels
Place = tuple[Path, Path]  # the folders of pictures and of masks, perhaps the same one


def find_folder(data: Path, problems: list[str] | None = None) -> Found | None:
    """The parts of a folder of pictures and masks; None where it is none.

    Args:
        data: a folder with one of pictures and one of masks by their usual names, with or without train, val and test
            folders in both or lists of these names beside them; of train, val and test folders with both inside; with
            folders such as ``train`` and ``train_labels``; or with masks beside their pictures, ``x.png`` and
            ``x_mask.png``, again with or without train, val and test folders.
        problems: collects what is wrong with single files; None raises.

    Raises:
        InputError: see :func:`~fishnet.data.pixels.pairs.paired`, :func:`~fishnet.data.pixels.names.read_legend`.
    """
    places, camvid = _places(data)
    if not any(find_pictures(masks) for _, masks in places.values()):
        return None
    first = next(iter(places.values()))
    legend = find_legend(data, first[1].parent, first[1])
    return Found(_parts(data, places, problems), legend, data, camvid or legend is not None)


def _places(data: Path) -> tuple[dict[str, Place], bool]:
    """The folders of each part, and whether they lie as only CamVid's do."""
    whole = _both(data)
    if whole is not None:
        pictures, masks = (part_folders(folder) for folder in whole)
        inner = {part: (pictures[part], masks[part]) for part in pictures if part in masks}
        return inner or {"all": whole}, False
    folders = part_folders(data)
    both = {part: place for part, folder in folders.items() if (place := _both(folder))}
    if both:
        return both, False
    beside = {part: _masks_beside(data, folder) for part, folder in folders.items()}
    found = {part: (folders[part], masks) for part, masks in beside.items() if masks is not None}
    if found:
        return found, True
    same = {part: (folder, folder) for part, folder in (folders or {"all": data}).items() if _mixed(folder)}
    return same, False


def _both(folder: Path) -> Place | None:
    pictures, masks = child(folder, *_PICTURES), child(folder, *_MASKS)
    return None if pictures is None or masks is None else (pictures, masks)


def _masks_beside(data: Path, folder: Path) -> Path | None:
    return child(data, *(f"{folder.name}{end}".lower() for end in _BESIDE))


def _mixed(folder: Path) -> bool:
    """Whether masks lie beside their pictures; folders below are not looked into."""
    if not folder.is_dir():
        return False
    stems = {path.stem for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS}
    return any(stem.endswith(end) and stem.removesuffix(end) in stems for stem in stems for end in MASK_ENDS if end)


def _parts(data: Path, places: dict[str, Place], problems: list[str] | None) -> dict[str, Pairs]:
    lists = lists_in(data) if "all" in places else {}
    if not lists:
        return {part: paired(*place, problems=problems) for part, place in places.items()}
    place = places["all"]
    if "train" not in lists and "val" in lists:  # what is not listed is learnt from
        held = {name for rows in lists.values() for row in rows for name in spelled(row)}
        whole = paired(*place, problems=problems)
        rest = [entry for entry in whole.entries if not held & {entry.path.stem, entry.path.name}]
        parts = {part: paired(*place, rows, problems) for part, rows in lists.items()}
        return {"train": whole._replace(entries=rest), **parts}
    return {part: paired(*place, rows, problems) for part, rows in lists.items()}
