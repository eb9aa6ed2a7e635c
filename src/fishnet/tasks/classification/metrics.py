"""The metrics of classification: top-k accuracy; with several labels per image, mean average precision and F1."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from fishnet.bundle.classes import Classes
from fishnet.prediction.results.classification import sigmoid
from fishnet.tasks.classification.labels import macro, stacked

LABELS = "labels"
"""Name of the only metric of :func:`make_multi_label_metrics`."""


def make_metrics(classes: Classes) -> MetricCollection:
    """New ``acc@1``, and ``acc@5`` where there are more than five classes: shares of the images, 0..1."""
    count = len(classes)
    return MetricCollection(
        {f"acc@{k}": MulticlassAccuracy(count, top_k=k, average="micro") for k in (1, 5) if k < count}
    )


class MultiLabelMetric(Metric):
    """Mean average precision and F1 of labels over all processes, for training and ``fishnet val``.

    ``compute`` returns ``mAP``, the mean of the classes' average precisions, and ``F1``, the mean of their F1 at the
    thresholds that are best on these images; see :class:`~fishnet.tasks.classification.labels.LabelScores`. Classes
    without a positive image do not count. Both are 0 if there is none at all.

    Args:
        classes: the classes of the model's outputs.

    Attributes:
        thresholds: the thresholds of the last computation by class; empty before it.
    """

    full_state_update = True
    higher_is_better = True
    is_differentiable = False

    def __init__(self, classes: Classes) -> None:
        super().__init__(sync_on_compute=False)  # gathered as arrays, since processes may have no image
        self.classes = classes
        self.parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self.thresholds: dict[str, float] = {}

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: (batch, classes) logits, and labels 1, 0 or -1 (unknown)."""
        scores = sigmoid(outputs.detach().float().cpu().numpy())
        self.parts.append((scores, targets.cpu().numpy().astype(np.int8)))

    def compute(self) -> dict[str, Tensor]:
        """The metrics of all images of all processes, 0..1."""
        scores = stacked(self._gathered_parts(), len(self.classes))
        best = scores.best_thresholds()
        self.thresholds = dict(zip(self.classes.names, best.tolist(), strict=True))
        values = {"mAP": macro(scores.average_precisions()), "F1": macro(scores.f1(best))}
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def reset(self) -> None:
        """Forgets all images, but not the thresholds."""
        super().reset()
        self.parts = []

    def _gathered_parts(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.parts
        gathered: list[list[tuple[NDArray[Any], NDArray[Any]]]] = [[]] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, self.parts)
        return [part for parts in gathered for part in parts]


def make_multi_label_metrics(classes: Classes) -> MetricCollection:
    """A new :class:`MultiLabelMetric`."""
    return MetricCollection({LABELS: MultiLabelMetric(classes)})
