"""Measures a model on labelled data."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch

from fishnet.bundle.bundle import Bundle, only_item
from fishnet.data.base import ImageDataset
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.identity import fingerprint
from fishnet.data.loading import Batch, Transform, batches
from fishnet.data.rerun import refuse_rerun
from fishnet.data.workers import watched_workers
from fishnet.errors import InputError
from fishnet.evaluation.joint import JointEvaluation, choose_split, head_data, one_head, training_recipe
from fishnet.evaluation.options import EvalOptions
from fishnet.evaluation.panoptic import evaluate_panoptic
from fishnet.files.writing import write_text
from fishnet.prediction.passes import default_tiling
from fishnet.prediction.predictor import Predictor
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import get_task
from fishnet.tasks.base import Report, Splits
from fishnet.tasks.info import task_info
from fishnet.tasks.joint import open_head
from fishnet.tasks.loading import load

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_DATA_KEYS = (
    "seed", "val_fraction", "ignore", "void", "threshold_masks", "difficult", "classes", "fold",
)  # fmt: skip  # keys of the training's recipe that decide how data are read


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one split of a dataset.

    Attributes:
        metrics: in percent.
        split: name of the split: ``train``, ``val``, ``test`` or ``all``.
        images: number of images that were measured.
        broken: one line for each image that could not be read and was left out.
        data: the path that was given as data.
        weights: SHA-256 of the model's weights.
        dataset: the split's images.
        report: the task's report; None if the task has none.
        warnings: one line each: how the data was read, and what the metrics do not show.
    """

    metrics: dict[str, float]
    split: str
    images: int
    broken: tuple[str, ...]
    data: str
    weights: str
    dataset: ImageDataset
    report: Report | None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with one row per class."""
        return {
            "data": self.data,
            "split": self.split,
            "weights": self.weights,
            "images": self.images,
            "metrics": self.metrics,
            "broken": list(self.broken),
            "warnings": list(self.warnings),
            "per_class": self.report.rows() if self.report else [],
        }

    def write(self, folder: Path) -> list[Path]:
        """Writes ``metrics.json`` and the report's tables and figures, each completely or not at all.

        Args:
            folder: created if missing.

        Raises:
            WorkError: the folder cannot be written to.
        """
        metrics = folder / "metrics.json"
        write_text(metrics, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        return [metrics, *(self.report.write(folder, self.dataset) if self.report else [])]


@watched_workers()
def evaluate(
    model: str | Path | Predictor,
    data: str | Path | Mapping[str, str | Path] | None = None,
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
    precision: str = "auto",
) -> "Evaluation | JointEvaluation":
    """Measures a model on labelled data, as ``fishnet val`` does. :meth:`Evaluation.write` writes the report.

    Args:
        model: a bundle's folder, an exported file or a loaded model.
        data: as for training; for a model with several heads the data of each head to evaluate, by the head's name, and
            by default those that it was trained with. If the model was trained on this data and it has no val split,
            the bundle's seed and fraction determine the images that were held out. Masks are read with the ids and
            classes that the training ignored.
        split: name of the split; by default the first one present of ``test``, ``val`` (perhaps held out), ``all``
            (data without splits that the training did not use) and ``train``.
        classes: names of the classes to measure; by default all classes of the model.
        batch_size: images per batch; by default the predictor's.
        workers: number of the loader's processes.
        tile, overlap, tta: as for :meth:`~fishnet.prediction.predictor.Predictor.predict`, if the task has them.
        threshold: score threshold of the report's counts, 0..1, if the task has one; by default the best one.
        max_detections: number of detections per class and image that count, if the task has them; by default COCO's
            100.
        ignore, threshold_masks: how masks are read, as for training, if the task has masks; by default as in the
            model's training.
        difficult: whether Pascal VOC's difficult objects count, if the task has objects; by default as in training.
        max_pixels: maximum number of pixels of an image, see :class:`~fishnet.images.reading.Reading`.
        progress: called with the number of images done and of all images.
        device, trust, precision: as for :func:`~fishnet.tasks.loading.load`; ignored for a loaded model.

    Returns:
        The evaluation; for a model with several heads those of its heads.

    Raises:
        InputError: no such model, bad data, a split that the data does not have, classes that the model does not know,
            or an option that the task does not have or that is out of range.
        WorkError: scores that are not finite, or a reading process that died.
    """
    refuse_rerun()
    predictor = model if isinstance(model, Predictor) else load(model, device, trust=trust, precision=precision)
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size={batch_size}: must be 1 or more")
    reading = {"ignore": ignore, "threshold_masks": threshold_masks, "difficult": difficult, "classes": classes or None}
    options = EvalOptions(
        split, batch_size, workers, {"tile": tile, "overlap": overlap, "tta": tta or None}, threshold, max_detections,
        {name: value for name, value in reading.items() if value is not None}, max_pixels,
    )  # fmt: skip
    sources = head_data(predictor.bundle, data)
    panoptic = None
    if predictor.bundle.panoptic is not None and len(set(sources.values())) == 1 and len(sources) > 1:
        panoptic = evaluate_panoptic(predictor, next(iter(sources.values())), options, progress)
    if len(predictor.bundle.heads) == 1:
        return evaluate_head(predictor, only_item(sources)[1], options, progress)
    options.check(predictor)
    heads = {
        name: evaluate_head(
            one_head(predictor, name), source, options.of_head(predictor.bundle, name), progress,
            None if panoptic is None else panoptic.views(name),
        )
        for name, source in sources.items()
    }  # fmt: skip
    return JointEvaluation(heads, panoptic)


def evaluate_head(
    predictor: Predictor,
    data: str,
    options: EvalOptions,
    progress: Callable[[int, int], None],
    splits: Splits | None = None,
) -> Evaluation:
    """Measures a model of one head; see :func:`evaluate`. ``splits`` are the data, if they are open already."""
    bundle, task = predictor.bundle, get_task(predictor.bundle.task).for_head(predictor.bundle.only_head)
    passes, max_detections = dict(options.passes), options.max_detections
    predictor.check_options(**passes, threshold=options.threshold, max_detections=max_detections)
    reading = _reading_keys(bundle.task, **options.reading)
    loading = {"batch_size": options.batch_size or predictor.batch_size, "workers": options.workers}
    recipe = _recipe(bundle).replace(loading, where="val")
    splits = splits or open_splits(bundle, data, options.split, reading, options.max_pixels)
    split = choose_split(options.split, splits, data)
    dataset, transform = splits[split], task.eval_transform(bundle.preprocess)
    metrics = task.metrics(bundle.classes, max_detections)
    report = task.report(bundle.classes, options.threshold, max_detections)
    if not any(passes.values()):
        predicted = _predict_batches(predictor, dataset, transform, recipe)
    else:
        predicted = _predict_singly(predictor, dataset, transform, passes)
    with _limit_pixels(predictor, options.max_pixels):
        images, broken = _measure(predicted, metrics, report, lambda done: progress(done, len(dataset)))
    if not images:
        raise InputError(f"{data}: no image of {split} could be read; first: {next(iter(broken), 'none')}")
    values = {**metrics.compute(), **(report.metrics() if report else {})}
    percent = {name: round(100 * float(value), 4) for name, value in values.items()}
    warnings = (*(report.warnings() if report else ()), *_data_warnings(dataset))
    if predictor.precision != "fp32":
        warnings = (f"computed in {predictor.precision}", *warnings)
    if options.split is None and split == "all" and bundle.data:
        warnings = (
            f"{data} was not recognised as this bundle's training data: all images are evaluated. If any of them were "
            "used for training, the metrics are too high.",
            *warnings,
        )
    return Evaluation(percent, split, images, tuple(broken), data, bundle.sha256, dataset, report, warnings)


def _reading_keys(task: str, **keys: Any) -> dict[str, Any]:
    """The recipe keys that were given. Raises InputError for one that the task does not have."""
    given = {name: value for name, value in keys.items() if value is not None}
    for name in given:
        if name not in keys_of(task):
            raise InputError(f"{name}: changes how data is read, and {task} cannot use it: leave it out")
    return given


def _measure(
    predicted: "Iterable[_Predicted]",
    metrics: "MetricCollection",
    report: Report | None,
    progress: Callable[[int], None],
) -> tuple[int, list[str]]:
    """Feeds metrics and report.

    Returns:
        The number of images measured, and one line for each image that could not be read.
    """
    done, broken = 0, list[str]()
    for batch in predicted:
        broken += batch.broken
        if batch.indices:
            outputs, targets = batch.outputs, batch.targets
            metrics.update(torch.from_numpy(outputs) if isinstance(outputs, np.ndarray) else outputs, targets)
            if report is not None:
                report.update(outputs, targets.numpy() if torch.is_tensor(targets) else targets, batch.indices)
        done += len(batch.indices)
        progress(done + len(broken))
    return done, broken


@contextmanager
def _limit_pixels(predictor: Predictor, max_pixels: int | None) -> Iterator[None]:
    """Sets a predictor's limit for the size of images, and restores it afterwards."""
    previous, predictor.max_pixels = predictor.max_pixels, max_pixels
    try:
        yield
    finally:
        predictor.max_pixels = previous


