"""Pairs images with label files. Torch-free."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fishnet.files.walking import is_system
from fishnet.images.decoding import EXTENSIONS

_IMAGES = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}
_HASHED = re.compile(r"[0-9a-f]{6,64}[-_](.+)", re.IGNORECASE)
_NO_LABELS = {"classes", "obj", "labels", "names", "notes", "readme", "license", "predefined_classes", "_darknet"}
_LISTS = re.compile(r"readme.*|(?:autosplit_)?(?:train|val|valid|validation|test|trainval)(?:20\d\d)?", re.IGNORECASE)


@dataclass
class Pairs:
    """The label files of some images.

    Attributes:
        texts: the label file of each image; its usual path if there is none.
        missing: images without a label file.
        by_tail: images whose name differs from that of their label file by a hash prefix.
        alone: label files without an image, in the folders of label files.
        labels: number of all label files in these folders.
    """

    texts: dict[Path, Path]
    missing: list[Path] = field(default_factory=list)
    by_tail: list[Path] = field(default_factory=list)
    alone: list[Path] = field(default_factory=list)
    labels: int = 0


def usual_label(image: Path) -> Path:
    """The usual path of a label file: the image's, with ``labels`` in place of the last folder called ``images``."""
    parts = list(image.with_suffix(".txt").parts)
    indices = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if indices:
        parts[indices[-1]] = _IMAGES.get(parts[indices[-1]], "labels")
    return Path(*parts)


def pair(images: Sequence[Path]) -> Pairs:
    """Finds the label file of each image: at its usual path, next to the image, or there with a hash prefix.

    A hash prefix (Label Studio's ``a1b2c3d4-name.txt``) is ignored if exactly one label file and one image then have
    the same name.
    """
    folders = _Folders()
    pairs = Pairs({})
    used: set[Path] = set()
    for image in images:
        usual = usual_label(image)
        text = folders.label(usual) or folders.label(image.with_suffix(".txt"))
        pairs.texts[image] = text or usual
        if text is None:
            pairs.missing.append(image)
        else:
            used.add(text)
    _pair_by_tail(pairs, folders, used)
    _find_unused(pairs, folders, used)
    return pairs


class _Folders:
    """The label files and the images in folders, each folder listed once."""

    def __init__(self) -> None:
        self._contents: dict[Path, tuple[dict[str, Path], set[str]]] = {}

    def labels(self, folder: Path) -> dict[str, Path]:
        """Label files by their names without suffix."""
        return self._list(folder)[0]

    def images(self, folder: Path) -> set[str]:
        """Names of the images without suffix."""
        return self._list(folder)[1]

    def label(self, path: Path) -> Path | None:
        return self.labels(path.parent).get(_composed(path.stem))

    def _list(self, folder: Path) -> tuple[dict[str, Path], set[str]]:
        if folder not in self._contents:
            try:
                paths = [path for path in sorted(folder.iterdir()) if not is_system(path.name)]
            except OSError:
                paths = []
            labels = {_composed(path.stem): path for path in paths if path.suffix.lower() == ".txt"}
            images = {_composed(path.stem) for path in paths if path.suffix.lower() in EXTENSIONS}
            self._contents[folder] = labels, images
        return self._contents[folder]


def _pair_by_tail(pairs: Pairs, folders: _Folders, used: set[Path]) -> None:
    """Pairs images and label files whose names differ by a hash prefix, if that is unambiguous."""
    unpaired: dict[Path, list[Path]] = {}
    for image in pairs.missing:
        unpaired.setdefault(usual_label(image).parent, []).append(image)
    for folder, images in unpaired.items():
        texts_by_tail: dict[str, list[Path]] = {}
        for stem, text in folders.labels(folder).items():
            if text not in used:
                texts_by_tail.setdefault(_tail(stem), []).append(text)
        images_by_tail: dict[str, list[Path]] = {}
        for image in images:
            images_by_tail.setdefault(_tail(_composed(image.stem)), []).append(image)
        for tail, (image, *more) in images_by_tail.items():
            texts = texts_by_tail.get(tail, [])
            if not more and len(texts) == 1 and tail in (_composed(image.stem), _composed(texts[0].stem)):
                pairs.texts[image] = texts[0]
                pairs.by_tail.append(image)
                used.add(texts[0])
    paired = set(pairs.by_tail)
    pairs.missing = [image for image in pairs.missing if image not in paired]


def _find_unused(pairs: Pairs, folders: _Folders, used: set[Path]) -> None:
    """Finds the label files without an image."""
    image_folders = {usual_label(image).parent: image.parent for image in pairs.texts}
    for labels, images in list(image_folders.items()):  # all labels in one folder, images in subfolders
        steps = next((i for i, parent in enumerate((labels, *labels.parents)) if parent.is_dir()), 0)
        if steps and "labels" in (name.lower() for name in (labels, *labels.parents)[steps].parts):
            image_folders.setdefault(labels.parents[steps - 1], images.parents[steps - 1])
    image_folders |= {text.parent: text.parent for text in used if text.parent not in image_folders}
    for folder, images in image_folders.items():
        texts = {
            stem: text
            for stem, text in folders.labels(folder).items()
            if text in used or not (stem.lower() in _NO_LABELS or _LISTS.fullmatch(stem))
        }
        if folder == images and used.isdisjoint(texts.values()):
            continue  # text files among the images that are not label files
        pairs.labels += len(texts)
        present = folders.images(images)
        pairs.alone += [text for stem, text in texts.items() if text not in used and stem not in present]


def _tail(stem: str) -> str:
    """A name without its hash prefix."""
    match = _HASHED.fullmatch(stem)
    return match[1] if match else stem


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
