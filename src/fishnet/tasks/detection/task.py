"""Region level: objects, as boxes (detect) or as boxes and masks (instances)."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import PictureSet, Transform
from fishnet.data.detection.anchors import fit_anchors
from fishnet.data.detection.base import RegionSet, RegionTarget
from fishnet.data.detection.open import open_regions
from fishnet.data.detection.plausibility import CAP, beyond_cap, stated_counts
from fishnet.data.detection.transforms import RegionEvalTransform, RegionTrainTransform
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.drawing import draw_objects
from fishnet.prediction.results import Cutout
from fishnet.tasks.base import Report, Task
from fishnet.tasks.detection.cascade import Cascade, MaskCascade
from fishnet.tasks.detection.heads import (
    LEVELS,
    Detector,
    DetectorSpec,
    Fcos,
    MaskTwoStage,
    Retina,
    TwoStage,
    default_anchors,
)
from fishnet.tasks.detection.losses import Losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


class _Regions(Task):
    """What both region tasks share."""

    head_classes: ClassVar[dict[str, type[Detector]]]
    with_masks: ClassVar[bool]
    any_size = True

    def parts(
        self, data: str, channels: int, recipe: "Recipe", classes: Classes | None = None, *, whole: bool = False
    ) -> dict[str, RegionSet]:
        """See :func:`~fishnet.data.detection.open.open_regions`."""
        return open_regions(
            data, channels, val_fraction=recipe.val_fraction, seed=recipe.seed, classes=classes, whole=whole,
            masks=self.with_masks, only=recipe.classes, difficult=recipe.difficult,
        )  # fmt: skip

    def preprocess(self, recipe: "Recipe", mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocess:
        """The whole picture."""
        return Preprocess(
            (recipe.size, recipe.longest),
            interpolation=recipe.interpolation,
            mean=mean,
            std=std,
            fit="whole",
            sixteen_bit=recipe.sixteen_bit,
        )

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.detection.transforms.RegionTrainTransform`."""
        return RegionTrainTransform(
            preprocess,
            canvas=recipe.canvas,
            flip=recipe.flip,
            flip_vertical=recipe.flip_vertical,
            jitter=recipe.jitter,
            crop=recipe.crop,
            photometric=recipe.photometric,
            mosaic=recipe.mosaic,
            with_masks=self.with_masks,
        )

    def eval_transform(self, preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.detection.transforms.RegionEvalTransform`."""
        return RegionEvalTransform(preprocess, with_masks=self.with_masks)

    def head_args(
        self, recipe: "Recipe", pictures: PictureSet, preprocess: Preprocess, tell: "Callable[[str], None]"
    ) -> dict[str, Any]:
        """The head's numbers; with ``anchors: auto`` its anchors fit the boxes of the training part."""
        assert isinstance(pictures, RegionSet)
        head = self.head_classes[self.head_named(recipe.head)]
        anchors, per_level = None, head.anchors_per_level
        if recipe.anchors == "auto" and per_level:
            boxes = pictures.boxes_in(preprocess)
            if not len(boxes):
                raise InputError("anchors=auto: the training part has no objects to fit them to")
            anchors, line = fit_anchors(boxes, LEVELS, default_anchors(per_level), per_level, head.strides)
            tell(line)
        return DetectorSpec(
            width=recipe.fpn_channels,
            box_width=recipe.box_width,
            box_convs=recipe.box_convs,
            mask_width=recipe.mask_width,
            norm=recipe.head_norm,
            anchors=anchors,
            proposals=recipe.proposals,
            samples=recipe.samples,
            detections=recipe.detections,
            nms=recipe.nms,
            floor=recipe.floor,
        ).to_dict()

    def thresholds(self, recipe: "Recipe") -> dict[str, float]:
        """The score from which an object is shown."""
        return {"score": recipe.threshold}

    def criterion(self, recipe: "Recipe", pictures: PictureSet) -> Losses:
        """The detector's own."""
        return Losses()

    def empty_targets(self) -> list[RegionTarget]:
        """No objects."""
        none = torch.zeros(0, dtype=torch.int64)
        masks = torch.zeros(0, 32, 32, dtype=torch.uint8) if self.with_masks else None
        return [RegionTarget(torch.zeros(0, 4), none, none.bool(), masks)]

    def portray(self, picture: Image.Image, target: RegionTarget, classes: Classes) -> Image.Image:
        """The picture with its objects drawn on it."""
        labels = target.labels.tolist()
        cutouts = None
        if target.masks is not None:
            cutouts = [Cutout(0, 0, mask.numpy().astype(bool)) for mask in target.masks]
        names = [classes.names[label] for label in labels]
        colours = None if cutouts is not None and len(classes) == 1 else labels
        return draw_objects(picture, target.boxes.numpy(), names, colours, cutouts=cutouts)

    def metrics(self, classes: Classes, most: int | None = None) -> "MetricCollection":
        """COCO's, of boxes, and of masks where there are any."""
        from torchmetrics import MetricCollection

        from fishnet.tasks.detection.metrics import MOST, CocoMetric

        return MetricCollection({"coco": CocoMetric(classes, self.with_masks, most or MOST)})

    def remarks(self, pictures: PictureSet) -> list[str]:
        """A line where images have more objects of a class than the metrics count."""
        assert isinstance(pictures, RegionSet)
        line = beyond_cap(stated_counts(pictures), CAP)
        return [line] if line else []

    def report(self, classes: Classes, threshold: float | None = None, most: int | None = None) -> Report:
        """See :class:`~fishnet.tasks.detection.report.RegionReport`."""
        from fishnet.tasks.detection.metrics import MOST
        from fishnet.tasks.detection.report import RegionReport

        return RegionReport(classes, self.with_masks, threshold, most or MOST)


class Detect(_Regions):
    """Detection: boxes."""

    name = "detect"
    head_classes: ClassVar = {"faster-rcnn": TwoStage, "retinanet": Retina, "fcos": Fcos, "cascade-rcnn": Cascade}
    monitor = "AP"
    watched = ("AP", "AP50", "AP75")
    with_masks = False


class Instances(_Regions):
    """Instance segmentation: boxes and masks."""

    name = "instances"
    head_classes: ClassVar = {"mask-rcnn": MaskTwoStage, "cascade-mask-rcnn": MaskCascade}
    monitor = "mask_AP"
    watched = ("AP", "AP50", "mask_AP", "mask_AP50", "mask_AP75")
    with_masks = True
