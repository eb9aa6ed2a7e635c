"""A model: one trunk and the heads of one or several tasks, by name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fishnet.bundle.bundle import HeadConfig, only_item
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.tasks import get_task
from fishnet.tasks.head import ClassRows, Head
from fishnet.tasks.trunk import Features, Trunk, Wants, build_backbone

Rows = Mapping[str, Sequence[int]]
"""For each head by name, indices of images in a batch."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that is needed to build a model.

    Attributes:
        backbone: a timm model name.
        heads: by name.
        channels: number of input channels.
        backbone_args: keyword arguments of the backbone.
        pretrained: start from the backbone's published weights.
    """

    backbone: str
    heads: Mapping[str, HeadConfig]
    channels: int = 3
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    @classmethod
    def single(
        cls,
        task: str,
        backbone: str,
        classes: Classes,
        channels: int = 3,
        head: str = "default",
        head_args: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> "ModelSpec":
        """The spec of a model with one head, which has the task's name."""
        return cls(backbone, {task: HeadConfig(task, classes, head, dict(head_args or {}))}, channels, **more)


class Model(nn.Module):
    """A trunk and its heads. The trunk runs once for all heads.

    Args:
        trunk: built for the wants of all heads.
        heads: by name.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, Head]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ModuleDict(heads)

    @classmethod
    def build(cls, spec: ModelSpec) -> "Model":
        """Builds the trunk for the wants of all heads, and the heads over it.

        Raises:
            InputError: an unknown task, head or backbone, an option that one of them does not support, a backbone that
                a head cannot decode, or a head whose name modules use themselves.
        """
        check_head_names(spec.heads)
        classes = {name: get_task(config.task).head_class(config.head) for name, config in spec.heads.items()}
        wants = Wants.union(classes[name].wants(config) for name, config in spec.heads.items())
        backbone = build_backbone(
            spec.backbone, wants, channels=spec.channels, args=spec.backbone_args, pretrained=spec.pretrained
        )
        for head in classes.values():
            head.check_backbone(backbone)
        trunk = Trunk(backbone, wants)
        return cls(trunk, {name: classes[name].build(trunk, config) for name, config in spec.heads.items()})

    @property
    def only_head(self) -> tuple[str, Any]:
        """Name and head of a model with one head.

        Raises:
            InputError: the model has several heads.
        """
        return only_item(dict(self.heads.items()))

    @property
    def min_batch_size(self) -> int:
        """Smallest batch size of a training step in each process."""
        return max(_head(head).min_batch_size for head in self.heads.values())

    @property
    def has_dynamic_cost(self) -> bool:
        """Whether the model's cost depends on the images, so that only a forward pass can measure it."""
        return any(_head(head).has_dynamic_cost for head in self.heads.values())

    def class_rows(self) -> dict[str, dict[str, ClassRows]]:
        """For each head by name, the layers whose rows belong to classes, by their names in the model."""
        return {name: _head(head).class_rows(f"heads.{name}.", self.trunk) for name, head in self.heads.items()}

    def features(self, images: Tensor) -> Features:
        """(batch, channels, height, width), normalized -> the features that the heads want."""
        features: Features = self.trunk(images)
        return features

    def decode(
        self, features: Features, targets: Mapping[str, Any] | None = None, rows: Rows | None = None
    ) -> dict[str, Any]:
        """Features -> the raw outputs of the heads by name; see :meth:`forward`."""
        if rows is None:
            return {name: head(features, (targets or {}).get(name)) for name, head in self.heads.items()}
        return {
            name: self.heads[name](features.take(indices), (targets or {}).get(name)) for name, indices in rows.items()
        }

    def forward(
        self, images: Tensor, targets: Mapping[str, Any] | None = None, rows: Rows | None = None
    ) -> dict[str, Any]:
        """Normalized images -> the raw outputs of the heads by name. The trunk runs once.

        Args:
            images: (batch, channels, height, width).
            targets: the heads' targets by name, see :meth:`Head.decode`.
            rows: the heads to run, each with the indices of the images that it decodes; by default all heads decode all
                images.

        Raises:
            InputError: in training, too few images for one of the heads.
        """
        if self.training:
            for name, head in self.heads.items() if rows is None else ((name, self.heads[name]) for name in rows):
                _head(head).check_batch(len(images) if rows is None else len(rows[name]))
        return self.decode(self.features(images), targets, rows)


def check_head_names(names: Iterable[str]) -> None:
    """Raises InputError for names that torch's containers cannot hold, because they have attributes of these names."""
    containers = nn.ModuleDict(), nn.ParameterDict()
    for name in names:
        if any(hasattr(container, name) for container in containers):
            raise InputError(f"heads: {name!r} is a name that torch's modules use themselves: rename the head")


def _head(head: nn.Module) -> Head:
    assert isinstance(head, Head)
    return head
