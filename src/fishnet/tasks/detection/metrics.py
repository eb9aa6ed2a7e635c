"""COCO's average precision and recall of boxes and masks, by faster-coco-eval."""

import gc
import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects, compressed_rle
from fishnet.errors import WorkError
from fishnet.images.rle import runs
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.tasks.engine import to_numpy
from fishnet.tasks.report_files import nan_mean

Kind = Literal["box", "mask"]
IOUS = np.linspace(0.5, 0.95, 10)  # COCO averages over these
RECALLS = np.linspace(0, 1, 101)  # COCO takes the precision at these
MAX_DETECTIONS = 100  # per class and image, in COCO's metrics


@dataclass(frozen=True)
class EvaluationPair:
    """One image's annotated objects and its detections: all that is kept of an image.

    Attributes:
        truth: the annotated objects; their segmentations, if any, are compressed run lengths.
        detections: without ``cropped_masks``.
        masks: the masks of the detections, as compressed run lengths; None for boxes alone.
    """

    truth: Objects
    detections: Detections
    masks: tuple[dict[str, Any], ...] | None = None

    @classmethod
    def of(cls, truth: Objects, detections: Detections, masks: bool) -> "EvaluationPair":
        """Pairs the two, with their masks if ``masks`` is true.

        Raises:
            ValueError: ``masks`` is true and one of the two has none.
        """
        if not masks:
            return cls(replace(truth, segmentations=None), replace(detections, cropped_masks=None))
        if truth.segmentations is None or detections.cropped_masks is None:
            raise ValueError(f"no masks in the {'annotations' if truth.segmentations is None else 'detections'}")
        shapes = tuple(compressed_rle(shape, detections.size) for shape in truth.segmentations)
        cropped_masks = tuple(_encode(cropped_mask, detections.size) for cropped_mask in detections.cropped_masks)
        return cls(replace(truth, segmentations=shapes), replace(detections, cropped_masks=None), cropped_masks)

    @classmethod
    def from_outputs(
        cls, outputs: dict[str, Any] | Detections, target: DetectionTarget, classes: Classes, masks: bool
    ) -> "EvaluationPair":
        """Pairs a model's outputs for one image with the image's target, in px of the image.

        Args:
            outputs: ``boxes``, ``scores``, ``labels`` and perhaps ``masks`` in px of the input, as tensors or arrays;
                or the detections made of them.
            target: with truth and placement.
            classes: the model's classes.
            masks: whether masks are evaluated, too.

        Raises:
            WorkError: scores or boxes that are not finite.
        """
        assert target.truth is not None, "validation targets have the truth"
        assert target.placement is not None, "validation targets have the placement"
        if isinstance(outputs, Detections):
            return cls.of(target.truth, outputs, masks)
        arrays = {key: to_numpy(value.detach()) if torch.is_tensor(value) else value for key, value in outputs.items()}
        if not all(np.isfinite(arrays[key]).all() for key in ("boxes", "scores")):
            raise WorkError("the model's scores or boxes are not finite (NaN or infinite): its weights are unusable")
        if not masks:
            arrays.pop("masks", None)
        detections = Detections.from_raw(arrays, classes, target.placement, threshold=0.0)
        return cls.of(target.truth, detections, masks)


