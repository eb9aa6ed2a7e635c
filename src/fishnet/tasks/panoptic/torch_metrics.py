"""Panoptic quality in training: from raw outputs and targets, over all processes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import INSTANCES, SEGMENT, PanopticConfig
from fishnet.data.detection.objects import Objects
from fishnet.data.segmentation.base import LabelMap
from fishnet.prediction.panoptic import merge
from fishnet.prediction.results import Detections, Panoptic, Segmentation
from fishnet.recipes.joint_recipe import MEAN
from fishnet.tasks.engine import to_numpy
from fishnet.tasks.joint_parts import JointMetrics, JointOutputs
from fishnet.tasks.panoptic.metrics import PanopticQuality, Segments


class PanopticMetrics(JointMetrics):
    """The metrics of a panoptic model's heads, and the quality of the merged segments.

    Args:
        config: classes and thresholds.
        label_classes: the classes of the label maps.
        metrics, logged, monitors, monitor: see :class:`~fishnet.tasks.joint_parts.JointMetrics`; here ``monitor`` may
            also be a metric of the segments.
    """

    def __init__(
        self,
        config: PanopticConfig,
        label_classes: Classes,
        metrics: Mapping[str, Any],
        logged: Mapping[str, Sequence[str]],
        monitors: Mapping[str, str],
        monitor: str,
    ) -> None:
        super().__init__(metrics, logged, monitors, monitor if "/" in monitor else MEAN)
        self.quality = PanopticMetric(config, label_classes)

    def update(self, outputs: JointOutputs, targets: Any = None) -> None:
        """Adds a batch."""
        super().update(outputs, targets)
        if INSTANCES in outputs.outputs:
            self.quality.update(outputs.outputs, outputs.targets)

    def compute(self) -> dict[str, Any]:
        """``PQ`` and its parts, and the metrics of both heads, 0 to 1."""
        heads = super().compute()
        return {**self.quality.compute(), **{name: value for name, value in heads.items() if name != MEAN}}

    def reset(self) -> None:
        """Forgets all batches."""
        super().reset()
        self.quality.reset()


class PanopticMetric(Metric):
    """:class:`~fishnet.tasks.panoptic.metrics.PanopticQuality` of raw outputs.

    Args:
        config: classes and thresholds.
        label_classes: the classes of the label maps.
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    sums: Tensor

    def __init__(self, config: PanopticConfig, label_classes: Classes) -> None:
        super().__init__()
        self.config, self.label_classes = config, label_classes
        self.things = [i for i, one in enumerate(config.segments) if one.is_thing]
        self.stuff = [i for i, one in enumerate(config.segments) if not one.is_thing]
        self.add_state("sums", torch.zeros(len(config.segments), 4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
        """Adds a batch: the raw outputs of both heads with targets, and their validation targets."""
        quality = PanopticQuality(self.config.segments)
        rows = zip(outputs[INSTANCES]["detections"], outputs[SEGMENT]["logits"], strict=True)
        for (raw, logits), objects, labels in zip(rows, targets[INSTANCES], targets[SEGMENT], strict=True):
            predicted = self._predicted(raw, logits, objects.placement)
            truth = annotated_segments(objects.truth, labels.truth, self.things, self.stuff)
            quality.update(Segments.of_result(predicted), truth)
        self.sums += torch.from_numpy(quality.sums).to(self.sums)

    def _predicted(self, raw: Mapping[str, Tensor], logits: Tensor, placement: Any) -> Panoptic:
        height, width = placement.outer
        detections = Detections.from_raw(
            to_numpy(raw), self.config.things, placement,
            threshold=self.config.score_threshold, mask_threshold=self.config.mask_threshold,
        )  # fmt: skip
        planes = to_numpy(logits.detach()[:, :height, :width])
        label_map = Segmentation.from_logits(planes, self.label_classes, placement=placement)
        return merge(detections, label_map, self.config)

    def compute(self) -> dict[str, Tensor]:
        """``PQ``, ``SQ``, ``RQ``, and each with ``_th`` and ``_st``, 0..1."""
        quality = PanopticQuality(self.config.segments)
        quality.sums = self.sums.cpu().numpy()
        return {name: torch.tensor(value, dtype=torch.float32) for name, value in quality.compute().items()}


def annotated_segments(objects: Objects, labels: LabelMap, things: Sequence[int], stuff: Sequence[int]) -> Segments:
    """An image's annotated segments, from the targets of both heads.

    Args:
        objects: with masks that do not overlap.
        labels: label map of ``things`` (0), the stuff classes and void.
        things, stuff: indices of the heads' classes among all segment classes.
    """
    ids: NDArray[np.int32] = np.zeros(labels.shape, np.int32)
    present = [i for i in range(len(stuff)) if (labels == 1 + i).any()]
    for i in present:
        ids[labels == 1 + i] = 1 + i
    categories = {1 + i: stuff[i] for i in present}
    crowds = []
    for number in range(len(objects)):
        bits, x, y = objects.bits(number)
        id_ = 1 + len(stuff) + number
        ids[y : y + bits.shape[0], x : x + bits.shape[1]][bits.astype(bool)] = id_
        categories[id_] = things[int(objects.labels[number])]
        if objects.crowd[number]:
            crowds.append(id_)
    return Segments(ids, categories, crowds)
