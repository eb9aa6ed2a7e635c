"""Intersection over union and accuracies of label maps, in px of the original images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from fishnet.bundle.classes import Classes
from fishnet.data.segmentation.base import IGNORE, LabelMap, SegmentationTarget
from fishnet.prediction.results import Segmentation
from fishnet.tasks.engine import to_numpy
from fishnet.tasks.report_files import nan_mean, shares


def true_labels(target: SegmentationTarget) -> LabelMap:
    """The annotated label map of a validation image, in px of the image."""
    assert target.truth is not None, "validation targets have the truth"
    return target.truth


def predicted_labels(output: Any, target: SegmentationTarget, classes: Classes) -> LabelMap:
    """The label map that a model predicts for one image.

    Args:
        output: (classes, height, width) logits over the input, a tensor or an array, perhaps padded right and below; or
            the :class:`~fishnet.prediction.results.Segmentation` made of them.
        target: with the placement.
        classes: the model's classes.

    Returns:
        (height, width) of the original image, without ignored px.

    Raises:
        WorkError: logits that are not finite.
    """
    if isinstance(output, Segmentation):
        return output.labels
    assert target.placement is not None, "validation targets have the placement"
    height, width = target.placement.outer
    logits = output[:, :height, :width]
    if torch.is_tensor(logits):
        logits = to_numpy(logits.detach())
    return Segmentation.from_logits(logits, classes, placement=target.placement).labels


def make_metrics(classes: Classes) -> MetricCollection:
    """A new :class:`SegmentationMetric`."""
    return MetricCollection({"segmentation": SegmentationMetric(classes)})


def confusion_matrix(truth: LabelMap, predicted: LabelMap, classes: int) -> NDArray[np.int64]:
    """(true classes, predicted classes) counts of px, without ignored px."""
    labelled = truth != IGNORE
    cells = truth[labelled] * np.int64(classes) + predicted[labelled]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def class_scores(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """The scores of each class, from a confusion matrix.

    Returns:
        ``IoU``, ``Dice``, ``accuracy`` (share of the class's px that are predicted as it) and ``precision`` (share of
        the px predicted as the class that belong to it), all of shape (classes,), 0..1, NaN where undefined.
    """
    correct, true, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return {
        "IoU": shares(correct, true + predicted - correct),
        "Dice": shares(2 * correct, true + predicted),
        "accuracy": shares(correct, true),
        "precision": shares(correct, predicted),
    }


class SegmentationMetric(Metric):
    """``mIoU``, ``mAcc`` and ``aAcc`` of a segmenter over all processes, for training and ``fishnet val``.

    All come from one confusion matrix over all images. ``mIoU`` is the mean IoU of the classes that are annotated or
    predicted, ``mAcc`` the mean accuracy of the annotated classes, ``aAcc`` the share of all px that are correct. All
    are 0 where no px is labelled.

    Args:
        classes: the classes of the model's outputs.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    confusion: Tensor

    def __init__(self, classes: Classes) -> None:
        super().__init__()
        self.classes = classes
        self.add_state("confusion", torch.zeros((len(classes),) * 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: Mapping[str, Tensor] | Sequence[Any], targets: Sequence[SegmentationTarget]) -> None:
        """Adds a batch. Errors as in :func:`predicted_labels`.

        Args:
            outputs: the output of each image; or a segmenter's outputs with targets, whose ``logits`` are padded to one
                size.
            targets: the target of each image, with truth and placement.
        """
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs
        for output, target in zip(logits, targets, strict=True):
            predicted = predicted_labels(output, target, self.classes)
            counts = confusion_matrix(true_labels(target), predicted, len(self.classes))
            self.confusion += torch.from_numpy(counts).to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """The metrics of all images of all processes, 0..1."""
        confusion: NDArray[np.int64] = self.confusion.cpu().numpy()
        scores = class_scores(confusion)
        values = {
            "mIoU": nan_mean(scores["IoU"]) or 0.0,
            "mAcc": nan_mean(scores["accuracy"]) or 0.0,
            "aAcc": confusion.trace() / max(1, confusion.sum()),
        }
        return {name: torch.tensor(value, device=self.device, dtype=torch.float32) for name, value in values.items()}
