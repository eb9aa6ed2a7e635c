"""Hybrid Task Cascade (Chen et al.: arXiv 1901.07518): Cascade Mask R-CNN with three more parts.

Each part is a flag of :class:`~fishnet.tasks.detection.spec.DetectorSpec`. Without all three, the network, its losses
and its detections are those of :class:`~fishnet.tasks.detection.cascade.CascadeMaskRCNN`.

- ``htc_interleaved`` (section 3.1, interleaved execution): each stage's mask head is trained on the boxes that the
  stage's box head has refined. They are matched with the objects and sampled again.
- ``htc_mask_flow`` (section 3.1, mask information flow): the features of a mask head pass a 1x1 convolution and are
  added to the input of the next stage's. All of them are computed for the boxes of the stage that needs them.
- ``htc_semantic`` (section 3.2): a branch that classifies every pixel. Its features, pooled from each box, are added to
  those of the box heads and the mask heads.

In prediction, the scores of the stages are averaged, and so are the masks of the three mask heads for the final boxes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import Conv2dNormActivation

from fishnet.data.detection.base import DetectionTarget
from fishnet.data.segmentation.base import IGNORE
from fishnet.tasks.detection.cascade import STAGES, CascadeHeads, CascadeMaskRCNN, Maps, Samples, Size
from fishnet.tasks.detection.heads import Targets
from fishnet.tasks.detection.pooling import PyramidRoIAlign
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.head import ClassRows
from fishnet.tasks.trunk import Trunk

SEMANTIC_WEIGHT = 0.2  # of the semantic branch's loss
SEMANTIC_STRIDE = 8
IGNORED = -1  # in the label maps that the semantic branch learns from
_SEMANTIC = "semantic"  # the name of its features beside the FPN's maps, of its label map in targets, and of its loss


class SemanticBranch(nn.Module):
    """The FPN's maps, summed at stride 8, and four 3x3 convolutions (figure 4 of the paper).

    Before the sum each map passes a 1x1 convolution and is resized bilinearly. The FPN's extra level, which repeats
    every second pixel of the one before it, is not used.

    Args:
        names: the names of the FPN's maps, from fine to coarse.
        classes: number of classes of the label maps.
        spec: the head's numbers.

    Attributes:
        embedding: 1x1 convolution to the features that are added to those of boxes and masks.
        predictor: 1x1 convolution to the logits of the classes.
    """

    def __init__(self, names: Sequence[str], classes: int, spec: DetectorSpec) -> None:
        super().__init__()
        self.names, width = list(names), spec.width
        self.align = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in names)
        self.convs = nn.Sequential(
            *(Conv2dNormActivation(width, width, 3, norm_layer=spec.norm_layer) for _ in range(4))
        )
        self.embedding = nn.Conv2d(width, width, 1)
        self.predictor = nn.Conv2d(width, classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, maps: Maps) -> Tensor:
        """The FPN's maps -> (batch, width, height / 8, width / 8), the input of ``embedding`` and ``predictor``."""
        size = maps[str(SEMANTIC_STRIDE)].shape[-2:]
        aligned = [conv(maps[name]) for conv, name in zip(self.align, self.names, strict=True)]
        resized = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in aligned]
        features: Tensor = self.convs(torch.stack(resized).sum(0))
        return features


