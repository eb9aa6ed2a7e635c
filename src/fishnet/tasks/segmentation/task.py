"""Semantic segmentation: a class for every pixel."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.loading import EvalTransform, Transform
from fishnet.data.segmentation.base import IGNORE, LabelMap, SegmentationDataset, SegmentationTarget
from fishnet.data.segmentation.check import SegmentationCheck
from fishnet.data.segmentation.pairs import MaskSegmentation
from fishnet.data.segmentation.plausibility import split_counts
from fishnet.data.segmentation.transforms import SegmentationEvalTransform, SegmentationTrainTransform
from fishnet.data.views import View
from fishnet.errors import InputError
from fishnet.images.decoding import as_view
from fishnet.images.preprocess import LARGEST, Preprocess
from fishnet.prediction.drawing import draw_labels
from fishnet.tasks.base import Report, Splits, Task
from fishnet.tasks.segmentation.heads import (
    FPN,
    BodySegmenter,
    DeepLabV3Plus,
    FishSegmenter,
    SegFormer,
    Segmenter,
    SegmenterSpec,
    UPerNet,
)
from fishnet.tasks.segmentation.losses import SegmentationLoss, parse_losses
from fishnet.tasks.weighting import class_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


class Segment(Task):
    """Semantic segmentation."""

    name = "segment"
    head_classes: ClassVar[dict[str, type[Segmenter]]] = {
        "body": BodySegmenter,
        "fish": FishSegmenter,
        "fpn": FPN,
        "upernet": UPerNet,
        "deeplabv3plus": DeepLabV3Plus,
        "segformer": SegFormer,
    }
    split_check = SegmentationCheck
    monitor = "mIoU"
    logged_metrics = ("mIoU", "mAcc", "aAcc")
    any_size = True

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> dict[str, SegmentationDataset]:
        """See :func:`~fishnet.data.segmentation.open.open_segmentation`."""
        from fishnet.data.segmentation.open import open_segmentation

        return open_segmentation(
            data, channels, ignore=recipe.ignore, void=recipe.void, threshold=recipe.threshold_masks, **options
        )

    def complete_recipe(self, recipe: "Recipe", splits: Splits, log: "Callable[[str], None]") -> "Recipe":
        """Records whether 255 is ignored, and logs the share of ignored pixels."""
        masks = {name: dataset for name, dataset in splits.items() if isinstance(dataset, MaskSegmentation)}
        for conclusion in masks["train"].conclusions if masks else ():
            log(conclusion)
        if masks:
            shares = (f"{100 * split_counts(dataset).ignored:.2f} % of {name}" for name, dataset in masks.items())
            log(f"ignored pixels: {', '.join(shares)}")
        if "none" in recipe.ignore or IGNORE in recipe.ignore:
            return recipe
        inferred = IGNORE if masks and IGNORE in masks["train"].legend.ignored else "none"
        return recipe.replace({"ignore": [*recipe.ignore, inferred]})

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.segmentation.transforms.SegmentationTrainTransform`."""
        return SegmentationTrainTransform(
            preprocess,
            crop_size=recipe.crop_size or recipe.size,
            flip=recipe.flip,
            flip_vertical=recipe.flip_vertical,
            jitter=recipe.jitter,
            single_class=recipe.single_class,
            photometric=recipe.photometric,
        )

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        """See :class:`~fishnet.data.segmentation.transforms.SegmentationEvalTransform`."""
        return SegmentationEvalTransform(preprocess)

    def view_target(self, view: View, target: LabelMap) -> SegmentationTarget:
        """The label map on the view's canvas."""
        return SegmentationTarget(torch.from_numpy(view.labels(target, IGNORE)))

    def head_args(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: "Callable[[str], None]"
    ) -> dict[str, Any]:
        """The decoder's arguments."""
        return SegmenterSpec(
            width=recipe.decoder_channels,
            norm=recipe.head_norm,
            edges=recipe.edges,
            auxiliary=recipe.auxiliary > 0,
            drop_rate=recipe.drop_rate,
        ).to_dict()

    def check(self, splits: Splits, preprocess: Preprocess) -> None:
        """Raises InputError for validation images in their own size that are too large: training does not tile them."""
        if preprocess.fit != "native":
            return
        images = splits["val"]
        for index in range(len(images)):
            try:
                height, width = images.size(index)
            except InputError:  # reported or skipped when validation reads the image
                continue
            if height * width > LARGEST:
                raise InputError(
                    f"{images.source(index)}: is {width}x{height} px: with native, training validates whole images of "
                    f"at most {LARGEST:,} px: cut it into smaller images, or train without native"
                )

    def criterion(self, recipe: "Recipe", images: ImageDataset) -> SegmentationLoss:
        """The recipe's sum of losses. Class weights are computed from all masks of the training split."""
        assert isinstance(images, SegmentationDataset)
        losses, weights = parse_losses(recipe.loss), None
        if recipe.class_weights != "none":
            weights = class_weights(recipe.class_weights, *map(torch.from_numpy, images.frequencies()))
        return SegmentationLoss(
            losses,
            smoothing=recipe.label_smoothing,
            class_weights=weights,
            boundary=recipe.boundary,
            auxiliary=recipe.auxiliary,
        )

    def empty_targets(self) -> list[SegmentationTarget]:
        """One ignored pixel."""
        return [SegmentationTarget(torch.full((1, 1), IGNORE, dtype=torch.uint8))]

    def visualize(self, image: Image.Image, target: SegmentationTarget, classes: Classes) -> Image.Image:
        """The image without its batch's padding, tinted by its labels, above the names of the classes."""
        labels = target.labels.numpy()
        return draw_labels(image.crop((0, 0, *labels.shape[::-1])), labels, classes.names)

    def draw_sample(self, dataset: SegmentationDataset, index: int) -> Image.Image:
        """The image tinted by its label map."""
        image, labels = dataset.read(index)
        return draw_labels(as_view(image), labels, dataset.classes.names)

    def metrics(self, classes: Classes, max_detections: int | None = None) -> "MetricCollection":
        """``mIoU``, ``mAcc`` and ``aAcc``."""
        from fishnet.tasks.segmentation.metrics import make_metrics

        return make_metrics(classes)

    def report(self, classes: Classes, threshold: float | None = None, max_detections: int | None = None) -> Report:
        """See :class:`~fishnet.tasks.segmentation.report.SegmentationReport`."""
        from fishnet.tasks.segmentation.report import SegmentationReport

        return SegmentationReport(classes)
