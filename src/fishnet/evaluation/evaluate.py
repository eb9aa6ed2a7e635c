"""Validation of a bundle on labelled data."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fishnet.bundle.bundle import Bundle
from fishnet.data.base import Batch, ImageDataset, Transform
from fishnet.data.classification.open import fingerprint
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.loading import batches
from fishnet.data.rerun import refuse_rerun
from fishnet.data.workers import watched_workers
from fishnet.errors import InputError, nearest
from fishnet.files.writing import write_text
from fishnet.prediction.predictor import Predictor
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import get_task
from fishnet.tasks.base import Report, Splits
from fishnet.tasks.loading import load

_KEPT = (
    "seed",
    "val_fraction",
    "ignore",
    "void",
    "threshold_masks",
    "difficult",
    "classes",
    "fold",
)  # of the training's recipe: what decides how data are read


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one part of a data set.

    Attributes:
        metrics: in percent.
        split: the part: ``train``, ``val``, ``test`` or ``all``.
        images: how many were counted.
        broken: one line for each image that could not be read, and was left out.
        data: what was named as the data.
        weights: SHA-256 of the model's weights.
        part: the images.
        report: class by class; None where the task has none.
        remarks: what was found while opening the data, and what the metrics do not show, one line each.
    """

    metrics: dict[str, float]
    split: str
    images: int
    broken: tuple[str, ...]
    data: str
    weights: str
    part: ImageDataset
    report: Report | None
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with a row for each class."""
        return {
            "data": self.data,
            "split": self.split,
            "weights": self.weights,
            "images": self.images,
            "metrics": self.metrics,
            "broken": list(self.broken),
            "remarks": list(self.remarks),
            "per_class": self.report.rows() if self.report else [],
        }

    def write(self, folder: Path) -> list[Path]:
        """Writes ``metrics.json`` and the report's tables and figures, each whole or not at all; makes the folder.

        Raises:
            WorkError: the place cannot be written to.
        """
        metrics = folder / "metrics.json"
        write_text(metrics, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        return [metrics, *(self.report.write(folder, self.part) if self.report else [])]


@watched_workers()
def evaluate(
    model: str | Path | Predictor,
    data: str | Path,
    *,
    split: str | None = None,
    classes: Sequence[str] = (),
    batch_size: int | None = None,
    workers: int = 1,
    tile: int | None = None,
    overlap: float | None = None,
    tta: bool = False,
    threshold: float | None = None,
    max_detections: int | None = None,
    ignore: Sequence[int | str] | None = None,
    threshold_masks: int | None = None,
    difficult: Literal["ignore", "use"] | None = None,
    max_pixels: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    device: str = "auto",
    trust: bool = False,
) -> Evaluation:
    """Measures a model on labelled data: what ``fishnet val`` does. :meth:`Evaluation.write` writes the report.

    Args:
        model: a bundle's folder, an exported file or a loaded model.
        data: as for training. Where it is the training's own and has no val part, the part that was held out is found
            again by the seed and share kept in the bundle; masks are read with the ids and classes that it ignored.
        split: which part; by default the first that there is of ``test``, ``val`` (perhaps held out), ``all`` (data
            without parts that the training did not use) and ``train``.
        classes: names of the classes to measure on; by default all that the model knows.
        batch_size: images computed at once; by default the predictor's.
        workers: of the loader.
        tile, overlap, tta: as for :meth:`~fishnet.prediction.predictor.Predictor.predict`, for tasks that know them.
        threshold: score at which the report counts, 0..1, for tasks that know it; by default the best one.
        max_detections: objects of a class and image that count, for tasks that know it; by default COCO's 100.
        ignore, threshold_masks: how masks are read, as for training, for tasks that know it; by default as the model's
            training read them.
        difficult: whether Pascal VOC's difficult objects count, for tasks that know it; by default as in training.
        max_pixels: of an image, see :class:`~fishnet.images.reading.Reading`.
        progress: called with images done and in all.
        device, trust: as for :func:`~fishnet.tasks.loading.load`, of a model that is not loaded yet.

    Raises:
        InputError: no such model, bad data, a split that it does not have, classes that the model does not know, or an
            option that the task does not have or of another range.
        WorkError: scores that are not finite, or a reading process that died.
    """
    refuse_rerun()
    predictor, data = model if isinstance(model, Predictor) else load(model, device, trust=trust), str(data)
    bundle = predictor.bundle
    task = get_task(bundle.task)
    _check(
        predictor,
        batch_size,
        tile=tile,
        overlap=overlap,
        tta=tta or None,
        threshold=threshold,
        max_detections=max_detections,
    )
    reading = {"ignore": ignore, "threshold_masks": threshold_masks, "difficult": difficult, "classes": classes or None}
    reading = {name: value for name, value in reading.items() if value is not None}
    for name in reading:
        if name not in keys_of(bundle.task):
            raise InputError(f"{name}: says how data are read, and is not for {bundle.task}")
    recipe = _recipe(bundle).replace(
        {"batch_size": batch_size or predictor.batch_size, "workers": workers}, where="val"
    )
    splits = open_splits(bundle, data, split, reading, max_pixels)
    split = split or next(name for name in ("test", "val", "all", "train") if name in splits)
    if split not in splits:
        raise InputError(f"{data}: has no part {split!r}: {nearest(split, splits)}")
    metrics, report = (
        task.metrics(bundle.classes, max_detections),
        task.report(bundle.classes, threshold, max_detections),
    )
    broken: list[str] = []
    done = 0
    transform = task.eval_transform(bundle.preprocess)
    if tile is None and not tta:
        passes = _in_batches(predictor, splits[split], transform, recipe)
    else:
        options = {"tile": tile, "overlap": overlap, "tta": tta or None}
        passes = _one_by_one(predictor, splits[split], transform, options)
    with _limited(predictor, max_pixels):
        for outputs, targets, indices, unread in passes:
            broken += unread
            if indices:
                metrics.update(torch.from_numpy(outputs) if isinstance(outputs, np.ndarray) else outputs, targets)
                if report is not None:
                    report.update(outputs, targets.numpy() if torch.is_tensor(targets) else targets, indices)
            done += len(indices)
            progress(done + len(broken), len(splits[split]))
    if not done:
        raise InputError(f"{data}: no image of {split} could be read; first: {broken[0] if broken else 'none there'}")
    values = {**metrics.compute(), **(report.metrics() if report else {})}
    percent = {name: round(100 * float(value), 4) for name, value in values.items()}
    remarks = (*(report.remarks() if report else ()), *_notes(splits[split]))
    return Evaluation(percent, split, done, tuple(broken), data, bundle.sha256, splits[split], report, remarks)


@contextmanager
def _limited(predictor: Predictor, max_pixels: int | None) -> Iterator[None]:
    """Lends a predictor a limit of its images."""
    own, predictor.max_pixels = predictor.max_pixels, max_pixels
    try:
        yield
    finally:
        predictor.max_pixels = own


def open_splits(
    bundle: Bundle,
    data: str,
    split: str | None = None,
    reading: Mapping[str, Any] | None = None,
    max_pixels: int | None = None,
) -> Splits:
    """The parts of labelled data as a model knows them: with its classes, and what its training held out.

    Args:
        bundle: of the model.
        data: as for training.
        split: the part that is wanted; ``all`` holds nothing out.
        reading: keys of the recipe that say how data are read, other than the training's.
        max_pixels: of an image, see :class:`~fishnet.images.reading.Reading`.

    Raises:
        InputError: bad data, or classes that the model does not know.
    """
    task, channels = get_task(bundle.task), bundle.preprocess.channels
    recipe = _recipe(bundle).replace(reading or {}, where="val")
    splits = task.open_data(data, channels, recipe, bundle.classes, whole=True)
    if split != "all" and "val" not in splits and set(fingerprint(data, splits).items()) & set(bundle.data.items()):
        splits = task.open_data(data, channels, recipe, bundle.classes)
    for images in splits.values():
        images.reading = replace(bundle.preprocess.reading, max_pixels=max_pixels)
    return splits


def _recipe(bundle: Bundle) -> Recipe:
    """What decides how data are read, as the training had it."""
    kept: dict[str, Any] = {key: bundle.recipe[key] for key in _KEPT if key in bundle.recipe}
    return Recipe().replace({**kept, "sixteen_bit": bundle.preprocess.sixteen_bit}, where="bundle")


def _notes(part: ImageDataset) -> list[str]:
    """How a split's annotations were read, and what was left out of it."""
    notes = [finding.message for finding in part.notes]
    alone: Sequence[str] = (
        () if isinstance(part, DetectionDataset) else getattr(part, "left_out", ())
    )  # theirs are notes
    left_out = [f"{len(alone):,} files have no other half and are left out, such as {alone[0]}"] if alone else []
    return [*getattr(part, "conclusions", ()), *notes, *left_out]