@dataclass(frozen=True)
class CocoTable:
    """Average precision and recall of each class. NaN where a class has no objects of that kind.

    Attributes:
        classes: the classes that are evaluated.
        objects: (classes,) number of annotated objects of each class, without crowds.
        precision: (10 IoUs, 101 recalls, classes, 4 areas), 0..1, for all, small, medium and large objects; of at most
            ``max_detections`` detections of a class and image.
        recall: (10 IoUs, classes, 4 areas, 3 limits), 0..1, for at most 1, 10 and ``max_detections`` detections of a
            class and image.
        scores: (10 IoUs, 101 recalls, classes), 0..1: the score threshold that reaches each recall, for all areas; 0
            where the recall is not reached.
        max_detections: number of detections of a class and image that count, best first: COCO's 100, or more for
            crowded images.
    """

    classes: Classes
    objects: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]
    max_detections: int = MAX_DETECTIONS

    def metrics(self) -> dict[str, float]:
        """``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR1``, ``AR10``, ``AR100``, ``ARs``, ``ARm`` and
        ``ARl``, 0..1. Metrics without any such object are undefined and left out.
        """
        precision, recall = self.precision, self.recall
        values = {
            "AP": precision[..., 0],
            "AP50": precision[_at(0.5), ..., 0],
            "AP75": precision[_at(0.75), ..., 0],
            **{f"AP{size}": precision[..., i] for i, size in enumerate("sml", 1)},
            **{f"AR{limit}": recall[..., 0, i] for i, limit in enumerate((1, 10, self.max_detections))},
            **{f"AR{size}": recall[..., i, 2] for i, size in enumerate("sml", 1)},
        }
        means = {name: nan_mean(value) for name, value in values.items()}
        return {name: mean for name, mean in means.items() if mean is not None}

    def per_class(self) -> list[dict[str, Any]]:
        """One row per class, in the model's order: its objects, ``AP``, ``AP50``, ``AP75`` and ``AR100``, 0..1, None
        where it has no objects.
        """
        return [
            {
                "class": name,
                "id": self.classes.ids[k],
                "objects": int(self.objects[k]),
                "AP": nan_mean(self.precision[:, :, k, 0]),
                "AP50": nan_mean(self.precision[_at(0.5), :, k, 0]),
                "AP75": nan_mean(self.precision[_at(0.75), :, k, 0]),
                f"AR{self.max_detections}": nan_mean(self.recall[:, k, 0, 2]),
            }
            for k, name in enumerate(self.classes.names)
        ]

    def curves(self, iou: float = 0.5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision at each of :data:`RECALLS`, and the score threshold that reaches it.

        Args:
            iou: one of :data:`IOUS`.

        Returns:
            Two arrays of shape (classes, 101), 0..1.
        """
        return self.precision[_at(iou), :, :, 0].T, self.scores[_at(iou)].T


def coco_table(truths: Sequence[Objects], detections: Sequence[Detections], classes: Classes, kind: Kind) -> CocoTable:
    """Evaluates detections by COCO's rules; equal to pycocotools.

    Args:
        truths: the annotated objects of each image, clipped to it; their areas make them small, medium or large.
        detections: the detections of each image, in the same order.
        classes: the classes of both.
        kind: whether boxes or masks are compared.

    Raises:
        ValueError: ``kind`` is ``mask`` and there are no masks.
    """
    images = zip(truths, detections, strict=True)
    pairs = [EvaluationPair.of(truth, objects, kind == "mask") for truth, objects in images]
    return evaluate_pairs(pairs, classes, kind)


def evaluate_pairs(
    pairs: Sequence[EvaluationPair], classes: Classes, kind: Kind, max_detections: int = MAX_DETECTIONS
) -> CocoTable:
    """:func:`coco_table` of pairs; for ``max_detections`` see :class:`CocoTable`."""
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    labels = [pair.truth.labels[~pair.truth.crowd] for pair in pairs]
    objects = np.bincount(np.concatenate([*labels, np.empty(0, np.int64)]), minlength=len(classes))
    if not objects.any():
        precision, recall, scores = (np.full(shape, np.nan) for shape in _shapes(len(classes)))
        return CocoTable(classes, objects, precision, recall, scores, max_detections)
    sizes = [pair.detections.size for pair in pairs]
    common = {
        "images": [{"id": i, "height": height, "width": width} for i, (height, width) in enumerate(sizes)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes.names)],
    }
    with _no_garbage_collection():
        truths = COCO({**common, "annotations": list(_truth_rows(pairs, kind))})
        detections = COCO({**common, "annotations": list(_detection_rows(pairs, kind))})
        evaluator = COCOeval_faster(truths, detections, "bbox" if kind == "box" else "segm", print_function=_quiet)
        evaluator.params.maxDets = [1, 10, max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
    values = (evaluator.eval[name] for name in ("precision", "recall", "scores"))
    precision, recall, scores = (np.where(value > -1, value, np.nan) for value in values)
    return CocoTable(classes, objects, precision[..., 2].copy(), recall, scores[..., 0, 2].copy(), max_detections)


class DetectionMetric(Metric):
    """COCO's metrics of a model's raw outputs over all processes, for training and ``fishnet val``.

    ``compute`` returns :meth:`CocoTable.metrics`, and with masks the same for masks under names with the prefix
    ``mask_``. Without any annotated object no metric is defined; ``AP`` (and ``mask_AP``) are then 0, because training
    monitors them.

    Args:
        classes: the classes of the model's outputs.
        masks: whether masks are evaluated, too.
        max_detections: see :class:`CocoTable`.
    """

    full_state_update = True
    higher_is_better = True
    is_differentiable = False

    def __init__(self, classes: Classes, masks: bool = False, max_detections: int = MAX_DETECTIONS) -> None:
        super().__init__(sync_on_compute=False)  # there are no tensors to reduce: see _gathered_pairs
        self.classes, self.masks, self.max_detections = classes, masks, max_detections
        self.pairs: list[EvaluationPair] = []

    def update(self, outputs: Sequence[Any] | dict[str, Any], targets: Sequence[DetectionTarget]) -> None:
        """Adds a batch. Errors as in :meth:`EvaluationPair.from_outputs`.

        Args:
            outputs: the raw outputs of each image, or a detector's outputs with targets, which have them under
                ``detections``.
            targets: the target of each image.
        """
        detections = outputs["detections"] if isinstance(outputs, dict) else outputs
        for raw, target in zip(detections, targets, strict=True):
            self.pairs.append(EvaluationPair.from_outputs(raw, target, self.classes, self.masks))

    def compute(self) -> dict[str, Tensor]:
        """The metrics of all images of all processes, 0..1."""
        pairs = self._gathered_pairs()
        values = {"AP": 0.0, **evaluate_pairs(pairs, self.classes, "box", self.max_detections).metrics()}
        if self.masks:
            of_masks = {"AP": 0.0, **evaluate_pairs(pairs, self.classes, "mask", self.max_detections).metrics()}
            values |= {f"mask_{name}": value for name, value in of_masks.items()}
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.pairs = []

    def _gathered_pairs(self) -> list[EvaluationPair]:
        """The pairs of all processes in the dataset's order, which decides between equal scores."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.pairs
        gathered: list[list[EvaluationPair]] = [[]] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, self.pairs)
        return [pair for row in itertools.zip_longest(*gathered) for pair in row if pair is not None]


