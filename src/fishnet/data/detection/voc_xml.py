"""Reads Pascal VOC's annotation files. Torch-free."""

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.data.collector import report
from fishnet.errors import InputError
from fishnet.files.documents import parse_xml
from fishnet.files.reading import MIB, read_bytes

MAX_BYTES = 16 * MIB  # bytes of an annotation file
_MAX_SIDE = 1_000_000  # px of an image
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_READ = {"name", "difficult", "bndbox", *(f"bndbox/{side}" for side in _SIDES)}
_FLAGS = dict.fromkeys(("", "0", "false", "no", "unspecified"), False) | dict.fromkeys(("1", "true", "yes"), True)


@dataclass(frozen=True)
class VocAnnotation:
    """The content of an annotation file.

    Attributes:
        filename: the image's file name; empty if it is not given.
        size: height and width; (0, 0) if they are not given.
        names: (n,) class names.
        boxes: (n, 4) float32 xmin, ymin, xmax, ymax, as in the file.
        lines: (n,) line numbers where the objects begin.
        difficult: (n,) whether the objects are marked difficult.
    """

    filename: str
    size: tuple[int, int]
    names: tuple[str, ...]
    boxes: NDArray[np.float32]
    lines: tuple[int, ...]
    difficult: tuple[bool, ...]


def read_xml(path: Path) -> VocAnnotation:
    """Reads an annotation file. The objects' parts, poses and other elements are ignored.

    Args:
        path: the annotation file.

    Raises:
        InputError: the file cannot be read, is not XML or not an annotation, declares entities (which are never needed
            and may expand to any size), or has an object without a name or a box. The message gives the line.
    """
    reader = _Reader(path)
    content = read_bytes(path, MAX_BYTES, "annotation file")
    parse_xml(content, str(path), start=reader.start, end=reader.end, text=reader.text)
    objects = []
    for element in reader.objects:
        try:
            objects.append((element.name(), element.box(), element.line, element.difficult()))
        except InputError as error:
            report(f"{path} line {element.line}: {error}", file=str(path), line=element.line)
    names, boxes, lines, difficult = zip(*objects, strict=True) if objects else ((), (), (), ())
    height, width = (_side(path, key, reader.values.get(f"size/{key}", "")) for key in ("height", "width"))
    return VocAnnotation(
        reader.values.get("filename", ""),
        (height, width) if height and width else (0, 0),
        names,
        np.asarray(boxes, np.float32).reshape(-1, 4),
        lines,
        difficult,
    )


@dataclass
class _ObjectElement:
    """The XML element of an object while it is read: the texts inside it, by path."""

    line: int
    values: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    repeated: str = ""

    def begin(self, tags: str) -> None:
        """Registers an element inside the object, to notice repeated ones, whose texts would be concatenated."""
        if tags in _READ and tags in self.seen:
            self.repeated = tags
        self.seen.add(tags)

    def difficult(self) -> bool:
        text = self.values.get("difficult", "").strip().lower()
        if text not in _FLAGS:
            raise InputError(f"object {self.name()!r}: difficult is {text[:20]!r}: it must be 0 or 1")
        return _FLAGS[text]

    def name(self) -> str:
        if self.repeated:
            raise InputError(f"an object with two elements {self.repeated.rpartition('/')[2]}")
        name = unicodedata.normalize("NFC", self.values.get("name", "").strip())
        if not name:
            raise InputError("an object without a name")
        return name

    def box(self) -> list[float]:
        if not any(key.startswith("bndbox") for key in self.values):
            raise InputError(f"object {self.name()!r} has no bndbox: add one, or remove the object")
        box = []
        for side in _SIDES:
            text = self.values.get(f"bndbox/{side}", "")
            try:
                box.append(float(text))
            except ValueError:
                raise InputError(
                    f"object {self.name()!r}: {side} of its bndbox is {text.strip()!r}, which is not a number"
                ) from None
        if not all(abs(value) < 1e9 for value in box):  # or NaN
            raise InputError(f"object {self.name()!r}: its bndbox is not finite")
        return box


class _Reader:
    """Collects texts from the parser: those of the annotation itself, by path, and those of each object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tags: list[str] = []  # the tags of the open elements
        self.values: dict[str, str] = {}
        self.objects: list[_ObjectElement] = []

    def start(self, tag: str, _: dict[str, str], line: int) -> None:
        if not self.tags and tag != "annotation":
            raise InputError(f"{self.path} line {line}: not a Pascal VOC annotation: it is <{tag}>, not <annotation>")
        self.tags.append(tag)
        if self.tags[1:] == ["object"]:
            self.objects.append(_ObjectElement(line))
        elif self.tags[1:2] == ["object"]:
            self.objects[-1].begin("/".join(self.tags[2:]))

    def end(self, _: str) -> None:
        self.tags.pop()

    def text(self, text: str) -> None:
        in_object = self.tags[1:2] == ["object"]
        tags = "/".join(self.tags[2 if in_object else 1 :])
        values = self.objects[-1].values if in_object else self.values
        if tags and text.strip():
            values[tags] = values.get(tags, "") + text


def _side(path: Path, key: str, text: str) -> int:
    """An image's height or width, px; 0 if it is not given."""
    try:
        side = float(text)
    except ValueError:
        return 0
    if side > _MAX_SIDE:
        raise InputError(f"{path}: {key} {text.strip()[:20]} px: images have at most {_MAX_SIDE:,} px a side")
    return int(side) if side > 0 else 0
