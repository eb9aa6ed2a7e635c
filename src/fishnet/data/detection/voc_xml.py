"""Pascal VOC's annotation files. Torch-free."""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.data.collector import report
from fishnet.errors import InputError
from fishnet.files.documents import parse_xml
from fishnet.files.reading import MIB, read_bytes

LARGEST = 16 * MIB  # bytes of an annotation file
_LONGEST = 1_000_000  # px of an image's side
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_READ = {"name", "difficult", "bndbox", *(f"bndbox/{side}" for side in _SIDES)}
_MARKS = {
    "": False,
    "0": False,
    "false": False,
    "no": False,
    "unspecified": False,
    "1": True,
    "true": True,
    "yes": True,
}


@dataclass(frozen=True)
class VocAnnotation:
    """One file's content.

    Attributes:
        filename: of the image, as stated; empty where it is not.
        size: height and width; (0, 0) where not stated.
        names: (n,) of the classes.
        boxes: (n, 4) float32 xmin, ymin, xmax, ymax, as they are.
        lines: (n,) that the objects begin on.
        difficult: (n,) whether they are marked so.
    """

    filename: str
    size: tuple[int, int]
    names: tuple[str, ...]
    boxes: NDArray[np.float32]
    lines: tuple[int, ...]
    difficult: tuple[bool, ...]


def read_xml(path: Path) -> VocAnnotation:
    """Reads an annotation file; objects' parts, poses and all else but names and boxes are passed over.

    Args:
        path: of the file.

    Raises:
        InputError: the file cannot be read, is not XML or no annotation, declares entities (which may blow up to any
            size, and are never needed), or an object without a name or a box; the message gives the line.
    """
    reader = _Reader(path)
    content = read_bytes(path, LARGEST, "annotation file")
    parse_xml(content, str(path), start=reader.start, end=reader.end, text=reader.text)
    names, boxes, lines, difficult = [], [], [], []
    for found in reader.objects:
        try:
            name, box, is_difficult = found.name(), found.box(), found.difficult()
        except InputError as error:
            report(f"{path} line {found.line}: {error}", file=str(path), line=found.line)
            continue
        names.append(name)
        boxes.append(box)
        lines.append(found.line)
        difficult.append(is_difficult)
    height, width = (_side(path, key, reader.values.get(f"size/{key}", "")) for key in ("height", "width"))
    return VocAnnotation(
        reader.values.get("filename", ""),
        (height, width) if height and width else (0, 0),
        tuple(names),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        tuple(lines),
        tuple(difficult),
    )


@dataclass
class _Found:
    """An object as it is being read: texts by their place below it."""

    line: int
    values: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    repeated: str = ""

    def begin(self, place: str) -> None:
        """Notes an element below the object. Two of one kind that is read would run together."""
        if place in _READ and place in self.seen:
            self.repeated = place
        self.seen.add(place)

    def difficult(self) -> bool:
        text = self.values.get("difficult", "").strip().lower()
        if text not in _MARKS:
            raise InputError(f"object {self.name()!r}: difficult is {text[:20]!r}: it must be 0 or 1")
        return _MARKS[text]

    def name(self) -> str:
        if self.repeated:
            raise InputError(f"an object with two elements {self.repeated.rpartition('/')[2]}")
        name = unicodedata.normalize("NFC", self.values.get("name", "").strip())
        if not name:
            raise InputError("an object without a name")
        return name

    def box(self) -> list[float]:
        if not any(key.startswith("bndbox") for key in self.values):
            raise InputError(f"object {self.name()!r} has no bndbox: labels without boxes cannot be learned from")
        box = []
        for side in _SIDES:
            text = self.values.get(f"bndbox/{side}", "")
            try:
                box.append(float(text))
            except ValueError:
                raise InputError(
                    f"object {self.name()!r}: {side} of its bndbox is {text.strip()!r}, no number"
                ) from None
        if not all(abs(value) < 1e9 for value in box):  # nor NaN
            raise InputError(f"object {self.name()!r}: its bndbox is not finite")
        return box


class _Reader:
    """Follows the parser: only what lies directly below the annotation, its objects, sizes and boxes is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.above: list[str] = []
        self.values: dict[str, str] = {}
        self.objects: list[_Found] = []

    def start(self, tag: str, _: dict[str, str], line: int) -> None:
        if not self.above and tag != "annotation":
            raise InputError(f"{self.path} line {line}: no Pascal VOC annotation: it is <{tag}>, not <annotation>")
        self.above.append(tag)
        if self.above[1:] == ["object"]:
            self.objects.append(_Found(line))
        elif self.above[1:2] == ["object"]:
            self.objects[-1].begin("/".join(self.above[2:]))

    def end(self, _: str) -> None:
        self.above.pop()

    def text(self, text: str) -> None:
        inside = self.above[1:2] == ["object"]
        place = "/".join(self.above[2 if inside else 1 :])
        values = self.objects[-1].values if inside else self.values
        if place and text.strip():
            values[place] = values.get(place, "") + text


def _side(path: Path, key: str, text: str) -> int:
    """An image's height or width, px; 0 where it is not stated."""
    try:
        side = float(text)
    except ValueError:
        return 0
    if side > _LONGEST:
        raise InputError(f"{path}: {key} {text.strip()[:20]} px: images have at most {_LONGEST:,} px a side")
    return int(side) if side > 0 else 0
