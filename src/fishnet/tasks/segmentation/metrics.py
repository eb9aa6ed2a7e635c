"""Intersection over union and accuracies of label maps, in px of the images themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from fishnet.bundle.classes import Classes
from fishnet.data.segmentation.base import IGNORE, LabelMap, SegmentationTarget
from fishnet.prediction.results import Segmentation
from fishnet.tasks.engine import to_numpy
from fishnet.tasks.report_files import shares


def truth_of(target: SegmentationTarget) -> LabelMap:
    """The label map that an image of validation is measured against, in px of the image."""
    assert target.truth is not None, "validation's targets carry the truth"
    return target.truth


def label_map_of(output: Any, target: SegmentationTarget, classes: Classes) -> LabelMap:
    """What a model says of each px of one image.

    Args:
        output: (classes, height, width) logits over the input, tensor or array, perhaps padded right and below; or what
            was made of them already, a :class:`~fishnet.prediction.results.Segmentation`.
        target: with the placement.
        classes: of the model.

    Returns:
        Of the image's own size, without ignored px.

    Raises:
        WorkError: logits that are not finite.
    """
    if isinstance(output, Segmentation):
        return output.labels
    assert target.placement is not None, "validation's targets carry the placement"
    height, width = target.placement.outer
    logits = output[:, :height, :width]
    if torch.is_tensor(logits):
        logits = to_numpy(logits.detach())
    return Segmentation.from_logits(logits, classes, placement=target.placement).labels


def confusion_of(truth: LabelMap, said: LabelMap, classes: int) -> NDArray[np.int64]:
    """(classes, classes) px: true class down, class said across; ignored px are left out."""
    known = truth != IGNORE
    cells = truth[known] * np.int64(classes) + said[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def class_scores(confusion: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """What a confusion matrix says of each class.

    Returns:
        ``IoU``, ``Dice``, ``accuracy`` (share of its px that are said to be it) and ``precision`` (share of the px said
        to be it that are), all of shape (classes,), 0..1, NaN where there is nothing to divide by.
    """
    right, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return {
        "IoU": shares(right, true + said - right),
        "Dice": shares(2 * right, true + said),
        "accuracy": shares(right, true),
        "precision": shares(right, said),
    }


def mean(values: NDArray[np.float64]) -> float | None:
    """The mean of what is not NaN; None of nothing."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


class SegmentationMetric(Metric):
    """``mIoU``, ``mAcc`` and ``aAcc`` of a segmenter, as training and ``fishnet val`` use them; over all processes.

    All come from one confusion matrix over all images: ``mIoU`` is the mean IoU of the classes that are there or
    said, ``mAcc`` the mean share found of each class that is there, ``aAcc`` the share of all px that are right. All
    are 0 where no px is labelled.

    Args:
        classes: of the model's outputs.
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
        """Takes a batch; see :func:`label_map_of`, also for what it raises.

        Args:
            outputs: one an image; or what a segmenter gives with targets: these as ``logits``, padded to one size.
            targets: one an image, with truth and placement.
        """
        each = outputs["logits"] if isinstance(outputs, Mapping) else outputs
        for output, target in zip(each, targets, strict=True):
            said = label_map_of(output, target, self.classes)
            self.confusion += torch.from_numpy(confusion_of(truth_of(target), said, len(self.classes))).to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """The metrics of all images of all processes, 0..1."""
        confusion: NDArray[np.int64] = self.confusion.cpu().numpy()
        scores = class_scores(confusion)
        values = {
            "mIoU": mean(scores["IoU"]) or 0.0,
            "mAcc": mean(scores["accuracy"]) or 0.0,
            "aAcc": confusion.trace() / max(1, confusion.sum()),
        }
        return {name: torch.tensor(value, device=self.device, dtype=torch.float32) for name, value in values.items()}
