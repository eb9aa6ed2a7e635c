"""The head of classification: the backbone's own score layer."""

from typing import Any

from torch import Tensor

from fishnet.backbone.weights import classifiers
from fishnet.bundle.bundle import HeadConfig
from fishnet.tasks.base import ClassRows, Head
from fishnet.tasks.trunk import Features, Trunk, Wants


class Classifier(Head):
    """The backbone's own score layer: (batch, classes) logits. All of its weights belong to the trunk."""

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.base.Head`: one score per class."""
        return Wants(scores=len(config.classes))

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> "Classifier":
        """See :class:`~fishnet.tasks.base.Head`."""
        return cls()

    def decode(self, features: Features, targets: Any = None) -> Tensor:
        """See :class:`~fishnet.tasks.base.Head`: logits, with or without targets."""
        return features.logits()

    def class_rows(self, prefix: str, trunk: Trunk) -> dict[str, ClassRows]:
        """See :class:`~fishnet.tasks.base.Head`: the backbone's classifier layer or layers."""
        return {f"trunk.backbone.{name}": ClassRows() for name in classifiers(trunk.backbone)}

    def embed(self, features: Features) -> Tensor:
        """(batch, dims): the score layer's input, pooled over the image."""
        return features.pooled()
