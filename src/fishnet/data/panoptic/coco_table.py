"""The content of a COCO panoptic JSON file, in little memory."""

from array import array
from pathlib import Path
from typing import Any

import numpy as np

from fishnet.bundle.panoptic import SegmentClass
from fishnet.data.collector import report
from fishnet.data.detection.coco_stream import Entry, read_entries
from fishnet.data.detection.coco_table import KEYS, CocoImage, add_image, crowd_of, id_of
from fishnet.data.panoptic.base import Annotated
from fishnet.errors import InputError
from fishnet.images.segment_ids import MAX_ID, VOID

_MAX_CATEGORY = 1 << 62
_MAX_SEGMENTS = 20_000  # of one image


class PanopticTable:
    """The content of one COCO panoptic file.

    The entries of ``segments_info`` need ``id`` and ``category_id``; ``iscrowd`` is 0 by default. ``area`` and ``bbox``
    are not read: the pixels decide.

    Args:
        path: the JSON file.

    Attributes:
        images: the images in the file's order.
        categories: the classes, by id.
        pngs: the name of each image's PNG; "" if the image has no annotation.

    Raises:
        InputError: see :func:`~fishnet.data.detection.coco_stream.read_entries`; missing or repeated entries, unknown
            ids, or ids of segments that a PNG cannot hold. The message gives file, line and entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images: list[CocoImage] = []
        self.pngs: list[str] = []
        self._image_of: dict[int | str, int] = {}  # image id -> index in images
        self._categories: dict[int, SegmentClass] = {}
        self._ids, self._category, self._crowd = array("i"), array("q"), array("b")  # of the segments
        self._rows: list[tuple[int | str, str, int, int, int, int]] = []  # image id, PNG, first and last segment, place
        add = {"images": self._add_image, "annotations": self._add_annotation, "categories": self._add_category}
        seen = set()
        for entry in read_entries(path, KEYS):
            seen.add(entry.key)
            try:
                add[entry.key](entry)
            except InputError as error:
                self._report(f"{entry.key}[{entry.number}]", entry.line, str(error))
        missing = [key for key in KEYS if key not in seen]
        if missing:
            raise InputError(f"{path}: no entries in {' and '.join(missing)}: not a COCO panoptic file")
        self._settle()

    def segments(self, image: int) -> dict[int, Annotated]:
        """The segments of an image, by its index in ``images``."""
        first, last = self._spans[image]
        own = self._own[first:last].tolist()
        crowds = self._crowd[first:last]
        return {
            id_: Annotated(category, bool(crowd))
            for id_, category, crowd in zip(self._ids[first:last], own, crowds, strict=True)
        }

    def used(self) -> list[int]:
        """The indices of the categories that have segments."""
        return [int(own) for own in np.unique(self._own) if own >= 0]

    def location(self, image: int, id_: int | None = None) -> str:
        """The file, line and entry of an image's annotation, or of the image; with the id of a segment that it has."""
        place = self._places[image] or (self.images[image].line, f"images[{self.images[image].number}]")
        number = "" if id_ is None else f", segment {id_}"
        return f"{self.path} line {place[0]}: {place[1]}{number}"

    def _add_image(self, entry: Entry) -> None:
        add_image(entry, self.images, self._image_of)

    def _add_category(self, entry: Entry) -> None:
        id_, name, is_thing = id_of(entry.value, "id"), entry.value.get("name"), entry.value.get("isthing")
        if not isinstance(id_, int):
            raise InputError(f"id {id_[:40]!r} is not an integer")
        if not isinstance(name, str) or not name:
            raise InputError("no name")
        if type(is_thing) not in (int, bool) or is_thing not in (0, 1):
            raise InputError(f"isthing of {name!r} must be 0 or 1")
        if id_ in self._categories:
            raise InputError(f"id {id_} belongs to {self._categories[id_].name!r} already")
        self._categories[id_] = SegmentClass(name, id_, bool(is_thing))

    def _add_annotation(self, entry: Entry) -> None:
        value = entry.value
        image, name, infos = id_of(value, "image_id"), value.get("file_name"), value.get("segments_info")
        if not isinstance(name, str) or not name or "\0" in name:
            raise InputError("no file_name: it must name the PNG of the segments")
        if not isinstance(infos, list) or len(infos) > _MAX_SEGMENTS:
            raise InputError(f"segments_info must be a list of at most {_MAX_SEGMENTS:,} segments")
        rows, seen = [], set()
        for number, info in enumerate(infos):
            row = _segment(info, number)
            if row[0] in seen:
                raise InputError(f"segments_info[{number}]: id {row[0]} belongs to another segment already")
            seen.add(row[0])
            rows.append(row)
        first = len(self._ids)
        for id_, category, crowd in rows:
            self._ids.append(id_)
            self._category.append(category)
            self._crowd.append(crowd)
        self._rows.append((image, name, first, len(self._ids), entry.line, entry.number))

    def _settle(self) -> None:
        """Checks what depends on the whole file, and finds the segments of each image."""
        self.categories = [self._categories[id_] for id_ in sorted(self._categories)]
        own_of = {each.id: i for i, each in enumerate(self.categories)}
        self._own = np.array([own_of.get(category, -1) for category in self._category], np.int64)
        self.pngs = [""] * len(self.images)
        self._spans = [(0, 0)] * len(self.images)
        self._places: list[tuple[int, str] | None] = [None] * len(self.images)
        for image_id, png, first, last, line, number in self._rows:
            place, image = f"annotations[{number}]", self._image_of.get(image_id)
            if image is None:
                self._report(place, line, f"image_id {image_id!r} is in no entry of images")
                continue
            if before := self._places[image]:
                self._report(place, line, f"image_id {image_id!r} has {before[1]} (line {before[0]}) already")
                continue
            self.pngs[image], self._spans[image], self._places[image] = png, (first, last), (line, place)
            for row in np.flatnonzero(self._own[first:last] < 0).tolist():
                category = self._category[first + row]
                self._report(f"{place}, segment {self._ids[first + row]}", line,
                             f"category_id {category} is in no entry of categories")  # fmt: skip
        del self._rows, self._image_of, self._category

    def _report(self, place: str, line: int, what: str) -> None:
        report(f"{self.path} line {line}: {place}: {what}", file=str(self.path), line=line)


def _segment(info: Any, number: int) -> tuple[int, int, bool]:
    """Id, category id and crowd flag of an entry of ``segments_info``."""
    try:
        if not isinstance(info, dict):
            raise InputError("is not an object in braces")
        id_, category = id_of(info, "id"), id_of(info, "category_id")
        if not isinstance(id_, int) or not VOID < id_ <= MAX_ID:
            raise InputError(f"id {str(id_)[:40]} must be from 1 to {MAX_ID:,}; 0 is void")
        if not isinstance(category, int) or abs(category) >= _MAX_CATEGORY:
            raise InputError(f"category_id {str(category)[:40]!r} is not an integer")
        return id_, category, crowd_of(info.get("iscrowd"))
    except InputError as error:
        raise InputError(f"segments_info[{number}]: {error}") from None
