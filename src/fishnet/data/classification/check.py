"""The check of a dataset's labels."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fishnet.data.base import LabelledDataset
from fishnet.data.check import SplitCheck, SplitStatistics, find_untrained
from fishnet.data.classification.multilabel import MultiLabelDataset
from fishnet.data.findings import Finding


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


@dataclass(frozen=True, kw_only=True)
class MultiLabelStatistics(SplitStatistics):
    """One split of a dataset with several labels per image.

    Attributes:
        per_class: images that have each label.
        unknown: images for which it is unknown whether they have each label.
        without_label: images that are known to have no label.
    """

    per_class: dict[str, int]
    unknown: dict[str, int]
    without_label: int

    @property
    def class_counts(self) -> dict[str, int]:
        """Images that have each label."""
        return self.per_class

    def class_cell(self, name: str) -> str:
        """The images that have a label, and those for which it is unknown."""
        return f"{self.per_class[name]:,}" + (f" ({self.unknown[name]:,} unknown)" if self.unknown[name] else "")

    def image_columns(self) -> dict[str, str]:
        """The images without label."""
        return {"no label": f"{self.without_label:,}"}


class MultiLabelCheck(SplitCheck[MultiLabelDataset, MultiLabelStatistics]):
    """Counts the labels of one split, which are known without reading images."""

    def statistics(self, images: dict[str, Any]) -> MultiLabelStatistics:
        """Images by label."""
        names = self.dataset.classes.names
        return MultiLabelStatistics(
            per_class=dict(zip(names, self.dataset.positives.tolist(), strict=True)),
            unknown=dict(zip(names, self.dataset.unknown.tolist(), strict=True)),
            without_label=self.dataset.without_label,
            **images,
        )

    @classmethod
    def compare(
        cls, datasets: Mapping[str, MultiLabelDataset], statistics: Mapping[str, MultiLabelStatistics]
    ) -> Iterable[Finding]:
        """Labels that no image of train has, but images of another split."""
        return find_untrained({split: statistic.per_class for split, statistic in statistics.items()})
