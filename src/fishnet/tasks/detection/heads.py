"""Detectors over a trunk's pyramid: an FPN and torchvision's heads, combined for feature maps instead of images.

Sources: FPN (arXiv 1612.03144), Faster R-CNN (1506.01497), Mask R-CNN (1703.06870), RetinaNet (1708.02002), FCOS
(1904.01355), Cascade R-CNN (1712.00726), group norm in detectors (1803.08494, 1811.08883). The modules are
``torchvision.models.detection``'s. Labels count from 0 here and from 1 in torchvision's two-stage modules; no other
module needs to know this.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos, retinanet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from fishnet.bundle.bundle import HeadConfig
from fishnet.data.detection.anchors import Anchors
from fishnet.data.detection.base import DetectionTarget
from fishnet.errors import InputError
from fishnet.tasks.detection.pooling import PyramidRoIAlign
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.head import ClassRows, Head
from fishnet.tasks.trunk import Features, Trunk, Wants

RawDetections = list[dict[str, Tensor]]
Targets = list[dict[str, Tensor]]
LEVELS = 5  # of the FPN, including the extra levels after the trunk's
IGNORED_IOU = 0.4  # RetinaNet ignores anchors with an IoU between this and 0.5


def default_anchors(per_level: int) -> Anchors:
    """The published anchors for five levels from 32 to 512 px, with ``per_level`` sizes per octave."""
    sizes = tuple(tuple(32.0 * 2 ** (level + i / per_level) for i in range(per_level)) for level in range(LEVELS))
    return Anchors(sizes, (0.5, 1.0, 2.0))


class Float32Anchors(AnchorGenerator):  # type: ignore[misc]  # torchvision is not typed
    """Anchors in float32 for maps of any data type; see :func:`force_float32`."""

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Calls torchvision's, which takes only sizes, device and data type from the maps."""
        maps = [level.new_empty((), dtype=torch.float32).expand(1, 1, *level.shape[-2:]) for level in feature_maps]
        anchors: list[Tensor] = super().forward(image_list, maps)
        return anchors


def force_float32(module: nn.Module) -> nn.Module:
    """Converts a module's scores and boxes to float32, also where autocast computes them in 16 bits.

    bf16 has eight significant bits: boxes beyond 512 px would lie on every fourth px, and many scores would be equal.
    """
    module.register_forward_hook(_float_hook)
    return module


def _float_hook(_module: nn.Module, _inputs: Any, outputs: Any) -> Any:
    return _float(outputs)


