"""The results of classification: the classes of whole images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.prediction.drawing import score_panel

if TYPE_CHECKING:
    from fishnet.images.preprocess import Placement


@dataclass(frozen=True)
class Classification:
    """The most likely classes of one image, best first.

    Attributes:
        labels: (k,) class indices of the model's outputs.
        scores: (k,) probabilities, 0..1.
        classes: names and original ids of all classes.
    """

    columns: ClassVar[tuple[str, ...]] = ("id", "name", "score")

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    classes: Classes

    @classmethod
    def from_logits(
        cls, logits: NDArray[np.float32], classes: Classes, k: int = 5, *, placement: "Placement | None" = None
    ) -> "Classification":
        """Finds the ``k`` best classes of (classes,) logits by softmax; ``placement`` is ignored."""
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

    def summary(self) -> str:
        """The three best classes with their probabilities."""
        return ", ".join(f"{row['name']} {100 * row['score']:.1f} %" for row in self.rows()[:3])

    def draw(self, image: Image.Image, k: int = 3) -> Image.Image:
        """The image above the ``k`` best classes with their probabilities as bars."""
        return score_panel(image, [(row["name"], row["score"]) for row in self.rows()[:k]])
