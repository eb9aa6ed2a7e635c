"""Classification: one label per image."""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.classification.check import ClassificationCheck
from fishnet.data.classification.open import open_classification
from fishnet.data.classification.transforms import EvalTransform, TrainTransform
from fishnet.data.loading import Transform
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.drawing import card
from fishnet.prediction.drawing.text import DARK
from fishnet.tasks.base import Report, Task
from fishnet.tasks.classification.heads import Classifier
from fishnet.tasks.classification.losses import ClassificationLoss
from fishnet.tasks.weighting import class_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


class Classify(Task):
    """Classification."""

    name = "classify"
    head_classes: ClassVar[dict[str, type[Classifier]]] = {"default": Classifier}
    split_check = ClassificationCheck
    monitor = "acc@1"

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> dict[str, LabelledDataset]:
        """See :func:`~fishnet.data.classification.open.open_classification`."""
        return open_classification(data, channels, fold=recipe.fold, **options)

    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """A square from the image's centre."""
        size = recipe.val_size or recipe.size
        preprocess = super().preprocess(recipe, mean, std)
        return dataclasses.replace(preprocess, size=(size, size), crop_pct=recipe.crop_pct, fit="crop")

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.classification.transforms.TrainTransform`."""
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
        """See :class:`~fishnet.data.classification.transforms.EvalTransform`."""
        return EvalTransform(preprocess)

    def criterion(self, recipe: "Recipe", images: ImageDataset) -> ClassificationLoss:
        """Cross-entropy with the recipe's label smoothing and class weights."""
        assert isinstance(images, LabelledDataset)
        weights = None
        if recipe.class_weights != "none":
            counts = torch.bincount(torch.tensor(images.labels), minlength=len(images.classes))
            counts = counts.clamp(min=1)  # with weights of 0, the mean loss of a validation batch could be NaN
            weights = class_weights(recipe.class_weights, counts, counts.sum().expand(len(counts)))
        return ClassificationLoss(recipe.label_smoothing, weights)

    def empty_targets(self) -> Tensor:
        """One label, of the first class."""
        return torch.zeros(1, dtype=torch.int64)

    def mixing(self, recipe: "Recipe", classes: Classes) -> "Callable[[Tensor, Any], tuple[Tensor, Any]] | None":
        """torchvision's mixup, cutmix, or one of the two drawn for each batch."""
        transforms = [
            transform(alpha=alpha, num_classes=len(classes))
            for transform, alpha in ((v2.MixUp, recipe.mixup), (v2.CutMix, recipe.cutmix))
            if alpha
        ]
        if len(transforms) < 2:
            return transforms[0] if transforms else None
        return v2.RandomChoice(transforms)  # type: ignore[no-any-return]

    def visualize(self, image: Image.Image, target: Any, classes: Classes) -> Image.Image:
        """The image above its class, or above the classes that were mixed and their shares."""
        return card(image, [(_caption(target, classes), "", DARK)])

    def metrics(self, classes: Classes, max_detections: int | None = None) -> "MetricCollection":
        """``acc@1``, and ``acc@5`` where there are more than five classes."""
        from fishnet.tasks.classification.metrics import make_metrics

        return make_metrics(classes)

    def report(self, classes: Classes, threshold: float | None = None, max_detections: int | None = None) -> Report:
        """See :class:`~fishnet.tasks.classification.report.ClassificationReport`."""
        from fishnet.tasks.classification.report import ClassificationReport

        return ClassificationReport(classes)


def _caption(target: Any, classes: Classes) -> str:
    shares = torch.as_tensor(target)
    if not shares.ndim:
        return classes.names[int(shares)]
    present = [(float(share), name) for share, name in zip(shares, classes.names, strict=True) if share > 0]
    return " + ".join(f"{share:.0%} {name}" if share < 1 else name for share, name in sorted(present, reverse=True))
