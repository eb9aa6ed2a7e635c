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
from torchmetrics import Metric

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects, encoded
from fishnet.errors import WorkError
from fishnet.images.rle import runs
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.tasks.engine import to_numpy

Kind = Literal["box", "mask"]
IOUS = np.linspace(0.5, 0.95, 10)  # what COCO averages over
RECALLS = np.linspace(0, 1, 101)  # where it reads the precision
MOST = 100  # detections of a class and image that it counts


@dataclass(frozen=True)
class Compared:
    """One image's annotated objects beside those found in it: all that is kept of an image.

    Attributes:
        truth: the annotated; their segmentations, if any, as compressed run lengths.
        found: the found, without cropped_masks.
        masks: of the found, as compressed run lengths; None for boxes alone.
    """

    truth: Objects
    found: Detections
    masks: tuple[dict[str, Any], ...] | None = None

    @classmethod
    def of(cls, truth: Objects, found: Detections, masks: bool) -> "Compared":
        """Puts the two side by side.

        Raises:
            ValueError: ``masks`` are asked for and one of the two has none.
        """
        if not masks:
            return cls(replace(truth, segmentations=None), replace(found, cropped_masks=None))
        if truth.segmentations is None or found.cropped_masks is None:
            raise ValueError(f"no masks {'annotated' if truth.segmentations is None else 'found'}")
        shapes = tuple(encoded(shape, found.size) for shape in truth.segmentations)
        cropped_masks = tuple(_encode(cropped_mask, found.size) for cropped_mask in found.cropped_masks)
        return cls(replace(truth, segmentations=shapes), replace(found, cropped_masks=None), cropped_masks)


def compared(raw: dict[str, Any], target: DetectionTarget, classes: Classes, masks: bool) -> Compared:
    """What a model gave for one image beside its target, in px of the image.

    Args:
        raw: ``boxes``, ``scores``, ``labels`` and perhaps ``masks`` in px of the input, tensors or arrays; or what was
            made of them already.
        target: with truth and placement.
        classes: of the model.
        masks: whether masks are measured too.

    Raises:
        WorkError: scores or boxes that are not finite.
    """
    assert target.truth is not None, "validation's targets carry the truth"
    assert target.placement is not None, "validation's targets carry the placement"
    if isinstance(raw, Detections):
        return Compared.of(target.truth, raw, masks)
    arrays = {key: to_numpy(value.detach()) if torch.is_tensor(value) else value for key, value in raw.items()}
    if not all(np.isfinite(arrays[key]).all() for key in ("boxes", "scores")):
        raise WorkError("the model's scores or boxes are not finite (NaN or infinite): its weights are of no use")
    if not masks:
        arrays.pop("masks", None)
    found = Detections.from_raw(arrays, classes, target.placement, threshold=0.0)
    return Compared.of(target.truth, found, masks)


@dataclass(frozen=True)
class CocoTable:
    """Average precision and recall, class by class. NaN where a class has no objects of that kind.

    Attributes:
        classes: what is measured.
        objects: (classes,) annotated objects of each, groups not counted.
        precision: (10 IoUs, 101 recalls, classes, 4 areas), 0..1: all, small, medium, large; of at most
            ``max_detections`` detections of a class and image.
        recall: (10 IoUs, classes, 4 areas, 3 limits), 0..1: at most 1, 10 and ``max_detections``
            detections of a class and image.
        scores: (10 IoUs, 101 recalls, classes), 0..1: down to which score detections count to reach that recall, all
            areas; 0 where it is not reached.
        max_detections: best detections of a class and image that count: COCO's 100, or more for crowded images.
    """

    classes: Classes
    objects: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    scores: NDArray[np.float64]
    max_detections: int = MOST

    def metrics(self) -> dict[str, float]:
        """``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl``, ``AR1``, ``AR10``, ``AR100``, ``ARs``, ``ARm`` and
        ``ARl``, 0..1; those that are not defined, for want of such objects, left out.
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
        means = {name: _mean(value) for name, value in values.items()}
        return {name: mean for name, mean in means.items() if mean is not None}

    def per_class(self) -> list[dict[str, Any]]:
        """One row a class, in the model's order: its objects, ``AP``, ``AP50``, ``AP75`` and ``AR100``, 0..1, None
        where it has no objects.
        """
        return [
            {
                "class": name,
                "id": self.classes.ids[k],
                "objects": int(self.objects[k]),
                "AP": _mean(self.precision[:, :, k, 0]),
                "AP50": _mean(self.precision[_at(0.5), :, k, 0]),
                "AP75": _mean(self.precision[_at(0.75), :, k, 0]),
                f"AR{self.max_detections}": _mean(self.recall[:, k, 0, 2]),
            }
            for k, name in enumerate(self.classes.names)
        ]

    def curves(self, iou: float = 0.5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision, and the score down to which detections then count, at :data:`RECALLS`.

        Args:
            iou: one of :data:`IOUS`.

        Returns:
            Two arrays of shape (classes, 101), 0..1.
        """
        return self.precision[_at(iou), :, :, 0].T, self.scores[_at(iou)].T


