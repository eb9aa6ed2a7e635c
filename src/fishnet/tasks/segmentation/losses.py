"""What a segmenter minimises: a sum of losses over pixels, those of segmentation-models-pytorch among them.

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

LOSSES = ("cross-entropy", "dice", "focal", "lovasz")
NEAR = 2  # px from a boundary within which pixels count to it
_TERM = re.compile(r"(?:(\d*\.?\d+)\s*\*)?\s*([a-z-]+)")


def parse_losses(text: str) -> dict[str, float]:
    """``cross-entropy+0.5*dice`` -> the weight of each loss.

    Raises:
        InputError: another form, an unknown loss (the nearest are offered), one that comes twice, or a weight of 0.
    """
    found: dict[str, float] = {}
    for term in text.split("+"):
        match = _TERM.fullmatch(term.strip())
        if match is None:
            raise InputError(f"loss={text!r}: must be a sum such as cross-entropy+0.5*dice, of {', '.join(LOSSES)}")
        weight, name = match.groups()
        if name not in LOSSES:
            raise InputError(f"loss={text!r}: unknown loss {name!r}: {nearest(name, LOSSES)}")
        if name in found or not float(weight or 1):
            raise InputError(f"loss={text!r}: {name} comes twice, or with a weight of 0")
        found[name] = float(weight or 1)
    return found


class SegmentationLoss(nn.Module):
    """A weighted sum of losses over the pixels that are not ignored; 0 where all are.

    Args:
        losses: weights of ``cross-entropy``, ``dice``, ``focal`` and ``lovasz``.
        smoothing: cross-entropy's label smoothing, 0 to 1.
        class_weights: (classes,) of cross-entropy; by default all count alike.
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
        from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, LovaszLoss

        self.weights, self.smoothing, self.boundary, self.auxiliary = dict(losses), smoothing, boundary, auxiliary
        self.register_buffer("class_weights", class_weights, persistent=False)
        kinds = {"dice": DiceLoss, "focal": FocalLoss, "lovasz": LovaszLoss}
        self.others = nn.ModuleDict(
            {name: kinds[name]("multiclass", ignore_index=IGNORE) for name in self.weights if name in kinds}
        )

    def forward(self, outputs: dict[str, Tensor], targets: Sequence[SegmentationTarget]) -> dict[str, Tensor]:
        """What ``Segmenter.decode`` gives with targets -> named losses, weighted."""
        logits = outputs["logits"].float()
        labels = stacked(targets, (logits.shape[2], logits.shape[3]), logits.device)
        if not (labels != IGNORE).any():
            return {"nothing": 0 * torch.stack([it.float().sum() for it in outputs.values()]).sum()}
        each = self._cross_entropy(logits, labels)
        found = {}
        for name, weight in self.weights.items():
            loss = self._mean(each, labels) if name == "cross-entropy" else self.others[name](logits, labels)
            found[name] = weight * loss
        if self.boundary:
            near = torch.where(near_boundary(labels), labels, IGNORE)
            found["boundary"] = self.boundary * self._mean(each, near)
        if self.auxiliary and "auxiliary" in outputs:
            further = self._cross_entropy(outputs["auxiliary"].float(), labels)
            found["auxiliary"] = self.auxiliary * self._mean(further, labels)
        return found

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, self.class_weights, ignore_index=IGNORE, label_smoothing=self.smoothing, reduction="none"
        )

    def _mean(self, each: Tensor, labels: Tensor) -> Tensor:
        """The mean over pixels that are not ignored, weighted by their classes' weights; 0 where nothing weighs."""
        there = labels != IGNORE
        weight = there.sum() if self.class_weights is None else self.class_weights[labels[there]].sum()
        return each[there].sum() / weight if weight > 0 else 0 * each.sum()


def stacked(targets: Sequence[SegmentationTarget], size: tuple[int, int], device: torch.device | str) -> Tensor:
    """(batch, *size) int64 labels, ignored where an image of the batch has no pixel."""
    page = torch.full((len(targets), *size), IGNORE, dtype=torch.int64, device=device)
    for one, target in zip(page, targets, strict=True):
        labels = target.labels[: size[0], : size[1]]
        one[: labels.shape[0], : labels.shape[1]] = labels.to(device)
    return page


def near_boundary(labels: Tensor, near: int = NEAR) -> Tensor:
    """(batch, height, width) bool: pixels with another class within so many px (in squares); ignored ones are none."""
    known = labels != IGNORE
    window: dict[str, Any] = {"kernel_size": 2 * near + 1, "stride": 1, "padding": near}
    highest = F.max_pool2d(torch.where(known, labels, -1).float(), **window)
    lowest = -F.max_pool2d(-torch.where(known, labels, IGNORE).float(), **window)
    near_another: Tensor = known & (highest != lowest)
    return near_another