def _check(predictor: Predictor, batch_size: int | None, **options: Any) -> None:
    """Raises InputError for a value that makes no sense, and for an option that the task does not have."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be 1 or more")
    predictor.check(**options)


_Pass = tuple[Any, Any, list[int], list[str]]
"""Outputs and targets of some images, their numbers, and a line for each that could not be read."""


def _in_batches(predictor: Predictor, part: ImageDataset, transform: Transform, recipe: Recipe) -> Iterator[_Pass]:
    fill = predictor.bundle.preprocess.mean_colour
    for batch in batches(
        part, transform, batch_size=recipe.batch_size, workers=recipe.workers, seed=recipe.seed, fill=fill
    ):
        assert isinstance(batch, Batch)
        outputs = _outputs(predictor, part, batch) if batch.indices else None
        yield outputs, batch.targets, batch.indices, batch.broken


def _outputs(predictor: Predictor, part: ImageDataset, batch: Batch) -> Any:
    """The outputs for a batch, as prediction computes them.

    No whole image is padded to another's size, and those that are too large for one pass go through in tiles.
    """
    images, preprocess = batch.images.numpy(), predictor.bundle.preprocess
    if preprocess.fit == "crop":
        return predictor.run_engine(preprocess.normalize(images))
    outputs: list[Any] = [None] * len(images)
    alike: dict[tuple[int, int], list[int]] = {}
    for i, target in enumerate(batch.targets):
        if predictor.own_tiling(target.placement.size):
            outputs[i] = predictor.predict(part.read(batch.indices[i])[0])
        else:
            alike.setdefault(target.placement.outer, []).append(i)
    for (height, width), indices in alike.items():
        step = predictor.count(height, width)
        for some in (indices[start : start + step] for start in range(0, len(indices), step)):
            inputs = preprocess.normalize(images[some, :, :height, :width])
            for i, output in zip(some, predictor.run_engine(inputs), strict=True):
                outputs[i] = output
    return outputs


def _one_by_one(
    predictor: Predictor, part: ImageDataset, transform: Transform, options: dict[str, Any]
) -> Iterator[_Pass]:
    if "threshold" in predictor.options:  # every object counts
        options = {**options, "threshold": 0.0}
    for index in range(len(part)):
        try:
            image, target = part.read(index)
        except InputError as error:
            yield None, None, [], [str(error)]
            continue
        result = predictor.predict(image, **options)
        yield [result], [transform(image, target)[1]], [index], []
