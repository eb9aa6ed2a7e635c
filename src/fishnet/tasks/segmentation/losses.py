"""The loss of segmentation: a weighted sum of losses over pixels, two of them of segmentation-models-pytorch.

Sources: Dice loss (arXiv 1606.04797), focal loss (1708.02002), Lovász-softmax (1705.08790), median frequency balancing
(1411.4734, section 6.3.2).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.data.segmentation.base import IGNORE, SegmentationTarget
from fishnet.errors import InputError, nearest
from fishnet.tasks.segmentation.softmax import PixelScores, pixel_scores

LOSSES = ("cross-entropy", "dice", "focal", "lovasz")
_SMALLEST = 1e-7  # of the sum that the overlap is divided by, px
NEAR = 2  # px from a boundary within which the boundary loss counts
_TERM = re.compile(r"(?:(\d*\.?\d+)\s*\*)?\s*([a-z-]+)")


def parse_losses(text: str) -> dict[str, float]:
    """``cross-entropy+0.5*dice`` -> the weight of each loss.

    Raises:
        InputError: the text is not such a sum, a loss is unknown (the nearest names are offered) or repeated, or a
            weight is 0.
    """
    losses: dict[str, float] = {}
    for term in text.split("+"):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise InputError(f"loss={text!r}: must be a sum such as cross-entropy+0.5*dice, of {', '.join(LOSSES)}")
        weight, name = match.groups()
        if name not in LOSSES:
            raise InputError(f"loss={text!r}: unknown loss {name!r}: {nearest(name, LOSSES)}")
        if name in losses or not float(weight or 1):
            raise InputError(f"loss={text!r}: {name} comes twice or has a weight of 0")
        losses[name] = float(weight or 1)
    return losses


class SegmentationLoss(nn.Module):
    """A weighted sum of losses over the pixels that are not ignored; 0 where all are ignored.

    Args:
        losses: weights of ``cross-entropy``, ``dice``, ``focal`` and ``lovasz``.
        smoothing: label smoothing of the cross-entropy, 0 to 1.
        class_weights: (classes,) of the cross-entropy; None for equal weights.
        boundary: weight of the mean cross-entropy of pixels within 2 px of another class.
        auxiliary: weight of the cross-entropy of the model's auxiliary logits.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        losses: Mapping[str, float],
        *,
        smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        boundary: float = 0.0,
        auxiliary: float = 0.0,
    ) -> None:
        super().__init__()
        from segmentation_models_pytorch.losses import FocalLoss, LovaszLoss

        self.weights, self.smoothing, self.boundary, self.auxiliary = dict(losses), smoothing, boundary, auxiliary
        self.register_buffer("class_weights", class_weights, persistent=False)
        kinds = {"focal": FocalLoss, "lovasz": LovaszLoss}
        self.others = nn.ModuleDict(
            {name: kinds[name]("multiclass", ignore_index=IGNORE) for name in self.weights if name in kinds}
        )

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[SegmentationTarget]) -> dict[str, Tensor]:
        """Outputs of ``Segmenter.decode`` with targets -> named losses, weighted."""
        logits = outputs["logits"].float()
        labels = stack_labels(targets, (logits.shape[2], logits.shape[3]), logits.device)
        if not (labels != IGNORE).any():
            return {"all_ignored": 0 * torch.stack([output.float().sum() for output in outputs.values()]).sum()}
        scores = pixel_scores(logits, labels) if "dice" in self.weights else None
        cross_entropy = self._cross_entropy(logits, labels, scores)
        losses = {}
        for name, weight in self.weights.items():
            if name == "cross-entropy":
                losses[name] = weight * self._mean(cross_entropy, labels)
            elif name == "dice":
                assert scores is not None
                losses[name] = weight * dice_loss(scores, labels)
            else:
                losses[name] = weight * self.others[name](logits, labels)
        if self.boundary:
            near = torch.where(near_boundary(labels), labels, IGNORE)
            losses["boundary"] = self.boundary * self._mean(cross_entropy, near)
        if self.auxiliary and "auxiliary" in outputs:
            auxiliary = self._cross_entropy(outputs["auxiliary"].float(), labels)
            losses["auxiliary"] = self.auxiliary * self._mean(auxiliary, labels)
        return losses

    def _cross_entropy(self, logits: Tensor, labels: Tensor, scores: PixelScores | None = None) -> Tensor:
        """(batch, height, width), 0 where ignored; weighted by class."""
        if scores is None or self.smoothing:
            return F.cross_entropy(
                logits, labels, self.class_weights, ignore_index=IGNORE, label_smoothing=self.smoothing,
                reduction="none",
            )  # fmt: skip
        if self.class_weights is None:
            return -scores.log_probability
        return -scores.log_probability * self.class_weights[torch.where(labels == IGNORE, 0, labels)]

    def _mean(self, losses: Tensor, labels: Tensor) -> Tensor:
        """The mean over pixels that are not ignored, weighted by class; 0 where the weights add up to 0."""
        labelled = labels != IGNORE
        weight = labelled.sum() if self.class_weights is None else self.class_weights[labels[labelled]].sum()
        return torch.where(labelled, losses, 0).sum() / weight if weight > 0 else 0 * losses.sum()


def dice_loss(scores: PixelScores, labels: Tensor) -> Tensor:
    """1 minus twice the overlap over the sum, a mean over all classes; 0 for a class that no pixel of the batch has."""
    labelled, classes = labels != IGNORE, len(scores.sums)
    own, overlaps = torch.where(labelled, labels, 0).flatten(0, 1), scores.log_probability.exp() * labelled
    rows = scores.sums.new_zeros(len(own), classes)  # added row by row: one sum of millions of pixels loses the small
    overlap = rows.scatter_add(1, own, overlaps.flatten(0, 1)).sum(0)
    pixels = torch.bincount(labels[labelled], minlength=classes)
    losses = 1 - 2 * overlap / (scores.sums + pixels).clamp_min(_SMALLEST)
    return (losses * (pixels > 0)).mean()


def stack_labels(targets: Sequence[SegmentationTarget], size: tuple[int, int], device: torch.device | str) -> Tensor:
    """(batch, *size) int64 labels; pixels beyond an image's edge are ignored."""
    batch = torch.full((len(targets), *size), IGNORE, dtype=torch.int64, device=device)
    for padded, target in zip(batch, targets, strict=True):
        labels = target.labels[: size[0], : size[1]]
        padded[: labels.shape[0], : labels.shape[1]] = labels.to(device)
    return batch


def near_boundary(labels: Tensor, near: int = NEAR) -> Tensor:
    """(batch, height, width) bool: labelled pixels with another class at most ``near`` rows and columns away."""
    labelled = labels != IGNORE
    window: dict[str, Any] = {"kernel_size": 2 * near + 1, "stride": 1, "padding": near}
    highest = F.max_pool2d(torch.where(labelled, labels, -1).float(), **window)
    lowest = -F.max_pool2d(-torch.where(labelled, labels, IGNORE).float(), **window)
    is_near: Tensor = labelled & (highest != lowest)
    return is_near
