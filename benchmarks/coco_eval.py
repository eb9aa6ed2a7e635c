"""COCO evaluation: the time of pycocotools against ours, on simulated detections of COCO's counts.

python benchmarks/coco_eval.py [--images 5000] [--mask-images 500] [--rounds 3]
"""

import argparse
import contextlib
import importlib.metadata
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fishnet.bundle.classes import Classes
from fishnet.data.detection.objects import Objects, compressed_rle
from fishnet.images.rle import runs
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.tasks.detection.metrics import EvaluationPair, Kind, coco_table, evaluate_pairs

CLASSES, SIZE = 80, (480, 640)  # COCO's classes and its commonest size
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
Images = tuple[list[Objects], list[Detections], Classes]


def boxes_of(random: np.random.Generator, count: int) -> NDArray[Any]:
    """Sides from a log-normal distribution, 55 px in the median, 4 to 480 px."""
    sides = np.exp(random.normal(4, 1, (count, 2))).clip(4, 480)
    low = random.uniform(0, 1, (count, 2)) * (np.array(SIZE[::-1]) - 4)
    return np.concatenate([low, (low + sides).clip(max=SIZE[::-1])], 1)


def disc(box: NDArray[Any]) -> CroppedMask:
    """An ellipse over a box."""
    left, top, right, bottom = (int(value) for value in (*np.floor(box[:2]), *np.ceil(box[2:])))
    y, x = np.mgrid[-1 : 1 : (bottom - top) * 1j, -1 : 1 : (right - left) * 1j]
    return CroppedMask(left, top, x**2 + y**2 <= 1)


def simulate(images: int, masks: bool, seed: int = 0) -> Images:
    """Images with 7.3 objects in the mean and up to 100 detections: two near each object, of its class in five of six
    cases, and the rest anywhere with low scores. Classes are unequal: the first has a tenth of all objects.
    """
    random = np.random.default_rng(seed)
    classes = Classes.of(f"class {k}" for k in range(CLASSES))
    shares = 1 / np.arange(1, CLASSES + 1) ** 0.8
    shares /= shares.sum()
    truths, predictions = [], []
    for _ in range(images):
        count = min(random.geometric(1 / 8.3) - 1, 60)
        boxes = boxes_of(random, count)
        labels = random.choice(CLASSES, count, p=shares)
        crowd = random.random(count) < 0.01
        shapes = [_shape(box) for box in boxes] if masks else None
        truths.append(Objects.of(boxes, labels, SIZE, crowd=crowd, segmentations=shapes).clean(SIZE))
        near = boxes.repeat(2, 0)
        near += random.normal(0, 0.08, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
        rest = int(random.integers(max(1, 101 - len(near)))) if random.random() < 0.5 else max(0, 100 - len(near))
        all_boxes = np.concatenate([near, boxes_of(random, rest)]).clip(0, [*SIZE[::-1]] * 2)
        all_labels = np.concatenate([labels.repeat(2), random.choice(CLASSES, rest, p=shares)])
        other = random.random(len(all_labels)) < 1 / 6
        all_labels[other] = random.integers(0, CLASSES, int(other.sum()))
        scores = np.concatenate([random.beta(3, 2, len(near)), random.beta(1, 8, rest)])
        order = np.argsort(-scores)
        order = order[((all_boxes[:, 2:] - all_boxes[:, :2]) > 1).all(1)[order]][:100]
        cropped_masks = tuple(disc(box) for box in all_boxes[order]) if masks else None
        predictions.append(
            Detections(
                all_boxes[order].astype(np.float32),
                all_labels[order],
                scores[order].astype(np.float32),
                classes,
                SIZE,
                cropped_masks,
            )
        )
    return truths, predictions, classes


def _shape(box: NDArray[Any]) -> dict[str, Any]:
    cropped_mask = disc(box)
    return compressed_rle(
        {"size": list(SIZE), "counts": runs(cropped_mask.bits, SIZE, cropped_mask.top, cropped_mask.left)}, SIZE
    )


def as_files(images: Images, kind: Kind) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What COCO's files would hold, read: pycocotools is timed from there on, and spared the making of these rows."""
    truths, predictions, classes = images
    image_rows, annotations, results = [], [], []
    for i, (truth, prediction) in enumerate(zip(truths, predictions, strict=True), 1):
        image_rows.append({"id": i, "height": SIZE[0], "width": SIZE[1]})
        for j in range(len(truth)):
            row = {"id": len(annotations) + 1, "image_id": i, "category_id": int(truth.labels[j]) + 1}
            row |= {"bbox": _xywh(truth.boxes[j]), "area": float(truth.areas[j]), "iscrowd": int(truth.crowd[j])}
            annotations.append(row | ({"segmentation": truth.segmentations[j]} if truth.segmentations else {}))
        for j in range(len(prediction.boxes)):
            row = {"image_id": i, "category_id": int(prediction.labels[j]) + 1, "score": float(prediction.scores[j])}
            if kind == "mask":
                assert prediction.cropped_masks is not None
                cropped_mask = prediction.cropped_masks[j]
                shape = {
                    "size": list(SIZE),
                    "counts": runs(cropped_mask.bits, SIZE, cropped_mask.top, cropped_mask.left),
                }
                results.append(row | {"segmentation": compressed_rle(shape, SIZE)})
            else:
                results.append(row | {"bbox": _xywh(prediction.boxes[j])})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(classes.names)]
    return {"images": image_rows, "annotations": annotations, "categories": categories}, results


