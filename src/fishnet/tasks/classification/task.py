"""Classification: one label per image, or any number of labels."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from fishnet.bundle.bundle import LABEL, HeadConfig
from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset, LabelledDataset
from fishnet.data.check import SplitCheck
from fishnet.data.classification import transforms
from fishnet.data.classification.check import ClassificationCheck, MultiLabelCheck
from fishnet.data.classification.multilabel import MultiLabelDataset, shown_labels
from fishnet.data.loading import EvalTransform, Transform
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.drawing import card
from fishnet.prediction.drawing.text import DARK
from fishnet.tasks.base import Report, Splits, Task
from fishnet.tasks.classification.heads import Classifier, LinearClassifier
from fishnet.tasks.classification.losses import ClassificationLoss, MultiLabelLoss
from fishnet.tasks.head import Head
from fishnet.tasks.weighting import class_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


class Classify(Task):
    """Classification: one label per image."""

    name = "classify"
    head_classes: ClassVar[dict[str, type[Head]]] = {"default": Classifier, "linear": LinearClassifier}
    split_check: ClassVar[type[SplitCheck[Any, Any]]] = ClassificationCheck
    monitor = "acc@1"

    def for_recipe(self, recipe: "Recipe") -> Task:
        """See :class:`~fishnet.tasks.base.Task`: ``multi_label`` chooses :class:`MultiLabelClassify`."""
        return MultiLabelClassify() if recipe.multi_label else self

    def for_head(self, config: HeadConfig) -> Task:
        """See :class:`~fishnet.tasks.base.Task`: ``multi_label`` chooses :class:`MultiLabelClassify`."""
        return MultiLabelClassify(config.label_thresholds) if config.multi_label else self

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> Splits:
        """See :func:`~fishnet.data.classification.open.open_classification`."""
        from fishnet.data.classification.open import open_classification

        return open_classification(data, channels, fold=recipe.fold, **options)

    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """A square from the image's centre."""
        size = recipe.val_size or recipe.size
        preprocess = super().preprocess(recipe, mean, std)
        return dataclasses.replace(preprocess, size=(size, size), crop_pct=recipe.crop_pct, fit="crop")

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.classification.transforms.TrainTransform`."""
        return transforms.TrainTransform(
            dataclasses.replace(preprocess, size=(recipe.size, recipe.size)),
            crop_scale=recipe.crop_scale,
            crop_ratio=recipe.crop_ratio,
            flip=recipe.flip,
            rand_augment_ops=recipe.rand_augment_ops,
            rand_augment_magnitude=recipe.rand_augment_magnitude,
            color_jitter=recipe.color_jitter,
            erase=recipe.erase,
        )

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        """See :class:`~fishnet.data.classification.transforms.EvalTransform`."""
        return transforms.EvalTransform(preprocess)

    def criterion(self, recipe: "Recipe", images: ImageDataset) -> nn.Module:
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


class MultiLabelClassify(Classify):
    """Classification with any number of labels per image: logits of the same shape, one sigmoid per class.

    Args:
        thresholds: the lowest score of each label in reports, 0..1; one half by default.
    """

    split_check = MultiLabelCheck
    monitor = "mAP"
    logged_metrics = ("mAP", "F1")

    def __init__(self, thresholds: Sequence[float] | None = None) -> None:
        self._thresholds = thresholds

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> Splits:
        """See :func:`~fishnet.data.classification.multilabel_open.open_multi_label`."""
        from fishnet.data.classification.multilabel_open import open_multi_label

        return open_multi_label(data, channels, fold=recipe.fold, **options)

    def check(self, splits: Splits, preprocess: Preprocess) -> None:
        """Raises InputError if no image of train or val has a label."""
        for split in ("train", "val"):
            if not splits[split].positives.any():
                raise InputError(f"no image of {split} has a label: there is nothing to learn or to measure")

    def head_args(self, *_: Any) -> dict[str, Any]:
        """See :class:`~fishnet.tasks.base.Task`: tells prediction that scores are sigmoids."""
        return {"multi_label": True}

    def criterion(self, recipe: "Recipe", images: ImageDataset) -> nn.Module:
        """Binary cross-entropy. With balanced class weights, images with and without a label have the same total
        weight."""
        weights = None
        if recipe.class_weights == "balanced":
            assert isinstance(images, MultiLabelDataset)
            positives = torch.from_numpy(images.positives)
            negatives = len(images) - torch.from_numpy(images.unknown) - positives
            weights = torch.where((positives > 0) & (negatives > 0), negatives / positives.clamp(min=1), 1.0).float()
        return MultiLabelLoss(recipe.label_smoothing, weights)

    def empty_targets(self) -> Tensor:
        """One image for which every label is unknown."""
        return torch.full((1, 1), -1, dtype=torch.int8)

    def mixing(self, recipe: "Recipe", classes: Classes) -> None:
        """None: recipes refuse mixup and cutmix with several labels, some of which may be unknown."""

    def visualize(self, image: Image.Image, target: Any, classes: Classes) -> Image.Image:
        """The image above its labels; those that are unknown have a question mark."""
        return card(image, [(shown_labels(torch.as_tensor(target).tolist(), classes), "", DARK)])

    def metrics(self, classes: Classes, max_detections: int | None = None) -> "MetricCollection":
        """``mAP`` and ``F1``, see :class:`~fishnet.tasks.classification.metrics.MultiLabelMetric`."""
        from fishnet.tasks.classification.metrics import make_multi_label_metrics

        return make_multi_label_metrics(classes)

    def fitted_thresholds(self, metrics: "MetricCollection") -> dict[str, dict[str, float]]:
        """See :class:`~fishnet.tasks.base.Task`: the thresholds with the best F1 of each class."""
        from fishnet.tasks.classification.metrics import LABELS, MultiLabelMetric

        metric = metrics[LABELS]
        assert isinstance(metric, MultiLabelMetric)
        return {self.name: {f"{LABEL}{name}": value for name, value in metric.thresholds.items()}}

    def warnings(self, images: ImageDataset) -> list[str]:
        """See :class:`~fishnet.tasks.base.Task`: the classes that do not count."""
        assert isinstance(images, MultiLabelDataset)
        lacking = int((images.positives == 0).sum())
        return (
            [f"val: no image has the label of {lacking} classes, which do not count in mAP and F1"] if lacking else []
        )

    def report(self, classes: Classes, threshold: float | None = None, max_detections: int | None = None) -> Report:
        """See :class:`~fishnet.tasks.classification.multilabel_report.MultiLabelReport`.

        Args:
            classes: the classes of the model's outputs.
            threshold: replaces the thresholds of all labels.
            max_detections: ignored.
        """
        from fishnet.tasks.classification.multilabel_report import MultiLabelReport

        fallback = [0.5 if threshold is None else threshold] * len(classes)
        return MultiLabelReport(classes, self._thresholds if threshold is None and self._thresholds else fallback)


def _caption(target: Any, classes: Classes) -> str:
    shares = torch.as_tensor(target)
    if not shares.ndim:
        return classes.names[int(shares)]
    present = [(float(share), name) for share, name in zip(shares, classes.names, strict=True) if share > 0]
    return " + ".join(f"{share:.0%} {name}" if share < 1 else name for share, name in sorted(present, reverse=True))
