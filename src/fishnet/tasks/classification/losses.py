"""What a classifier's training minimises."""

from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Cross-entropy of logits and class indices or shares.

    Args:
        smoothing: label smoothing, 0 to 1.
        weights: of the classes; by default all count alike.
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
