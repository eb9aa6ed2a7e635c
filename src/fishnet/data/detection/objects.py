"""The annotated objects of an image, in one form for all formats. Torch-free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.images.rle import box_of, runs_of

Segmentation = list[list[float]] | dict[str, Any]
"""COCO's two forms of a mask: polygons ``[[x, y, x, y, ...], ...]`` in px, or a run-length encoding ``{"size":
[height, width], "counts": ...}`` whose counts are a list of integers or COCO's compressed text (str or bytes)."""


@dataclass(frozen=True)
class Objects:
    """The objects of one image, as annotated, in px of the upright image.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2.
        labels: (n,) int64, class indices from 0.
        size: the image's height and width according to the annotation; (0, 0) if unknown.
        crowd: (n,) bool, whether a group of objects has one box; neither trained on nor counted as missed.
        areas: (n,) float64, px; they decide what is small, medium and large for COCO.
        segmentations: one per box; None if the format or the task has no masks.
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
        """Objects from plain sequences; ``areas`` default to those of the boxes."""
        xyxy = np.asarray(boxes, np.float32).reshape(-1, 4)
        sides = (xyxy[:, 2:].astype(np.float64) - xyxy[:, :2]).clip(min=0)
        return cls(
            xyxy,
            np.asarray(labels, np.int64).reshape(-1),
            size,
            np.zeros(len(xyxy), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
            sides.prod(1) if areas is None else np.asarray(areas, np.float64).reshape(-1),
            None if segmentations is None else tuple(segmentations),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, kept: NDArray[Any]) -> "Objects":
        """The objects selected by a boolean mask or by indices."""
        kept = np.arange(len(self))[kept]
        return replace(
            self,
            boxes=self.boxes[kept],
            labels=self.labels[kept],
            crowd=self.crowd[kept],
            areas=self.areas[kept],
            segmentations=self.segmentations and tuple(self.segmentations[i] for i in kept.tolist()),
        )

    def clean(self, size: tuple[int, int]) -> "Objects":
        """The objects to train on and to evaluate: boxes clipped to the image, without those that then have no area.

        Args:
            size: height and width of the image.
        """
        height, width = size
        boxes = self.boxes.clip(0, np.array([width, height, width, height], np.float32))
        visible = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
        return replace(self, boxes=boxes, size=size).take(visible)

    def masks(self) -> NDArray[np.uint8]:
        """(n, height, width) of 0 and 1, rasterized by COCO's own rules.

        Raises:
            ValueError: no segmentations, no size, or a run-length encoding of another size.
        """
        from faster_coco_eval.core import mask as coco

        height, width = self.size
        if self.segmentations is None or not height:
            raise ValueError("the objects have no segmentations or no size")
        filled = np.zeros((len(self), height, width), np.uint8)
        for i, shape in enumerate(self.segmentations):
            filled[i] = coco.decode(compressed_rle(shape, self.size))
        return filled

    def bits(self, index: int) -> tuple[NDArray[np.uint8], int, int]:
        """A mask cropped to its extent: (height, width) of 0 and 1, and its left and top, px; (0, 0) for an empty mask.

        Only these columns are rasterized, which is cheap for many small objects in a large image.
        """
        assert self.segmentations is not None  # only called where the task has masks
        height, _ = self.size
        runs = runs_of(compressed_rle(self.segmentations[index], self.size)["counts"])
        x1, y1, x2, y2 = (int(value) for value in box_of(runs, height))
        edges = np.cumsum(runs).clip(x1 * height, x2 * height)
        columns = np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), np.diff(edges, prepend=x1 * height))
        return columns.reshape(x2 - x1, height)[:, y1:y2].T, x1, y1


def compressed_rle(shape: Segmentation, size: tuple[int, int]) -> dict[str, Any]:
    """A segmentation as COCO's compressed run-length encoding.

    Args:
        shape: polygons or a run-length encoding.
        size: height and width of the image.

    Raises:
        ValueError: a run-length encoding of another size.
    """
    from faster_coco_eval.core import mask as coco

    height, width = size
    if isinstance(shape, list):
        merged: dict[str, Any] = coco.merge(coco.frPyObjects(shape, height, width))
        return merged
    if list(shape["size"]) != [height, width]:
        raise ValueError(f"a mask of {shape['size'][1]}x{shape['size'][0]} px in an image of {width}x{height}")
    counts = shape["counts"]
    if isinstance(counts, list):
        compressed: dict[str, Any] = coco.frPyObjects(shape, height, width)
        return compressed
    return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