def make_metrics(classes: Classes, masks: bool = False, max_detections: int = MAX_DETECTIONS) -> MetricCollection:
    """A new :class:`DetectionMetric`."""
    return MetricCollection({"coco": DetectionMetric(classes, masks, max_detections)})


def xyxy_to_xywh(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 4) x1, y1, x2, y2 -> COCO's x, y, width, height."""
    xywh = boxes.astype(np.float64)
    xywh[:, 2:] -= xywh[:, :2]
    return xywh


def _truth_rows(pairs: Sequence[EvaluationPair], kind: Kind) -> Iterable[dict[str, Any]]:
    truths = [pair.truth for pair in pairs]
    fields = {
        "image_id": _image_ids([len(truth) for truth in truths]),
        "category_id": np.concatenate([truth.labels for truth in truths]).tolist(),
        "bbox": xyxy_to_xywh(np.concatenate([truth.boxes for truth in truths])).tolist(),
        "area": np.concatenate([truth.areas for truth in truths]).tolist(),
        "iscrowd": np.concatenate([truth.crowd for truth in truths]).astype(np.int64).tolist(),
    }
    if kind == "mask":
        fields["segmentation"] = [shape for truth in truths for shape in truth.segmentations or ()]
    return _rows(fields)


def _detection_rows(pairs: Sequence[EvaluationPair], kind: Kind) -> Iterable[dict[str, Any]]:
    from faster_coco_eval.core import mask as coco

    detections = [pair.detections for pair in pairs]
    boxes = xyxy_to_xywh(np.concatenate([objects.boxes for objects in detections]))
    fields = {
        "image_id": _image_ids([len(objects.boxes) for objects in detections]),
        "category_id": np.concatenate([objects.labels for objects in detections]).tolist(),
        "bbox": boxes.tolist(),
        "area": boxes[:, 2:].prod(1).tolist(),
        "score": np.concatenate([objects.scores for objects in detections]).astype(np.float64).tolist(),
    }
    if kind == "mask":
        fields["segmentation"] = [shape for pair in pairs for shape in pair.masks or ()]
        fields["area"] = np.asarray(coco.area(fields["segmentation"]), np.float64).tolist()
    return _rows(fields)


def _rows(fields: dict[str, list[Any]]) -> Iterable[dict[str, Any]]:
    names = ("id", "iscrowd", *fields)  # ids count from 1, because 0 means "no match"
    columns = zip(*fields.values(), strict=True)
    return (dict(zip(names, (i, 0, *values), strict=True)) for i, values in enumerate(columns, 1))


def _image_ids(counts: Sequence[int]) -> list[int]:
    return np.repeat(np.arange(len(counts)), counts).tolist()


def _encode(cropped_mask: CroppedMask, size: tuple[int, int]) -> dict[str, Any]:
    return compressed_rle(
        {"size": list(size), "counts": runs(cropped_mask.bits, size, cropped_mask.top, cropped_mask.left)}, size
    )


def _shapes(classes: int) -> tuple[tuple[int, ...], ...]:
    ious, recalls = len(IOUS), len(RECALLS)
    return (ious, recalls, classes, 4), (ious, classes, 4, 3), (ious, recalls, classes)


def _at(iou: float) -> int:
    return int(np.abs(IOUS - iou).argmin())


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Saves a quarter of the time, which Python would spend looking for cycles among hundreds of thousands of rows."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _quiet(*_: object) -> None:
    pass
