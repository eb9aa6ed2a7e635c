"""Finds Pascal VOC's annotations, images and lists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from fishnet.data.detection.files import one_per_split
from fishnet.data.files import find_split_folders, images_by_stem, numbered_lines, subfolder
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS
from fishnet.images.scanning import Scan, scan

LAYOUTS = "Pascal VOC (Annotations/*.xml, .xml beside the images, or VOCdevkit/VOC2007)"
_CLASS_LIST = re.compile(r".+_(train|val|trainval|test)", re.IGNORECASE)  # lists of the images with one class
_YEAR = re.compile(r"voc\d{4}", re.IGNORECASE)


class VocSplit(NamedTuple):
    """The location of a split.

    Attributes:
        folder: the dataset's folder.
        xmls, images: the folders of annotations and of images.
        stems: the names in the split's list, with file and line; None without a list.
        left_out: other lists, whose names contain no split.
    """

    folder: Path
    xmls: Path
    images: Path
    stems: dict[str, str] | None = None
    left_out: tuple[Path, ...] = ()


class Images:
    """The images of a split, by path below the folder and by name, both without extension."""

    def __init__(self, source: VocSplit) -> None:
        self.folder = source.images
        self.scanned = Scan()
        self.paths: dict[str, list[Path]] = {}
        self._stems: dict[str, list[str]] = {}
        if source.images == source.folder:
            self.paths = images_by_stem(source.images)
        else:
            self.scanned = scan(source.images, source.folder)
            for path in self.scanned.images:
                key = path.relative_to(source.images).with_suffix("").as_posix()
                self.paths.setdefault(normalize("NFC", key), []).append(path)
        for key in self.paths:
            self._stems.setdefault(key.rpartition("/")[2], []).append(key)

    def of(self, xml: Path, folder: Path, filename: str) -> Path:
        """The image of an annotation file; if there is none, the path where it should be.

        The image has the same path below its folder or, if that is unique, the same name. If there are several with
        different extensions, the one that the annotation names is used.
        """
        key = normalize("NFC", xml.relative_to(folder).with_suffix("").as_posix())
        stem = key.rpartition("/")[2]
        if key not in self.paths and len(self._stems.get(stem, ())) == 1:
            key = self._stems[stem][0]
        name = Path(filename.replace("\\", "/")).name or f"{stem}.jpg"
        candidates = self.paths.get(key, [])
        return next((path for path in candidates if path.name == name), next(iter(candidates), self.folder / name))


def find_voc(data: Path, masks: bool = False) -> dict[str, tuple[VocSplit, ...]]:
    """Finds VOC data by split, one source per year; ``all`` if there are no splits, empty if there is no VOC data.

    Args:
        data: a folder with ``Annotations/`` and ``JPEGImages/`` (or ``images/``, or the images), with or without lists
            in ``ImageSets/Main``; a folder of images and XML files; a folder with train, valid and test folders of
            either kind; or a folder with ``VOC2007``, ``VOC2012`` ... (or these in ``VOCdevkit``), which are read
            as one dataset.
        masks: whether the lists of ``ImageSets/Segmentation`` take precedence.

    Raises:
        InputError: a list that cannot be read, two folders or lists for one split, or some years with lists and others
            without.
    """
    source = _unsplit(data)
    if source is not None:
        return {split: (listed,) for split, listed in _by_list(source, masks).items()}
    sources = {split: _unsplit(folder) for split, folder in find_split_folders(data).items()}
    return {split: (source,) for split, source in sources.items() if source is not None} or _years(data, masks)


def annotations_of(source: VocSplit) -> Iterator[tuple[Path, str]]:
    """The annotation files of a split, with the file and line that lists each. Listed files need not exist."""
    nested = source.xmls != source.folder
    xmls = [path for path in walk(source.xmls) if _is_xml(path)] if nested else _xmls_in(source.xmls)
    if source.stems is None:
        yield from ((xml, "") for xml in xmls)
        return
    by_path = {xml.relative_to(source.xmls).with_suffix("").as_posix(): xml for xml in xmls}
    by_name: dict[str, list[Path]] = {}
    for xml in xmls:
        by_name.setdefault(xml.stem, []).append(xml)
    for listed, location in source.stems.items():
        bare = listed.rpartition(".")[0] if listed.lower().endswith(EXTENSIONS) else listed
        namesakes = by_name.get(bare, [])
        default = namesakes[0] if len(namesakes) == 1 else source.xmls / f"{bare}.xml"
        yield by_path.get(listed) or by_path.get(bare) or default, location


def _xmls_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if _is_xml(path)]


def _is_xml(path: Path) -> bool:
    """Whether a file is an annotation; GDAL's ``.aux.xml`` files are not."""
    return path.suffix.lower() == ".xml" and not path.name.lower().endswith(".aux.xml")


def _unsplit(folder: Path) -> VocSplit | None:
    """All annotations of a folder as one split; None if it has none."""
    if not folder.is_dir():
        return None
    xmls = subfolder(folder, "annotations")
    if xmls is not None and any(_is_xml(path) for path in walk(xmls)):
        return VocSplit(folder, xmls, subfolder(folder, "jpegimages", "images", "pngimages") or folder)
    return VocSplit(folder, folder, folder) if _xmls_in(folder) else None


def _years(data: Path, masks: bool) -> dict[str, tuple[VocSplit, ...]]:
    """The splits of all years of a VOCdevkit."""
    kit = subfolder(data, "vocdevkit") or data
    folders = [path for path in sorted(kit.iterdir()) if _YEAR.fullmatch(path.name)] if kit.is_dir() else []
    years = {folder: _by_list(source, masks) for folder in folders if (source := _unsplit(folder)) is not None}
    unlisted = [folder for folder, sources in years.items() if "all" in sources]
    if unlisted and len(years) > 1:
        raise InputError(f"{unlisted[0]}: has no lists of train and val in ImageSets, unlike the other years")
    splits = in_order(split for sources in years.values() for split in sources)
    return {split: tuple(sources[split] for sources in years.values() if split in sources) for split in splits}


def _by_list(source: VocSplit, masks: bool) -> dict[str, VocSplit]:
    """The splits of a folder by its lists. Without a list for train, trainval is used, without the images of val."""
    image_sets = subfolder(source.folder, "imagesets")
    kinds = ("segmentation", "main") if masks else ("main",)
    folder = next((path for kind in kinds if image_sets and (path := subfolder(image_sets, kind))), None)
    texts = [path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".txt"] if folder else []
    texts = [path for path in texts if path.is_file() and not _CLASS_LIST.fullmatch(path.stem)]
    trainval = [path for path in texts if path.stem.lower() == "trainval"]
    lists = one_per_split(((split_named(path.stem), path) for path in texts), "lists")
    stems = {split: _stems(path) for split, path in lists.items()}
    if trainval and "train" not in stems and (names := _stems(trainval[0])):
        stems["train"] = {stem: location for stem, location in names.items() if stem not in stems.get("val", {})}
    left_out = tuple(path for path in texts if path not in (*trainval, *lists.values()))
    source = source._replace(left_out=left_out)
    return {split: source._replace(stems=stems[split]) for split in in_order(stems)} or {"all": source}


def _stems(path: Path) -> dict[str, str]:
    """The names in a list, with file and line."""
    return {stem: f"{path} line {line}" for line, stem in numbered_lines(path)}
