"""The classifier's head: the score layer that the backbone brings."""

from typing import Any

from torch import Tensor

from fishnet.backbone.weights import classifiers
from fishnet.bundle.bundle import HeadConfig
from fishnet.tasks.base import ClassRows, Head
from fishnet.tasks.trunk import Features, Trunk, Wants


class ScoreLayer(Head):
    """The backbone's own score layer: (batch, classes) logits. All of its weights are the trunk's."""

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.base.Head`: a score for each class."""
        return Wants(scores=len(config.classes))

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> "ScoreLayer":
        """See :class:`~fishnet.tasks.base.Head`."""
        return cls()

    def decode(self, features: Features, targets: Any = None) -> Tensor:
        """See :class:`~fishnet.tasks.base.Head`; logits, with targets and without."""
        return features.logits()

    def class_rows(self, prefix: str, trunk: Trunk) -> dict[str, ClassRows]:
        """See :class:`~fishnet.tasks.base.Head`: the backbone's classifier, or classifiers."""
        return {f"trunk.backbone.{name}": ClassRows() for name in classifiers(trunk.backbone)}

    def embed(self, features: Features) -> Tensor:
        """(batch, dims): what the score layer is given, pooled over the image."""
        return features.pooled()
