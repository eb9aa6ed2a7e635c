"""The losses of classification: cross-entropy of one label per image, or of any number of labels."""

from torch import Tensor, nn
from torch.nn import functional as F


class ClassificationLoss(nn.Module):
    """Cross-entropy of logits and class indices or class shares.

    Args:
        smoothing: label smoothing, 0 to 1.
        weights: (classes,) class weights; None for equal weights.
    """

    weights: Tensor | None

    def __init__(self, smoothing: float, weights: Tensor | None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """(batch, classes) and (batch,) or (batch, classes) -> the mean loss."""
        loss = F.cross_entropy(outputs.float(), targets, self.weights, label_smoothing=self.smoothing)
        return {"cross_entropy": loss}


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy of logits and labels, over the labels that are known.

    Args:
        smoothing: label smoothing, 0 to 1: moves targets from 0 and 1 towards 0.5 by this fraction.
        positive_weights: (classes,) weight of the images that have a label, relative to those that do not; None for 1.
    """

    positive_weights: Tensor | None

    def __init__(self, smoothing: float, positive_weights: Tensor | None) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("positive_weights", positive_weights, persistent=False)

    def forward(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """(batch, classes) logits, and labels 1, 0 or -1 (unknown) that broadcast to them -> the mean loss.

        Without a known label the loss is 0, and so are its gradients.
        """
        known = (targets >= 0).float().expand(outputs.shape)
        smoothed = targets.float().clamp(min=0) * (1 - self.smoothing) + self.smoothing / 2
        losses = F.binary_cross_entropy_with_logits(
            outputs.float(), smoothed.expand(outputs.shape), pos_weight=self.positive_weights, reduction="none"
        )
        return {"binary_cross_entropy": (losses * known).sum() / known.sum().clamp(min=1)}
