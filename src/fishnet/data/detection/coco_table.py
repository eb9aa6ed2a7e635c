"""The content of a COCO annotation file as arrays, in little memory. Torch-free."""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.collector import report
from fishnet.data.detection.coco_shapes import Shape, Shapes, packed
from fishnet.data.detection.coco_stream import Entry, read_entries
from fishnet.data.detection.objects import Objects, Segmentation
from fishnet.data.findings import Finding
from fishnet.errors import InputError

_MAX_COORDINATE = 1e9  # px
_NEAR = 3.0  # px between a box and that of its segmentation
_MAX_SIDE = 1_000_000  # px of an image
_TEXTS, _NONE = 1 << 62, -(1 << 62)  # ids that are texts get numbers from _TEXTS up, missing ids from _NONE down
_DIGITS = re.compile(r"-?(0|[1-9][0-9]{0,17})")
KEYS = ("images", "annotations", "categories")


class CocoImage(NamedTuple):
    """An entry of ``images``.

    Attributes:
        file_name: the image's name, as the file spells it.
        size: height and width; (0, 0) if unknown.
        line, number: the entry's line and its index in the list.
    """

    file_name: str
    size: tuple[int, int]
    line: int
    number: int


class _Category(NamedTuple):
    """An entry of ``categories``: its name and supercategory, its line and its index in the list."""

    name: str
    group: str
    line: int
    number: int


