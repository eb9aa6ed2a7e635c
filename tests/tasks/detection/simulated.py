"""What the tests of detection metrics share: simulated datasets, and pycocotools' evaluation of them."""

import contextlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as pycoco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.objects import Objects
from fishnet.images.preprocess import Placement
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.tasks.detection.metrics import EvaluationPair

Numbers = np.random.Generator


@dataclass(frozen=True)
class SimulatedDataset:
    """Annotated objects and detections of some images."""

    truths: list[Objects]
    detections: list[Detections]
    classes: Classes


def simulated(
    seed: int,
    images: int = 12,
    classes: int = 4,
    max_detections: int = 20,
    *,
    masks: bool = False,
    coarse: bool = False,
) -> SimulatedDataset:
    """Objects of all sizes, some in crowds, and detections near them, duplicate, elsewhere or of another class.

    Every fourth image has no objects, every fifth no detections, and the last class neither. With ``coarse`` boxes
    lie on a grid and scores are tenths, so that many overlaps and scores are equal.
    """
    random = np.random.default_rng(seed)
    names = Classes(tuple(f"c{k}" for k in range(classes)), tuple(10 * k + 3 for k in range(classes)))
    truths, detections = [], []
    for i in range(images):
        size = int(random.integers(90, 160)), int(random.integers(100, 200))
        count = 0 if i % 4 == 1 else int(random.integers(1, 12))
        objects = _objects(random, count, max(1, classes - 1), size, masks=masks, coarse=coarse)
        truths.append(objects)
        detections.append(_detections(random, objects, 0 if i % 5 == 2 else max_detections, names, coarse=coarse))
    return SimulatedDataset(truths, detections, names)


def _boxes(random: Numbers, count: int, size: tuple[int, int], *, coarse: bool) -> NDArray[Any]:
    sides = np.exp(random.uniform(np.log(4), np.log(170), (count, 2)))
    boxes = np.concatenate([low := random.uniform(-5, (size[1] - 6, size[0] - 6), (count, 2)), low + sides], 1)
    return (boxes / 16).round() * 16 if coarse else boxes


def _objects(random: Numbers, count: int, classes: int, size: tuple[int, int], *, masks: bool, coarse: bool) -> Objects:
    boxes = _boxes(random, count, size, coarse=coarse)
    shapes = [_shape(random, i, box, size) for i, box in enumerate(boxes)] if masks else None
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    areas = sides.prod(1) * random.uniform(0.3, 1, count)  # as annotated: neither the boxes' nor the masks'
    labels, crowd = random.integers(0, classes, count), random.random(count) < 0.15
    return Objects.of(boxes, labels, size, crowd=crowd, areas=areas, segmentations=shapes).clean(size)


def _shape(random: Numbers, number: int, box: NDArray[Any], size: tuple[int, int]) -> Any:
    """Polygons, in one part or two, run lengths, or these compressed, in turn."""
    middle, half = (box[:2] + box[2:]) / 2, np.maximum(1, (box[2:] - box[:2]) / 2)
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    corners = middle + half * np.stack([np.cos(angles), np.sin(angles)], 1) * random.uniform(0.85, 1, (8, 1))
    corners = corners.clip(0, size[::-1])
    if number % 4 == 0:
        return [corners.ravel().tolist()]
    if number % 4 == 1:
        return [corners.ravel().tolist(), ((corners + middle) / 2).ravel().tolist()]
    page = Image.new("L", size[::-1])
    ImageDraw.Draw(page).polygon(corners.ravel().tolist(), fill=1)
    bits = np.asarray(page)
    if number % 4 == 2:
        return pycoco.encode(np.asfortranarray(bits))
    flat = bits.ravel(order="F")
    places = np.flatnonzero(np.diff(flat, prepend=0))
    return {"size": list(size), "counts": np.diff(places, prepend=0, append=flat.size).tolist()}


def _detections(
    random: Numbers, objects: Objects, max_detections: int, classes: Classes, *, coarse: bool
) -> Detections:
    near = np.arange(len(objects)).repeat(random.integers(0, 3, len(objects)))[:max_detections]
    sides = np.tile(objects.boxes[near, 2:] - objects.boxes[near, :2], 2)
    boxes = objects.boxes[near] + random.normal(0, 0.06, (len(near), 4)) * sides
    boxes = np.concatenate([boxes, _boxes(random, max_detections - len(near), objects.size, coarse=False)])
    if coarse:
        boxes = (boxes / 16).round() * 16
    height, width = objects.size
    boxes = boxes.clip(0, [width, height, width, height])
    labels = np.concatenate(
        [objects.labels[near], random.integers(0, max(1, len(classes) - 1), max_detections - len(near))]
    )
    scores = random.uniform(0.02, 1, max_detections)
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 1).all(1)
    order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")]
    if coarse:
        scores = scores.round(1)
    boxes, labels, scores = boxes[order].astype(np.float32), labels[order], scores[order].astype(np.float32)
    cropped_masks = None
    if objects.segmentations is not None:
        cropped_masks = tuple(_ellipse(random, box) for box in boxes)
    return Detections(boxes, labels.astype(np.int64), scores, classes, objects.size, cropped_masks)


