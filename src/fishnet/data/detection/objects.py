"""The annotated objects of an image, whatever format they came from. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.images.rle import box_of, runs_of

Segmentation = list[list[float]] | dict[str, Any]
"""COCO's forms of a mask: polygons ``[[x, y, x, y, ...], ...]`` in px, or a run-length encoding ``{"size": [height,
width], "counts": [...]}``, its counts a list of whole numbers or COCO's compressed text (str or bytes)."""


@dataclass(frozen=True)
class Objects:
    """The objects of one image, as annotated, in px of the upright image.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2.
        labels: (n,) int64, class indices from 0.
        size: height and width that the annotation states; (0, 0) where it states none.
        crowd: (n,) bool: a group whose members are not told apart; neither trained on nor counted as missed.
        areas: (n,) float64, px: what COCO's small, medium and large go by.
        segmentations: one a box; None where the format, or the task, has no masks.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    size: tuple[int, int]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    segmentations: tuple[Segmentation, ...] | None = None

    @classmethod
    def of(
        cls,
        boxes: Sequence[Sequence[float]] | NDArray[Any],
        labels: Sequence[int] | NDArray[Any],
        size: tuple[int, int] = (0, 0),
        *,
        crowd: Sequence[bool] | NDArray[Any] | None = None,
        areas: Sequence[float] | NDArray[Any] | None = None,
        segmentations: Sequence[Segmentation] | None = None,
    ) -> "Objects":
        """Objects from plain sequences; without ``areas`` these are the boxes'."""
        box = np.asarray(boxes, np.float32).reshape(-1, 4)
        sides = (box[:, 2:].astype(np.float64) - box[:, :2]).clip(min=0)
        return cls(
            box,
            np.asarray(labels, np.int64).reshape(-1),
            size,
            np.zeros(len(box), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
            sides.prod(1) if areas is None else np.asarray(areas, np.float64).reshape(-1),
            None if segmentations is None else tuple(segmentations),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, kept: NDArray[Any]) -> "Objects":
        """Some of the objects, by a mask of bools or by indices."""
        which = np.arange(len(self))[kept]
        shapes = self.segmentations
        return replace(
            self,
            boxes=self.boxes[which],
            labels=self.labels[which],
            crowd=self.crowd[which],
            areas=self.areas[which],
            segmentations=None if shapes is None else tuple(shapes[i] for i in which.tolist()),
        )

    def clean(self, size: tuple[int, int]) -> "Objects":
        """What is trained on and measured: boxes cut off at the image's edges, those with no area left out.

        Args:
            size: height and width of the image.
        """
        height, width = size
        boxes = self.boxes.clip(0, np.array([width, height, width, height], np.float32))
        some = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        return replace(self, boxes=boxes, size=size).take(some)

    def masks(self) -> NDArray[np.uint8]:
        """(n, height, width) of 0 and 1, filled in by COCO's own rules.

        Raises:
            ValueError: no segmentations, no size, or an encoding that is not of that size.
        """
        from faster_coco_eval.core import mask as coco

        height, width = self.size
        if self.segmentations is None or not height:
            raise ValueError("no masks to fill in")
        filled = np.zeros((len(self), height, width), np.uint8)
        for i, shape in enumerate(self.segmentations):
            filled[i] = coco.decode(encoded(shape, self.size))
        return filled

    def bits(self, index: int) -> tuple[NDArray[np.uint8], int, int]:
        """A mask's own extent, of 0 and 1 (height, width), and its left and top, px; of an empty mask (0, 0).

        Only its columns are filled in: of a large image's many small objects that is hardly anything.
        """
        assert self.segmentations is not None  # only asked for where the task has masks
        height, _ = self.size
        runs = runs_of(encoded(self.segmentations[index], self.size)["counts"])
        x1, y1, x2, y2 = (int(value) for value in box_of(runs, height))
        edges = np.cumsum(runs).clip(x1 * height, x2 * height)
        columns = np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), np.diff(edges, prepend=x1 * height))
        return columns.reshape(x2 - x1, height)[:, y1:y2].T, x1, y1


def encoded(shape: Segmentation, size: tuple[int, int]) -> dict[str, Any]:
    """A segmentation as COCO's compressed run-length encoding.

    Args:
        shape: polygons, or an encoding in either form.
        size: height and width of the image.

    Raises:
        ValueError: an encoding of another size.
    """
    from faster_coco_eval.core import mask as coco

    height, width = size
    if isinstance(shape, list):
        found: dict[str, Any] = coco.merge(coco.frPyObjects(shape, height, width))
        return found
    if list(shape["size"]) != [height, width]:
        raise ValueError(f"a mask of {shape['size'][1]}x{shape['size'][0]} px in an image of {width}x{height}")
    if isinstance(shape["counts"], list):
        found = coco.frPyObjects(shape, height, width)
        return found
    counts = shape["counts"]
    return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
