"""The contract of a task: a model over a trunk's features, its losses, metrics and data.

A trunk gives :class:`Features` once; every task's model decodes them. So one trunk can carry several task heads in
one forward pass: compute the features of the union of what the heads want, and let each decode.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from fishnet.backbone.registry import create_model
from fishnet.data.base import LabelledSet
from fishnet.data.labels import Classes
from fishnet.errors import InputError, nearest

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from fishnet.training.recipe import Recipe


@dataclass(frozen=True)
class Features:
    """What a trunk gives.

    Attributes:
        last: its final map, (batch, channels, height, width) for convolutional nets.
        pyramid: maps from fine to coarse; empty where the task wants none.
    """

    last: Tensor
    pyramid: Sequence[Tensor] = ()


@dataclass(frozen=True)
class ModelSpec:
    """What it takes to build a task's model.

    Attributes:
        backbone: a timm model name.
        classes: the outputs.
        channels: of the input, 1 or 3.
        head: name of the task head, one of the task's ``heads``.
        backbone_args, head_args: keyword arguments of each.
        pretrained: start from the backbone's published weights.
    """

    backbone: str
    classes: Classes
    channels: int = 3
    head: str = "default"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    head_args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    def trunk(self, num_classes: int = 0) -> nn.Module:
        """Builds the backbone. Errors as in :func:`~fishnet.backbone.registry.create_model`."""
        try:
            return create_model(
                self.backbone, self.pretrained, num_classes=num_classes, in_chans=self.channels, **self.backbone_args
            )
        except TypeError as error:
            raise InputError(f"{self.backbone} does not take these options: {error}") from error


class TaskModel(nn.Module, ABC):
    """A trunk and what a task decodes from its features."""

    wants_pyramid: ClassVar[tuple[int, ...]] = ()

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def features(self, images: Tensor) -> Features:
        """(batch, channels, height, width), normalised -> the features this model wants."""
        if not self.wants_pyramid:
            return Features(self.trunk.forward_features(images))  # type: ignore[operator]
        last, pyramid = self.trunk.forward_intermediates(images, indices=list(self.wants_pyramid))  # type: ignore[operator]
        return Features(last, pyramid)

    @abstractmethod
    def decode(self, features: Features) -> Any:
        """Features -> the task's raw outputs."""

    def forward(self, images: Tensor) -> Any:
        """(batch, channels, height, width), normalised -> the task's raw outputs."""
        return self.decode(self.features(images))


class Task(ABC):
    """One level of prediction. Stateless: everything that differs between trainings comes as an argument.

    Attributes:
        name: as on the command line and in bundles.
        heads: names of its task heads, the default first.
        monitor: the metric that decides which epoch is best (higher is better).
    """

    name: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]

    def check_head(self, head: str) -> None:
        """Raises InputError for a task head that does not exist."""
        if head not in self.heads:
            raise InputError(f"unknown head {head!r} for {self.name}: {nearest(head, self.heads)}")

    @abstractmethod
    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> dict[str, LabelledSet]:
        """``train``, ``val`` and perhaps ``test``, from what the user names; ``whole``: nothing held out."""

    @abstractmethod
    def build(self, spec: ModelSpec) -> TaskModel:
        """The model."""

    @abstractmethod
    def losses(self, outputs: Any, targets: Any, recipe: "Recipe") -> dict[str, Tensor]:
        """Raw outputs and targets of a batch -> named losses; training minimises their sum."""

    @abstractmethod
    def metrics(self, classes: Classes) -> "MetricCollection":
        """Fresh metrics, fed with ``update(outputs, targets)``; values between 0 and 1."""