class CocoTable:
    """The content of one annotation file.

    Ids are integers, also written as 1.0 or "1", or texts. Categories whose ids are texts are numbered after the
    others. Annotations need no id. Keypoints, captions, licences and the like are ignored. About a third of a 1 GB file
    stays in memory.

    Args:
        path: the JSON file.
        masks: whether to keep segmentations. If not, they are only read where a ``bbox`` is missing.

    Attributes:
        images: the images in the file's order.
        classes: the categories in the order of their ids, except a category that only groups the others.
        notes: findings that are not faults.

    Raises:
        InputError: see :func:`~fishnet.data.detection.coco_stream.read_entries`; missing or repeated entries, unknown
            ids, or, with ``masks``, an annotation without a valid mask. The message gives file, line and entry.
    """

    def __init__(self, path: Path, masks: bool = False) -> None:
        self.path, self.masks = path, masks
        self.images: list[CocoImage] = []
        self.notes: list[Finding] = []
        self._texts: dict[str, int] = {}  # category ids that are texts -> the numbers that stand for them
        self._image_of: dict[int | str, int] = {}  # image id -> index in images
        self._categories: dict[int, _Category] = {}
        self._ids: dict[str, int] = {}  # annotation ids that are texts -> numbers
        self._named: dict[int | str, int] = {}  # image id in annotations -> its number here
        self._image, self._category, self._id = array("i"), array("q"), array("q")
        self._line, self._number = array("q"), array("i")
        self._box, self._area, self._crowd = array("f"), array("d"), array("b")
        self._shapes, self._sides = Shapes(), array("i")
        self._differing = array("q")  # annotations whose box does not fit their segmentation
        add = {"images": self._add_image, "annotations": self._add_annotation, "categories": self._add_category}
        seen = set()
        for entry in read_entries(path, KEYS):
            seen.add(entry.key)
            if entry.name:
                entry.value.setdefault("id", entry.name)
            try:
                add[entry.key](entry)
            except InputError as error:
                location = f"{path} line {entry.line}: {entry.key}[{entry.number}]"
                report(f"{location}: {error}", file=str(path), line=entry.line)
        missing = [key for key in ("images", "categories") if key not in seen]
        if missing:
            raise InputError(f"{path}: no entries in {' and '.join(missing)}: not a COCO annotation file of objects")
        self._settle()

    def objects(self, image: int, labels: dict[int, int], masks: bool = True) -> Objects:
        """An image's objects.

        Args:
            image: its index in ``images``.
            labels: class index of each category id; objects of other categories are left out.
            masks: whether to include segmentations, if the table has them.
        """
        rows = [row for row in self._rows(image).tolist() if self._category[row] in labels]
        shapes: list[Segmentation] | None = [self._shapes[row] for row in rows] if self.masks and masks else None
        return Objects.of(
            self._boxes[rows],
            [labels[self._category[row]] for row in rows],
            self.images[image].size,
            crowd=[bool(self._crowd[row]) for row in rows],
            areas=[self._area[row] for row in rows],
            segmentations=shapes,
        )

    def location(self, image: int, labels: dict[int, int], number: int) -> str:
        """The file, line and entry of an image's ``number``-th object (see :meth:`objects`), or of the image."""
        rows = [row for row in self._rows(image).tolist() if self._category[row] in labels]
        if 0 <= number < len(rows):
            return self._location(rows[number])
        entry = self.images[image]
        return f"{self.path} line {entry.line}: images[{entry.number}]"

    def used(self) -> Classes:
        """The classes of the annotations."""
        used = set(np.unique(np.asarray(self._category)[self._order]).tolist())
        return self._classes_of([id_ for id_ in self.classes.ids if id_ in used])

    def _rows(self, image: int) -> NDArray[np.int64]:
        return self._order[self._starts[image] : self._starts[image + 1]]

    def _location(self, row: int) -> str:
        return f"{self.path} line {self._line[row]}: annotations[{self._number[row]}]"

    def _add_image(self, entry: Entry) -> None:
        add_image(entry, self.images, self._image_of)

    def _add_category(self, entry: Entry) -> None:
        id_, name = self._category_id(id_of(entry.value, "id")), entry.value.get("name")
        if type(name) is int or (type(name) is float and name.is_integer()):
            name = str(int(name))
        if not isinstance(name, str) or not name:
            raise InputError("no name")
        if id_ in self._categories:
            owner = self._categories[id_]
            raise InputError(
                f"id {entry.value['id']} belongs to categories[{owner.number}] (line {owner.line}) already"
            )
        name, group = unicodedata.normalize("NFC", name), str(entry.value.get("supercategory"))
        self._categories[id_] = _Category(name, group, entry.line, entry.number)

    def _category_id(self, id_: int | str) -> int:
        """A category id as an integer; a text gets a provisional one until all ids are known."""
        return id_ if isinstance(id_, int) else self._texts.setdefault(id_, _TEXTS + len(self._texts))

    def _add_annotation(self, entry: Entry) -> None:
        value = entry.value
        if "segments_info" in value:
            raise InputError("has segments_info, as COCO panoptic files have: use train panoptic")
        image, category = id_of(value, "image_id"), self._category_id(id_of(value, "category_id"))
        id_ = _NONE - len(self._id) if value.get("id") is None else self._annotation_id(id_of(value, "id"))
        shape = self._shape(value)
        box = _box(value["bbox"]) if value.get("bbox") else shape.box() if shape else None
        if box is None:
            raise InputError("no bbox: add bbox [x, y, width, height], or remove the annotation")
        crowd, area = crowd_of(value.get("iscrowd")), value.get("area")
        if not isinstance(area, int | float) or not abs(area) < _MAX_COORDINATE**2:  # or NaN
            area = max(0, box[2] - box[0]) * max(0, box[3] - box[1])
        self._id.append(id_)
        if shape and value.get("bbox") and not crowd and _differ(box, shape.box()):
            self._differing.append(len(self._line))
        self._image.append(self._named.setdefault(image, len(self._named)))
        self._category.append(category)
        self._line.append(entry.line)
        self._number.append(entry.number)
        self._box.extend(box)
        self._area.append(area)
        self._crowd.append(crowd)
        if self.masks:
            self._shapes.add(shape)
            self._sides.extend(shape.size if shape else (0, 0))

    def _annotation_id(self, id_: int | str) -> int:
        """An annotation id as an integer."""
        return id_ if isinstance(id_, int) else self._ids.setdefault(id_, _TEXTS + len(self._ids))

    def _shape(self, value: dict[str, Any]) -> Shape | None:
        """The segmentation, if it is kept or replaces a missing box."""
        segmentation = value.get("segmentation")
        if segmentation and (self.masks or not value.get("bbox")):
            return packed(segmentation)
        if self.masks:
            raise InputError("no segmentation, only a box: use train detect, or annotate masks")
        return None

    def _settle(self) -> None:
        """Checks what depends on the whole file, and sorts the annotations by image."""
        self._boxes = np.asarray(self._box).reshape(-1, 4)
        self._number_texts()
        if count := len(self._differing):
            share, first = f"{count:,} of {len(self._line):,}", self._differing[0]
            what = f"{share} boxes do not fit their segmentations, first annotations[{self._number[first]}]"
            self._note("mask-box-differs", f"{what} (line {self._line[first]})", count)
        indices = np.array([self._image_of.get(image, -1) for image in self._named], np.int64)
        images = indices[np.asarray(self._image)] if len(indices) else np.zeros(0, np.int64)
        valid = self._check_references(images)
        order = np.argsort(images, kind="stable")
        self._order = order[valid[order]]
        counts = np.bincount(images[self._order], minlength=len(self.images))
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        del self._id, self._ids, self._image, self._named, self._image_of  # not needed any more
        used = set(np.asarray(self._category)[self._order].tolist())
        self._drop_root(used)
        self.classes = self._classes_of(self._distinct(used))

    def _check_references(self, images: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which annotations have a known image, a known category and a mask of the image's size.

        Reports the others, and repeated ids.

        Args:
            images: index of each annotation's image; -1 if it is unknown.
        """
        ids = list(self._named)
        for row in np.flatnonzero(images < 0).tolist():
            self._report(row, f"image_id {ids[self._image[row]]!r} is in no entry of images")
        valid = np.isin(np.asarray(self._category), list(self._categories))
        for row in np.flatnonzero(~valid).tolist():
            self._report(
                row, f"category_id {_spelled(self._category[row], self._texts)!r} is in no entry of categories"
            )
        for row, first in _repeated(np.asarray(self._id)):
            owner = f"annotations[{self._number[first]}] (line {self._line[first]})"
            self._report(row, f"id {_spelled(self._id[row], self._ids)} belongs to {owner} already")
        valid &= images >= 0
        for row in self._misfits(images):
            height, width = self._sides[2 * row], self._sides[2 * row + 1]
            size = self.images[images[row]].size
            self._report(row, f"a mask of {width}x{height} px in an image of {size[1]}x{size[0]}")
            valid[row] = False
        return valid

    def _number_texts(self) -> None:
        """Numbers the categories whose ids are texts after the others."""
        spelled = {number: text for text, number in self._texts.items()}
        texts = {id_: spelled[id_] for id_ in self._categories if id_ in spelled}
        if not texts:
            return
        first = max((id_ for id_ in self._categories if id_ not in texts), default=-1) + 1
        final = {number: first + i for i, number in enumerate(texts)}
        self._categories = {final.get(id_, id_): category for id_, category in self._categories.items()}
        self._category = array("q", (final.get(id_, id_) for id_ in self._category))
        examples = ", ".join(f"{texts[number]!r} is {id_}" for number, id_ in list(final.items())[:5])
        self._note("category-id-text", f"{len(texts)} category ids are texts: {examples}", len(texts))

    def _drop_root(self, used: set[int]) -> None:
        """Drops the unused category 0 that Roboflow writes as the group of all others."""
        root = self._categories.get(0)
        groups = {category.group for id_, category in self._categories.items() if id_}
        if root and root.group == "none" and 0 not in used and groups and "none" not in groups:
            del self._categories[0]
            self._note("category-unused-root", f"category 0, {root.name!r}, only groups the others: left out", 1)

    def _note(self, code: str, what: str, count: int) -> None:
        self.notes.append(Finding(code, f"{self.path}: {what}", file=str(self.path), count=count))

    def _misfits(self, image: NDArray[np.int64]) -> Iterator[int]:
        """The run-length encoded masks whose size is not that of their image.

        An image without a size takes that of its first mask.
        """
        sides = np.asarray(self._sides).reshape(-1, 2)
        for row in np.flatnonzero(sides.any(1) & (image[: len(sides)] >= 0)).tolist():
            entry, size = self.images[image[row]], (int(sides[row, 0]), int(sides[row, 1]))
            if entry.size == (0, 0):
                self.images[image[row]] = entry._replace(size=size)
            elif entry.size != size:
                yield row

    def _distinct(self, used: set[int]) -> list[int]:
        """The category ids. If several share a name, only those in use: some exports repeat the name of a group."""
        count = Counter(category.name for category in self._categories.values())
        ids = [id_ for id_ in sorted(self._categories) if count[self._categories[id_].name] == 1 or id_ in used]
        first: dict[str, int] = {}
        for id_ in list(ids):
            name, _, line, number = self._categories[id_]
            if name in first:
                location = f"{self.path} line {line}: categories[{number}]"
                report(f"{location}: ids {first[name]} and {id_} are both called {name!r}: rename one")
                ids.remove(id_)
            first.setdefault(name, id_)
        return ids or sorted(self._categories)[:1]

    def _classes_of(self, ids: list[int]) -> Classes:
        return Classes(tuple(self._categories[id_].name for id_ in ids), tuple(ids))

    def _report(self, row: int, what: str) -> None:
        report(f"{self._location(row)}: {what}", file=str(self.path), line=self._line[row])


def _spelled(id_: int, texts: dict[str, int]) -> int | str:
    """An id as the file spells it."""
    return next((text for text, number in texts.items() if number == id_), id_)


def id_of(value: dict[str, Any], key: str) -> int | str:
    """An id: an integer, also if written as 1.0 or "1", or another text."""
    id_ = value.get(key)
    if type(id_) is float and id_.is_integer() and abs(id_) < 1 << 53:
        id_ = int(id_)
    if type(id_) is str and _DIGITS.fullmatch(id_):
        id_ = int(id_)
    if type(id_) is int and abs(id_) < _TEXTS:
        return id_
    if type(id_) is str and id_:
        return id_
    raise InputError(f"no {key}" if id_ is None else f"{key} {str(id_)[:40]} is neither an integer nor a text")


def side_of(value: dict[str, Any], key: str) -> int:
    """An image's height or width, px; 0 if unknown."""
    side = value.get(key)
    if not isinstance(side, int | float) or not side > 0:
        return 0
    if side > _MAX_SIDE:
        raise InputError(f"{key} {str(side)[:20]} px: images have at most {_MAX_SIDE:,} px a side")
    return int(side)


def add_image(entry: Entry, images: list[CocoImage], image_of: dict[int | str, int]) -> None:
    """Adds an image of a COCO file.

    Args:
        entry: of the list ``images``.
        images: the images read so far.
        image_of: image id -> index in ``images``.

    Raises:
        InputError: no name or no id, an id of another image, or a side that is too long.
    """
    id_, name = id_of(entry.value, "id"), entry.value.get("file_name")
    if not isinstance(name, str) or not name:
        raise InputError("no file_name")
    if id_ in image_of:
        owner = images[image_of[id_]]
        raise InputError(f"id {id_} belongs to images[{owner.number}] (line {owner.line}) already")
    height, width = (side_of(entry.value, key) for key in ("height", "width"))
    image_of[id_] = len(images)
    images.append(CocoImage(name, (height, width) if height and width else (0, 0), entry.line, entry.number))


def _differ(box: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes x1, y1, x2, y2 have an IoU below one half; a few px never count as a difference."""
    near = all(abs(a - b) <= _NEAR for a, b in zip(box, other, strict=True))
    sides = [min(box[i + 2], other[i + 2]) - max(box[i], other[i]) for i in (0, 1)]
    intersection = max(0.0, sides[0]) * max(0.0, sides[1])
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (box, other))
    return not near and intersection < (areas - intersection) / 2


def crowd_of(value: Any) -> bool:
    """Whether an object is marked as a crowd. Raises InputError if ``iscrowd`` is neither 0 nor 1."""
    if isinstance(value, list | dict) or value not in (None, 0, 1, "", "0", "1"):
        raise InputError(f"iscrowd is {str(value)[:20]!r}: it must be 0 or 1")
    return value in (1, "1")


def _box(value: Any) -> tuple[float, float, float, float]:
    numbers = isinstance(value, list) and len(value) == 4 and all(type(number) in (int, float) for number in value)
    if not numbers or not all(abs(number) < _MAX_COORDINATE for number in value):  # or NaN
        raise InputError("bbox must be four numbers [x, y, width, height]")
    x, y, width, height = value
    return x, y, x + width, y + height


def _repeated(ids: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """The index of each repeated id, and that of its first occurrence."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    first = 0
    for position in np.flatnonzero(ordered[1:] == ordered[:-1]).tolist():
        if ordered[first] != ordered[position]:
            first = int(np.searchsorted(ordered, ordered[position]))
        yield int(order[position + 1]), int(order[first])