def _xywh(box: NDArray[Any]) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def by_pycocotools(truths: dict[str, Any], results: list[dict[str, Any]], kind: Kind) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truths
        known.createIndex()
        judge = COCOeval(known, known.loadRes(results), "segm" if kind == "mask" else "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: value for name, value in zip(NAMES, judge.stats.tolist(), strict=True) if value > -1}


def timed(call: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    values = call()
    return time.perf_counter() - start, values


def compare(kind: Kind, count: int, rounds: int) -> str:
    """One row of the table."""
    images = simulate(count, kind == "mask")
    truths, results = as_files(images, kind)
    measure = partial(coco_table, *images, kind)
    if kind == "mask":  # from run lengths on, as pycocotools
        pairs = [
            EvaluationPair.of(truth, predictions, masks=True) for truth, predictions in zip(*images[:2], strict=True)
        ]
        measure = partial(evaluate_pairs, pairs, images[2], kind)
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        rows = [dict(row) for row in results]  # it writes into them
        reference, expected = timed(partial(by_pycocotools, truths, rows, kind))
        del rows
        seconds, values = timed(lambda: measure().metrics())
        times.append((reference, seconds))
    reference, seconds = (statistics.median(column) for column in zip(*times, strict=True))
    least = min(them / us for them, us in times)
    off = max(abs(values[name] - value) for name, value in expected.items())
    objects, detections = sum(map(len, images[0])), sum(map(len, images[1]))
    return (
        f"| {kind} | {count:,} | {objects:,} | {detections:,} | {reference:.2f} | {seconds:.2f} "
        f"| {reference / seconds:.1f} | {least:.1f} | {off:.0e} | {100 * values['AP']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--mask-images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    before = os.getloadavg()[0]
    print("| compared by | images | objects | detections | pycocotools, s | ours, s | times faster, of medians "
          "| least of a round | largest difference | AP, % |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind, count in (("box", options.images), ("mask", options.mask_images)):
        if count:
            print(compare(kind, count, options.rounds), flush=True)  # type: ignore[arg-type]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in
                         ("pycocotools", "faster-coco-eval", "numpy"))  # fmt: skip
    print(
        f"\nWall clock, {options.rounds} interleaved rounds. {versions}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores; "
        f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after."
    )


if __name__ == "__main__":
    main()
