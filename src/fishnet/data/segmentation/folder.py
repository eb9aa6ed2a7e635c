"""Folders of images and of masks, paired by name."""

from pathlib import Path

from fishnet.data.files import find_split_folders, subfolder
from fishnet.data.segmentation.matching import MASK_ENDS, Folders, Pairs, match_files, read_lists, split_folders
from fishnet.data.segmentation.names import find_legend
from fishnet.data.segmentation.pairs import MaskLayout
from fishnet.images.decoding import EXTENSIONS
from fishnet.images.scanning import find_images

LAYOUTS = "images/ and masks/ paired by name (in train/ and val/, or with these inside, or with train.txt and val.txt)"
_IMAGES = ("images", "image", "imgs", "img", "pictures", "photos")
_MASKS = (
    "masks", "mask", "stuff", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentation",
    "segmentations", "gt", "ground_truth", "groundtruth",
)  # fmt: skip
_CAMVID_ENDS = ("_labels", "_label", "_masks", "_mask", "annot", "_annot", "_annotations", "_gt")  # train, train_labels


def find_folder(data: Path) -> MaskLayout | None:
    """Finds the splits of a folder of images and masks; None for any other folder.

    Args:
        data: a folder in one of these layouts: a folder of images and one of masks by their usual names, both with or
            without train, val and test folders, or with lists of these names; train, val and test folders that each
            hold both; folders such as ``train`` and ``train_labels``; or masks in the folders of their images
            (``x.png`` and ``x_mask.png``), with or without train, val and test folders.

    Raises:
        InputError: see :func:`~fishnet.data.segmentation.matching.match_files`,
            :func:`~fishnet.data.segmentation.names.read_legend`.
    """
    folders, is_camvid = _find_folders(data)
    if not any(masks.is_dir() and find_images(masks) for _, masks in folders.values()):
        return None
    masks = next(iter(folders.values())).masks
    legend = find_legend(data, masks.parent, masks)
    return MaskLayout(_match_splits(data, folders), legend, data, is_camvid or legend is not None)


def _find_folders(data: Path) -> tuple[dict[str, Folders], bool]:
    """The folders of each split, and whether the layout is CamVid's, which no other data has.

    All splits have the same layout. If a split lacks one of its folders, reading it reports that.
    """
    folders = _inside(data)
    if _exist(folders):
        return split_folders(*folders) or {"all": folders}, False
    splits = find_split_folders(data)
    inside = {split: _inside(folder) for split, folder in splits.items()}
    if any(map(_exist, inside.values())):
        return inside, False
    camvid = {split: Folders(folder, _camvid_masks(data, folder)) for split, folder in splits.items()}
    if any(map(_exist, camvid.values())):
        return camvid, True
    mixed = {split: folder for split, folder in (splits or {"all": data}).items() if _is_mixed(folder)}
    if not mixed:
        return {}, False
    return {
        split: Folders(folder, folder)
        for split, folder in (splits or {"all": data}).items()
        if split in mixed or split != "test"
    }, False


def _inside(folder: Path) -> Folders:
    """The folders of images and masks in a folder, whether they exist or not."""
    return Folders(subfolder(folder, *_IMAGES) or folder / _IMAGES[0], subfolder(folder, *_MASKS) or folder / _MASKS[0])


def _camvid_masks(data: Path, images: Path) -> Path:
    names = [f"{images.name}{end}".lower() for end in _CAMVID_ENDS]
    return subfolder(data, *names) or data / names[0]


def _exist(folders: Folders) -> bool:
    return all(folder.is_dir() for folder in folders)


def _is_mixed(folder: Path) -> bool:
    """Whether a folder itself (not its subfolders) holds masks and their images."""
    if not folder.is_dir():
        return False
    stems = {path.stem for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS}
    return any(stem.endswith(end) and stem.removesuffix(end) in stems for stem in stems for end in MASK_ENDS if end)


def _match_splits(data: Path, folders: dict[str, Folders]) -> dict[str, Pairs]:
    lists = read_lists(data) if "all" in folders else {}
    if not lists:
        return {split: match_files(pair) for split, pair in folders.items()}
    splits = {split: match_files(folders["all"], rows) for split, rows in lists.items()}
    if "train" not in lists and "val" in lists:  # images that are in no list are for training
        listed = {entry.path for pairs in splits.values() for entry in pairs.entries}
        pairs = match_files(folders["all"])
        rest = [entry for entry in pairs.entries if entry.path not in listed]
        return {"train": pairs._replace(entries=rest), **splits}
    return splits
