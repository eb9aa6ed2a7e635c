"""What a training would cost, from a few timed steps: for --dry-run. Writes nothing."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from fishnet.data.base import Batch
from fishnet.errors import InputError
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.engine import pick_device
from fishnet.training.module import TrainingModule, moved, total

_MACS = 100e9  # of one timed forward pass: some seconds on a slow CPU
_STEPS = 3
_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True)
class Estimate:
    """Timed parts of a training, in one process.

    Attributes:
        tried: images in each timed step.
        step: seconds of a training step, per image.
        check: seconds of a validation step, per image.
        read: seconds of reading and augmenting, per image and reading process.
    """

    tried: int
    step: float
    check: float
    read: float

    def seconds(self, recipe: Recipe, images: int, val_images: int, world: int) -> float:
        """Of the whole training, where reading and computing overlap."""
        readers = max(1, recipe.workers)
        train = max(self.step, self.read / readers) if recipe.workers else self.step + self.read
        check = max(self.check, self.read / readers) if recipe.workers else self.check + self.read
        return recipe.epochs * (images * train + val_images * check) / world


def estimate(module: TrainingModule, train: DataLoader[Batch], val: DataLoader[Batch], macs: int) -> Estimate:
    """Times a few steps of as many images as are cheap; a step's time is taken to grow with its images.

    Args:
        module: the training; its weights change.
        train, val: the loaders; some images of each are read in this process.
        macs: of the model for one image.

    Raises:
        InputError: an image that cannot be read (unless these are skipped), or none that can among those tried.
        WorkError: the loss is not finite.
    """
    recipe = module.recipe
    device = pick_device(recipe.device)
    module.to(device)
    count = min(recipe.batch_size, max(2, int(_MACS / max(macs, 1))))
    batch, read = _timed_read(train, count)
    checked, _ = _timed_read(val, count)
    for part, tried in (("train", batch), ("val", checked)):
        module.account(tried)
        if not tried.indices:
            raise InputError(
                f"none of the first {len(tried.broken)} images of the {part} part can be read: nothing to time the "
                f"steps with; first: {tried.broken[0]}"
            )
    optimizer = module.configure_optimizers()["optimizer"]
    precision: AbstractContextManager[object] = nullcontext()
    if recipe.precision in _DTYPES:
        precision = torch.autocast(device, _DTYPES[recipe.precision])
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
    module.eval()
    start = time.perf_counter()
    with torch.no_grad(), precision:
        images = module.prepare.normalize(checked.images.to(device))
        module.outputs(module.eval_model, images, moved(checked.targets, device))
    _wait(device)
    check = (time.perf_counter() - start) / len(checked.indices)
    return Estimate(len(batch.indices), min(times[1:]) / len(batch.indices), check, read)


def _timed_read(loader: DataLoader[Batch], count: int) -> tuple[Batch, float]:
    """The loader's first images, and the seconds that one of them takes."""
    keys = list(islice(loader.sampler, count))
    images: Any = loader.dataset
    start = time.perf_counter()
    collate: Any = loader.collate_fn
    batch: Batch = collate([images[key] for key in keys])
    return batch, (time.perf_counter() - start) / len(keys)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