def _ellipse(random: Numbers, box: NDArray[Any]) -> CroppedMask:
    left, top, right, bottom = (int(value) for value in (*np.floor(box[:2]), *np.ceil(box[2:])))
    y, x = np.mgrid[-1 : 1 : (bottom - top) * 1j, -1 : 1 : (right - left) * 1j]
    return CroppedMask(left, top, x**2 + y**2 < random.uniform(0.7, 1))


def full(cropped_mask: CroppedMask, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A cropped mask in an image of its own size."""
    page = np.zeros(size, np.uint8)
    height, width = cropped_mask.bits.shape
    page[cropped_mask.top : cropped_mask.top + height, cropped_mask.left : cropped_mask.left + width] = (
        cropped_mask.bits
    )
    return page


def by_pycocotools(dataset: SimulatedDataset, kind: str) -> COCOeval:
    """The reference's evaluation of the same objects, given in COCO's own format."""
    images, annotations, results = [], [], []
    for i, (truth, detections) in enumerate(zip(dataset.truths, dataset.detections, strict=True), 1):
        images.append({"id": i, "height": truth.size[0], "width": truth.size[1]})
        for j in range(len(truth)):
            annotation = {"id": len(annotations) + 1, "image_id": i, "category_id": int(truth.labels[j]) + 1}
            annotation |= {"area": float(truth.areas[j]), "iscrowd": int(truth.crowd[j]), "bbox": _xywh(truth.boxes[j])}
            if truth.segmentations is not None:
                annotation["segmentation"] = truth.segmentations[j]
            annotations.append(annotation)
        for j in range(len(detections.boxes)):
            result = {"image_id": i, "category_id": int(detections.labels[j]) + 1, "score": float(detections.scores[j])}
            if kind == "mask":
                assert detections.cropped_masks is not None
                page = np.asfortranarray(full(detections.cropped_masks[j], detections.size))
                results.append({**result, "segmentation": pycoco.encode(page)})
            else:
                results.append({**result, "bbox": _xywh(detections.boxes[j])})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(dataset.classes.names)]
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = {"images": images, "annotations": annotations, "categories": categories}
        truths.createIndex()
        if results:
            answers = truths.loadRes(results)
        else:  # loadRes does not accept an empty list
            answers = COCO()
            answers.dataset = {"images": images, "annotations": [], "categories": categories}
            answers.createIndex()
        judge = COCOeval(truths, answers, "segm" if kind == "mask" else "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def _xywh(box: NDArray[Any]) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def as_batch(dataset: SimulatedDataset, seed: int = 0) -> tuple[list[dict[str, NDArray[Any]]], list[DetectionTarget]]:
    """Raw outputs and validation targets, as if each image had been resized to twice its size and padded."""
    import torch

    random = np.random.default_rng(seed)
    outputs, targets = [], []
    for truth, detections in zip(dataset.truths, dataset.detections, strict=True):
        inner = 2 * truth.size[0], 2 * truth.size[1]
        placement = Placement(truth.size, inner, (-(-inner[0] // 32) * 32, -(-inner[1] // 32) * 32))
        raw: dict[str, NDArray[Any]] = {
            "boxes": placement.to_input(detections.boxes),
            "scores": detections.scores,
            "labels": detections.labels,
        }
        if detections.cropped_masks is not None:
            y, x = np.mgrid[-1:1:14j, -1:1:14j]
            blurs = random.uniform(0.7, 1.1, (len(detections.boxes), 1, 1)) - (x**2 + y**2)
            raw["masks"] = (0.5 + 2 * blurs).clip(0, 1).astype(np.float32)
        boxes = torch.from_numpy(placement.to_input(truth.boxes))
        labels, crowd = torch.from_numpy(truth.labels), torch.from_numpy(truth.crowd)
        outputs.append(raw)
        targets.append(DetectionTarget(boxes, labels, crowd, None, truth, placement))
    return outputs, targets


def pairs_of(dataset: SimulatedDataset, masks: bool = False) -> list[EvaluationPair]:
    """The pairs that metrics and reports evaluate."""
    images = zip(dataset.truths, dataset.detections, strict=True)
    return [EvaluationPair.of(truth, detections, masks) for truth, detections in images]


def without_detections(dataset: SimulatedDataset) -> SimulatedDataset:
    """The same dataset without detections."""
    none = np.zeros(0, int)
    return replace(dataset, detections=[it.take(none) for it in dataset.detections])


def without_objects(dataset: SimulatedDataset) -> SimulatedDataset:
    """The same dataset without annotated objects."""
    return replace(dataset, truths=[it.take(np.zeros(0, int)) for it in dataset.truths])
