"""Folders of images and of masks, paired by name."""

from pathlib import Path

from fishnet.data.files import child, part_folders
from fishnet.data.segmentation.names import find_legend
from fishnet.data.segmentation.pairs import MASK_ENDS, Found, Pairs, Place, lists_in, paired, split_places
from fishnet.images.decoding import EXTENSIONS
from fishnet.images.scanning import find_images

LAYOUTS = "images/ and masks/ paired by name (in train/ and val/, or with these inside, or with train.txt and val.txt)"
_IMAGES = ("images", "image", "imgs", "img", "pictures", "photos")
_MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentation",
    "segmentations", "gt", "ground_truth", "groundtruth",
)  # fmt: skip
_BESIDE = ("_labels", "_label", "_masks", "_mask", "annot", "_annot", "_annotations", "_gt")  # train and train_labels


def find_folder(data: Path) -> Found | None:
    """The parts of a folder of images and masks; None where it is none.

    Args:
        data: a folder with one of images and one of masks by their usual names, with or without train, val and test
            folders in both or lists of these names beside them; of train, val and test folders with both inside; with
            folders such as ``train`` and ``train_labels``; or with masks beside their images, ``x.png`` and
            ``x_mask.png``, again with or without train, val and test folders.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.pairs.paired`,
            :func:`~fishnet.data.segmentation.names.read_legend`.
    """
    places, camvid = _places(data)
    if not any(masks.is_dir() and find_images(masks) for _, masks in places.values()):
        return None
    first = next(iter(places.values()))
    legend = find_legend(data, first[1].parent, first[1])
    return Found(_parts(data, places), legend, data, camvid or legend is not None)


def _places(data: Path) -> tuple[dict[str, Place], bool]:
    """The folders of each part, and whether they lie as only CamVid's do.

    A part has the same two as the others, also where it lacks one, so that this is said when it is read.
    """
    whole = _inside(data)
    if _both(whole):
        return split_places(*whole) or {"all": whole}, False
    folders = part_folders(data)
    for places, camvid in (
        ({part: _inside(folder) for part, folder in folders.items()}, False),
        ({part: (folder, _masks_beside(data, folder)) for part, folder in folders.items()}, True),
    ):
        if any(map(_both, places.values())):
            return places, camvid
    mixed = {part: _mixed(folder) for part, folder in (folders or {"all": data}).items()}
    same = {part: (folders.get(part, data),) * 2 for part, it_is in mixed.items() if it_is or part != "test"}
    return same if any(mixed.values()) else {}, False


def _inside(folder: Path) -> Place:
    return child(folder, *_IMAGES) or folder / _IMAGES[0], child(folder, *_MASKS) or folder / _MASKS[0]


def _masks_beside(data: Path, folder: Path) -> Path:
    names = [f"{folder.name}{end}".lower() for end in _BESIDE]
    return child(data, *names) or data / names[0]


def _both(place: Place) -> bool:
    return all(folder.is_dir() for folder in place)


def _mixed(folder: Path) -> bool:
    """Whether masks lie beside their images; folders below are not looked into."""
    if not folder.is_dir():
        return False
    stems = {path.stem for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS}
    return any(stem.endswith(end) and stem.removesuffix(end) in stems for stem in stems for end in MASK_ENDS if end)


def _parts(data: Path, places: dict[str, Place]) -> dict[str, Pairs]:
    lists = lists_in(data) if "all" in places else {}
    if not lists:
        return {part: paired(*place) for part, place in places.items()}
    place = places["all"]
    parts = {part: paired(*place, rows) for part, rows in lists.items()}
    if "train" not in lists and "val" in lists:  # what is not listed is learnt from
        held = {entry.path for pairs in parts.values() for entry in pairs.entries}
        whole = paired(*place)
        return {"train": whole._replace(entries=[entry for entry in whole.entries if entry.path not in held]), **parts}
    return parts
