"""What a detector's training minimises."""

from typing import Any

from torch import Tensor, nn


class Losses(nn.Module):
    """The losses that a detector has computed: its second stage learns from proposals that it draws by the targets."""

    def forward(self, outputs: dict[str, Any], targets: Any) -> dict[str, Tensor]:
        """What :meth:`~fishnet.tasks.detection.heads.Detector.decode` gives with targets -> named losses."""
        losses: dict[str, Tensor] = outputs["losses"]
        return losses
