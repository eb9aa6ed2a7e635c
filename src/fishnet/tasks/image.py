"""Image level: one label per picture."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional as F

from fishnet.data.base import LabelledSet
from fishnet.data.labels import Classes
from fishnet.data.open import open_labelled
from fishnet.tasks.base import Features, ModelSpec, Task, TaskModel

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

    from fishnet.training.recipe import Recipe


class ImageModel(TaskModel):
    """A trunk with its own score layer: (batch, channels, height, width) -> (batch, classes) logits."""

    def decode(self, features: Features) -> Tensor:
        """See :class:`~fishnet.tasks.base.TaskModel`."""
        return self.trunk.forward_head(features.last)  # type: ignore[operator, no-any-return]


class Classify(Task):
    """Classification."""

    name = "classify"
    heads = ("default",)
    monitor = "acc@1"

    def open_data(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> dict[str, LabelledSet]:
        """See :func:`~fishnet.data.open.open_labelled`."""
        return open_labelled(
            data, channels, val_fraction=recipe.val_fraction, seed=recipe.seed, classes=classes, whole=whole
        )

    def build(self, spec: ModelSpec) -> ImageModel:
        """See :class:`~fishnet.tasks.base.Task`."""
        self.check_head(spec.head)
        return ImageModel(spec.trunk(num_classes=len(spec.classes)))

    def losses(self, outputs: Tensor, targets: Tensor, recipe: "Recipe") -> dict[str, Tensor]:
        """Cross-entropy with the recipe's label smoothing."""
        return {"cross_entropy": F.cross_entropy(outputs, targets, label_smoothing=recipe.label_smoothing)}

    def metrics(self, classes: Classes) -> "MetricCollection":
        """``acc@1``, and ``acc@5`` where there are more than five classes."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        count = len(classes)
        return MetricCollection(
            {f"acc@{k}": MulticlassAccuracy(count, top_k=k, average="micro") for k in (1, 5) if k < count}
        )
