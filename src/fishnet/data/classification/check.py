"""What the check of a dataset says of labels."""

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
        imbalance: images of the largest class for each of the smallest that has any.
    """

    per_class: dict[str, int]
    imbalance: float

    @property
    def class_counts(self) -> dict[str, int]:
        """Images."""
        return self.per_class

    def image_columns(self) -> dict[str, str]:
        """The imbalance."""
        return {"imbalance": f"{self.imbalance:.2f}"}


class ClassificationCheck(SplitCheck[LabelledDataset, ClassificationStatistics]):
    """Counts the labels of one split, which need no reading."""

    def statistics(self, images: dict[str, Any]) -> ClassificationStatistics:
        """Images by class."""
        counts = Counter(int(label) for label in self.dataset.labels)
        return ClassificationStatistics(
            per_class={name: counts[label] for label, name in enumerate(self.dataset.classes.names)},
            imbalance=max(counts.values()) / min(counts.values()) if counts else 1.0,
            **images,
        )
