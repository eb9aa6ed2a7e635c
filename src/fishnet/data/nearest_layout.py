"""The known layouts that unrecognized data comes nearest to, by its file extensions, folders and first lines.

Torch-free. No image is opened, and only the first files of a large dataset are counted.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS

CONVERT = "fishnet data convert SOURCE TARGET --from"
NEAREST = "nearest: "
_MAX_FILES = 20_000
_HEAD = 1 << 14  # bytes read of a file
_MAX_EXTENSIONS = 4  # in a message
_MAX_LAYOUTS = 2  # in a message


@dataclass
class Survey:
    """What a folder contains.

    Attributes:
        extensions: the number of files by extension, in lower case.
        folders: names of the folders, in lower case.
        heads: the beginning of the first file of each extension.
        images: the number of image files.
    """

    extensions: Counter[str] = field(default_factory=Counter)
    folders: set[str] = field(default_factory=set)
    heads: dict[str, str] = field(default_factory=dict)
    images: int = 0

    def head(self, extension: str) -> str:
        """The beginning of the first file with an extension; empty if there is none."""
        return self.heads.get(extension, "")


@dataclass(frozen=True)
class Layout:
    """A layout that data may be meant to have.

    Attributes:
        fits: whether a folder looks like this layout.
        advice: the layout's name, and what is missing or what to do.
    """

    fits: Callable[[Survey], bool]
    advice: str


def _holds(extension: str, pattern: str) -> Callable[[Survey], bool]:
    compiled = re.compile(pattern)
    return lambda survey: compiled.search(survey.head(extension)) is not None


_ROW = r"^\s*\d+(\s+-?[\d.]+){4,}\s*$"
LAYOUTS = (
    Layout(_holds(".json", r'"_via_img_metadata"|"shape_attributes"'), "VIA: export its project as COCO"),
    Layout(_holds(".json", r'"shapes"'), "labelme: a .json beside each image, or both below one folder"),
    Layout(
        _holds(".json", r'"(classTitle|geometryType)"|"classes":\s*\[\s*\{\s*"title"'),
        "Supervisely: a project has meta.json, and ann/ and img/ in each dataset",
    ),
    Layout(
        _holds(".json", r'"dm_format_version"|"media_type"|"categories":\s*\{\s*"label"'),
        f"Datumaro: {CONVERT} datumaro makes it COCO",
    ),
    Layout(
        _holds(".json", r'"(images|annotations|categories|image_id)"'),
        "COCO: one .json for each split with images, annotations and categories, in the folder or in annotations/",
    ),
    Layout(_holds(".xml", r"<annotations>|<image\s[^>]*\bname="), f"CVAT: {CONVERT} cvat makes it COCO"),
    Layout(
        lambda survey: survey.extensions[".xml"] > 0,
        "Pascal VOC: Annotations/*.xml with the images in JPEGImages/, or each .xml beside its image",
    ),
    Layout(
        _holds(".txt", r"(?m)^[A-Za-z_]+( -?[\d.]+){14,15}\s*$"),
        f"KITTI: {CONVERT} kitti makes it COCO",
    ),
    Layout(
        _holds(".txt", rf"(?m){_ROW}"),
        "YOLO: add data.yaml, or a classes.txt of class names beside images/ and labels/",
    ),
    Layout(
        lambda survey: survey.extensions[".csv"] + survey.extensions[".tsv"] > 0,
        "a table: columns image_path, xmin, ymin, xmax, ymax, label are boxes; path, label are classes of whole images",
    ),
    Layout(
        lambda survey: survey.images > 0 and bool({"masks", "mask", "labels", "annotations", "gt"} & survey.folders),
        "images/ and masks/ paired by name: both folders are needed, with equal names in them",
    ),
    Layout(lambda survey: survey.extensions[".tar"] > 0, "WebDataset shards: give wds/FOLDER"),
    Layout(lambda survey: survey.extensions[".zip"] > 0, "an archive: unpack it first"),
)


_FOREIGN = re.compile(r'"_via_img_metadata"|"dm_format_version"|"categories":\s*\{\s*"label"|<annotations>')


def is_foreign(data: Path) -> bool:
    """Whether a file, or the first one in a folder or its ``annotations/``, has a format that no reader supports.

    CVAT's XML and the JSON of Datumaro and VIA are found where files of supported formats may be.
    """
    if data.is_file():
        return data.suffix.lower() in (".json", ".xml") and _FOREIGN.search(_head(data)) is not None
    for folder in (data, data / "annotations"):
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        first = next((path for path in files if path.suffix.lower() in (".json", ".xml")), None)
        if first is not None and _FOREIGN.search(_head(first)):
            return True
    return False


def survey(data: Path) -> Survey:
    """Counts what a folder contains, or reads the beginning of a file."""
    result = Survey()
    for path in [data] if data.is_file() else islice(walk(data), _MAX_FILES):
        extension = path.suffix.lower()
        result.extensions[extension or "no extension"] += 1
        result.images += extension in EXTENSIONS
        if path != data:
            result.folders |= {folder.lower() for folder in path.relative_to(data).parts[:-1]}
        if extension in (".json", ".xml", ".txt", ".csv") and extension not in result.heads and not _is_note(path):
            result.heads[extension] = _head(path)
    return result


def nearest_layout(data: Path) -> str:
    """A clause for messages about data of no known layout: what it contains, and which layouts come nearest.

    Empty if the data does not exist or cannot be read.
    """
    try:
        if not data.exists():
            return ""
        contents = survey(data)
    except (InputError, OSError):
        return ""
    if not contents.extensions:
        return "it is empty"
    common = [(extension, count) for extension, count in contents.extensions.most_common() if count]
    listed = ", ".join(f"{count:,} {extension}" for extension, count in common[:_MAX_EXTENSIONS])
    held = f"it holds {listed}{', ...' if len(common) > _MAX_EXTENSIONS else ''}"
    near = [layout.advice for layout in LAYOUTS if layout.fits(contents)][:_MAX_LAYOUTS]
    if near:
        return f"{held}; {NEAREST}{'; or '.join(near)}"
    if contents.images:
        return f"{held}: images without annotations"
    return held


def _is_note(path: Path) -> bool:
    return path.stem.lower() in ("readme", "license", "notes", "notes.json", "requirements", "classes")


def _head(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read(_HEAD).decode("utf-8", "replace")
    except (InputError, OSError):
        return ""
