"""What a prediction is: one frozen dataclass per task, numpy inside. Torch-free."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.data.labels import Classes
from fishnet.draw import score_panel


class Result(Protocol):
    """What every task's result can do."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ...

    def draw(self, image: Image.Image) -> Image.Image:
        """The picture with the result drawn on it."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """Flat rows for tables and CSV."""
        ...


@dataclass(frozen=True)
class Classification:
    """The best classes of one picture, best first.

    Attributes:
        labels: (k,) class indices of the model's outputs.
        scores: (k,) probabilities, 0..1.
        classes: names and original ids of all classes.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: Classes

    @classmethod
    def from_logits(cls, logits: NDArray[np.float32], classes: Classes, k: int = 5) -> "Classification":
        """The ``k`` best classes of (classes,) logits, by softmax."""
        exponentials = np.exp(logits.astype(np.float64) - logits.max())
        scores = (exponentials / exponentials.sum()).astype(np.float32)
        best = np.argsort(-scores, kind="stable")[:k]
        return cls(best.astype(np.int64), scores[best], classes)

    @property
    def name(self) -> str:
        """Name of the best class."""
        return self.classes.names[int(self.labels[0])]

    @property
    def score(self) -> float:
        """Probability of the best class, 0..1."""
        return float(self.scores[0])

    def to_dict(self) -> dict[str, Any]:
        """``{"task": "classify", "predictions": [{"id", "name", "score"}, ...]}``, best first."""
        return {"task": "classify", "predictions": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """One ``{"id", "name", "score"}`` per class, best first."""
        return [
            {"id": self.classes.ids[i], "name": self.classes.names[i], "score": round(float(score), 6)}
            for i, score in zip(self.labels.tolist(), self.scores, strict=True)
        ]

    def draw(self, image: Image.Image, k: int = 3) -> Image.Image:
        """The picture above the ``k`` best classes with their probabilities as bars."""
        return score_panel(image, [(row["name"], row["score"]) for row in self.rows()[:k]])


@dataclass(frozen=True)
class Cutout:
    """One object's mask, as the part of the picture that it lies in: many objects then fit in memory.

    Attributes:
        left, top: where the part begins, px.
        bits: (height, width) bool.
    """

    left: int
    top: int
    bits: NDArray[np.bool_]


@dataclass(frozen=True)
class Detections:
    """The objects found in one picture, best first.

    Attributes:
        boxes: (n, 4) float32, x1, y1, x2, y2 in px of the picture.
        labels: (n,) int64, class indices.
        scores: (n,) float32, 0..1.
        classes: names and original ids of all classes.
        size: height and width of the picture, px.
        cutouts: the masks, one an object; None for boxes alone.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: Classes
    size: tuple[int, int]
    cutouts: tuple[Cutout, ...] | None = None


# What makes a task's result from one picture's raw outputs and the classes; further arguments are the task's options.
RESULTS: dict[str, Callable[..., Result]] = {"classify": Classification.from_logits}
