"""The loss of classification: cross-entropy."""

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
