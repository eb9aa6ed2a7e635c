"""Measures how well scores separate images with a label from those without: average precision, F1, best threshold."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.tasks.report_files import nan_mean, shares


@dataclass(frozen=True)
class LabelScores:
    """The scores of images for each class, and what is known of their labels.

    Attributes:
        scores: (images, classes) float32, 0..1.
        labels: (images, classes) int8: 1, 0, or -1 where unknown, which leaves the image out for that class.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int8]

    @property
    def positives(self) -> NDArray[np.int64]:
        """(classes,) number of images that have each label."""
        counts: NDArray[np.int64] = (self.labels == 1).sum(0)
        return counts

    def average_precisions(self) -> NDArray[np.float64]:
        """(classes,) average precision, 0..1; NaN for classes without a positive image.

        It is the sum of precisions at each distinct score, weighted by the increase of recall, without interpolation:
        scikit-learn's ``average_precision_score``.
        """
        values = np.full(self.labels.shape[1], np.nan)
        for i in np.flatnonzero(self.positives).tolist():
            correct, chosen, _ = self._cuts(i)
            values[i] = float((np.diff(correct, prepend=0) * (correct / chosen)).sum() / correct[-1])
        return values

    def best_thresholds(self) -> NDArray[np.float64]:
        """(classes,) the thresholds with the best F1, 0..1; one half for classes without a positive image.

        Each lies halfway between the lowest score that it accepts and the next lower one, so that rounding does not
        move an image to the other side. Of equally good ones the highest is taken.
        """
        thresholds = np.full(self.labels.shape[1], 0.5)
        for i in np.flatnonzero(self.positives).tolist():
            correct, chosen, cuts = self._cuts(i)
            best = int((2 * correct / (chosen + correct[-1])).argmax())
            below = cuts[best + 1] if best + 1 < len(cuts) else 0.0
            thresholds[i] = (cuts[best] + below) / 2
        return thresholds

    def counts(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(classes,) number of images at or above each class's threshold, and how many of them have the label.

        Images of which this is unknown are left out.
        """
        chosen = (self.scores >= thresholds) & (self.labels >= 0)
        return chosen.sum(0), (chosen & (self.labels == 1)).sum(0)

    def f1(self, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """(classes,) F1 at some thresholds, 0..1; NaN for classes without a positive image."""
        chosen, correct = self.counts(thresholds)
        values = shares(2 * correct, chosen + self.positives)
        values[self.positives == 0] = np.nan
        return values

    def _cuts(self, label: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """For each distinct score of a class, the highest first: images at or above it that have the label, all images
        at or above it, and the score.
        """
        known = self.labels[:, label] >= 0
        scores, positive = self.scores[known, label].astype(np.float64), self.labels[known, label] == 1
        order = np.argsort(-scores, kind="stable")
        scores = scores[order]
        last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        return positive[order].cumsum()[last], last + 1, scores[last]


def macro(values: NDArray[np.float64]) -> float:
    """The mean over the classes where a value is defined; 0 if it is defined for none."""
    return nan_mean(values) or 0.0


def stacked(parts: list[tuple[NDArray[Any], NDArray[Any]]], classes: int) -> LabelScores:
    """The scores and labels of all batches."""
    scores = np.concatenate([np.zeros((0, classes), np.float32), *(scores for scores, _ in parts)])
    labels = np.concatenate([np.zeros((0, classes), np.int8), *(labels for _, labels in parts)])
    return LabelScores(scores, labels)
