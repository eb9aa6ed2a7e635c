"""Where Pascal VOC's annotations, images and lists lie. Torch-free."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from fishnet.data.files import by_stem, child, lines_of, part_folders
from fishnet.data.splits import in_order, split_named
from fishnet.errors import InputError
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS
from fishnet.images.scanning import Scan, scan

LAYOUTS = "Pascal VOC (Annotations/*.xml, .xml beside the images, or VOCdevkit/VOC2007)"
_OF_CLASS = re.compile(r".+_(train|val|trainval|test)", re.IGNORECASE)  # lists of the images with a class
_YEAR = re.compile(r"voc\d{4}", re.IGNORECASE)


class VocSplit(NamedTuple):
    """Where a part lies.

    Attributes:
        folder: that holds everything.
        xmls, images: the folders.
        stems: the names in the part's list with their places; None for all.
        left_out: lists beside it whose names say no split.
    """

    folder: Path
    xmls: Path
    images: Path
    stems: dict[str, str] | None = None
    left_out: tuple[Path, ...] = ()


class Images:
    """The images of a part by their names without ending, and by their paths below the folder.

    Args:
        part: where it lies.
    """

    def __init__(self, part: VocSplit) -> None:
        self.folder = part.images
        self.scanned = Scan()
        self.paths: dict[str, list[Path]] = {}
        self._stems: dict[str, list[str]] = {}
        if part.images == part.folder:
            self.paths = by_stem(part.images)
        else:
            self.scanned = scan(part.images, part.folder)
            for path in self.scanned.images:
                key = path.relative_to(part.images).with_suffix("").as_posix()
                self.paths.setdefault(normalize("NFC", key), []).append(path)
        for key in self.paths:
            self._stems.setdefault(key.rpartition("/")[2], []).append(key)

    def of(self, xml: Path, below: Path, filename: str) -> Path:
        """The image of an annotation file: of its path below the folder, or of its name alone if only one has it;
        of several endings the one that the annotation states. Where there is none, the place where it should be."""
        key = normalize("NFC", xml.relative_to(below).with_suffix("").as_posix())
        stem = key.rpartition("/")[2]
        if key not in self.paths and len(self._stems.get(stem, ())) == 1:
            key = self._stems[stem][0]
        stated = Path(filename.replace("\\", "/")).name or f"{stem}.jpg"
        same = self.paths.get(key, [])
        return next((path for path in same if path.name == stated), next(iter(same), self.folder / stated))


def find_voc(data: Path, masks: bool = False) -> dict[str, tuple[VocSplit, ...]]:
    """The parts of a VOC folder; ``all`` without parts, nothing where it is none.

    Args:
        data: a folder with ``Annotations/`` and ``JPEGImages/`` (or ``images/``, or the images), with or without
            lists in ``ImageSets/Main``; one of images with XML beside them; of train, valid and test folders of
            either; or with ``VOC2007``, ``VOC2012`` ... (in ``VOCdevkit``), which are read together.
        masks: whether the lists of ``ImageSets/Segmentation`` come first.

    Raises:
        InputError: a list that cannot be read, two folders or lists for a part, or years with and without lists.
    """
    whole = _whole(data)
    if whole is not None:
        return {part: (found,) for part, found in _listed(whole, masks).items()}
    parts = {part: _whole(folder) for part, folder in part_folders(data).items()}
    return {part: (found,) for part, found in parts.items() if found is not None} or _years(data, masks)


def xmls_in(folder: Path) -> list[Path]:
    """The annotation files in a folder; GDAL's ``.aux.xml`` beside an image are none."""
    return [path for path in sorted(folder.iterdir()) if _is_xml(path)]


def annotations_of(part: VocSplit) -> Iterator[tuple[Path, str]]:
    """A part's annotation files, and where each is listed; a listed one need not exist."""
    nested = part.xmls != part.folder
    xmls = [path for path in walk(part.xmls) if _is_xml(path)] if nested else xmls_in(part.xmls)
    if part.stems is None:
        yield from ((xml, "") for xml in xmls)
        return
    known = {xml.relative_to(part.xmls).with_suffix("").as_posix(): xml for xml in xmls}
    below: dict[str, list[Path]] = {}
    for xml in xmls:
        below.setdefault(xml.stem, []).append(xml)
    for listed, place in part.stems.items():
        bare = listed.rpartition(".")[0] if listed.lower().endswith(EXTENSIONS) else listed
        same = below.get(bare, [])
        xml = known.get(listed) or known.get(bare) or (same[0] if len(same) == 1 else part.xmls / f"{bare}.xml")
        yield xml, place


def _is_xml(path: Path) -> bool:
    return path.suffix.lower() == ".xml" and not path.name.lower().endswith(".aux.xml")


def _whole(folder: Path) -> VocSplit | None:
    """A folder as one part; None where it has no XML."""
    if not folder.is_dir():
        return None
    below = child(folder, "annotations")
    if below is not None and any(_is_xml(path) for path in walk(below)):
        return VocSplit(folder, below, child(folder, "jpegimages", "images", "pngimages") or folder)
    return VocSplit(folder, folder, folder) if xmls_in(folder) else None


def _years(data: Path, masks: bool) -> dict[str, tuple[VocSplit, ...]]:
    """The years of a VOCdevkit, read together."""
    kit = child(data, "vocdevkit") or data
    folders = [path for path in sorted(kit.iterdir()) if _YEAR.fullmatch(path.name)] if kit.is_dir() else []
    years = {folder: _listed(whole, masks) for folder in folders if (whole := _whole(folder)) is not None}
    without = [folder for folder, parts in years.items() if "all" in parts]
    if without and len(years) > 1:
        raise InputError(f"{without[0]}: has no lists of train and val in ImageSets, unlike the years beside it")
    names = in_order(name for parts in years.values() for name in parts)
    return {name: tuple(parts[name] for parts in years.values() if name in parts) for name in names}


def _listed(whole: VocSplit, masks: bool) -> dict[str, VocSplit]:
    """A folder's parts by its lists; trainval stands for a train that is not there."""
    splits = child(whole.folder, "imagesets")
    kinds = ("segmentation", "main") if masks else ("main",)
    folder = next((found for kind in kinds if splits and (found := child(splits, kind))), None)
    lists: dict[str, Path] = {}
    others: list[Path] = []
    for path in sorted(folder.iterdir()) if folder else ():
        if path.suffix.lower() != ".txt" or not path.is_file() or _OF_CLASS.fullmatch(path.stem):
            continue
        part = "trainval" if path.stem.lower() == "trainval" else split_named(path.stem)
        if part is None:
            others.append(path)
        elif part in lists:
            raise InputError(f"{folder}: two lists for the {part} part: {lists[part].name} and {path.name}")
        else:
            lists[part] = path
    stems = {part: _list(path) for part, path in lists.items()}
    both = stems.pop("trainval", {})
    if "train" not in stems and both:
        held = stems.get("val", {})
        stems["train"] = {stem: place for stem, place in both.items() if stem not in held}
    parts = {part: whole._replace(stems=stems[part], left_out=tuple(others)) for part in in_order(stems)}
    return parts or {"all": whole._replace(left_out=tuple(others))}


def _list(path: Path) -> dict[str, str]:
    return {stem: f"{path} line {line}" for line, stem in lines_of(path)}
