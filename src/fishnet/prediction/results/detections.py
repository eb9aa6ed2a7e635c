"""The results of detection: boxes and masks."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.images import rle
from fishnet.prediction.drawing import draw_objects
from fishnet.prediction.results.base import upright

if TYPE_CHECKING:
    from fishnet.images.preprocess import Placement


@dataclass(frozen=True)
class CroppedMask:
    """One object's mask, cropped to the object so that many objects fit in memory.

    Attributes:
        left, top: where the crop begins in the image, px.
        bits: (height, width) bool.
    """

    left: int
    top: int
    bits: NDArray[np.bool_]

    @classmethod
    def pasted(
        cls, mask: NDArray[np.float32], box: NDArray[np.float32], size: tuple[int, int], threshold: float = 0.5
    ) -> "CroppedMask":
        """Pastes a mask that a model predicted over a box into the image.

        Args:
            mask: (m, m) probabilities; outside the box they count as 0.
            box: x1, y1, x2, y2 in px of the image, at least partly within it.
            size: height and width of the image.
            threshold: the lowest probability of the mask's pixels, 0..1.
        """
        x1, y1, x2, y2 = box.astype(np.float64).tolist()
        left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
        width, height = min(size[1], math.ceil(x2)) - left, min(size[0], math.ceil(y2)) - top
        across, down = mask.shape[1] / max(1, x2 - x1), mask.shape[0] / max(1, y2 - y1)  # cells of the mask per px
        edge = math.ceil(2 * max(across, down)) + 1  # whole px of the image extend beyond the mask
        x, y = edge + (left - x1) * across, edge + (top - y1) * down
        cells = Image.fromarray(np.pad(mask.astype(np.float32), edge))
        within = x, y, x + width * across, y + height * down
        resized = cells.resize((width, height), Image.Resampling.BILINEAR, within)
        return cls(left, top, np.asarray(resized) >= threshold)


@dataclass(frozen=True)
class Detections:
    """The objects found in one image, best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in px of the image.
        labels: (n,) int64, class indices.
        scores: (n,) float32, 0..1.
        classes: names and original ids of all classes.
        size: height and width of the image, px.
        cropped_masks: one mask per object; None if the model predicts only boxes.
    """

    columns: ClassVar[tuple[str, ...]] = ("id", "name", "score", "x1", "y1", "x2", "y2", "area")

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: Classes
    size: tuple[int, int]
    cropped_masks: tuple[CroppedMask, ...] | None = None

    @classmethod
    def from_raw(
        cls,
        raw: Mapping[str, NDArray[Any]],
        classes: Classes,
        placement: "Placement",
        *,
        threshold: float = 0.0,
        max_detections: int | None = None,
        mask_threshold: float = 0.5,
    ) -> "Detections":
        """Converts a detector's raw outputs to px of the image.

        Args:
            raw: the outputs for one image, in px of the input: ``boxes`` (n, 4), ``scores`` (n,), ``labels`` (n,) from
                0 and, if the task has masks, ``masks`` (n, m, m), probabilities over the box.
            classes: the model's classes.
            placement: where the image lies in the input. Objects outside the image are left out.
            threshold: the lowest score.
            max_detections: the maximum number of objects; None for all.
            mask_threshold: the lowest probability of a mask's pixels, 0..1.
        """
        boxes = placement.to_image(np.asarray(raw["boxes"]))
        scores = np.asarray(raw["scores"], np.float32)
        valid = (scores >= threshold) & (boxes[:, :2] < boxes[:, 2:]).all(1)
        order = np.argsort(-scores, kind="stable")
        kept: NDArray[np.int64] = order[valid[order]][:max_detections]
        cropped_masks = None
        if "masks" in raw:
            uncut = placement.to_image(np.asarray(raw["boxes"])[kept], cut=False)
            masks = np.asarray(raw["masks"])[kept]
            pairs = zip(masks, uncut, strict=True)
            cropped_masks = tuple(CroppedMask.pasted(*pair, placement.size, mask_threshold) for pair in pairs)
        labels = np.asarray(raw["labels"], np.int64)[kept]
        return cls(boxes[kept], labels, scores[kept], classes, placement.size, cropped_masks)

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, which: NDArray[np.int64]) -> "Detections":
        """Some of the objects, by their indices."""
        cropped_masks = None if self.cropped_masks is None else tuple(self.cropped_masks[i] for i in which.tolist())
        return replace(
            self,
            boxes=self.boxes[which],
            labels=self.labels[which],
            scores=self.scores[which],
            cropped_masks=cropped_masks,
        )

    @property
    def names(self) -> list[str]:
        """(n,) the classes' names."""
        return [self.classes.names[label] for label in self.labels.tolist()]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(n, height, width): every mask at full size, which takes much memory for many objects in a large image.

        Raises:
            InputError: the model predicts only boxes.
        """
        if self.cropped_masks is None:
            raise InputError("this model predicts boxes without masks: train an instances model for masks")
        full = np.zeros((len(self), *self.size), bool)
        for mask, cropped_mask in zip(full, self.cropped_masks, strict=True):
            height, width = cropped_mask.bits.shape
            mask[cropped_mask.top : cropped_mask.top + height, cropped_mask.left : cropped_mask.left + width] = (
                cropped_mask.bits
            )
        return full

    @property
    def areas(self) -> NDArray[np.float64]:
        """(n,) px: areas of the masks if there are any, else of the boxes."""
        if self.cropped_masks is not None:
            return np.array([cropped_mask.bits.sum() for cropped_mask in self.cropped_masks], np.float64)
        sides = self.boxes.astype(np.float64)
        areas: NDArray[np.float64] = (sides[:, 2:] - sides[:, :2]).prod(1)
        return areas

    def to_dict(self) -> dict[str, Any]:
        """For JSON, best first.

        Returns:
            ``{"task": "detect" or "instances", "size": [height, width], "objects": [{"id", "name", "score", "box": [x1,
            y1, x2, y2], "segmentation"}, ...]}``. Only instances have a segmentation, as in :meth:`coco`.
        """
        objects = [
            {
                "id": self.classes.ids[label],
                "name": self.classes.names[label],
                "score": round(score, 6),
                "box": _rounded(box),
                **self._segmentation(i),
            }
            for i, (box, label, score) in enumerate(
                zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
            )
        ]
        task = "detect" if self.cropped_masks is None else "instances"
        return {"task": task, "size": list(self.size), "objects": objects}

    def rows(self) -> list[dict[str, Any]]:
        """One row per object: the class's original id and name, score, box in px, and area in px (:attr:`areas`)."""
        values = zip(self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), self.areas.tolist(), strict=True)
        return [
            dict(
                zip(
                    self.columns,
                    (self.classes.ids[label], self.classes.names[label], round(score, 6), *_rounded([*box, area])),
                    strict=True,
                )
            )
            for box, label, score, area in values
        ]

    def coco(self, image_id: int) -> list[dict[str, Any]]:
        """Entries of a COCO results file, with the classes' original ids.

        Returns:
            ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`` per object, and for instances
            ``"segmentation": {"size": [height, width], "counts": text}``, the compressed run-length encoding.
        """
        corners = self.boxes.astype(np.float64)
        boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        return [
            {
                "image_id": image_id,
                "category_id": self.classes.ids[label],
                "bbox": _rounded(box),
                "score": round(score, 6),
                **self._segmentation(i),
            }
            for i, (box, label, score) in enumerate(
                zip(boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True)
            )
        ]

    def _segmentation(self, index: int) -> dict[str, Any]:
        if self.cropped_masks is None:
            return {}
        cropped_mask = self.cropped_masks[index]
        return {"segmentation": rle.encode(cropped_mask.bits, self.size, cropped_mask.top, cropped_mask.left)}

    def summary(self) -> str:
        """The number of objects, in all and of each class, the most frequent first."""
        parts = [f"{count} {name}" for name, count in Counter(self.names).most_common()]
        total = f"{len(self)} object{'' if len(self) == 1 else 's'}"
        return f"{total}: {', '.join(parts)}" if parts else "no objects"

    def draw(self, image: Image.Image) -> Image.Image:
        """The image with its objects drawn on it, above a legend; see :func:`fishnet.prediction.drawing.draw_objects`.

        Args:
            image: the image that was predicted, upright or with its EXIF orientation.

        Raises:
            InputError: an image of another size.
        """
        by_class = self.cropped_masks is None or len(self.classes) > 1
        colours_by = self.labels.tolist() if by_class else None
        return draw_objects(
            upright(image, self.size), self.boxes, self.names, colours_by, self.scores, self.cropped_masks
        )


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]
