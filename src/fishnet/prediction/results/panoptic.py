"""The results of panoptic segmentation: every pixel belongs to one segment, or to none."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.panoptic import PanopticConfig
from fishnet.files.text import percent
from fishnet.images.segment_ids import dense_ids, run_starts, write_png
from fishnet.prediction.drawing.panoptic import draw_segments
from fishnet.prediction.results.base import upright


@dataclass(frozen=True)
class Segment:
    """One segment of an image.

    Attributes:
        id: its value in the map of ids, above 0.
        label: index of its class among all segment classes.
        name: name of its class.
        category_id: the data's original id of its class.
        is_thing: whether it is one object; otherwise it is all pixels of a class.
        area: number of its pixels.
        box: x1, y1, x2, y2 in px of the image, tight: x2 and y2 are one past the last pixel.
        score: 0..1, for things; None for stuff.
    """

    id: int
    label: int
    name: str
    category_id: int
    is_thing: bool
    area: int
    box: tuple[int, int, int, int]
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """An entry of COCO's ``segments_info``, with the class's name, and the score if it is a thing."""
        x1, y1, x2, y2 = self.box
        values = {
            "id": self.id,
            "category_id": self.category_id,
            "area": self.area,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
            "name": self.name,
        }
        return values if self.score is None else {**values, "score": round(self.score, 6)}


@dataclass(frozen=True)
class Panoptic:
    """The segments of one image (Kirillov et al., "Panoptic Segmentation", arXiv 1801.00868).

    Attributes:
        ids: (height, width) int32, the id of each pixel's segment; 0 where there is none (void).
        segments: things with the best scores first, then stuff in the order of the classes.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "segment", "id", "name", "is_thing", "score", "x1", "y1", "x2", "y2", "area", "share",
    )  # fmt: skip

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]

    @classmethod
    def from_ids(
        cls,
        ids: NDArray[np.integer],
        labels: Mapping[int, int],
        config: PanopticConfig,
        scores: Mapping[int, float] | None = None,
    ) -> "Panoptic":
        """Measures the segments of a map of ids. Segments without pixels are left out.

        Args:
            ids: (height, width) segment ids, 0 where there is no segment.
            labels: segment id -> index of its class among the config's.
            config: the segment classes.
            scores: segment id -> score, 0..1.

        Raises:
            InputError: pixels with an id that no segment has.
        """
        starts, lengths = run_starts(ids)
        numbers = dense_ids(ids.reshape(-1)[starts], list(labels))
        areas = np.bincount(numbers, lengths, len(labels) + 1).astype(np.int64).tolist()
        y, x = np.divmod(starts, ids.shape[1])
        corners = np.zeros((len(labels) + 1, 4), np.int64)
        corners[:, :2] = max(ids.shape)
        for column, (ufunc, values) in enumerate(
            ((np.minimum, x), (np.minimum, y), (np.maximum, x + lengths), (np.maximum, y + 1))
        ):
            ufunc.at(corners[:, column], numbers, values)
        boxes = corners.tolist()
        segments = []
        for i, (id_, label) in enumerate(labels.items(), 1):
            if areas[i]:
                kind = config.segments[label]
                score = (scores or {}).get(id_)
                box = boxes[i][0], boxes[i][1], boxes[i][2], boxes[i][3]
                segments.append(Segment(id_, label, kind.name, kind.id, kind.is_thing, areas[i], box, score))
        return cls(ids.astype(np.int32, copy=False), tuple(segments))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, px."""
        height, width = self.ids.shape
        return height, width

    @property
    def categories(self) -> dict[int, int]:
        """Segment id -> original id of its class."""
        return {segment.id: segment.category_id for segment in self.segments}

    @property
    def crowds(self) -> frozenset[int]:
        """Ids of the segments that are groups of objects: none of a prediction."""
        return frozenset()

    @property
    def void(self) -> int:
        """Number of pixels that belong to no segment."""
        return self.ids.size - sum(segment.area for segment in self.segments)

    def mask(self, segment_id: int) -> NDArray[np.bool_]:
        """(height, width): the pixels of one segment, or of void for the id 0."""
        pixels: NDArray[np.bool_] = self.ids == segment_id
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """For JSON: ``{"task": "panoptic", "size": [height, width], "segments_info": [...]}``, COCO's panoptic format.

        Each entry has ``id``, ``category_id``, ``area``, ``bbox`` (x, y, width, height), ``iscrowd``, ``name``, and
        ``score`` if it is a thing. The map of ids is written by :meth:`write_png`.
        """
        return {
            "task": "panoptic",
            "size": list(self.size),
            "segments_info": [segment.to_dict() for segment in self.segments],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per segment: segment id; original id and name of the class; score of a thing; box in px; area in px
        and share of the image, 0..1.
        """
        return [
            dict(
                zip(
                    self.columns,
                    (
                        segment.id, segment.category_id, segment.name, segment.is_thing,
                        None if segment.score is None else round(segment.score, 6), *segment.box, segment.area,
                        round(segment.area / self.ids.size, 6),
                    ),
                    strict=True,
                )
            )
            for segment in self.segments
        ]  # fmt: skip

    def summary(self, limit: int = 5) -> str:
        """The number of things of each class, and the shares of the largest stuff, at most ``limit``, and of void."""
        names = Counter(segment.name for segment in self.segments if segment.is_thing)
        total = sum(names.values())
        counts = ", ".join(f"{count} {name}" for name, count in names.most_common())
        parts = [f"{total} thing{'' if total == 1 else 's'}: {counts}" if total else "no things"]
        stuff = sorted((one for one in self.segments if not one.is_thing), key=lambda one: -one.area)
        shares = [f"{one.name} {percent(one.area / self.ids.size)}" for one in stuff[:limit]]
        shares += [f"{len(stuff) - limit} more"] if len(stuff) > limit else []
        shares += [f"void {percent(self.void / self.ids.size)}"] if self.void else []
        return "; ".join([*parts, *([", ".join(shares)] if shares else [])])

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its segments, above a legend; see :func:`fishnet.prediction.drawing.draw_segments`.

        Args:
            image: the image that was predicted, upright or with its EXIF orientation.

        Raises:
            InputError: an image of another size.
        """
        return draw_segments(upright(image, self.size), self.ids, self.segments)

    def write_png(self, path: str | Path) -> None:
        """Writes the map of ids as a PNG file in COCO's encoding, which ``images.segment_ids.read_png`` reads.

        Raises:
            WorkError: a full disk, or a path that cannot be written to.
        """
        write_png(path, self.ids)
