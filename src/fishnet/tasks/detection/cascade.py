"""Cascade R-CNN (Cai, Vasconcelos: arXiv 1712.00726): three box stages with rising IoU thresholds.

Each stage refines the boxes of the stage before it. The stages are torchvision's second stages. Box regression is
class-agnostic, as published, and each stage has its own mask head, as in Cascade Mask R-CNN (section 5 of the extended
version, arXiv 1906.09756).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from fishnet.tasks.detection.heads import FasterRCNN, Targets, roi_heads
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.head import ClassRows

STAGES = (
    (0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    (0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    (0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)
"""For each stage: the IoU from which a proposal is a positive sample, the regression weights, and the loss weight."""

Size = tuple[int, int]
Maps = dict[str, Tensor]
Samples = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""For each image: boxes, the index of the object that each box matches, and its label, 0 for the background."""


class ClassAgnosticPredictor(nn.Module):
    """Class scores and one box for all classes, in the shape of torchvision's predictors.

    Args:
        features: number of features of each proposal.
        classes: number of classes with the background.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.cls_score = nn.Linear(features, classes)
        self.bbox_pred = nn.Linear(features, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, features) -> (n, classes) logits and (n, 4 * classes) deltas, the same for all classes."""
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.classes)


class CascadeHeads(nn.Module):
    """Three second stages in a row, with the interface of torchvision's single one.

    Args:
        spec: the numbers of each stage.
        names: the names of the maps that boxes are pooled from.
        classes: number of classes without the background.
        with_masks: whether each stage has a mask head.
    """

    def __init__(self, spec: DetectorSpec, names: Sequence[str], classes: int, with_masks: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            roi_heads(spec, names, classes, with_masks, iou, coder, ClassAgnosticPredictor) for iou, coder, _ in STAGES
        )

    def forward(
        self, maps: Maps, proposals: list[Tensor], sizes: list[Size], targets: Targets | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Returns detections and losses: in training mode only losses, else only detections. Labels count from 1."""
        if self.training:
            assert targets is not None
            return [], self._losses(maps, proposals, sizes, targets)
        return self._detections(maps, proposals, sizes), {}

    def _losses(self, maps: Maps, proposals: list[Tensor], sizes: list[Size], targets: Targets) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for number, (module, (_, _, weight)) in enumerate(zip(self.stages, STAGES, strict=True), 1):
            stage: Any = module
            proposals, matched, labels, regression_targets = stage.select_training_samples(proposals, targets)
            logits, deltas = self._predict_boxes(stage, maps, proposals, sizes)
            score_loss, box_loss = fastrcnn_loss(logits, deltas, labels, regression_targets)
            losses |= {f"stage{number}_score": weight * score_loss, f"stage{number}_box": weight * box_loss}
            refined = _refine_proposals(stage, deltas, proposals, sizes)
            if stage.has_mask():
                samples = self._mask_samples(stage, (proposals, matched, labels), refined, targets)
                losses[f"stage{number}_mask"] = weight * self._mask_loss(number, maps, sizes, samples, targets)
            proposals = refined
        return losses

    def _detections(self, maps: Maps, proposals: list[Tensor], sizes: list[Size]) -> list[dict[str, Tensor]]:
        probabilities = []
        for module in self.stages:
            stage: Any = module
            logits, deltas = self._predict_boxes(stage, maps, proposals, sizes)
            probabilities.append(logits.softmax(-1))
            last_proposals, proposals = proposals, _refine_proposals(stage, deltas, proposals, sizes, drop=False)
        log_mean = torch.stack(probabilities).mean(0).clamp_min(1e-12).log()
        # The last stage postprocesses the boxes. Its softmax of these logarithms is again the mean of the stages.
        boxes, scores, labels = stage.postprocess_detections(log_mean, deltas, last_proposals, sizes)
        detections = [
            {"boxes": image_boxes, "scores": image_scores, "labels": image_labels}
            for image_boxes, image_scores, image_labels in zip(boxes, scores, labels, strict=True)
        ]
        if stage.has_mask():
            for image, masks in zip(detections, self._masks(maps, boxes, labels, sizes), strict=True):
                image["masks"] = masks
        return detections

    def _masks(self, maps: Maps, boxes: list[Tensor], labels: list[Tensor], sizes: list[Size]) -> list[Tensor]:
        """The mean of the stages' masks, (n, 1, m, m) for each image."""
        by_stage = [maskrcnn_inference(logits, labels) for logits in self._all_mask_logits(maps, boxes, sizes)]
        return [torch.stack(masks).mean(0) for masks in zip(*by_stage, strict=True)]

    def _mask_loss(self, number: int, maps: Maps, sizes: list[Size], samples: Samples, targets: Targets) -> Tensor:
        """The mask loss of the positive samples, in the stage of this number, from 1."""
        proposals, matched, labels = samples
        positive = [torch.where(image_labels > 0)[0] for image_labels in labels]
        boxes = [image_proposals[indices] for image_proposals, indices in zip(proposals, positive, strict=True)]
        matched = [image_matched[indices] for image_matched, indices in zip(matched, positive, strict=True)]
        logits = self._mask_logits(number, maps, boxes, sizes)
        gt_masks, gt_labels = ([target[key] for target in targets] for key in ("masks", "labels"))
        loss: Tensor = maskrcnn_loss(logits, boxes, gt_masks, gt_labels, matched)
        return loss

    def _predict_boxes(self, stage: Any, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> tuple[Tensor, Tensor]:
        """The logits and box deltas of a stage's predictor."""
        logits, deltas = stage.box_predictor(stage.box_head(self._box_features(stage, maps, boxes, sizes)))
        return logits, deltas

    # Hybrid Task Cascade overrides the following methods.

    def _box_features(self, stage: Any, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> Tensor:
        """(n, width, 7, 7), the input of a stage's box head."""
        features: Tensor = stage.box_roi_pool(maps, boxes, sizes)
        return features

    def _mask_features(self, stage: Any, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> Tensor:
        """(n, width, 14, 14), the input of a stage's mask head."""
        features: Tensor = stage.mask_roi_pool(maps, boxes, sizes)
        return features

    def _mask_samples(self, stage: Any, samples: Samples, refined: list[Tensor], targets: Targets) -> Samples:
        """The samples of a stage's mask head: those of its box head."""
        return samples

    def _mask_logits(self, number: int, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> Tensor:
        """(n, classes, m, m), from the mask head of the stage of this number, from 1."""
        stage: Any = self.stages[number - 1]
        logits: Tensor = stage.mask_predictor(stage.mask_head(self._mask_features(stage, maps, boxes, sizes)))
        return logits

    def _all_mask_logits(self, maps: Maps, boxes: list[Tensor], sizes: list[Size]) -> list[Tensor]:
        """:meth:`_mask_logits` of each stage, for the same boxes."""
        return [self._mask_logits(number, maps, boxes, sizes) for number in range(1, len(self.stages) + 1)]


def _refine_proposals(
    stage: Any, deltas: Tensor, proposals: list[Tensor], sizes: list[Size], drop: bool = True
) -> list[Tensor]:
    """The proposals moved by a stage's deltas and clipped to the image; ``drop`` removes those without an area."""
    moved = stage.box_coder.decode(deltas[:, :4].detach(), proposals)[:, 0]
    images = moved.split([image_proposals.shape[0] for image_proposals in proposals])
    clipped = [clip_boxes_to_image(boxes, size) for boxes, size in zip(images, sizes, strict=True)]
    return [boxes[remove_small_boxes(boxes, 1e-2)] for boxes in clipped] if drop else clipped


class CascadeRCNN(FasterRCNN):
    """Cascade R-CNN."""

    class_row_layers: ClassVar = {  # without the box layers, which are class-agnostic
        "box_predictor.cls_score": ClassRows(1),
        "mask_fcn_logits": ClassRows(1),
    }

    def _roi_heads(self, spec: DetectorSpec) -> nn.Module:
        return CascadeHeads(spec, self.names, self.classes, self.with_masks)


class CascadeMaskRCNN(CascadeRCNN):
    """Cascade Mask R-CNN."""

    with_masks = True
