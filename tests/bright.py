"""A region model without a network: it finds bright rectangles. For tests of what goes on around a model."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor

Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2, px
CLASSES = Classes(("red", "green"), (30, 7))
_COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "dim": (220, 0, 0)}


class BrightRectangles:
    """An engine: each rectangle of red or green on black is an object; dim red has the score 0.4, others 0.9.

    Args:
        masks: whether it gives masks: all ones.
    """

    def __init__(self, masks: bool = False) -> None:
        self.masks, self.shapes = masks, list[tuple[int, ...]]()

    def __call__(self, batch: NDArray[np.float32]) -> list[dict[str, NDArray[Any]]]:
        self.shapes.append(batch.shape)
        return [self._find(image) for image in batch]

    def _find(self, image: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        left = image[:2] > 0.3  # of -0.5..0.5
        boxes, labels, scores = [], [], []
        while left.any():
            label, top, x1 = (int(place[0]) for place in np.nonzero(left))
            x2 = x1 + int(np.argmin([*left[label, top, x1:], False]))
            bottom = top + int(np.argmin([*left[label, top:, x1], False]))
            left[label, top:bottom, x1:x2] = False
            boxes.append((x1, top, x2, bottom))
            labels.append(label)
            scores.append(0.9 if image[label, top, x1] > 0.4 else 0.4)
        order = np.argsort(-np.array(scores), kind="stable")
        found: dict[str, NDArray[Any]] = {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4)[order],
            "labels": np.array(labels, np.int64)[order],
            "scores": np.array(scores, np.float32)[order],
        }
        return {**found, "masks": np.ones((len(boxes), 28, 28), np.float32)} if self.masks else found


def bright(size: int = 64, masks: bool = False, **bundle: Any) -> Predictor:
    """The model, which takes images whole, their shorter side as ``size`` px."""
    preprocess = Preprocess((size, 4 * size), interpolation="nearest", mean=(0.5,) * 3, std=(1.0,) * 3, fit="whole")
    task = "instances" if masks else "detect"
    return Predictor(Bundle.single(task, "none", CLASSES, preprocess, **bundle), BrightRectangles(masks))


def scene(width: int, height: int, *rectangles: tuple[Rectangle, str]) -> Image.Image:
    """Rectangles on black."""
    image = Image.new("RGB", (width, height))
    for (x1, y1, x2, y2), colour in rectangles:
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), fill=_COLOURS[colour])
    return image