class HybridHeads(CascadeHeads):
    """Three stages of boxes and masks, with the parts of Hybrid Task Cascade that the spec has.

    Args:
        spec, names, classes: see :class:`~fishnet.tasks.detection.cascade.CascadeHeads`.
    """

    def __init__(self, spec: DetectorSpec, names: Sequence[str], classes: int) -> None:
        super().__init__(spec, names, classes, with_masks=True)
        self.interleaved = spec.htc_interleaved
        self.mask_flow: nn.ModuleList | None = None
        if spec.htc_mask_flow:
            self.mask_flow = nn.ModuleList(nn.Conv2d(spec.mask_width, spec.width, 1) for _ in STAGES[1:])
        self.semantic: SemanticBranch | None = None
        if spec.htc_semantic:
            self.semantic = SemanticBranch(names, spec.semantic_classes or 1 + classes, spec)
            self.semantic_box_pool = PyramidRoIAlign({_SEMANTIC: SEMANTIC_STRIDE}, 7)
            self.semantic_mask_pool = PyramidRoIAlign({_SEMANTIC: SEMANTIC_STRIDE}, 14)

    def forward(
        self, maps: Maps, proposals: list[Tensor], sizes: list[Size], targets: Targets | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """See :class:`~fishnet.tasks.detection.cascade.CascadeHeads`."""
        if self.semantic is None:
            return super().forward(maps, proposals, sizes, targets)
        features = self.semantic(maps)
        maps = {**maps, _SEMANTIC: self.semantic.embedding(features)}
        detections, losses = super().forward(maps, proposals, sizes, targets)
        if self.training:
            assert targets is not None
            labels = [target[_SEMANTIC] for target in targets]
            losses[_SEMANTIC] = SEMANTIC_WEIGHT * semantic_loss(self.semantic.predictor(features), labels)
        return detections, losses

    def _box_features(self, stage: Any, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> Tensor:
        features = super()._box_features(stage, maps, boxes, sizes)
        return features if self.semantic is None else features + self.semantic_box_pool(maps, boxes, sizes)

    def _mask_features(self, stage: Any, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> Tensor:
        features = super()._mask_features(stage, maps, boxes, sizes)
        return features if self.semantic is None else features + self.semantic_mask_pool(maps, boxes, sizes)

    def _mask_samples(self, stage: Any, samples: Samples, refined: list[Tensor], targets: Targets) -> Samples:
        if not self.interleaved:
            return samples
        boxes, matched, labels, _ = stage.select_training_samples(refined, targets)
        return boxes, matched, labels

    def _mask_logits(self, number: int, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> Tensor:
        if self.mask_flow is None:
            return super()._mask_logits(number, maps, boxes, sizes)
        stage: Any = self.stages[number - 1]
        logits: Tensor = stage.mask_predictor(self._flow(number, maps, boxes, sizes)[-1])
        return logits

    def _all_mask_logits(self, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> list[Tensor]:
        if self.mask_flow is None:
            return super()._all_mask_logits(maps, boxes, sizes)
        stages: Any = self.stages
        outputs = self._flow(len(stages), maps, boxes, sizes)
        return [stage.mask_predictor(output) for stage, output in zip(stages, outputs, strict=True)]

    def _flow(self, count: int, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> list[Tensor]:
        """The features of the first ``count`` mask heads. Each gets those of the one before it."""
        assert self.mask_flow is not None
        stages: Any = self.stages[:count]
        pooled = self._mask_features(stages[-1], maps, boxes, sizes)
        outputs = [stages[0].mask_head(pooled)]
        for stage, conv in zip(stages[1:], self.mask_flow[: count - 1], strict=True):
            outputs.append(stage.mask_head(pooled + conv(outputs[-1])))
        return outputs


def semantic_loss(logits: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """The mean cross-entropy over the pixels of the logits, 0 times the logits without any to learn from.

    Args:
        logits: (batch, classes, height, width), at stride 8.
        labels: one (image height, image width) int64 map for each image, whose sizes may differ. Each pixel of the
            logits is compared with the label at its centre. :data:`IGNORED` and pixels beyond the image do not count.
    """
    stride = SEMANTIC_STRIDE
    height, width = (stride * side for side in logits.shape[-2:])
    padded = [F.pad(each, (0, width - each.shape[1], 0, height - each.shape[0]), value=IGNORED) for each in labels]
    centres = torch.stack(padded)[:, stride // 2 :: stride, stride // 2 :: stride]
    total = F.cross_entropy(logits.float(), centres, ignore_index=IGNORED, reduction="sum")
    return total / (centres != IGNORED).sum().clamp_min(1)


def semantic_labels(target: DetectionTarget, semantic_classes: int) -> Tensor:
    """The label map that the semantic branch learns from.

    Args:
        target: an image's objects with masks.
        semantic_classes: number of classes of ``target.labels_map``; without that map, the image has no labels for
            them and is ignored. With 0, the map is drawn from the objects' masks: 0 is the background, and the objects'
            labels are 1 higher. Where objects overlap, the smallest is on top. Crowds are ignored where no other object
            covers them.

    Returns:
        (height, width) int64, of the input's size, with :data:`IGNORED`.
    """
    assert target.masks is not None
    if semantic_classes:
        if target.labels_map is None:
            return torch.full_like(target.masks.sum(0), IGNORED)
        labels = target.labels_map.long()
        return labels.masked_fill(labels == IGNORE, IGNORED)
    labels = torch.where(target.masks[target.crowd].any(0).bool(), IGNORED, 0)
    masks, classes = target.masks[~target.crowd], target.labels[~target.crowd]
    if not len(masks):
        return labels
    by_area = masks.flatten(1).sum(1).argsort(stable=True)
    smallest = by_area[masks[by_area].argmax(0)]  # of equal values, argmax returns the first
    return torch.where(masks.any(0).bool(), classes[smallest] + 1, labels)


class HybridTaskCascade(CascadeMaskRCNN):
    """Hybrid Task Cascade."""

    class_row_layers: ClassVar = {**CascadeMaskRCNN.class_row_layers, "semantic.predictor": ClassRows(1)}

    def class_rows(self, prefix: str, trunk: Trunk) -> dict[str, ClassRows]:
        """See :class:`~fishnet.tasks.head.Head`. The classes of label maps are not those of the objects."""
        rows = super().class_rows(prefix, trunk)
        if self.spec.semantic_classes:
            rows.pop(f"{prefix}roi_heads.semantic.predictor", None)
        return rows

    def training_target(self, target: DetectionTarget) -> dict[str, Tensor]:
        """See :class:`~fishnet.tasks.detection.heads.Detector`; with the label map of the semantic branch."""
        objects = super().training_target(target)
        if not self.spec.htc_semantic:
            return objects
        return {**objects, _SEMANTIC: semantic_labels(target, self.spec.semantic_classes)}

    def _roi_heads(self, spec: DetectorSpec) -> nn.Module:
        return HybridHeads(spec, self.names, self.classes)