def coco_table(truths: Sequence[Objects], found: Sequence[Detections], classes: Classes, kind: Kind) -> CocoTable:
    """Measures detections by COCO's rules; equal to pycocotools.

    Args:
        truths: the annotated objects of each image, cut off at its edges; small, medium and large go by their areas.
        found: the detections of each image, in the same order.
        classes: what both are numbered by.
        kind: whether boxes or masks are compared.

    Raises:
        ValueError: masks that are not there.
    """
    pairs = zip(truths, found, strict=True)
    return table_of([Compared.of(truth, objects, kind == "mask") for truth, objects in pairs], classes, kind)


def table_of(pairs: Sequence[Compared], classes: Classes, kind: Kind, max_detections: int = MOST) -> CocoTable:
    """:func:`coco_table` of images that were put side by side already; ``max_detections``: see :class:`CocoTable`."""
    from faster_coco_eval.core.coco import COCO
    from faster_coco_eval.core.faster_eval_api import COCOeval_faster

    labels = [pair.truth.labels[~pair.truth.crowd] for pair in pairs]
    objects = np.bincount(np.concatenate([*labels, np.empty(0, np.int64)]), minlength=len(classes))
    if not objects.any():
        precision, recall, scores = (np.full(shape, np.nan) for shape in _shapes(len(classes)))
        return CocoTable(classes, objects, precision, recall, scores, max_detections)
    common = {
        "images": [{"id": i, "height": it.found.size[0], "width": it.found.size[1]} for i, it in enumerate(pairs)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes.names)],
    }
    with _uncollected():
        truths = COCO({**common, "annotations": list(_truth_rows(pairs, kind))})
        found = COCO({**common, "annotations": list(_found_rows(pairs, kind))})
        judge = COCOeval_faster(truths, found, "bbox" if kind == "box" else "segm", print_function=_quiet)
        judge.params.maxDets = [1, 10, max_detections]
        judge.evaluate()
        judge.accumulate()
    values = (judge.eval[name] for name in ("precision", "recall", "scores"))
    precision, recall, scores = (np.where(value > -1, value, np.nan) for value in values)
    return CocoTable(classes, objects, precision[..., 2].copy(), recall, scores[..., 0, 2].copy(), max_detections)


