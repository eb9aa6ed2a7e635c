"""Cascade R-CNN (Cai, Vasconcelos: arXiv 1712.00726): three box stages with rising IoU, each fed with the last one's.

The stages are torchvision's second stages. Boxes are regressed without regard to class, as published, and each stage
has a mask head of its own, as Cascade Mask R-CNN has (section 5 of the extended version, arXiv 1906.09756).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from fishnet.tasks.base import ClassRows
from fishnet.tasks.detection.heads import DetectorSpec, FasterRCNN, roi_heads

STAGES = (
    (0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    (0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    (0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)
"""Of each stage: the IoU from which a proposal is an object, the regression weights, the weight of its losses."""

Size = tuple[int, int]


class AnyClassPredictor(nn.Module):
    """Class scores, and one box for all classes, in the shape that torchvision's predictors give.

    Args:
        features: of each proposal.
        classes: with the background.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.cls_score = nn.Linear(features, classes)
        self.bbox_pred = nn.Linear(features, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, features) -> (n, classes) logits and (n, 4 * classes) deltas, the same for each class."""
        return self.cls_score(x), self.bbox_pred(x).repeat(1, self.classes)


class CascadeHeads(nn.Module):
    """Three second stages in a row, called as torchvision's one is.

    Args:
        spec: the numbers, of each stage.
        names: of the maps that boxes are pooled from.
        classes: without the background.
        with_masks: whether each stage has a mask head.
    """

    def __init__(self, spec: DetectorSpec, names: Sequence[str], classes: int, with_masks: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            roi_heads(spec, names, classes, with_masks, iou, coder, AnyClassPredictor) for iou, coder, _ in STAGES
        )

    def forward(
        self,
        maps: dict[str, Tensor],
        proposals: list[Tensor],
        sizes: list[Size],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections and no losses, or in training mode no detections and losses; labels count from 1."""
        if self.training:
            assert targets is not None
            return [], self._losses(maps, proposals, sizes, targets)
        return self._detections(maps, proposals, sizes), {}

    def _losses(
        self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: list[Size], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for number, (stage, (_, _, weight)) in enumerate(zip(self.stages, STAGES, strict=True), 1):
            part: Any = stage
            proposals, matched, labels, deltas = part.select_training_samples(proposals, targets)
            scores, boxes = _predicted(part, maps, proposals, sizes)
            score_loss, box_loss = fastrcnn_loss(scores, boxes, labels, deltas)
            losses |= {f"stage{number}_score": weight * score_loss, f"stage{number}_box": weight * box_loss}
            if part.has_mask():
                losses[f"stage{number}_mask"] = weight * _mask_loss(
                    part, maps, proposals, sizes, matched, labels, targets
                )
            proposals = _refined(part, boxes, proposals, sizes)
        return losses

    def _detections(
        self, maps: dict[str, Tensor], proposals: list[Tensor], sizes: list[Size]
    ) -> list[dict[str, Tensor]]:
        shares = []
        for stage in self.stages:
            part: Any = stage
            scores, boxes = _predicted(part, maps, proposals, sizes)
            shares.append(scores.softmax(-1))
            before, proposals = proposals, _refined(part, boxes, proposals, sizes, drop=False)
        mean = torch.stack(shares).mean(0).clamp_min(1e-12).log()
        # The last stage puts the boxes in order; its softmax of these logarithms is the stages' mean again.
        found = part.postprocess_detections(mean, boxes, before, sizes)
        results = [{"boxes": b, "scores": s, "labels": n} for b, s, n in zip(*found, strict=True)]
        if part.has_mask():
            for one, masks in zip(results, self._masks(maps, results, sizes), strict=True):
                one["masks"] = masks
        return results

    def _masks(self, maps: dict[str, Tensor], results: list[dict[str, Tensor]], sizes: list[Size]) -> list[Tensor]:
        """The mean of the stages' masks, (n, 1, m, m) an image."""
        boxes, labels = [one["boxes"] for one in results], [one["labels"] for one in results]
        each = [maskrcnn_inference(_mask_logits(stage, maps, boxes, sizes), labels) for stage in self.stages]
        return [torch.stack(masks).mean(0) for masks in zip(*each, strict=True)]


def _predicted(stage: Any, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[Size]) -> tuple[Tensor, Tensor]:
    scores, deltas = stage.box_predictor(stage.box_head(stage.box_roi_pool(maps, boxes, sizes)))
    return scores, deltas


def _mask_logits(stage: Any, maps: dict[str, Tensor], boxes: list[Tensor], sizes: list[Size]) -> Tensor:
    logits: Tensor = stage.mask_predictor(stage.mask_head(stage.mask_roi_pool(maps, boxes, sizes)))
    return logits


def _mask_loss(
    stage: RoIHeads,
    maps: dict[str, Tensor],
    proposals: list[Tensor],
    sizes: list[Size],
    matched: list[Tensor],
    labels: list[Tensor],
    targets: list[dict[str, Tensor]],
) -> Tensor:
    """Of the proposals that are objects."""
    kept = [torch.where(one > 0)[0] for one in labels]
    boxes = [one[which] for one, which in zip(proposals, kept, strict=True)]
    places = [one[which] for one, which in zip(matched, kept, strict=True)]
    logits = _mask_logits(stage, maps, boxes, sizes)
    masks, named = ([target[name] for target in targets] for name in ("masks", "labels"))
    loss: Tensor = maskrcnn_loss(logits, boxes, masks, named, places)
    return loss


def _refined(stage: Any, deltas: Tensor, proposals: list[Tensor], sizes: list[Size], drop: bool = True) -> list[Tensor]:
    """The proposals moved by a stage, within the image; where ``drop``, those that have shrunk to nothing go."""
    moved = stage.box_coder.decode(deltas[:, :4].detach(), proposals)[:, 0]
    boxes = moved.split([one.shape[0] for one in proposals])
    clipped = [clip_boxes_to_image(one, size) for one, size in zip(boxes, sizes, strict=True)]
    return [one[remove_small_boxes(one, 1e-2)] for one in clipped] if drop else clipped


class CascadeRCNN(FasterRCNN):
    """Cascade R-CNN."""

    rows_of_classes: ClassVar = {
        "box_predictor.cls_score": ClassRows(1),
        "mask_fcn_logits": ClassRows(1),
    }  # boxes of any class

    def _roi_heads(self, spec: DetectorSpec) -> nn.Module:
        return CascadeHeads(spec, self.names, self.classes, self.with_masks)


class CascadeMaskRCNN(CascadeRCNN):
    """Cascade Mask R-CNN."""

    with_masks = True
