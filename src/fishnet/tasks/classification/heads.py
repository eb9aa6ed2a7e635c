"""The heads of classification: the backbone's own score layer, and a classifier with layers of its own."""

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone.weights import classifiers
from fishnet.bundle.bundle import HeadConfig
from fishnet.tasks.head import ClassRows, Head
from fishnet.tasks.trunk import Features, Trunk, Wants


class Classifier(Head):
    """The backbone's own score layer: (batch, classes) logits. All of its weights belong to the trunk."""

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.head.Head`: one score per class."""
        return Wants(scores=len(config.classes))

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> "Classifier":
        """See :class:`~fishnet.tasks.head.Head`."""
        return cls()

    def decode(self, features: Features, targets: Any = None) -> Tensor:
        """See :class:`~fishnet.tasks.head.Head`: logits, with or without targets."""
        return features.logits()

    def class_rows(self, prefix: str, trunk: Trunk) -> dict[str, ClassRows]:
        """See :class:`~fishnet.tasks.head.Head`: the backbone's classifier layer or layers."""
        return {f"trunk.backbone.{name}": ClassRows() for name in classifiers(trunk.backbone)}

    def embed(self, features: Features) -> Tensor:
        """(batch, dims): the score layer's input, pooled over the image."""
        return features.pooled()


class LinearClassifier(Head):
    """Norm, ReLU, average pooling and a linear layer on the trunk's map at stride 32: (batch, classes) logits.

    All of its weights are its own, so a trunk can have several of these heads, and one can be added to a frozen trunk.

    Args:
        channels: number of channels of the map.
        classes: number of classes.
    """

    stride: ClassVar[int] = 32
    class_row_layers: ClassVar = {"fc": ClassRows()}

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, classes)

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.head.Head`: the map at stride 32."""
        return Wants(maps=(cls.stride,))

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> "LinearClassifier":
        """See :class:`~fishnet.tasks.head.Head`."""
        return cls(trunk.levels[cls.stride].channels, len(config.classes))

    def decode(self, features: Features, targets: Any = None) -> Tensor:
        """See :class:`~fishnet.tasks.head.Head`: logits, with or without targets."""
        logits: Tensor = self.fc(self.embed(features))
        return logits

    def embed(self, features: Features) -> Tensor:
        """(batch, channels): the linear layer's input, pooled over the image."""
        pooled: Tensor = F.relu(self._normed(features.maps[self.stride])).mean((2, 3))
        return pooled

    def _normed(self, maps: Tensor) -> Tensor:
        """The normalized maps. One px of a single image has no statistics: it is normalized as in evaluation."""
        norm = self.norm
        if not self.training or maps.numel() > maps.shape[1]:
            normed: Tensor = norm(maps)
            return normed
        return F.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
