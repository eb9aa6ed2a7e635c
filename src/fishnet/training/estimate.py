"""Estimates the time of a training from a few steps, for a dry run. Writes nothing."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from fishnet.data.loading import Batch
from fishnet.errors import InputError
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.engine import pick_device
from fishnet.training.module import TrainingModule, moved, total

_MACS = 100e9  # maximum for one timed forward pass: some seconds on a slow CPU
_STEPS = 3
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Estimate:
    """Times measured in one process.

    Attributes:
        images: images in each timed step.
        train: seconds per image of a training step.
        val: seconds per image of a validation step.
        read: seconds per image of reading and augmenting, in one process.
    """

    images: int
    train: float
    val: float
    read: float

    def seconds(self, recipe: Recipe, images: int, val_images: int, world: int) -> float:
        """Returns the time of the whole training. With workers, reading and computing overlap."""
        workers = max(1, recipe.workers)
        train = max(self.train, self.read / workers) if recipe.workers else self.train + self.read
        val = max(self.val, self.read / workers) if recipe.workers else self.val + self.read
        return recipe.epochs * (images * train + val_images * val) / world


def estimate(module: TrainingModule, train: DataLoader[Batch], val: DataLoader[Batch], macs: int) -> Estimate:
    """Times a few small steps. Assumes that a step's time grows with its number of images.

    Args:
        module: the training; its weights change.
        train, val: the loaders; some images of each are read in this process.
        macs: the model's multiply-accumulates for one image.

    Raises:
        InputError: an image cannot be read (and these are not skipped), or none of those tried can be.
        WorkError: the loss is not finite.
    """
    recipe = module.recipe
    device = pick_device(recipe.device)
    module.to(device)
    count = min(recipe.batch_size, max(2, int(_MACS / max(macs, 1))))
    batch, read = _timed_read(train, count)
    val_batch, _ = _timed_read(val, count)
    for split, read_batch in (("train", batch), ("val", val_batch)):
        module.count_images(read_batch)
        if not read_batch.indices:
            raise InputError(
                f"no step can be timed: none of the first {len(read_batch.broken)} images of the {split} split can be "
                f"read; first: {read_batch.broken[0]}"
            )
    precision: AbstractContextManager[object] = nullcontext()
    if recipe.precision in _DTYPES:
        precision = torch.autocast(device, _DTYPES[recipe.precision])
    train_time = _time_training(module, batch, precision, device) / len(batch.indices)
    val_time = _time_validation(module, val_batch, device) / len(val_batch.indices)
    return Estimate(len(batch.indices), train_time, val_time, read)


def _time_training(
    module: TrainingModule, batch: Batch, precision: AbstractContextManager[object], device: str
) -> float:
    """Returns the seconds of the fastest of a few training steps."""
    optimizer = module.configure_optimizers()["optimizer"]
    times: list[float] = []
    for _ in range(1 + _STEPS):
        start = time.perf_counter()
        with precision:
            images, targets = module.prepare(batch.images.to(device), moved(batch.targets, device))
            loss = total(module.criterion(module.outputs(module.model, images, targets), targets))
        module.check_finite(loss)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        _wait(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def _time_validation(module: TrainingModule, batch: Batch, device: str) -> float:
    """Returns the seconds of a forward pass in evaluation mode."""
    module.eval()
    start = time.perf_counter()
    with torch.no_grad():
        images = module.prepare.normalize(batch.images.to(device))
        module.outputs(module.eval_model, images, moved(batch.targets, device))
    _wait(device)
    return time.perf_counter() - start


def _timed_read(loader: DataLoader[Batch], count: int) -> tuple[Batch, float]:
    """Returns the loader's first images, and the seconds per image of reading them."""
    keys = list(islice(loader.sampler, count))
    images: Any = loader.dataset
    start = time.perf_counter()
    collate: Any = loader.collate_fn
    batch: Batch = collate([images[key] for key in keys])
    return batch, (time.perf_counter() - start) / len(keys)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