def open_splits(
    bundle: Bundle,
    data: str,
    split: str | None = None,
    reading: Mapping[str, Any] | None = None,
    max_pixels: int | None = None,
) -> Splits:
    """Opens labelled data with a model's classes, split as in its training.

    Args:
        bundle: the model's config.
        data: as for training.
        split: the wanted split; ``all`` holds nothing out.
        reading: recipe keys that decide how data is read; by default the training's.
        max_pixels: maximum number of pixels of an image, see :class:`~fishnet.images.reading.Reading`.

    Raises:
        InputError: bad data, or classes that the model does not know.
    """
    task, channels = get_task(bundle.task).for_head(bundle.only_head), bundle.preprocess.channels
    recipe, name = _recipe(bundle).replace(reading or {}, where="val"), next(iter(bundle.heads))
    splits = task.open_data(data, channels, recipe, bundle.classes, keep_splits=True)
    prints = fingerprint(data, splits)
    if split != "all" and "val" not in splits and set(prints.items()) & set(bundle.data.items()):
        splits = task.open_data(data, channels, recipe, bundle.classes)
    elif split != "all" and "val" not in splits and any(bundle.data.get(f"{name}/{k}") == v for k, v in prints.items()):
        splits = open_head(task, data, channels, recipe, bundle.classes)
    for images in splits.values():
        images.reading = replace(bundle.preprocess.reading, max_pixels=max_pixels)
    return splits


