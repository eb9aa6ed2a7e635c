"""The results of classification: the class of a whole image, or its labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.prediction.drawing import score_panel

if TYPE_CHECKING:
    from fishnet.images.preprocess import Placement

_SHOWN = 8  # labels below a drawn image


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
        cls,
        logits: NDArray[np.float32],
        classes: Classes,
        k: int = 5,
        *,
        thresholds: Sequence[float] | None = None,
        threshold: float | None = None,
        placement: "Placement | None" = None,
    ) -> "Classification":
        """Finds the ``k`` best classes of (classes,) logits by softmax, or an image's labels by sigmoid.

        Args:
            logits: (classes,).
            classes: the model's classes.
            k: number of classes to report.
            thresholds: for an image with any number of labels, the lowest score of each label.
            threshold: replaces all thresholds.
            placement: ignored.

        Returns:
            With ``thresholds`` a :class:`MultiLabel`.
        """
        if thresholds is not None:
            limits = thresholds if threshold is None else [threshold] * len(classes)
            return MultiLabel.from_scores(sigmoid(logits), classes, limits, k)
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

    def bars(self, k: int = 3) -> list[tuple[str, float]]:
        """What :meth:`draw` shows below the image: names and probabilities of the ``k`` best classes."""
        return [(row["name"], row["score"]) for row in self.rows()[:k]]

    def draw(self, image: Image.Image, k: int = 3) -> Image.Image:
        """The image above the ``k`` best classes with their probabilities as bars."""
        return score_panel(image, self.bars(k))


@dataclass(frozen=True)
class MultiLabel(Classification):
    """The labels of one image, and the most likely classes, best first.

    Attributes:
        labels: (n,) indices of the classes that are reported: the ``k`` best, and all at or above their thresholds.
        scores: (n,) probabilities, 0..1, each of its own: they do not add up to 1.
        thresholds: (n,) the lowest score at which the image has the label, 0..1.
        k: how many classes to report at least.
    """

    columns: ClassVar[tuple[str, ...]] = ("id", "name", "score", "threshold", "present")

    thresholds: NDArray[np.float64]
    k: int = 5

    @classmethod
    def from_scores(
        cls, scores: NDArray[np.float32], classes: Classes, thresholds: Sequence[float], k: int = 5
    ) -> "MultiLabel":
        """Compares (classes,) probabilities with one threshold per class."""
        limits = np.asarray(thresholds, np.float64)
        order = np.argsort(-scores, kind="stable")
        kept = order[(np.arange(len(order)) < k) | (scores[order] >= limits[order])]
        return cls(kept.astype(np.int64), scores[kept], classes, limits[kept], k)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n,) whether the image has each label: its score is at or above its threshold."""
        present: NDArray[np.bool_] = self.scores >= self.thresholds
        return present

    @property
    def names(self) -> list[str]:
        """The names of the image's labels, the most likely first; empty if it has none."""
        return [self.classes.names[i] for i in self.labels[self.present].tolist()]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, best first.

        Returns:
            ``{"task": "classify", "labels": [{"id", "name", "score", "threshold"}, ...], "predictions": [{"id", "name",
            "score"}, ...]}``: all labels of the image, and the ``k`` best classes whether above their thresholds or
            not.
        """
        rows = self.rows()
        labels = [{key: row[key] for key in ("id", "name", "score", "threshold")} for row in rows if row["present"]]
        best = [{key: row[key] for key in ("id", "name", "score")} for row in rows[: self.k]]
        return {"task": "classify", "labels": labels, "predictions": best}

    def rows(self) -> list[dict[str, Any]]:
        """One row per reported class, best first: id, name, score, threshold, and whether the image has the label."""
        details = zip(super().rows(), self.thresholds.tolist(), self.present.tolist(), strict=True)
        return [{**row, "threshold": round(limit, 6), "present": present} for row, limit, present in details]

    def summary(self) -> str:
        """The labels with their probabilities; without any, the best class."""
        rows = self.rows()
        labels = [f"{row['name']} {100 * row['score']:.1f} %" for row in rows if row["present"]]
        best = f"no label (best: {rows[0]['name']} {100 * rows[0]['score']:.1f} %)"
        return ", ".join(labels) if labels else best

    def bars(self, k: int = _SHOWN) -> list[tuple[str, float]]:
        """The bars that :meth:`draw` shows: the ``k`` best labels, or 'no label' and the best class."""
        rows = self.rows()
        labels = [(row["name"], row["score"]) for row in rows if row["present"]]
        return labels[:k] or [("no label", 0.0), (f"best: {rows[0]['name']}", rows[0]["score"])]

    def draw(self, image: Image.Image, k: int = _SHOWN) -> Image.Image:
        """The image above its labels, at most ``k``, with their probabilities as bars."""
        return score_panel(image, self.bars(k))


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    """The probability of each label, 0..1, from logits of any shape."""
    decays = np.exp(-np.abs(logits.astype(np.float64)))
    scores: NDArray[np.float32] = (np.where(logits >= 0, 1.0, decays) / (1 + decays)).astype(np.float32)
    return scores
