"""Which label file belongs to which image. Torch-free."""

import os
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
        texts: of each image; the usual place where there is none.
        missing: the images without one.
        by_tail: the images whose label file has a hash before the common name (or is without the image's).
        alone: label files in the same folders that no image there has.
        labels: how many label files there are in these folders.
    """

    texts: dict[Path, Path]
    missing: list[Path] = field(default_factory=list)
    by_tail: list[Path] = field(default_factory=list)
    alone: list[Path] = field(default_factory=list)
    labels: int = 0


def usual_label(image: Path) -> Path:
    """Where a label file usually lies: where the image does, the last folder ``images`` being called ``labels``."""
    parts = list(image.with_suffix(".txt").parts)
    places = [i for i, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = _IMAGES.get(parts[places[-1]], "labels")
    return Path(*parts)


def pair(images: Sequence[Path]) -> Pairs:
    """Finds each image's label file: in the usual place, beside the image, or there under a name with a hash before.

    A hash (Label Studio's ``a1b2c3d4-name.txt``) is passed over where only one label file and one image of these
    folders then have the same name.
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
    _by_tail(pairs, folders, used)
    _alone(pairs, folders, used)
    return pairs


class _Folders:
    """The label files and the images in folders, each folder listed once."""

    def __init__(self) -> None:
        self._labels: dict[Path, dict[str, Path]] = {}
        self._images: dict[Path, set[str]] = {}

    def labels(self, folder: Path) -> dict[str, Path]:
        """Label files by their names without ending."""
        if folder not in self._labels:
            self._list(folder)
        return self._labels[folder]

    def images(self, folder: Path) -> set[str]:
        """Names of the images without ending."""
        if folder not in self._images:
            self._list(folder)
        return self._images[folder]

    def label(self, path: Path) -> Path | None:
        return self.labels(path.parent).get(_composed(path.stem))

    def _list(self, folder: Path) -> None:
        labels, images = self._labels.setdefault(folder, {}), self._images.setdefault(folder, set())
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError:
            return
        for name in names:
            stem, suffix = Path(name).stem, Path(name).suffix
            if is_system(name):
                continue
            if suffix.lower() == ".txt":
                labels[_composed(stem)] = folder / name
            elif suffix.lower() in EXTENSIONS:
                images.add(_composed(stem))


def _by_tail(pairs: Pairs, folders: _Folders, used: set[Path]) -> None:
    """Pairs what differs by a hash before the name alone, where that is unique."""
    places: dict[Path, list[Path]] = {}
    for image in pairs.missing:
        places.setdefault(usual_label(image).parent, []).append(image)
    for folder, images in places.items():
        texts: dict[str, list[Path]] = {}
        for stem, text in folders.labels(folder).items():
            if text not in used:
                texts.setdefault(_tail(stem), []).append(text)
        named: dict[str, list[Path]] = {}
        for image in images:
            named.setdefault(_tail(_composed(image.stem)), []).append(image)
        for tail, some in named.items():
            labels = texts.get(tail, [])
            if len(some) == len(labels) == 1 and tail in (_composed(some[0].stem), _composed(labels[0].stem)):
                pairs.texts[some[0]] = labels[0]
                pairs.by_tail.append(some[0])
                used.add(labels[0])
    paired = set(pairs.by_tail)
    pairs.missing = [image for image in pairs.missing if image not in paired]


def _alone(pairs: Pairs, folders: _Folders, used: set[Path]) -> None:
    """Finds the label files that no image has."""
    beside = {usual_label(image).parent: image.parent for image in pairs.texts}
    for labels, images in list(beside.items()):  # labels in one folder, images in folders below theirs
        steps = next((i for i, above in enumerate((labels, *labels.parents)) if above.is_dir()), 0)
        if steps and "labels" in (name.lower() for name in (labels, *labels.parents)[steps].parts):
            beside.setdefault(labels.parents[steps - 1], images.parents[steps - 1])
    beside |= {text.parent: text.parent for text in used if text.parent not in beside}
    for folder, images in beside.items():
        texts = {
            stem: text
            for stem, text in folders.labels(folder).items()
            if text in used or not (stem.lower() in _NO_LABELS or _LISTS.fullmatch(stem))
        }
        if folder == images and used.isdisjoint(texts.values()):
            continue  # texts beside the images that are no labels
        pairs.labels += len(texts)
        present = folders.images(images)
        pairs.alone += [text for stem, text in texts.items() if text not in used and stem not in present]


def _tail(stem: str) -> str:
    """A name without the hash before it."""
    hashed = _HASHED.fullmatch(stem)
    return hashed[1] if hashed else stem


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