def _float(outputs: Any) -> Any:
    if isinstance(outputs, dict):
        return {name: _float(value) for name, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(map(_float, outputs))
    return outputs.float()


class Detector(Head):
    """An FPN over the trunk's pyramid, and a detector over the FPN's maps.

    Without targets the output is a list with a dict for each image, detections in px of the input, best first:
    ``boxes`` (n, 4) x1 y1 x2 y2, ``scores`` (n,) 0..1, ``labels`` (n,) from 0, and with a mask head ``masks``
    (n, m, m), probabilities over the box. With targets the output is ``{"detections": list, "losses": {name: loss}}``;
    in training mode the list is empty.
    """

    trunk_strides: ClassVar[tuple[int, ...]]  # of the trunk's maps
    strides: ClassVar[tuple[int, ...]]  # of the FPN's maps, including the extra levels
    anchors_per_level = 1
    has_dynamic_cost = True  # it depends on the number of boxes

    def __init__(self, channels: Sequence[int], classes: int, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec, self.classes = spec, classes
        self.names = [str(stride) for stride in self.trunk_strides]
        self.fpn = FeaturePyramidNetwork(list(channels), spec.width, self._extra_levels(), spec.norm_layer)
        self._build(spec)

    @classmethod
    def wants(cls, config: HeadConfig) -> Wants:
        """See :class:`~fishnet.tasks.head.Head`: the feature pyramid."""
        return Wants(maps=cls.trunk_strides)

    @classmethod
    def build(cls, trunk: Trunk, config: HeadConfig) -> Self:
        """See :class:`~fishnet.tasks.head.Head`."""
        channels = [trunk.levels[stride].channels for stride in cls.trunk_strides]
        return cls(channels, len(config.classes), DetectorSpec.from_dict(dict(config.head_args)))

    def _extra_levels(self) -> Any:
        return LastLevelMaxPool()

    def _build(self, spec: DetectorSpec) -> None:
        raise NotImplementedError

    def _anchors(self, per_level: int) -> Float32Anchors:
        anchors = self.spec.anchors or default_anchors(per_level)
        return Float32Anchors(anchors.sizes, (anchors.ratios,) * len(anchors.sizes))

    def decode(self, features: Features, targets: Sequence[DetectionTarget] | None = None) -> Any:
        """See the class."""
        maps = self.pyramid(features)
        count = len(next(iter(features.maps.values())))
        images = ImageList(torch.empty(count, 1, *features.padded_size, device="meta"), [features.size] * count)
        if targets is None:
            return self.detect(images, maps)
        detections = [] if self.training else self.detect(images, maps)
        losses = self.losses(images, maps, [self.training_target(target) for target in targets])
        return {"detections": detections, "losses": losses}

    def training_target(self, target: DetectionTarget) -> dict[str, Tensor]:
        """What :meth:`losses` needs of an image's target: its objects. Crowds are left out: they have no boxes."""
        single = ~target.crowd
        objects = {"boxes": target.boxes[single], "labels": target.labels[single]}
        return objects if target.masks is None else {**objects, "masks": target.masks[single]}

    def pyramid(self, features: Features) -> dict[str, Tensor]:
        """Features -> the FPN's maps by name, from fine to coarse."""
        trunk_maps = OrderedDict((str(stride), features.maps[stride]) for stride in self.trunk_strides)
        maps: dict[str, Tensor] = self.fpn(trunk_maps)
        return maps

    def detect(self, images: ImageList, maps: dict[str, Tensor]) -> RawDetections:
        """The FPN's maps -> detections."""
        raise NotImplementedError

    def losses(self, images: ImageList, maps: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """The FPN's maps and the targets, with labels from 0 -> named losses."""
        raise NotImplementedError


class FasterRCNN(Detector):
    """Faster R-CNN: proposals, then a box for each. With ``with_masks`` it is Mask R-CNN, with a mask for each."""

    trunk_strides = (4, 8, 16, 32)
    strides = (*trunk_strides, 64)
    with_masks = False
    class_row_layers: ClassVar = {
        "box_predictor.cls_score": ClassRows(1),
        "box_predictor.bbox_pred": ClassRows(1, per_class=4),
        "mask_fcn_logits": ClassRows(1),
    }

    def _build(self, spec: DetectorSpec) -> None:
        anchors = self._anchors(1)
        self.rpn = RegionProposalNetwork(
            anchors,
            force_float32(RPNHead(spec.width, anchors.num_anchors_per_location()[0])),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * spec.proposals, "testing": spec.proposals},
            post_nms_top_n={"training": spec.proposals, "testing": spec.proposals},
            nms_thresh=0.7,
        )
        self.roi_heads: nn.Module = self._roi_heads(spec)

    def _roi_heads(self, spec: DetectorSpec) -> nn.Module:
        heads: nn.Module = roi_heads(spec, self.names, self.classes, self.with_masks)
        return heads

    def detect(self, images: ImageList, maps: dict[str, Tensor]) -> RawDetections:
        """See :class:`Detector`."""
        proposals, _ = self.rpn(images, maps)
        detections, _ = self.roi_heads(maps, proposals, images.image_sizes)
        for image in detections:
            image["labels"] = image["labels"] - 1
            if "masks" in image:
                image["masks"] = image["masks"][:, 0]
        return list(detections)

    def losses(self, images: ImageList, maps: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """See :class:`Detector`."""
        shifted = [{**target, "labels": target["labels"] + 1} for target in targets]
        stages = [self.rpn, self.roi_heads]
        modes = [stage.training for stage in stages]
        try:
            for stage in stages:  # without their submodules: torchvision computes losses in training mode only
                stage.training = True
            proposals, rpn_losses = self.rpn(images, maps, shifted)
            _, roi_losses = self.roi_heads(maps, proposals, images.image_sizes, shifted)
        finally:
            for stage, mode in zip(stages, modes, strict=True):
                stage.training = mode
        return {**rpn_losses, **roi_losses}


class MaskRCNN(FasterRCNN):
    """Mask R-CNN."""

    with_masks = True


def roi_heads(
    spec: DetectorSpec,
    names: Sequence[str],
    classes: int,
    with_masks: bool,
    iou: float = 0.5,
    coder: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0),
    predictor: Callable[[int, int], nn.Module] = FastRCNNPredictor,
) -> RoIHeads:
    """torchvision's second stage.

    Args:
        spec: the head's numbers.
        names: the names of the maps that boxes are pooled from, which are their strides.
        classes: number of classes without the background.
        with_masks: whether it has a mask head.
        iou: IoU with an object from which a proposal is a positive sample.
        coder: weights of the box's four regression targets.
        predictor: builds the layer for scores and boxes from its input width and the number of classes with background.
    """
    levels = {name: int(name) for name in names}
    layers = [spec.width] * spec.box_convs, [spec.box_width] * (1 if spec.box_convs else 2)
    masks: dict[str, nn.Module] = {}
    if with_masks:
        masks = {
            "mask_roi_pool": PyramidRoIAlign(levels, 14),
            "mask_head": MaskRCNNHeads(spec.width, [spec.mask_width] * 4, 1, spec.norm_layer),
            "mask_predictor": MaskRCNNPredictor(spec.mask_width, spec.mask_width, classes + 1),
        }
    return RoIHeads(
        PyramidRoIAlign(levels, 7),
        FastRCNNConvFCHead((spec.width, 7, 7), *layers, norm_layer=spec.norm_layer),
        force_float32(predictor(spec.box_width, classes + 1)),
        fg_iou_thresh=iou,
        bg_iou_thresh=iou,
        batch_size_per_image=spec.roi_samples,
        positive_fraction=0.25,
        bbox_reg_weights=coder,
        score_thresh=spec.score_threshold,
        nms_thresh=spec.nms_iou,
        detections_per_img=spec.max_detections,
        **masks,
    )


class _NoBackbone(nn.Module):
    """Placeholder for the backbone of torchvision's one-stage detectors, which run on the FPN's maps here."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels


class OneStage(Detector):
    """Detects boxes at every position of the maps, at strides 8 to 32 and at two extra levels."""

    trunk_strides = (8, 16, 32)
    strides = (*trunk_strides, 64, 128)
    class_row_layers: ClassVar = {"classification_head.cls_logits": ClassRows()}  # one group per anchor of a position
    net: Any

    def _extra_levels(self) -> Any:
        return LastLevelP6P7(self.spec.width, self.spec.width)

    def _outputs(self, images: ImageList, maps: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """The head's outputs, the anchors of each image, and how many anchors each level has."""
        levels = list(maps.values())
        outputs: dict[str, Tensor] = self.net.head(levels)
        anchors = self.net.anchor_generator(images, levels)
        positions = [level.shape[-2] * level.shape[-1] for level in levels]
        anchors_per_position = outputs["cls_logits"].shape[1] // sum(positions)
        return outputs, anchors, [count * anchors_per_position for count in positions]

    def detect(self, images: ImageList, maps: dict[str, Tensor]) -> RawDetections:
        """See :class:`Detector`."""
        outputs, anchors, counts = self._outputs(images, maps)
        split = {name: list(torch.split(values, counts, dim=1)) for name, values in outputs.items()}
        levels = [list(torch.split(image_anchors, counts)) for image_anchors in anchors]
        detections: RawDetections = self.net.postprocess_detections(split, levels, images.image_sizes)
        return detections

    def losses(self, images: ImageList, maps: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """See :class:`Detector`."""
        outputs, anchors, counts = self._outputs(images, maps)
        return self._losses(targets, outputs, anchors, counts)

    def _losses(
        self, targets: Targets, outputs: dict[str, Tensor], anchors: list[Tensor], counts: list[int]
    ) -> dict[str, Tensor]:
        return self.net.compute_loss(targets, outputs, anchors)  # type: ignore[no-any-return]


class RetinaNet(OneStage):
    """RetinaNet."""

    anchors_per_level = 3

    def _build(self, spec: DetectorSpec) -> None:
        anchors = self._anchors(self.anchors_per_level)
        head = retinanet.RetinaNetHead(
            spec.width, anchors.num_anchors_per_location()[0], self.classes, norm_layer=spec.norm_layer
        )
        self.net = retinanet.RetinaNet(
            _NoBackbone(spec.width), self.classes, anchor_generator=anchors, head=force_float32(head),
            bg_iou_thresh=IGNORED_IOU, score_thresh=spec.score_threshold, nms_thresh=spec.nms_iou,
            detections_per_img=spec.max_detections,
        )  # fmt: skip


class FCOS(OneStage):
    """FCOS. Its head has no anchor sizes, and always uses group norm with 32 groups, whatever the spec's norm.

    Raises:
        InputError: the width is not a multiple of 32, or less than 64.
    """

    anchors_per_level = 0

    def _build(self, spec: DetectorSpec) -> None:
        if spec.width % 32 or spec.width < 64:
            raise InputError(f"fpn_channels={spec.width}: must be a multiple of 32 and at least 64 for fcos")
        anchors = Float32Anchors(tuple((stride,) for stride in self.strides), ((1.0,),) * LEVELS)
        self.net = fcos.FCOS(
            _NoBackbone(spec.width), self.classes, anchor_generator=anchors,
            score_thresh=spec.score_threshold, nms_thresh=spec.nms_iou, detections_per_img=spec.max_detections,
        )  # fmt: skip
        force_float32(self.net.head)

    def _losses(
        self, targets: Targets, outputs: dict[str, Tensor], anchors: list[Tensor], counts: list[int]
    ) -> dict[str, Tensor]:
        return self.net.compute_loss(targets, outputs, anchors, counts)  # type: ignore[no-any-return]