class CocoMetric(Metric):
    """COCO's metrics of a model's raw outputs, as training and ``fishnet val`` use them; over all processes.

    ``compute`` gives the names of :meth:`CocoTable.metrics`, with masks also the same with ``mask_`` before it. Without
    any annotated object none is defined; ``AP`` (and ``mask_AP``) are then 0, so that training has them to go by.

    Args:
        classes: of the model's outputs.
        masks: whether masks are measured too.
        max_detections: see :class:`CocoTable`.
    """

    full_state_update = True
    higher_is_better = True
    is_differentiable = False

    def __init__(self, classes: Classes, masks: bool = False, max_detections: int = MOST) -> None:
        super().__init__(sync_on_compute=False)  # there are no tensors to reduce: see _all
        self.classes, self.masks, self.max_detections = classes, masks, max_detections
        self.pairs: list[Compared] = []

    def update(self, outputs: Sequence[dict[str, Any]] | dict[str, Any], targets: Sequence[DetectionTarget]) -> None:
        """Takes a batch; see :func:`compared`, also for what it raises.

        Args:
            outputs: the raw outputs, one an image, or what a detector gives with targets: these as ``found``.
            targets: one an image.
        """
        found = outputs["found"] if isinstance(outputs, dict) else outputs
        pairs = zip(found, targets, strict=True)
        self.pairs += [compared(raw, target, self.classes, self.masks) for raw, target in pairs]

    def compute(self) -> dict[str, Tensor]:
        """The metrics of all images of all processes, 0..1."""
        pairs = self._all()
        values = {"AP": 0.0, **table_of(pairs, self.classes, "box", self.max_detections).metrics()}
        if self.masks:
            found = {"AP": 0.0, **table_of(pairs, self.classes, "mask", self.max_detections).metrics()}
            values |= {f"mask_{name}": value for name, value in found.items()}
        return {name: torch.tensor(value, device=self.device) for name, value in values.items()}

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.pairs = []

    def _all(self) -> list[Compared]:
        """The images of all processes, in the order in which these share a set: it decides between equal scores."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self.pairs
        gathered: list[list[Compared]] = [[]] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, self.pairs)
        return [pair for row in itertools.zip_longest(*gathered) for pair in row if pair is not None]


def wide(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, 4) x1, y1, x2, y2 -> COCO's x, y, width, height."""
    found = boxes.astype(np.float64)
    found[:, 2:] -= found[:, :2]
    return found


def _truth_rows(pairs: Sequence[Compared], kind: Kind) -> Iterable[dict[str, Any]]:
    truths = [pair.truth for pair in pairs]
    fields = {
        "image_id": _numbers([len(truth) for truth in truths]),
        "category_id": np.concatenate([truth.labels for truth in truths]).tolist(),
        "bbox": wide(np.concatenate([truth.boxes for truth in truths])).tolist(),
        "area": np.concatenate([truth.areas for truth in truths]).tolist(),
        "iscrowd": np.concatenate([truth.crowd for truth in truths]).astype(np.int64).tolist(),
    }
    if kind == "mask":
        fields["segmentation"] = [shape for truth in truths for shape in truth.segmentations or ()]
    return _rows(fields)


def _found_rows(pairs: Sequence[Compared], kind: Kind) -> Iterable[dict[str, Any]]:
    from faster_coco_eval.core import mask as coco

    found = [pair.found for pair in pairs]
    boxes = wide(np.concatenate([it.boxes for it in found]))
    fields = {
        "image_id": _numbers([len(it.boxes) for it in found]),
        "category_id": np.concatenate([it.labels for it in found]).tolist(),
        "bbox": boxes.tolist(),
        "area": boxes[:, 2:].prod(1).tolist(),
        "score": np.concatenate([it.scores for it in found]).astype(np.float64).tolist(),
    }
    if kind == "mask":
        fields["segmentation"] = [shape for pair in pairs for shape in pair.masks or ()]
        fields["area"] = np.asarray(coco.area(fields["segmentation"]), np.float64).tolist()
    return _rows(fields)


def _rows(fields: dict[str, list[Any]]) -> Iterable[dict[str, Any]]:
    names = ("id", "iscrowd", *fields)  # ids from 1: 0 would say "no match"
    columns = zip(*fields.values(), strict=True)
    return (dict(zip(names, (i, 0, *values), strict=True)) for i, values in enumerate(columns, 1))


def _numbers(counts: Sequence[int]) -> list[int]:
    return np.repeat(np.arange(len(counts)), counts).tolist()


def _encode(cropped_mask: CroppedMask, size: tuple[int, int]) -> dict[str, Any]:
    return encoded(
        {"size": list(size), "counts": runs(cropped_mask.bits, size, cropped_mask.top, cropped_mask.left)}, size
    )


def _shapes(classes: int) -> tuple[tuple[int, ...], ...]:
    ious, recalls = len(IOUS), len(RECALLS)
    return (ious, recalls, classes, 4), (ious, classes, 4, 3), (ious, recalls, classes)


def _at(iou: float) -> int:
    return int(np.abs(IOUS - iou).argmin())


def _mean(values: NDArray[np.float64]) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Python looks for cycles among hundreds of thousands of rows again and again: a quarter of the time."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _quiet(*_: object) -> None:
    pass
