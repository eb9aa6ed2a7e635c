"""Validation of a bundle on labelled data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fishnet.data.base import Batch
from fishnet.data.open import marks
from fishnet.data.transforms import EvalTransform
from fishnet.errors import InputError, nearest
from fishnet.predict import Predictor
from fishnet.tasks import get_task
from fishnet.training.fit import loader
from fishnet.training.recipe import Recipe


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model on one part of a data set.

    Attributes:
        metrics: in percent.
        split: the part: ``train``, ``val``, ``test`` or ``all``.
        pictures: how many were counted.
        broken: one line for each picture that could not be read, and was left out.
    """

    metrics: dict[str, float]
    split: str
    pictures: int
    broken: tuple[str, ...]


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
    """
    bundle = predictor.bundle
    task = get_task(bundle.task)
    kept: dict[str, Any] = {key: bundle.recipe[key] for key in ("seed", "val_fraction") if key in bundle.recipe}
    recipe = Recipe().replace({**kept, "batch_size": batch_size, "workers": workers}, where="bundle")
    channels = bundle.preprocess.channels
    sets = task.open_data(data, channels, recipe, bundle.classes, whole=True)
    if split != "all" and "val" not in sets and set(marks(data, sets).items()) & set(bundle.data.items()):
        sets = task.open_data(data, channels, recipe, bundle.classes)
    split = split or next(name for name in ("test", "val", "all", "train") if name in sets)
    if split not in sets:
        raise InputError(f"{data}: has no part {split!r}: {nearest(split, sets)}")
    metrics = task.metrics(bundle.classes)
    broken: list[str] = []
    done = 0
    batches = loader(sets[split], EvalTransform(bundle.preprocess), recipe, shuffle=False)
    for batch in batches:
        assert isinstance(batch, Batch)
        broken += batch.broken
        if batch.indices:
            outputs = predictor.engine(bundle.preprocess.normalise(batch.images.numpy()))
            metrics.update(torch.from_numpy(outputs), batch.targets)
        done += len(batch.indices)
        progress(done + len(broken), len(sets[split]))
    if not done:
        raise InputError(f"{data}: no picture of {split} could be read; first: {broken[0] if broken else 'none there'}")
    values = {name: 100 * float(value) for name, value in metrics.compute().items()}
    return Evaluation(values, split, done, tuple(broken))