def _recipe(bundle: Bundle) -> Recipe:
    """A recipe that reads data as the training did."""
    stored = training_recipe(bundle, next(iter(bundle.heads)))
    keys: dict[str, Any] = {key: stored[key] for key in _DATA_KEYS if key in stored}
    return Recipe().replace({**keys, "sixteen_bit": bundle.preprocess.sixteen_bit}, where="bundle")


def _data_warnings(dataset: ImageDataset) -> list[str]:
    """Lines on how a split's annotations were read, and what was left out."""
    notes = [finding.message for finding in dataset.notes]
    unpaired: Sequence[str] = (
        () if isinstance(dataset, DetectionDataset) else getattr(dataset, "left_out", ())
    )  # detection datasets report them in their notes
    left_out = (
        [f"{len(unpaired):,} files have no counterpart and are left out, such as {unpaired[0]}"] if unpaired else []
    )
    return [*getattr(dataset, "conclusions", ()), *notes, *left_out]


class _Predicted(NamedTuple):
    """Some images of a dataset.

    Attributes:
        outputs: raw outputs or results, one per image.
        targets: one per image.
        indices: the images' indices in the dataset.
        broken: one line for each image that could not be read.
    """

    outputs: Any
    targets: Any
    indices: list[int]
    broken: list[str]


def _predict_batches(
    predictor: Predictor, dataset: ImageDataset, transform: Transform, recipe: Recipe
) -> Iterator[_Predicted]:
    loader = batches(
        dataset, transform, batch_size=recipe.batch_size, workers=recipe.workers, seed=recipe.seed,
        fill=predictor.bundle.preprocess.mean_colour,
    )  # fmt: skip
    for batch in loader:
        assert isinstance(batch, Batch)
        outputs = _outputs(predictor, dataset, batch) if batch.indices else None
        yield _Predicted(outputs, batch.targets, batch.indices, batch.broken)


def _outputs(predictor: Predictor, dataset: ImageDataset, batch: Batch) -> Any:
    """The outputs for a batch, computed as in prediction: images too large for one pass go through in tiles."""
    pixels = batch.images.numpy()
    if predictor.bundle.preprocess.fit == "crop":
        return predictor.runner.run(pixels)
    outputs: list[Any] = [None] * len(pixels)
    inputs: dict[int, np.ndarray[Any, Any]] = {}
    for i, (target, (height, width)) in enumerate(zip(batch.targets, batch.sizes, strict=True)):
        placement = getattr(target, "placement", None)
        if placement is not None and default_tiling(predictor.bundle, placement.size):
            outputs[i] = predictor.predict(dataset.read(batch.indices[i])[0])
        else:  # without the padding to the largest image of the batch
            inputs[i] = pixels[i, :, :height, :width]
    numbers = list(inputs)
    for k, output in predictor.runner.outputs(list(inputs.values())):
        outputs[numbers[k]] = output
    return np.stack(outputs) if task_info(predictor.bundle.task).output == "scores" else outputs


def _predict_singly(
    predictor: Predictor, dataset: ImageDataset, transform: Transform, options: dict[str, Any]
) -> Iterator[_Predicted]:
    if "threshold" in predictor.options:
        options = {**options, "threshold": 0.0}  # metrics count detections of every score
    for index in range(len(dataset)):
        try:
            image, target = dataset.read(index)
        except InputError as error:
            yield _Predicted(None, None, [], [str(error)])
            continue
        result = predictor.predict(image, **options)
        yield _Predicted([result], [transform(image, target)[1]], [index], [])
