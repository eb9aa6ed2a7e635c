"""The check of a dataset's labels."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from fishnet.data.base import LabelledDataset
from fishnet.data.check import SplitCheck, SplitStatistics


@dataclass(frozen=True, kw_only=True)
class ClassificationStatistics(SplitStatistics):
    """One split of a dataset for classification.

    Attributes:
        per_class: images of each class.
        imbalance: images of the largest class divided by those of the smallest class that has images.
    """

    per_class: dict[str, int]
    imbalance: float

    @property
    def class_counts(self) -> dict[str, int]:
        """Images of each class."""
        return self.per_class

    def image_columns(self) -> dict[str, str]:
        """The imbalance."""
        return {"imbalance": f"{self.imbalance:.2f}"}


class ClassificationCheck(SplitCheck[LabelledDataset, ClassificationStatistics]):
    """Counts the labels of one split, which are known without reading images."""

    def statistics(self, images: dict[str, Any]) -> ClassificationStatistics:
        """Images by class."""
        counts = Counter(int(label) for label in self.dataset.labels)
        return ClassificationStatistics(
            per_class={name: counts[label] for label, name in enumerate(self.dataset.classes.names)},
            imbalance=max(counts.values()) / min(counts.values()) if counts else 1.0,
            **images,
        )
