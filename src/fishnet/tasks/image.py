"""Image level: one label per picture."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from fishnet.backbone.weights import classifiers
from fishnet.bundle.bundle import HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.data.base import LabelledSet, PictureSet, Transform
from fishnet.data.open import open_labelled
from fishnet.data.transforms import EvalTransform, TrainTransform
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.drawing import card
from fishnet.prediction.drawing.text import DARK
from fishnet.tasks.base import ClassRows, Head, Report, Task
from fishnet.tasks.trunk import Features, Trunk, Wants
from fishnet.tasks.weighting import class_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


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


class Classify(Task):
    """Classification."""

    name = "classify"
    head_classes: ClassVar[dict[str, type[ScoreLayer]]] = {"default": ScoreLayer}
    monitor = "acc@1"

    def parts(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> dict[str, LabelledSet]:
        """See :func:`~fishnet.data.open.open_labelled`."""
        return open_labelled(
            data,
            channels,
            val_fraction=recipe.val_fraction,
            seed=recipe.seed,
            classes=classes,
            whole=whole,
            only=recipe.classes,
            fold=recipe.fold,
        )

    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """A square from the picture's centre."""
        size = recipe.val_size or recipe.size
        return Preprocess(
            (size, size),
            crop_pct=recipe.crop_pct,
            interpolation=recipe.interpolation,
            mean=mean,
            std=std,
            sixteen_bit=recipe.sixteen_bit,
        )

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.transforms.TrainTransform`."""
        return TrainTransform(
            dataclasses.replace(preprocess, size=(recipe.size, recipe.size)),
            crop_scale=recipe.crop_scale,
            crop_ratio=recipe.crop_ratio,
            flip=recipe.flip,
            rand_augment_ops=recipe.rand_augment_ops,
            rand_augment_magnitude=recipe.rand_augment_magnitude,
            color_jitter=recipe.color_jitter,
            erase=recipe.erase,
        )

    def eval_transform(self, preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.transforms.EvalTransform`."""
        return EvalTransform(preprocess)

    def criterion(self, recipe: "Recipe", pictures: PictureSet) -> CrossEntropy:
        """Cross-entropy with the recipe's label smoothing and class weights."""
        assert isinstance(pictures, LabelledSet)
        weights = None
        if recipe.class_weights != "none":
            counts = torch.bincount(torch.tensor(pictures.labels), minlength=len(pictures.classes))
            counts = counts.clamp(min=1)  # the mean of a validation batch whose classes all weigh 0 is no number
            weights = class_weights(recipe.class_weights, counts, counts.sum().expand(len(counts)))
        return CrossEntropy(recipe.label_smoothing, weights)

    def empty_targets(self) -> Tensor:
        """The first class."""
        return torch.zeros(1, dtype=torch.int64)

    def mixing(self, recipe: "Recipe", classes: Classes) -> "Callable[[Tensor, Any], tuple[Tensor, Any]] | None":
        """torchvision's mixup, cutmix, or one of the two drawn for each batch."""
        ways = [
            way(alpha=alpha, num_classes=len(classes))
            for way, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
            if alpha
        ]
        if len(ways) < 2:
            return ways[0] if ways else None
        return v2.RandomChoice(ways)  # type: ignore[no-any-return]

    def portray(self, picture: Image.Image, target: Any, classes: Classes) -> Image.Image:
        """The picture above its class, or the classes that were mixed, with their shares."""
        return card(picture, [(_caption(target, classes), "", DARK)])

    def metrics(self, classes: Classes, most: int | None = None) -> "MetricCollection":
        """``acc@1``, and ``acc@5`` where there are more than five classes."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        count = len(classes)
        return MetricCollection(
            {f"acc@{k}": MulticlassAccuracy(count, top_k=k, average="micro") for k in (1, 5) if k < count}
        )

    def report(self, classes: Classes, threshold: float | None = None, most: int | None = None) -> Report:
        """See :class:`~fishnet.tasks.image_report.ImageReport`."""
        from fishnet.tasks.image_report import ImageReport

        return ImageReport(classes)


def _caption(target: Any, classes: Classes) -> str:
    shares = torch.as_tensor(target)
    if not shares.ndim:
        return classes.names[int(shares)]
    there = [(float(share), name) for share, name in zip(shares, classes.names, strict=True) if share > 0]
    return " + ".join(f"{share:.0%} {name}" if share < 1 else name for share, name in sorted(there, reverse=True))
