"""Whether an exported file says what the bundle says, on real images, at three sizes.

Both engines start from the files' bytes: each image is decoded, resized and normalized for each of them anew. What is
compared is what the user gets: a classifier's and a segmenter's scores, and a detector's objects in px of the image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.errors import NotFiniteError
from fishnet.files.numbers import is_finite
from fishnet.prediction.inputs import Input, load_image, prepare_input
from fishnet.prediction.results import CroppedMask, Detections
from fishnet.prediction.sources import Source
from fishnet.runtime.exported import Exported, Precision
from fishnet.tasks.detection.heads import DetectorSpec
from fishnet.tasks.info import task_info

Engine = Callable[[NDArray[np.float32]], Any]

SCALES = (1.0, 0.75, 1.25)  # of the input's own size
_LARGER = (1.0, 1.25, 1.5)  # where a smaller one would be too small
SHOWN = 0.05  # score above which objects are compared
_SAME = 0.5  # IoU of boxes that may be one object


@dataclass(frozen=True)
class Limits:
    """The largest differences that are let pass.

    Attributes:
        outputs: of logits, as a share of their range.
        box: px of the image.
        score: 0..1. An object within so much of the least score, or of the last one kept, may be found by one alone.
        mask: share of the px of the object's box.
        lone: share of the objects that one engine alone may have found.
    """

    outputs: float = 1e-4
    box: float = 0.1
    score: float = 1e-4
    mask: float = 0.005
    lone: float = 0.0


# fp16 keeps 11 bits of each weight, 2.4e-4 of it, and a hundred layers add up.
LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(),
    "fp16": Limits(outputs=2e-2, box=2.0, score=2e-2, mask=0.05, lone=0.02),
}


@dataclass
class Check:
    """What a comparison has found.

    Attributes:
        limits: what was let pass.
        images: how many.
        inputs: height and width of each input, px.
        objects: how many were compared; None for a task without.
        lone: objects that one engine alone has found.
        outputs, box, score, mask: the largest differences, as in :class:`Limits`; None for what the task does not have.
        low, high: the least and the largest of the outputs, whose range that is.
        not_finite: inputs for which an engine gave values that are no finite numbers.
    """

    limits: Limits
    images: int = 0
    inputs: list[tuple[int, int]] = field(default_factory=list)
    objects: int | None = None
    lone: int = 0
    outputs: float | None = None
    box: float | None = None
    score: float | None = None
    mask: float | None = None
    low: float = math.inf
    high: float = -math.inf
    not_finite: int = 0

    def note(self, what: str, value: float) -> None:
        """Keeps the larger one; what is no number counts as infinite."""
        before = getattr(self, what)
        value = value if np.isfinite(value) else math.inf
        setattr(self, what, value if before is None else max(before, value))

    @property
    def faults(self) -> list[str]:
        """What is beyond the limits; nothing for a file that may be kept."""
        words = {"outputs": "outputs", "box": "boxes", "score": "scores", "mask": "masks"}
        if self.not_finite:
            return [f"outputs for {self.not_finite} of {len(self.inputs)} inputs are no finite numbers"]
        found = [
            f"{word} differ by {value:.2g} (limit {getattr(self.limits, what):g})"
            for what, word in words.items()
            if (value := getattr(self, what)) is not None and value > getattr(self.limits, what)
        ]
        if self.objects is not None and self.lone > self.limits.lone * (self.objects + self.lone):
            found.append(f"{self.lone} of {self.objects + self.lone} objects were found by one engine alone")
        return found

    def lines(self) -> list[str]:
        """For people."""
        sizes = sorted(set(self.inputs))
        shown = ", ".join(f"{width}x{height}" for height, width in sizes[:3]) + (" ..." if len(sizes) > 3 else "")
        counts = f"{_some(self.images, 'image')}, {_some(len(self.inputs), 'input')}"
        head = f"compared with the bundle on {counts} ({shown} px)"
        if self.objects is None:
            return [f"{head}: largest difference {self.outputs or 0:.2g} of the outputs' range"]
        differences = [f"boxes {self.box or 0:.2g} px", f"scores {self.score or 0:.2g}"]
        if self.mask is not None:
            differences.append(f"masks {100 * self.mask:.2g} % of a box's px")
        alone = f", {self.lone} found by one alone" if self.lone else ""
        return [f"{head}: {self.objects} objects, largest differences: {', '.join(differences)}{alone}"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("images", "objects", "lone", "outputs", "box", "score", "mask", "not_finite")
        values = {name: getattr(self, name) for name in names}
        return {**values, "inputs": [list(size) for size in self.inputs], "faults": self.faults}


def compare(it: Exported, one: Engine, other: Engine, images: Sequence[Source], limits: Limits) -> Check:
    """Compares two engines.

    Args:
        it: what the file says of itself; where it takes one size only, the images come at that one alone.
        one, other: see :class:`~fishnet.prediction.predictor.Predictor`; the first one is right.
        images: one at least, as :meth:`~fishnet.prediction.predictor.Predictor.predict` takes them; files are decoded
            for each.
        limits: see there.

    Raises:
        InputError: an image that cannot be read.
    """
    found, bundle = Check(limits, images=len(images)), it.bundle
    smaller = bundle.preprocess.fit != "crop" or SCALES[1] * min(bundle.preprocess.size) >= it.min_side
    scales = SCALES if smaller else _LARGER
    for image in images:
        for scale in scales if it.size is None else scales[:1]:
            mine, theirs = (_input(bundle, image, scale, it.min_side) for _ in range(2))
            found.inputs.append((mine.pixels.shape[1], mine.pixels.shape[2]))
            try:
                a, b = (
                    engine(bundle.preprocess.normalize(given.pixels[None]))[0]
                    for engine, given in ((one, mine), (other, theirs))
                )
            except NotFiniteError:
                found.not_finite += 1
                continue
            if not (is_finite(a) and is_finite(b)):
                found.not_finite += 1
            elif isinstance(a, dict):
                _objects(found, bundle, mine, a, b)
            else:
                _outputs(found, a, b)
    if found.outputs is not None:
        found.outputs /= (found.high - found.low) or 1.0
    return found


def _some(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _input(bundle: Bundle, image: Source, scale: float, least: int) -> Input:
    """An image as input; of crops the size is another, of whole images the scale."""
    preprocess = bundle.preprocess
    if preprocess.fit == "crop":
        height, width = (max(least, round(scale * side)) for side in preprocess.size)
        preprocess, scale = replace(preprocess, size=(height, width)), 1.0
    return prepare_input(preprocess, load_image(image, preprocess), scale)


def _outputs(found: Check, a: NDArray[Any], b: NDArray[Any]) -> None:
    found.low, found.high = min(found.low, float(a.min())), max(found.high, float(a.max()))
    found.note("outputs", float(np.abs(a - b).max()) if a.shape == b.shape else math.inf)


def _objects(found: Check, bundle: Bundle, given: Input, a: dict[str, Any], b: dict[str, Any]) -> None:
    make = task_info(bundle.task).make_result
    first, second = (make(raw, bundle.classes, placement=given.placement) for raw in (a, b))
    assert isinstance(first, Detections)
    assert isinstance(second, Detections)
    spec = DetectorSpec.from_dict(bundle.head_args)
    first, second = (each.take(np.flatnonzero(each.scores > SHOWN)) for each in (first, second))
    pairs = list(_pairs(first, second))
    found.objects = (found.objects or 0) + len(pairs)
    for i, j in pairs:
        found.note("box", float(np.abs(first.boxes[i] - second.boxes[j]).max()))
        found.note("score", abs(float(first.scores[i] - second.scores[j])))
        if first.cropped_masks is not None and second.cropped_masks is not None:
            found.note("mask", _apart(first.cropped_masks[i], second.cropped_masks[j]))
    for each, paired in ((first, {i for i, _ in pairs}), (second, {j for _, j in pairs})):
        last = float(each.scores.min()) if len(each) == spec.max_detections else 0.0  # those beyond were cut off
        edge = max(SHOWN, spec.score_threshold, last) + found.limits.score
        found.lone += sum(float(each.scores[i]) > edge for i in range(len(each)) if i not in paired)


def _pairs(first: Detections, second: Detections) -> Iterator[tuple[int, int]]:
    """One to one: of each class the two that overlap most, and so on."""
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
        if ious[i, j] < _SAME:
            return
        if free[0][i] and free[1][j]:
            free[0][i] = free[1][j] = False
            yield i, j


def _apart(one: CroppedMask, other: CroppedMask) -> float:
    """Share of the px of the box around both masks in which these differ."""
    left, top = min(one.left, other.left), min(one.top, other.top)
    right = max(cropped_mask.left + cropped_mask.bits.shape[1] for cropped_mask in (one, other))
    bottom = max(cropped_mask.top + cropped_mask.bits.shape[0] for cropped_mask in (one, other))
    pages = []
    for cropped_mask in (one, other):
        page = np.zeros((bottom - top, right - left), bool)
        y, x = cropped_mask.top - top, cropped_mask.left - left
        page[y : y + cropped_mask.bits.shape[0], x : x + cropped_mask.bits.shape[1]] = cropped_mask.bits
        pages.append(page)
    return float((pages[0] != pages[1]).mean()) if pages[0].size else 0.0
