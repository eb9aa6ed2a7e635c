"""The losses of detection, which the detectors compute themselves."""

from typing import Any

from torch import Tensor, nn


class DetectionLoss(nn.Module):
    """Returns the losses in a detector's outputs.

    Detectors compute them themselves, because their second stage samples proposals by the targets.
    """

    def forward(self, outputs: dict[str, Any], targets: Any) -> dict[str, Tensor]:
        """Outputs of :meth:`~fishnet.tasks.detection.heads.Detector.decode` with targets -> named losses."""
        losses: dict[str, Tensor] = outputs["losses"]
        return losses
