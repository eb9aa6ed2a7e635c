"""Validation of a bundle on labelled data."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fishnet.data.base import Batch, PictureSet
from fishnet.data.open import marks
from fishnet.errors import InputError, nearest
from fishnet.predict import Predictor
from fishnet.tasks import get_task
from fishnet.tasks.base import Report
from fishnet.training.batches import loader
from fishnet.training.recipe import Recipe


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one part of a data set.

    Attributes:
        metrics: in percent.
        split: the part: ``train``, ``val``, ``test`` or ``all``.
        pictures: how many were counted.
        broken: one line for each picture that could not be read, and was left out.
        data: what was named as the data.
        weights: SHA-256 of the model's weights.
        part: the pictures.
        report: class by class; None where the task has none.
    """

    metrics: dict[str, float]
    split: str
    pictures: int
    broken: tuple[str, ...]
    data: str
    weights: str
    part: PictureSet
    report: Report | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with a row for each class."""
        return {
            "data": self.data,
            "split": self.split,
            "weights": self.weights,
            "pictures": self.pictures,
            "metrics": self.metrics,
            "broken": list(self.broken),
            "per_class": self.report.rows() if self.report else [],
        }

    def write(self, folder: Path) -> list[Path]:
        """Writes ``metrics.json`` and the report's tables and figures; makes the folder.

        Raises:
            OSError: the place cannot be written to.
        """
        folder.mkdir(parents=True, exist_ok=True)
        metrics = folder / "metrics.json"
        metrics.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return [metrics, *(self.report.write(folder, self.part) if self.report else [])]


def evaluate(
    predictor: Predictor,
    data: str,
    *,
    split: str | None = None,
    batch_size: int = 64,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Measures a model.

    Args:
        predictor: the model.
        data: as for training. Where it is the training's own and has no val part, the part that was held out is found
            again by the seed and share kept in the bundle.
        split: which part; by default the first that there is of ``test``, ``val`` (perhaps held out), ``all`` (data
            without parts that the training did not use) and ``train``.
        batch_size, workers: of the loader.
        progress: called with pictures done and in all.

    Raises:
        InputError: bad data, a split that it does not have, or classes that the model does not know.
        WorkError: scores that are not finite.
    """
    bundle = predictor.bundle
    task = get_task(bundle.task)
    kept: dict[str, Any] = {key: bundle.recipe[key] for key in ("seed", "val_fraction") if key in bundle.recipe}
    kept["sixteen_bit"] = bundle.preprocess.sixteen_bit
    recipe = Recipe().replace({**kept, "batch_size": batch_size, "workers": workers}, where="bundle")
    channels = bundle.preprocess.channels
    sets = task.open_data(data, channels, recipe, bundle.classes, whole=True)
    if split != "all" and "val" not in sets and set(marks(data, sets).items()) & set(bundle.data.items()):
        sets = task.open_data(data, channels, recipe, bundle.classes)
    split = split or next(name for name in ("test", "val", "all", "train") if name in sets)
    if split not in sets:
        raise InputError(f"{data}: has no part {split!r}: {nearest(split, sets)}")
    metrics, report = task.metrics(bundle.classes), task.report(bundle.classes)
    broken: list[str] = []
    done = 0
    transform = task.eval_transform(bundle.preprocess)
    batches = loader(sets[split], transform, recipe, bundle.preprocess, shuffle=False)
    for batch in batches:
        assert isinstance(batch, Batch)
        broken += batch.broken
        if batch.indices:
            outputs = predictor.engine(bundle.preprocess.normalise(batch.images.numpy()))
            metrics.update(torch.from_numpy(outputs) if isinstance(outputs, np.ndarray) else outputs, batch.targets)
            if report is not None:
                report.update(outputs, batch.targets, batch.indices)
        done += len(batch.indices)
        progress(done + len(broken), len(sets[split]))
    if not done:
        raise InputError(f"{data}: no picture of {split} could be read; first: {broken[0] if broken else 'none there'}")
    values = {**metrics.compute(), **(report.metrics() if report else {})}
    percent = {name: round(100 * float(value), 4) for name, value in values.items()}
    return Evaluation(percent, split, done, tuple(broken), data, bundle.sha256, sets[split], report)
