"""A model of several heads without a network: it finds bright rectangles. For tests of what goes on around a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle, HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor
from tests import bright, pixelwise

COLOURS = Classes(("dark", "red", "green"), (5, 30, 7))
HEADS = {
    "colour": HeadConfig("classify", COLOURS),
    "objects": HeadConfig("instances", bright.CLASSES, thresholds={"score": 0.5}),
    "ground": HeadConfig("segment", pixelwise.CLASSES),
}


class SeveralHeads:
    """An engine: the strongest mean of ``colour``, the rectangles of tests.bright, the label map of tests.pixelwise.

    Keeps the heads and the shape of each call.
    """

    def __init__(self, heads: Sequence[str] = tuple(HEADS)) -> None:
        self.heads, self.calls = tuple(heads), list[tuple[tuple[str, ...], tuple[int, ...]]]()

    def __call__(self, batch: NDArray[np.float32], only: Sequence[str] | None = None) -> dict[str, Any]:
        names = self.heads if only is None else tuple(only)
        self.calls.append((names, batch.shape))
        return {name: compute(name, batch) for name in names}

    def embed(self, batch: NDArray[np.float32]) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """Outputs, and the means of the channels as embeddings."""
        return self(batch), batch.mean((2, 3))


def compute(name: str, batch: NDArray[np.float32]) -> Any:
    """The raw outputs of one head."""
    if name == "colour":
        means = batch[:, :2].mean((2, 3))
        return np.concatenate([np.full((len(batch), 1), -0.45, np.float32), means], 1) * 8
    return bright.BrightRectangles(masks=True)(batch) if name == "objects" else pixelwise.Pixelwise()(batch)


def preprocess(fit: Any = "whole", size: int = 64) -> Preprocess:
    """Images whole, their shorter side as ``size`` px, or in their own size."""
    return Preprocess((size, 4 * size), interpolation="nearest", mean=(0.5,) * 3, std=(1.0,) * 3, fit=fit)


def several(*names: str, fit: Any = "whole", size: int = 64, **bundle: Any) -> Predictor:
    """The model with these heads; by default all."""
    heads = {name: HEADS[name] for name in names or HEADS}
    return Predictor(Bundle("none", heads, preprocess(fit, size), **bundle), SeveralHeads(tuple(heads)))


def alone(name: str, fit: Any = "whole", size: int = 64) -> Predictor:
    """The model with only one of the heads."""
    return Predictor(Bundle("none", {name: HEADS[name]}, preprocess(fit, size)), lambda batch: compute(name, batch))
