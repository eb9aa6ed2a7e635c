"""Turns datasets into batches on the model's device, according to a recipe."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.loading import Batch, Transform, batches
from fishnet.data.normalize import Lighting, Normalize
from fishnet.data.statistics import channel_statistics
from fishnet.errors import InputError, nearest
from fishnet.images.decoding import as_view
from fishnet.images.preprocess import Preprocess
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.base import Task
from fishnet.training.processes import Processes

_GREY = ((0.449,), (0.226,))  # ImageNet's statistics, averaged over the three channels
_RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def preprocess_of(task: Task, recipe: Recipe, images: ImageDataset, start: Preprocess | None = None) -> Preprocess:
    """Returns a recipe's preprocessing for validation and prediction.

    Mean and standard deviation are those of ``start``, the preprocessing of the bundle that training starts from, if it
    has as many channels as the recipe. Otherwise they are those that published weights were trained with, or else
    ImageNet's. For channels that are neither RGB nor grey they are measured on the images. A task that keeps heads of
    that bundle keeps its preprocessing altogether.

    Raises:
        InputError: heads are kept, but there is no bundle that has them.
    """
    if task.keeps_preprocess:
        if start is None:
            raise InputError("keep_heads: the weights of the kept heads are missing: give their bundle as weights")
        return start
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config = get_pretrained_cfg(recipe.backbone) if recipe.pretrained and recipe.channels == 3 else None
    if start is not None and start.channels == recipe.channels:
        mean, std = start.mean, start.std
    elif config is not None:
        mean, std = config.mean, config.std
    elif recipe.channels not in (1, 3):
        mean, std = channel_statistics(images)
    else:
        mean, std = _RGB if recipe.channels == 3 else _GREY
    return replace(task.preprocess(recipe, mean, std), value_range=images.reading.value_range)


class Prepare(nn.Module):
    """Prepares a batch on the model's device: normalization, and in training PCA lighting and the task's mixing.

    Uses torch's global random generators.
    """

    def __init__(self, task: Task, recipe: Recipe, preprocess: Preprocess, classes: Classes) -> None:
        super().__init__()
        self.normalize = Normalize(preprocess)
        self.lighting = Lighting(recipe.lighting) if recipe.lighting else None
        self.mixing = task.mixing(recipe, classes)

    def forward(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Maps pixels (batch, channels, height, width), 0..255, to normalized images and targets for training."""
        light = None if self.lighting is None else self.lighting.draw(len(images)).to(images.device)
        images = self.normalize(images, light)
        return (images, targets) if self.mixing is None or len(images) < 2 else self.mixing(images, targets)


def loader(
    images: ImageDataset,
    transform: Transform,
    recipe: Recipe,
    preprocess: Preprocess,
    *,
    shuffle: bool,
    processes: Processes = Processes(),  # noqa: B008
    begin: tuple[int, int] = (0, 0),
) -> DataLoader[Batch]:
    """Returns this process's batches of a dataset. When shuffling, an epoch's last, smaller batch is left out.

    Args:
        images: the dataset.
        transform: applied to each image.
        recipe: batch size, workers and seed.
        preprocess: its mean colour pads images that are smaller than the largest of their batch.
        shuffle: use another order in each epoch, and the recipe's repeats.
        processes: the processes that share a batch.
        begin: the first epoch, and how many of its batches are already done.

    Raises:
        InputError: the processes cannot share the batches equally.
    """
    return batches(
        images,
        transform,
        batch_size=processes.share(recipe.batch_size),
        workers=recipe.workers,
        seed=recipe.seed,
        fill=preprocess.mean_colour,
        shuffle=shuffle,
        repeats=recipe.repeats if shuffle else 1,
        rank=processes.rank,
        world_size=processes.world,
        begin=begin,
    )


_MIXED = 4  # images in each group that draw_samples mixes; each group draws its own mixing ratio


def draw_samples(
    recipe: Recipe, task: Task, data: str, split: str, count: int, log: Callable[[str], None] = print
) -> list[Image.Image]:
    """Draws images as the network sees them, with their targets.

    Args:
        recipe: the settings.
        task: the task, which draws its targets.
        data: as for training.
        split: ``train``, ``val`` or ``test``; ``train`` is augmented, the others are preprocessed as in validation.
        count: number of images.
        log: is called with a line for each image that could not be read and is left out.

    Raises:
        InputError: bad data, or no such split.
    """
    splits = task.open_data(data, recipe.channels, recipe)
    if split not in splits:
        raise InputError(f"{data}: has no split {split!r}: {nearest(split, splits)}")
    dataset, classes = splits[split], splits["train"].classes
    preprocess = preprocess_of(task, recipe, splits["train"])
    train = split == "train"
    recipe = recipe.replace({"batch_size": min(count, len(dataset)), "workers": 0})
    transform = task.train_transform(recipe, preprocess) if train else task.eval_transform(preprocess)
    batch = next(iter(loader(dataset, transform, recipe, preprocess, shuffle=True)))
    if not batch.indices:
        raise InputError(f"{data}: no image of {split} could be read; first: {batch.broken[0]}")
    for line in batch.broken:
        log(line)
    prepare = Prepare(task, recipe, preprocess, classes)
    torch.manual_seed(recipe.seed)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    drawn: list[Image.Image] = []
    for first in range(0, len(batch.indices), _MIXED):
        images, targets = batch.images[first : first + _MIXED], batch.targets[first : first + _MIXED]
        images, targets = prepare(images, targets) if train else (prepare.normalize(images), targets)
        pixels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        drawn += [
            task.visualize(as_view(array), target, classes) for array, target in zip(pixels, targets, strict=True)
        ]
    return drawn
