"""Detection (boxes) and instance segmentation (boxes and masks)."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.detection.anchors import fit_anchors
from fishnet.data.detection.base import DetectionDataset, DetectionTarget
from fishnet.data.detection.check import DetectionCheck
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.plausibility import CAP, beyond_cap, object_counts
from fishnet.data.detection.transforms import DetectionEvalTransform, DetectionTrainTransform
from fishnet.data.detection.views import DetectionView
from fishnet.data.loading import EvalTransform, Transform
from fishnet.errors import InputError
from fishnet.images.decoding import as_view, decode_image
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.drawing import draw_objects
from fishnet.prediction.results import CroppedMask
from fishnet.tasks.base import Report, Task
from fishnet.tasks.detection.cascade import CascadeMaskRCNN, CascadeRCNN
from fishnet.tasks.detection.heads import (
    FCOS,
    LEVELS,
    Detector,
    FasterRCNN,
    MaskRCNN,
    RetinaNet,
    default_anchors,
)
from fishnet.tasks.detection.htc import HybridTaskCascade
from fishnet.tasks.detection.losses import DetectionLoss
from fishnet.tasks.detection.spec import DetectorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics import MetricCollection

    from fishnet.recipes.recipe import Recipe


_HTC_PARTS = ("htc_interleaved", "htc_mask_flow", "htc_semantic")


class _DetectionTask(Task):
    """The base of detection and instance segmentation."""

    head_classes: ClassVar[dict[str, type[Detector]]]
    with_masks: ClassVar[bool]
    split_check = DetectionCheck
    any_size = True

    def open_splits(self, data: str, channels: int, recipe: "Recipe", **options: Any) -> dict[str, DetectionDataset]:
        """See :func:`~fishnet.data.detection.open.open_detection`."""
        from fishnet.data.detection.open import open_detection

        return open_detection(data, channels, masks=self.with_masks, difficult=recipe.difficult, **options)

    def train_transform(self, recipe: "Recipe", preprocess: Preprocess) -> Transform:
        """See :class:`~fishnet.data.detection.transforms.DetectionTrainTransform`."""
        return DetectionTrainTransform(
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

    def eval_transform(self, preprocess: Preprocess) -> EvalTransform:
        """See :class:`~fishnet.data.detection.transforms.DetectionEvalTransform`."""
        return DetectionEvalTransform(preprocess, with_masks=self.with_masks)

    def view_target(self, view: DetectionView, target: Objects) -> DetectionTarget:
        """The objects inside the view, in px of its canvas."""
        return view.target(target, self.with_masks)

    def head_args(
        self, recipe: "Recipe", images: ImageDataset, preprocess: Preprocess, log: "Callable[[str], None]"
    ) -> dict[str, Any]:
        """The head's arguments. With ``anchors: auto``, anchors are fitted to the boxes of the training split."""
        assert isinstance(images, DetectionDataset)
        head = self.head_classes[self.resolve_head(recipe.head)]
        _refuse_htc_keys(recipe, head)
        anchors, per_level = None, head.anchors_per_level
        if recipe.anchors == "auto" and per_level:
            boxes = images.boxes_in(preprocess)
            if not len(boxes):
                raise InputError("anchors=auto: the training split has no objects to fit anchors to")
            anchors, line = fit_anchors(boxes, LEVELS, default_anchors(per_level), per_level, head.strides)
            log(line)
        args = DetectorSpec(
            width=recipe.fpn_channels,
            box_width=recipe.box_width,
            box_convs=recipe.box_convs,
            mask_width=recipe.mask_width,
            norm=recipe.head_norm,
            anchors=anchors,
            proposals=recipe.proposals,
            roi_samples=recipe.roi_samples,
            max_detections=recipe.max_detections,
            nms_iou=recipe.nms_iou,
            score_threshold=recipe.score_threshold,
            htc_interleaved=recipe.htc_interleaved,
            htc_mask_flow=recipe.htc_mask_flow,
            htc_semantic=recipe.htc_semantic,
        ).to_dict()
        unused = () if issubclass(head, HybridTaskCascade) else (*_HTC_PARTS, "semantic_classes")
        return {name: value for name, value in args.items() if name not in unused}

    def thresholds(self, recipe: "Recipe") -> dict[str, float]:
        """The score threshold from which an object is shown."""
        return {"score": recipe.threshold}

    def criterion(self, recipe: "Recipe", images: ImageDataset) -> DetectionLoss:
        """The detector's own losses."""
        return DetectionLoss()

    def empty_targets(self) -> list[DetectionTarget]:
        """No objects."""
        none = torch.zeros(0, dtype=torch.int64)
        masks = torch.zeros(0, 32, 32, dtype=torch.uint8) if self.with_masks else None
        return [DetectionTarget(torch.zeros(0, 4), none, none.bool(), masks)]

    def visualize(self, image: Image.Image, target: DetectionTarget, classes: Classes) -> Image.Image:
        """The image with its objects drawn on it."""
        labels = target.labels.tolist()
        cropped_masks = None
        if target.masks is not None:
            cropped_masks = [CroppedMask(0, 0, mask.numpy().astype(bool)) for mask in target.masks]
        names = [classes.names[label] for label in labels]
        colours = None if cropped_masks is not None and len(classes) == 1 else labels
        return draw_objects(image, target.boxes.numpy(), names, colours, cropped_masks=cropped_masks)

    def draw_sample(self, dataset: DetectionDataset, index: int) -> Image.Image:
        """The image with its boxes."""
        image = as_view(decode_image(dataset.encoded(index), dataset.channels, dataset.source(index)))
        objects = dataset.objects(index).clean((image.height, image.width))
        labels = objects.labels.tolist()
        return draw_objects(image, objects.boxes, [dataset.classes.names[label] for label in labels], labels)

    def metrics(self, classes: Classes, max_detections: int | None = None) -> "MetricCollection":
        """COCO's metrics of boxes, and of masks where there are any."""
        from fishnet.tasks.detection.metrics import MAX_DETECTIONS, make_metrics

        return make_metrics(classes, self.with_masks, max_detections or MAX_DETECTIONS)

    def warnings(self, images: ImageDataset) -> list[str]:
        """A line where images have more objects of a class than the metrics count."""
        assert isinstance(images, DetectionDataset)
        line = beyond_cap(object_counts(images), CAP)
        return [line] if line else []

    def report(self, classes: Classes, threshold: float | None = None, max_detections: int | None = None) -> Report:
        """See :class:`~fishnet.tasks.detection.report.DetectionReport`."""
        from fishnet.tasks.detection.metrics import MAX_DETECTIONS
        from fishnet.tasks.detection.report import DetectionReport

        return DetectionReport(classes, self.with_masks, threshold, max_detections or MAX_DETECTIONS)


def _refuse_htc_keys(recipe: "Recipe", head: type[Detector]) -> None:
    """Raises InputError if a part of Hybrid Task Cascade is switched off for another head."""
    if issubclass(head, HybridTaskCascade):
        return
    for name in _HTC_PARTS:
        if not getattr(recipe, name):
            raise InputError(
                f"{name}=False: applies to the head htc of instances only: set head to htc, or leave it out"
            )


class Detect(_DetectionTask):
    """Detection: boxes."""

    name = "detect"
    head_classes: ClassVar = {
        "faster-rcnn": FasterRCNN,
        "retinanet": RetinaNet,
        "fcos": FCOS,
        "cascade-rcnn": CascadeRCNN,
    }
    monitor = "AP"
    logged_metrics = ("AP", "AP50", "AP75")
    with_masks = False


class Instances(_DetectionTask):
    """Instance segmentation: boxes and masks."""

    name = "instances"
    head_classes: ClassVar = {
        "mask-rcnn": MaskRCNN,
        "cascade-mask-rcnn": CascadeMaskRCNN,
        "htc": HybridTaskCascade,
    }
    monitor = "mask_AP"
    logged_metrics = ("AP", "AP50", "mask_AP", "mask_AP50", "mask_AP75")
    with_masks = True
