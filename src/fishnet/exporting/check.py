"""Compares an exported file with its bundle, on real images, at three sizes, head by head.

Both engines start from the bytes of the files: each image is decoded, resized and normalized anew for each of them. The
comparison is on what the user gets: the logits of classifiers and segmenters, and the detections of detectors in px of
the image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle, HeadConfig
from fishnet.errors import NotFiniteError
from fishnet.files.numbers import is_finite
from fishnet.images.preprocess import DIVISOR, Placement
from fishnet.prediction.inputs import Input, load_image, prepare_input
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.prediction.sources import Source
from fishnet.runtime.exported import Exported, Precision
from fishnet.tasks.detection.spec import DetectorSpec
from fishnet.tasks.info import task_info

Engine = Callable[..., Any]

SCALES = (1.0, 0.75, 1.25)  # of the input's own size
_LARGER = (1.0, 1.25, 1.5)  # used if a smaller input would be too small
MIN_SCORE = 0.05  # detections with higher scores are compared
_MIN_IOU = 0.5  # of two boxes that can be the same object


@dataclass(frozen=True)
class Limits:
    """The largest differences that are accepted.

    Attributes:
        outputs: difference of logits, as a fraction of their range.
        box: px of the image.
        score: 0..1. A detection this close to the score threshold, or to the last one kept, may be missing in one file.
        mask: fraction of the px of the object's box.
        unmatched: maximum fraction of detections that only one engine has.
    """

    outputs: float = 1e-4
    box: float = 0.1
    score: float = 1e-4
    mask: float = 0.005
    unmatched: float = 0.0


# fp16 keeps 11 bits of each weight, an error of up to 2.4e-4, which accumulates over a hundred layers.
LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(),
    "fp16": Limits(outputs=2e-2, box=2.0, score=2e-2, mask=0.05, unmatched=0.02),
}


@dataclass
class Check:
    """The result of comparing one head.

    Attributes:
        limits: the accepted differences.
        images: number of images.
        inputs: height and width of each input, px.
        objects: number of detections compared; None for tasks without detections.
        unmatched: number of detections that only one engine has.
        outputs, box, score, mask: the largest differences, as in :class:`Limits`; None if the task has no such output.
        low, high: the range of the outputs.
        not_finite: number of inputs for which an engine's outputs are not all finite.
    """

    limits: Limits
    images: int = 0
    inputs: list[tuple[int, int]] = field(default_factory=list)
    objects: int | None = None
    unmatched: int = 0
    outputs: float | None = None
    box: float | None = None
    score: float | None = None
    mask: float | None = None
    low: float = math.inf
    high: float = -math.inf
    not_finite: int = 0

    def add_difference(self, name: str, value: float) -> None:
        """Keeps the largest difference of each kind. NaN counts as infinite."""
        before = getattr(self, name)
        value = value if np.isfinite(value) else math.inf
        setattr(self, name, value if before is None else max(before, value))

    @property
    def faults(self) -> list[str]:
        """A line for each difference beyond its limit; none if the file may be kept."""
        words = {"outputs": "outputs", "box": "boxes", "score": "scores", "mask": "masks"}
        if self.not_finite:
            return [f"outputs for {self.not_finite} of {len(self.inputs)} inputs are not finite"]
        faults = [
            f"{word} differ by {value:.2g} (limit {getattr(self.limits, name):g})"
            for name, word in words.items()
            if (value := getattr(self, name)) is not None and value > getattr(self.limits, name)
        ]
        if self.objects is not None and self.unmatched > self.limits.unmatched * (self.objects + self.unmatched):
            faults.append(f"{self.unmatched} of {self.objects + self.unmatched} objects were found by one engine only")
        return faults

    def lines(self) -> list[str]:
        """Returns lines to print."""
        sizes = sorted(set(self.inputs))
        shown = ", ".join(f"{width}x{height}" for height, width in sizes[:3]) + (" ..." if len(sizes) > 3 else "")
        counts = f"{_count(self.images, 'image')}, {_count(len(self.inputs), 'input')}"
        head = f"compared with the bundle on {counts} ({shown} px)"
        if self.objects is None:
            return [f"{head}: largest difference {self.outputs or 0:.2g} of the outputs' range"]
        differences = [f"boxes {self.box or 0:.2g} px", f"scores {self.score or 0:.2g}"]
        if self.mask is not None:
            differences.append(f"masks {100 * self.mask:.2g} % of a box's px")
        alone = f", {self.unmatched} found by one engine only" if self.unmatched else ""
        return [f"{head}: {self.objects} objects, largest differences: {', '.join(differences)}{alone}"]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        names = ("images", "objects", "unmatched", "outputs", "box", "score", "mask", "not_finite")
        values = {name: getattr(self, name) for name in names}
        return {**values, "inputs": [list(size) for size in self.inputs], "faults": self.faults}


def compare(
    exported: Exported, reference: Engine, engine: Engine, images: Sequence[Source], limits: Limits
) -> dict[str, Check]:
    """Compares the engine of an exported file with that of its bundle.

    Args:
        exported: the description of the file. If the file takes only one size, images are compared at that size only.
        reference: the engine of the bundle, see :class:`~fishnet.prediction.predictor.Predictor`.
        engine: the engine of the file.
        images: at least one, as :meth:`~fishnet.prediction.predictor.Predictor.predict` takes them; files are decoded
            for each engine.
        limits: the accepted differences.

    Returns:
        The comparison of each head, by its name. Both engines run all heads together.

    Raises:
        InputError: an image cannot be read.
    """
    bundle = exported.bundle
    checks = {head: Check(limits, images=len(images)) for head in bundle.heads}
    smaller = bundle.preprocess.fit != "crop" or SCALES[1] * min(bundle.preprocess.size) >= exported.min_side
    scales = SCALES if smaller else _LARGER
    for image in images:
        for scale in scales if exported.size is None else scales[:1]:
            first, second = (_input(exported, image, scale) for _ in range(2))
            expected = _outputs(reference, bundle, first)
            actual = _outputs(engine, bundle, second)
            for head, check in checks.items():
                check.inputs.append((first.pixels.shape[1], first.pixels.shape[2]))
                if expected[head] is None or actual[head] is None:
                    check.not_finite += 1
                elif isinstance(expected[head], dict):
                    _compare_objects(check, bundle.heads[head], first, expected[head], actual[head])
                else:
                    _compare_outputs(check, expected[head], actual[head])
    for check in checks.values():
        if check.outputs is not None:
            check.outputs /= (check.high - check.low) or 1.0
    return checks


def _outputs(engine: Engine, bundle: Bundle, image: Input) -> dict[str, Any]:
    """An image's raw outputs by head; None where they are not finite."""
    batch, single = bundle.preprocess.normalize(image.pixels[None]), len(bundle.heads) == 1
    try:
        outputs = engine(batch)
        by_head = dict.fromkeys(bundle.heads, outputs) if single else outputs
    except NotFiniteError:
        by_head = {head: None if single else _of_head(engine, batch, head) for head in bundle.heads}
    return {
        head: values[0] if values is not None and is_finite(values[0]) else None for head, values in by_head.items()
    }


