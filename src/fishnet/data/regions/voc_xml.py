"""Pascal VOC's annotation files. Torch-free."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from fishnet.data.findings import Finding
from fishnet.data.problems import complain
from fishnet.errors import InputError

_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocAnnotation:
    """One file's content.

    Attributes:
        filename: of the picture, as stated; empty where it is not.
        size: height and width; (0, 0) where not stated.
        names: (n,) of the classes.
        boxes: (n, 4) float32 xmin, ymin, xmax, ymax, as they are.
        lines: (n,) that the objects begin on.
    """

    filename: str
    size: tuple[int, int]
    names: tuple[str, ...]
    boxes: NDArray[np.float32]
    lines: tuple[int, ...]


def read_xml(path: Path, problems: list[Finding] | None = None) -> VocAnnotation:
    """Reads an annotation file; objects' parts, poses and all else but names and boxes are passed over.

    Args:
        path: of the file.
        problems: collects objects that cannot be used, see :mod:`fishnet.data.problems`.

    Raises:
        InputError: the file cannot be read, is not XML or no annotation, declares entities (which may blow up to any
            size, and are never needed), or an object without a name or a box; the message gives the line.
    """
    reader = _Reader(path)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, _: reader.start(tag, parser.CurrentLineNumber)
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = lambda *_: reader.refuse(parser.CurrentLineNumber)
    try:
        parser.Parse(path.read_bytes(), True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except expat.ExpatError as error:
        raise InputError(f"{path} line {error.lineno}: not XML: {expat.ErrorString(error.code)}") from None
    names, boxes, lines = [], [], []
    for found in reader.objects:
        try:
            name, box = found.name(), found.box()
        except InputError as error:
            complain(f"{path} line {found.line}: {error}", problems)
            continue
        names.append(name)
        boxes.append(box)
        lines.append(found.line)
    height, width = (_side(reader.values.get(f"size/{key}", "")) for key in ("height", "width"))
    return VocAnnotation(
        reader.values.get("filename", ""),
        (height, width) if height and width else (0, 0),
        tuple(names),
        np.asarray(boxes, np.float32).reshape(-1, 4),
        tuple(lines),
    )


@dataclass
class _Found:
    """An object as it is being read: texts by their place below it."""

    line: int
    values: dict[str, str] = field(default_factory=dict)

    def name(self) -> str:
        name = self.values.get("name", "").strip()
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

    def start(self, tag: str, line: int) -> None:
        if not self.above and tag != "annotation":
            raise InputError(f"{self.path} line {line}: no Pascal VOC annotation: it is <{tag}>, not <annotation>")
        self.above.append(tag)
        if self.above[1:] == ["object"]:
            self.objects.append(_Found(line))

    def end(self, _: str) -> None:
        self.above.pop()

    def text(self, text: str) -> None:
        inside = self.above[1:2] == ["object"]
        place = "/".join(self.above[2 if inside else 1 :])
        values = self.objects[-1].values if inside else self.values
        if place and text.strip():
            values[place] = values.get(place, "") + text

    def refuse(self, line: int) -> None:
        raise InputError(f"{self.path} line {line}: declares an XML entity: refused, annotations have no use for one")


def _side(text: str) -> int:
    try:
        return max(0, int(float(text)))
    except (ValueError, OverflowError):
        return 0
