"""Supervisely: a project with ``meta.json``, and datasets with a JSON file per image."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.bitmaps import BitmapReader
from fishnet.data.detection.outlines import Bits, Outline, points, rectangle
from fishnet.data.detection.shapes import Shape, ShapeDetection, ShapeEntry, by_split, size_in_file
from fishnet.errors import InputError
from fishnet.files.documents import read_json
from fishnet.files.reading import is_regular
from fishnet.files.walking import walk
from fishnet.images.decoding import EXTENSIONS

LAYOUTS = "Supervisely (meta.json, with ann/ and img/ in each dataset)"
META = "meta.json"
_WITHOUT_AREA = {"point": "points", "line": "lines", "polyline": "lines", "graph": "keypoints", "cuboid": "cuboids"}


class SuperviselySplit(NamedTuple):
    """The datasets of a split.

    Attributes:
        root: the project's folder.
        datasets: folders with ``ann/`` and ``img/``.
    """

    root: Path
    datasets: tuple[Path, ...]


class SuperviselyDetection(ShapeDetection):
    """Images annotated in Supervisely: rectangles, polygons with holes, and bitmaps.

    Points, lines, keypoints and cuboids, which have no area, are counted as ignored. Coordinates are used as they are
    in the file. By default the classes are those of ``meta.json``, in its order.

    Raises:
        InputError: not a Supervisely file, or an object that cannot be read; see also
            :class:`~fishnet.data.detection.shapes.ShapeDetection`.
    """

    def __init__(
        self, source: SuperviselySplit, channels: int = 3, classes: Classes | None = None, *, masks: bool = False
    ) -> None:
        ignored = Counter[str]()
        entries: list[ShapeEntry] = []
        images: list[Path] = []
        for dataset in source.datasets:
            images += [path for path in walk(dataset / "img") if path.suffix.lower() in EXTENSIONS]
            for file in sorted(path for path in walk(dataset / "ann") if path.suffix.lower() == ".json"):
                try:
                    entries.append(_entry(file, dataset / "img", ignored))
                except InputError as error:
                    report(str(error), file=str(file))
        known = classes or read_meta(source.root / META)
        super().__init__(source.root, entries, channels, known, masks=masks, ignored=ignored)
        annotated = {entry.path for entry in entries}
        self.left_out = tuple(str(path) for path in images if path not in annotated)


def read_meta(path: Path) -> Classes:
    """The classes of a project, with their ids if it has them.

    Raises:
        InputError: not a Supervisely file, no classes, or two with the same name.
    """
    content = read_json(path)
    entries = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("title"), str) for entry in entries
    ):
        raise InputError(f"{path}: not a Supervisely file: it must list classes, each with a title")
    if not entries:
        raise InputError(f"{path}: has no classes")
    ids = [entry.get("id") for entry in entries]
    usable = all(type(id_) is int and 0 <= id_ < 1 << 62 for id_ in ids) and len(set(ids)) == len(ids)
    try:
        return Classes(tuple(entry["title"] for entry in entries), tuple(ids if usable else range(len(entries))))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _entry(file: Path, images: Path, ignored: Counter[str]) -> ShapeEntry:
    content = read_json(file)
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, list):
        raise InputError(f"{file}: not a Supervisely file: it has no list of objects")
    sides = content.get("size")
    size = size_in_file(sides.get("height"), sides.get("width")) if isinstance(sides, dict) else (0, 0)
    if size == (0, 0):
        raise InputError(f"{file}: size must give height and width")
    shapes, bitmaps = [], BitmapReader()
    for number, value in enumerate(objects):
        where = f"objects[{number}]"
        try:
            kind = value.get("geometryType") if isinstance(value, dict) else None
            if isinstance(kind, str) and kind in _WITHOUT_AREA:
                ignored[_WITHOUT_AREA[kind]] += 1
                continue
            shapes.append(Shape(*_object(value, size, bitmaps), where))
        except InputError as error:
            report(f"{file}: {where}: {error}", file=str(file))
    return ShapeEntry(_image(file, images), file, size, tuple(shapes))


def _object(value: Any, size: tuple[int, int], bitmaps: BitmapReader) -> tuple[str, Outline]:
    """The class and the outline of an object."""
    if not isinstance(value, dict) or not isinstance(value.get("classTitle"), str):
        raise InputError("has no classTitle")
    kind = value.get("geometryType")
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise InputError(f"geometryType {str(kind)[:40]!r} is not supported: {', '.join(_READ)} are")
    return value["classTitle"], read(value, size, bitmaps)


def _corners(value: dict[str, Any], key: str) -> Any:
    corners = value.get("points")
    if not isinstance(corners, dict):
        raise InputError("points must have exterior and interior")
    return corners.get(key)


def _rectangle(value: dict[str, Any], size: tuple[int, int], bitmaps: BitmapReader) -> Outline:
    return rectangle(points(_corners(value, "exterior"), 2, 2))


def _polygon(value: dict[str, Any], size: tuple[int, int], bitmaps: BitmapReader) -> Outline:
    interior = _corners(value, "interior") or []
    if not isinstance(interior, list):
        raise InputError("interior must be a list of outlines")
    return Outline((points(_corners(value, "exterior"), 3),), tuple(points(ring, 3) for ring in interior))


def _bitmap(value: dict[str, Any], size: tuple[int, int], bitmaps: BitmapReader) -> Outline:
    bitmap = value.get("bitmap")
    if not isinstance(bitmap, dict):
        raise InputError("has no bitmap with data and origin")
    ((left, top),) = points([bitmap.get("origin")], 1, 1).astype(int).tolist()
    bits = bitmaps.read(bitmap.get("data"), size, compressed=True)
    return Outline(bits=(Bits.of(bits, left, top),))


_READ: dict[str, Callable[[dict[str, Any], tuple[int, int], BitmapReader], Outline]] = {
    "rectangle": _rectangle,
    "polygon": _polygon,
    "bitmap": _bitmap,
}


def _image(file: Path, images: Path) -> Path:
    """The image of ``a.jpg.json``, or ``a.json`` in older projects. It need not exist."""
    named = images / file.relative_to(images.parent / "ann").with_suffix("")
    if named.suffix.lower() in EXTENSIONS or is_regular(named):
        return named
    return next((path for suffix in EXTENSIONS if is_regular(path := Path(f"{named}{suffix}"))), named)


def find_supervisely(data: Path) -> dict[str, SuperviselySplit]:
    """Finds the datasets of a project by split; ``all`` if none is named after a split, empty if it is not a project.

    Args:
        data: a folder with ``meta.json``, and with datasets that have ``ann/`` and ``img/``.

    Raises:
        InputError: some datasets are named after a split and others are not.
    """
    if not data.is_dir() or not is_regular(data / META):
        return {}
    folders = [path for pattern in ("*", "*/datasets/*", "*/*") for path in data.glob(f"{pattern}/ann")]
    datasets = sorted({path.parent for path in folders if path.is_dir() and (path.parent / "img").is_dir()})
    if not datasets and (data / "ann").is_dir() and (data / "img").is_dir():
        return {"all": SuperviselySplit(data, (data,))}
    splits = by_split([dataset / META for dataset in datasets], data, "datasets")
    return {split: SuperviselySplit(data, tuple(file.parent for file in files)) for split, files in splits.items()}