def _of_head(engine: Engine, batch: NDArray[np.float32], head: str) -> Any:
    """The outputs of one of several heads; None if they are not finite."""
    try:
        return engine(batch, [head])[head]
    except NotFiniteError:
        return None


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _input(exported: Exported, image: Source, scale: float) -> Input:
    """Turns an image into an input. Scales the size of the crop, or the image if it is not cropped."""
    preprocess = exported.bundle.preprocess
    if preprocess.fit == "crop" and exported.size is None:
        step = DIVISOR if exported.any_size else 1
        height, width = (max(exported.min_side, step * round(scale * side / step)) for side in preprocess.size)
        preprocess, scale = replace(preprocess, size=(height, width)), 1.0
    return prepare_input(preprocess, load_image(image, preprocess), scale)


def _compare_outputs(check: Check, expected: NDArray[Any], actual: NDArray[Any]) -> None:
    check.low, check.high = min(check.low, float(expected.min())), max(check.high, float(expected.max()))
    same_shape = expected.shape == actual.shape
    check.add_difference("outputs", float(np.abs(expected - actual).max()) if same_shape else math.inf)


def _compare_objects(
    check: Check, head: HeadConfig, image: Input, expected: dict[str, Any], actual: dict[str, Any]
) -> None:
    make = task_info(head.task).make_result
    size = image.pixels.shape[1], image.pixels.shape[2]
    placement = image.placement or Placement(size, size, size)  # of a crop: px of the input
    first, second = (make(raw, head.classes, placement=placement) for raw in (expected, actual))
    assert isinstance(first, Detections)
    assert isinstance(second, Detections)
    spec = DetectorSpec.from_dict(head.head_args)
    first, second = (result.take(np.flatnonzero(result.scores > MIN_SCORE)) for result in (first, second))
    pairs = list(_pairs(first, second))
    check.objects = (check.objects or 0) + len(pairs)
    for i, j in pairs:
        check.add_difference("box", float(np.abs(first.boxes[i] - second.boxes[j]).max()))
        check.add_difference("score", abs(float(first.scores[i] - second.scores[j])))
        if first.cropped_masks is not None and second.cropped_masks is not None:
            check.add_difference("mask", _mask_difference(first.cropped_masks[i], second.cropped_masks[j]))
    for result, paired in ((first, {i for i, _ in pairs}), (second, {j for _, j in pairs})):
        last = float(result.scores.min()) if len(result) == spec.max_detections else 0.0  # lower scores were cut off
        threshold = max(MIN_SCORE, spec.score_threshold, last) + check.limits.score
        check.unmatched += sum(float(result.scores[i]) > threshold for i in range(len(result)) if i not in paired)


def _pairs(first: Detections, second: Detections) -> Iterator[tuple[int, int]]:
    """Pairs detections of the same class one to one, those with the largest IoU first."""
    if not len(first) or not len(second):
        return
    a, b = first.boxes[:, None].astype(np.float64), second.boxes[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (a, b)]
    ious = common / (areas[0] + areas[1] - common)
    ious[first.labels[:, None] != second.labels[None]] = 0
    free = np.ones(len(first), bool), np.ones(len(second), bool)
    for flat in np.argsort(-ious, axis=None, kind="stable").tolist():
        i, j = divmod(flat, len(second))
        if ious[i, j] < _MIN_IOU:
            return
        if free[0][i] and free[1][j]:
            free[0][i] = free[1][j] = False
            yield i, j


def _mask_difference(first: CroppedMask, second: CroppedMask) -> float:
    """Returns the fraction of px that differ, within the box around both masks."""
    left, top = min(first.left, second.left), min(first.top, second.top)
    right = max(mask.left + mask.bits.shape[1] for mask in (first, second))
    bottom = max(mask.top + mask.bits.shape[0] for mask in (first, second))
    canvases = []
    for mask in (first, second):
        canvas = np.zeros((bottom - top, right - left), bool)
        y, x = mask.top - top, mask.left - left
        canvas[y : y + mask.bits.shape[0], x : x + mask.bits.shape[1]] = mask.bits
        canvases.append(canvas)
    return float((canvases[0] != canvases[1]).mean()) if canvases[0].size else 0.0
