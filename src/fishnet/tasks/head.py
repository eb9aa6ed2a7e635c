"""The interface of heads: what each needs from the trunk, and what it decodes from the trunk's features."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from fishnet.bundle.bundle import HeadConfig
from fishnet.errors import InputError
from fishnet.tasks.trunk import Features, Trunk, Wants


@dataclass(frozen=True)
class ClassRows:
    """Which rows of a layer's weight and bias belong to which class.

    The rows are (groups, background + classes, per_class), flattened. The number of groups follows from the number of
    rows.

    Attributes:
        background: 1 if the rows of the background come before those of the classes, else 0.
        per_class: rows of one class within a group, such as 4 for the sides of its boxes.
    """

    background: int = 0
    per_class: int = 1


class Head(nn.Module, ABC):
    """What one task decodes from a trunk's features, and its losses where these belong to the network.

    Attributes:
        class_row_layers: the layers whose rows belong to classes, by the ends of their names; see :meth:`class_rows`.
        has_dynamic_cost: whether its cost depends on the images, so that only a forward pass can measure it.
    """

    class_row_layers: ClassVar[Mapping[str, ClassRows]] = {}
    has_dynamic_cost: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """The feature maps and scores that a head of this configuration needs from its trunk.

        Raises:
            InputError: an invalid value in the configuration.
        """

    @classmethod
    @abstractmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> Self:
        """Builds the head over a trunk that was built for its wants.

        Raises:
            InputError: a trunk that the head cannot decode, or an invalid value in the configuration.
        """

    @classmethod
    def check_backbone(cls, backbone: nn.Module) -> None:
        """Raises InputError if the head cannot decode the backbone. By default every backbone is accepted."""
        return

    @property
    def min_batch_size(self) -> int:
        """Smallest batch size of a training step in each process."""
        return 1

    def check_batch(self, size: int) -> None:
        """Raises InputError if a training batch has too few images."""
        return

    def class_rows(self, prefix: str, trunk: Trunk) -> dict[str, ClassRows]:
        """The layers whose rows belong to classes, by their names in the model. ``class_row_layers`` lists them.

        Args:
            prefix: prefix of the names of the head's modules in the model.
            trunk: the head's trunk.
        """
        names = [name for name, _ in self.named_modules()]
        return {
            f"{prefix}{name}": rows
            for end, rows in self.class_row_layers.items()
            for name in names
            if name == end or name.endswith(f".{end}")
        }

    @abstractmethod
    def decode(self, features: Features, targets: Any = None) -> Any:
        """Features -> the task's raw outputs, or with targets the input of the task's criterion and metrics."""

    def forward(self, features: Features, targets: Any = None) -> Any:
        """See :meth:`decode`."""
        return self.decode(features, targets)

    def embed(self, features: Features) -> Tensor:
        """Features -> (batch, dims), one embedding per image.

        Raises:
            InputError: the head has no embeddings.
        """
        raise InputError("this model has no embeddings: use a classifier")
