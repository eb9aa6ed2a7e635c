"""A COCO annotation file in little memory: its pictures, categories and annotations as arrays. Torch-free."""

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fishnet.data.findings import Finding
from fishnet.data.labels import Classes
from fishnet.data.problems import complain
from fishnet.data.regions.coco_shapes import Shape, Shapes, packed
from fishnet.data.regions.coco_stream import Entry, read_entries
from fishnet.data.regions.objects import Objects, Segmentation
from fishnet.errors import InputError

_FARTHEST = 1e9  # px
KEYS = ("images", "annotations", "categories")


class CocoPicture(NamedTuple):
    """An entry of ``images``.

    Attributes:
        file_name: as the file has it.
        size: height and width; (0, 0) where not stated.
        line, number: of the entry.
    """

    file_name: str
    size: tuple[int, int]
    line: int
    number: int


class CocoTable:
    """What one annotation file holds.

    Keypoints, captions, licences and the like are passed over. Of a 1 GB file about a third stays in memory.

    Args:
        path: of the JSON file.
        masks: whether segmentations are wanted; without, they are read only where a ``bbox`` is missing.
        problems: collects what is wrong, an entry left out for each; None raises at the first.

    Attributes:
        pictures: in the file's order.
        classes: of ``categories``, in the order of their ids.

    Raises:
        InputError: see :func:`~fishnet.data.regions.coco_stream.read_entries`; missing or repeated entries, unknown
            ids, with ``masks`` also an annotation without a usable one. The message gives file, line and entry.
    """

    def __init__(self, path: Path, masks: bool = False, problems: list[Finding] | None = None) -> None:
        self.path, self.masks, self.problems = path, masks, problems
        self.pictures: list[CocoPicture] = []
        self._picture_of: dict[int | str, int] = {}  # image id -> its place in pictures
        self._categories: dict[int, tuple[str, Entry]] = {}
        self._named: dict[int | str, int] = {}  # image id -> its number among those that annotations name
        self._image, self._category, self._id = array("i"), array("q"), array("q")
        self._line, self._number = array("q"), array("i")
        self._box, self._area, self._crowd = array("f"), array("d"), array("b")
        self._shapes, self._sides = Shapes(), array("i")
        read = {"images": self._add_picture, "annotations": self._add, "categories": self._add_category}
        seen = set()
        for entry in read_entries(path, KEYS):
            seen.add(entry.key)
            try:
                read[entry.key](entry)
            except InputError as error:
                complain(f"{path} line {entry.line}: {entry.key}[{entry.number}]: {error}", problems)
        missing = [key for key in ("images", "categories") if key not in seen]
        if missing:
            raise InputError(f"{path}: no entries in {' and '.join(missing)}: not a COCO annotation file of objects")
        self._settle()

    def objects(self, picture: int, labels: dict[int, int]) -> Objects:
        """A picture's objects.

        Args:
            picture: its place in ``pictures``.
            labels: class index of each category id; others are left out.
        """
        rows = [row for row in self._rows(picture).tolist() if self._category[row] in labels]
        shapes: list[Segmentation] | None = [self._shapes[row] for row in rows] if self.masks else None
        return Objects.of(
            self._boxes[rows],
            [labels[self._category[row]] for row in rows],
            self.pictures[picture].size,
            crowd=[bool(self._crowd[row]) for row in rows],
            areas=[self._area[row] for row in rows],
            segmentations=shapes,
        )

    def place(self, picture: int, labels: dict[int, int], number: int) -> str:
        """Where the ``number``-th of these objects is; -1, or a number beyond, for the picture's own entry."""
        rows = [row for row in self._rows(picture).tolist() if self._category[row] in labels]
        if 0 <= number < len(rows):
            return self._place(rows[number])
        entry = self.pictures[picture]
        return f"{self.path} line {entry.line}: images[{entry.number}]"

    def used(self) -> Classes:
        """The classes that annotations name."""
        some = set(np.unique(np.asarray(self._category)[self._order]).tolist())
        return self._classes_of([id_ for id_ in self.classes.ids if id_ in some])

    def _rows(self, picture: int) -> NDArray[np.int64]:
        return self._order[self._starts[picture] : self._starts[picture + 1]]

    def _place(self, row: int) -> str:
        return f"{self.path} line {self._line[row]}: annotations[{self._number[row]}]"

    def _add_picture(self, entry: Entry) -> None:
        id_, name = _id_of(entry.value, "id"), entry.value.get("file_name")
        if not isinstance(name, str) or not name:
            raise InputError("no file_name")
        if id_ in self._picture_of:
            before = self.pictures[self._picture_of[id_]]
            raise InputError(f"id {id_} belongs to images[{before.number}] (line {before.line}) already")
        sides = [entry.value.get(key) for key in ("height", "width")]
        height, width = (int(side) if isinstance(side, int | float) and side > 0 else 0 for side in sides)
        self._picture_of[id_] = len(self.pictures)
        size = (height, width) if height and width else (0, 0)
        self.pictures.append(CocoPicture(name, size, entry.line, entry.number))

    def _add_category(self, entry: Entry) -> None:
        id_, name = _whole(entry.value, "id"), entry.value.get("name")
        if not isinstance(name, str) or not name:
            raise InputError("no name")
        if id_ in self._categories:
            before = self._categories[id_][1]
            raise InputError(f"id {id_} belongs to categories[{before.number}] (line {before.line}) already")
        self._categories[id_] = (name, entry._replace(value={}))

    def _add(self, entry: Entry) -> None:
        value = entry.value
        id_, image, category = _whole(value, "id"), _id_of(value, "image_id"), _whole(value, "category_id")
        shape = self._shape(value)
        box = _box(value["bbox"]) if value.get("bbox") else shape.box() if shape else None
        if box is None:
            raise InputError("no bbox: labels without boxes cannot be learned from; give bbox [x, y, width, height]")
        area = value.get("area")
        if not isinstance(area, int | float) or not math.isfinite(area):
            area = max(0, box[2] - box[0]) * max(0, box[3] - box[1])
        self._id.append(id_)
        self._image.append(self._named.setdefault(image, len(self._named)))
        self._category.append(category)
        self._line.append(entry.line)
        self._number.append(entry.number)
        self._box.extend(box)
        self._area.append(area)
        self._crowd.append(value.get("iscrowd") == 1)
        if self.masks:
            self._shapes.add(shape)
            self._sides.extend(shape.size if shape else (0, 0))

    def _shape(self, value: dict[str, Any]) -> Shape | None:
        """The segmentation, where it is wanted or has to stand in for the box."""
        given = value.get("segmentation")
        if given and (self.masks or not value.get("bbox")):
            return packed(given)
        if self.masks:
            raise InputError("no segmentation, only a box: use train detect, or annotate masks")
        return None

    def _settle(self) -> None:
        """Sorts the annotations by picture, without those that have none, and looks at what can be seen only now."""
        self._boxes = np.asarray(self._box).reshape(-1, 4)
        categories = np.asarray(self._category)
        places = np.array([self._picture_of.get(image, -1) for image in self._named], np.int64)
        picture = places[np.asarray(self._image)] if len(places) else np.zeros(0, np.int64)
        bad = picture < 0
        images = list(self._named)
        for row in np.flatnonzero(bad).tolist():
            self._wrong(row, f"image_id {images[self._image[row]]!r} is in no entry of images")
        known = np.isin(categories, list(self._categories))
        for row in np.flatnonzero(~known).tolist():
            self._wrong(row, f"category_id {self._category[row]} is in no entry of categories")
        for row, first in _repeated(np.asarray(self._id)):
            taken = f"annotations[{self._number[first]}] (line {self._line[first]})"
            self._wrong(row, f"id {self._id[row]} belongs to {taken} already")
        bad |= ~known
        for row in self._misfits(picture):
            height, width = self._sides[2 * row], self._sides[2 * row + 1]
            stated = self.pictures[picture[row]].size
            self._wrong(row, f"a mask of {width}x{height} px in a picture of {stated[1]}x{stated[0]}")
            bad[row] = True
        order = np.argsort(picture, kind="stable")
        self._order = order[~bad[order]]
        counts = np.bincount(picture[self._order], minlength=len(self.pictures))
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        del self._id, self._image, self._named, self._picture_of  # what only this needed
        self.classes = self._classes_of(self._distinct(set(categories[self._order].tolist())))

    def _misfits(self, picture: NDArray[np.int64]) -> Iterator[int]:
        """The run-length encoded masks that are of another size than their picture, or where that states none, than
        its first one: the picture is then taken to be of that size.
        """
        sides = np.asarray(self._sides).reshape(-1, 2)
        for row in np.flatnonzero(sides.any(1) & (picture[: len(sides)] >= 0)).tolist():
            stated, size = self.pictures[picture[row]], (int(sides[row, 0]), int(sides[row, 1]))
            if stated.size == (0, 0):
                self.pictures[picture[row]] = stated._replace(size=size)
            elif stated.size != size:
                yield row

    def _distinct(self, used: set[int]) -> list[int]:
        """The categories' ids; of several with one name only those in use, as some exports repeat a group's name."""
        count = Counter(name for name, _ in self._categories.values())
        ids = [id_ for id_ in sorted(self._categories) if count[self._categories[id_][0]] == 1 or id_ in used]
        first: dict[str, int] = {}
        for id_ in list(ids):
            name, entry = self._categories[id_]
            if name in first:
                place = f"{self.path} line {entry.line}: categories[{entry.number}]"
                complain(f"{place}: ids {first[name]} and {id_} are both called {name!r}: rename one", self.problems)
                ids.remove(id_)
            first.setdefault(name, id_)
        return ids or sorted(self._categories)[:1]

    def _classes_of(self, ids: list[int]) -> Classes:
        return Classes(tuple(self._categories[id_][0] for id_ in ids), tuple(ids))

    def _wrong(self, row: int, what: str) -> None:
        complain(f"{self._place(row)}: {what}", self.problems)


def _id_of(value: dict[str, Any], key: str) -> int | str:
    found = value.get(key)
    if type(found) not in (int, str):
        raise InputError(f"no {key}" if found is None else f"{key} {found!r} is neither a whole number nor a text")
    return found  # type: ignore[return-value]


def _whole(value: dict[str, Any], key: str) -> int:
    found = value.get(key)
    if type(found) is not int or abs(found) >= 1 << 62:
        raise InputError(f"no {key}" if found is None else f"{key} {found!r} is no whole number")
    return found


def _box(given: Any) -> tuple[float, float, float, float]:
    numbers = isinstance(given, list) and len(given) == 4 and all(type(value) in (int, float) for value in given)
    if not numbers or not all(abs(value) < _FARTHEST for value in given):  # nor NaN
        raise InputError("bbox must be four numbers [x, y, width, height]")
    x, y, width, height = given
    return x, y, x + width, y + height


def _repeated(ids: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Places of ids that came before, and where."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    first = 0
    for place in np.flatnonzero(ordered[1:] == ordered[:-1]).tolist():
        if ordered[first] != ordered[place]:
            first = int(np.searchsorted(ordered, ordered[place]))
        yield int(order[place + 1]), int(order[first])
