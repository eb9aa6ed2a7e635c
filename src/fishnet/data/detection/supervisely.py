"""Supervisely: a project with ``meta.json``, and datasets with a file of JSON for each image."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.bitmaps import BitmapReader
from fishnet.data.detection.outlines import Bits, Outline, points, rectangle
from fishnet.data.detection.shapes import Shape, ShapeDetection, ShapeEntry, by_split
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

    Points, lines, keypoints and cuboids have no area and are counted as ignored. Coordinates keep the numbers of the
    file.

    Args:
        part: where the datasets lie.
        channels: that images are read with.
        classes: the classes that are known, by name; by default those of ``meta.json``, in its order.
        masks: whether objects come with segmentations.

    Raises:
        InputError: a file that is none of Supervisely's, an object that cannot be read; see also
            :class:`~fishnet.data.detection.shapes.ShapeDetection`.
    """

    def __init__(
        self,
        part: SuperviselySplit,
        channels: int = 3,
        classes: Classes | None = None,
        *,
        masks: bool = False,
    ) -> None:
        ignored = Counter[str]()
        entries: list[ShapeEntry] = []
        images: list[Path] = []
        for dataset in part.datasets:
            images += [path for path in walk(dataset / "img") if path.suffix.lower() in EXTENSIONS]
            for file in sorted(path for path in walk(dataset / "ann") if path.suffix.lower() == ".json"):
                try:
                    entries.append(_entry(file, dataset / "img", ignored))
                except InputError as error:
                    report(str(error), file=str(file))
        known = classes or read_meta(part.root / META)
        super().__init__(part.root, entries, channels, known, masks=masks, ignored=ignored)
        annotated = {entry.path for entry in entries}
        self.left_out = tuple(str(path) for path in images if path not in annotated)


def read_meta(path: Path) -> Classes:
    """The classes of a project, with its ids where it has them.

    Raises:
        InputError: not Supervisely's JSON, no classes, or two of one name.
    """
    content = read_json(path)
    rows = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("title"), str) for row in rows
    ):
        raise InputError(f"{path}: not Supervisely's: it must list classes, each with a title")
    if not rows:
        raise InputError(f"{path}: has no classes")
    ids = [row.get("id") for row in rows]
    usable = all(type(id_) is int and 0 <= id_ < 1 << 62 for id_ in ids) and len(set(ids)) == len(ids)
    try:
        return Classes(tuple(row["title"] for row in rows), tuple(ids if usable else range(len(rows))))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _entry(file: Path, images: Path, ignored: Counter[str]) -> ShapeEntry:
    content = read_json(file)
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, list):
        raise InputError(f"{file}: not Supervisely's: it has no list of objects")
    size = _size(content.get("size"), file)
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


def _size(value: Any, file: Path) -> tuple[int, int]:
    sides = [value.get(key) if isinstance(value, dict) else None for key in ("height", "width")]
    height, width = (side if type(side) is int and 0 < side < 1 << 24 else 0 for side in sides)
    if not height or not width:
        raise InputError(f"{file}: size must state height and width")
    return height, width


def _object(value: Any, size: tuple[int, int], bitmaps: BitmapReader) -> tuple[str, Outline]:
    """Class and extent of an object."""
    if not isinstance(value, dict) or not isinstance(value.get("classTitle"), str):
        raise InputError("has no classTitle")
    kind = value.get("geometryType")
    read = _READ.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise InputError(f"geometryType {str(kind)[:40]!r} is not known: {', '.join(_READ)} are read as objects")
    return value["classTitle"], read(value, size, bitmaps)


def _corners(value: dict[str, Any], key: str) -> Any:
    held = value.get("points")
    if not isinstance(held, dict):
        raise InputError("points must have exterior and interior")
    return held.get(key)


def _rectangle(value: dict[str, Any], size: tuple[int, int], bitmaps: BitmapReader) -> Outline:
    return rectangle(points(_corners(value, "exterior"), 2, 2))


def _polygon(value: dict[str, Any], size: tuple[int, int], bitmaps: BitmapReader) -> Outline:
    interior = _corners(value, "interior") or []
    if not isinstance(interior, list):
        raise InputError("interior must be a list of outlines")
    return Outline((points(_corners(value, "exterior"), 3),), tuple(points(ring, 3) for ring in interior))


def _bitmap(value: dict[str, Any], size: tuple[int, int], bitmaps: BitmapReader) -> Outline:
    held = value.get("bitmap")
    if not isinstance(held, dict):
        raise InputError("has no bitmap with data and origin")
    ((left, top),) = points([held.get("origin")], 1, 1).astype(int).tolist()
    bits = bitmaps.read(held.get("data"), size, compressed=True)
    return Outline(bits=(Bits.of(bits, left, top),))


_READ: dict[str, Callable[[dict[str, Any], tuple[int, int], BitmapReader], Outline]] = {
    "rectangle": _rectangle,
    "polygon": _polygon,
    "bitmap": _bitmap,
}


def _image(file: Path, images: Path) -> Path:
    """The image of ``a.jpg.json`` or, as older projects write it, ``a.json``; one that is missing fails when read."""
    named = images / file.relative_to(images.parent / "ann").with_suffix("")
    if named.suffix.lower() in EXTENSIONS or is_regular(named):
        return named
    return next((path for end in EXTENSIONS if is_regular(path := Path(f"{named}{end}"))), named)


def find_supervisely(data: Path) -> dict[str, SuperviselySplit]:
    """The splits of a project; ``all`` where no dataset is called like one, nothing where it is no project.

    Args:
        data: a folder with ``meta.json``, and with datasets that hold ``ann/`` and ``img/``.

    Raises:
        InputError: some datasets are called like a split and others are not.
    """
    if not data.is_dir() or not is_regular(data / META):
        return {}
    datasets = [path for pattern in ("*", "*/datasets/*", "*/*") for path in data.glob(f"{pattern}/ann")]
    places = sorted({path.parent for path in datasets if path.is_dir() and (path.parent / "img").is_dir()})
    if not places and (data / "ann").is_dir() and (data / "img").is_dir():
        return {"all": SuperviselySplit(data, (data,))}
    splits = by_split([place / META for place in places], data, "datasets")
    return {split: SuperviselySplit(data, tuple(one.parent for one in some)) for split, some in splits.items()}


def open_supervisely(
    found: dict[str, SuperviselySplit],
    channels: int,
    *,
    classes: Classes | None = None,
    masks: bool = False,
) -> dict[str, SuperviselyDetection]:
    """Opens what :func:`find_supervisely` found. Raises InputError, see :class:`SuperviselyDetection`."""
    splits: dict[str, SuperviselyDetection] = {}
    for name, part in found.items():
        splits[name] = SuperviselyDetection(part, channels, classes, masks=masks)
        classes = splits[name].classes
    return splits
