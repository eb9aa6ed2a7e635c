"""The detections of a one-stage detector for a batch of images, in operations that ONNX has.

torchvision decodes one image after the other, so that a graph traced from it takes one image. Here all images of a
batch share each step, and the output has as many rows for each image as the head returns at most. The steps are those
of ``postprocess_detections`` in torchvision 0.29's ``RetinaNet`` and ``FCOS``.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection._utils import _topk_min
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image, nms

from fishnet.tasks.detection.heads import OneStage
from fishnet.tasks.trunk import Features

NO_LABEL = -1  # of the rows after an image's last detection, whose scores and boxes are 0


def batched_detections(head: OneStage, features: Features) -> dict[str, Tensor]:
    """Returns the detections of a batch, each image's best first.

    Args:
        head: in evaluation mode.
        features: of a trunk.

    Returns:
        ``boxes`` (batch, rows, 4) x1, y1, x2, y2 in px of the input; ``scores`` (batch, rows) 0..1; ``labels`` (batch,
        rows) int64 from 0. ``rows`` is the head's ``max_detections``; those after an image's last detection have a
        score of 0 and :data:`NO_LABEL`.
    """
    maps = head.pyramid(features)
    images = ImageList(torch.empty(1, 1, *features.padded_size, device="meta"), [features.size])
    outputs, (anchors,), counts = head._outputs(images, maps)
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    levels = [
        _candidates(head, {name: values[:, start:end] for name, values in outputs.items()}, anchors[start:end])
        for start, end in pairwise(starts)
    ]
    boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
    boxes = clip_boxes_to_image(boxes, features.size)
    scores = scores * _kept(boxes, scores, labels, head)
    return _rows(boxes, scores, labels, head.spec.max_detections)


def _candidates(head: OneStage, outputs: dict[str, Tensor], anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best (batch, k) pairs of anchor and class of a level: boxes, scores and labels."""
    net, logits = head.net, outputs["cls_logits"]
    scores = logits.sigmoid()
    if "bbox_ctrness" in outputs:
        scores = torch.sqrt(scores * outputs["bbox_ctrness"].sigmoid())
    flat = scores.flatten(1)
    best, places = flat.topk(_topk_min(flat, net.topk_candidates, 1))
    rows = torch.div(places, head.classes, rounding_mode="floor")
    deltas = outputs["bbox_regression"].gather(1, rows[..., None].expand(-1, -1, 4)).flatten(0, 1)
    near = anchors[rows.flatten()]
    decode: Any = net.box_coder.decode if "bbox_ctrness" in outputs else net.box_coder.decode_single
    return decode(deltas, near).reshape(-1, best.shape[1], 4), best, places % head.classes


def _kept(boxes: Tensor, scores: Tensor, labels: Tensor, head: OneStage) -> Tensor:
    """(batch, k) 1 for the boxes that non-maximum suppression within each class leaves, else 0."""
    # boxes of different classes are moved apart, as torchvision's batched_nms does
    apart = boxes + (labels.to(boxes) * (boxes.max() + 1))[..., None]
    net, spec = head.net, head.spec
    chosen: Tensor = _NonMaxSuppression.apply(apart, scores, net.nms_thresh, net.score_thresh, spec.max_detections)
    count = scores.shape[1]
    flat = torch.zeros_like(scores).flatten()
    return flat.scatter(0, chosen[:, 0] * count + chosen[:, 2], 1.0).reshape(-1, count)


def _rows(boxes: Tensor, scores: Tensor, labels: Tensor, rows: int) -> dict[str, Tensor]:
    """The best detections of each image in that many rows."""
    spare = scores.new_zeros(1, rows).expand(scores.shape[0], -1)  # fewer candidates than rows
    best, places = torch.cat([scores, spare], 1).topk(rows)
    boxes = torch.cat([boxes, spare[..., None].expand(-1, -1, 4)], 1)
    labels = torch.cat([labels, spare.to(labels)], 1)
    found = best > 0
    return {
        "boxes": boxes.gather(1, places[..., None].expand(-1, -1, 4)) * found[..., None],
        "scores": best,
        "labels": torch.where(found, labels.gather(1, places), NO_LABEL),
    }


class _NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator of that name, with a single class: (n, 3) number of the image, 0, and of the box."""

    @staticmethod
    def forward(_ctx: Any, boxes: Tensor, scores: Tensor, iou: float, lowest: float, most: int) -> Tensor:
        chosen = []
        for number, (image_boxes, image_scores) in enumerate(zip(boxes, scores, strict=True)):
            (candidates,) = torch.where(image_scores > lowest)
            kept = candidates[nms(image_boxes[candidates], image_scores[candidates], iou)[:most]]
            chosen.append(torch.stack([torch.full_like(kept, number), torch.zeros_like(kept), kept], 1))
        return torch.cat(chosen)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float, lowest: float, most: int) -> Any:
        """Writes the operator; torch's tracing exporter calls this."""
        axis = g.op("Constant", value_t=torch.tensor([1]))
        limits = [g.op("Constant", value_t=torch.tensor([value])) for value in (most, iou, lowest)]
        return g.op("NonMaxSuppression", boxes, g.op("Unsqueeze", scores, axis), *limits)
