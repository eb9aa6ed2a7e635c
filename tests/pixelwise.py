"""A segmenter without a network: each pixel's class is its colour. For tests of what goes on around a model."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor

CLASSES = Classes(("background", "red", "green"), (0, 30, 7))


class Pixelwise:
    """An engine: black is background, red and green are themselves; of mixtures the stronger."""

    def __init__(self) -> None:
        self.shapes = list[tuple[int, ...]]()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape)
        red, green = 8 * batch[:, 0], 8 * batch[:, 1]  # of -0.5..0.5
        return np.stack([np.zeros_like(red), red, green], 1)


def pixelwise(
    size: int = 64,
    fit: Any = "whole",
    engine: Callable[..., Any] | None = None,
    classes: Classes = CLASSES,
    **bundle: Any,
) -> Predictor:
    """The model, which takes images whole, their shorter side as ``size`` px, or in their own size."""
    preprocess = Preprocess((size, 4 * size), mean=(0.5,) * 3, std=(1.0,) * 3, fit=fit)
    return Predictor(Bundle.single("segment", "none", classes, preprocess, **bundle), engine or Pixelwise())
