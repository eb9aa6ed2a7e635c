"""From data sets to batches on the model's device, as a recipe asks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fishnet.bundle.classes import Classes
from fishnet.data.base import Batch, ImageDataset, Transform
from fishnet.data.classification.transforms import Lighting, Normalize
from fishnet.data.loading import batches
from fishnet.data.statistics import channel_statistics
from fishnet.errors import InputError, nearest
from fishnet.images.decoding import as_view
from fishnet.images.preprocess import Preprocess
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.base import Task
from fishnet.training.processes import Processes

_GREY = ((0.449,), (0.226,))  # the means of ImageNet's three channels' statistics
_RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def preprocess_of(task: Task, recipe: Recipe, images: ImageDataset, start: Preprocess | None = None) -> Preprocess:
    """The preprocessing that a recipe asks for, in validation and use.

    Means and deviations are those of ``start``, the bundle that training starts from, where its channels are the
    recipe's; else those that published weights were trained with; else ImageNet's; for channels that are neither RGB
    nor grey they are measured on the images.
    """
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
    """What happens to a batch on the model's device: normalisation, and in training PCA lighting and the task's mixing.

    Draws from torch's global generators.
    """

    def __init__(self, task: Task, recipe: Recipe, preprocess: Preprocess, classes: Classes) -> None:
        super().__init__()
        self.normalize = Normalize(preprocess)
        self.lighting = Lighting(recipe.lighting) if recipe.lighting else None
        self.mixing = task.mixing(recipe, classes)

    def forward(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Pixels (batch, channels, height, width), 0..255 -> normalized images and targets for training."""
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
    """This process's batches of an image set; the last, smaller one of an epoch is left out when shuffling.

    Args:
        images: the set.
        transform: of each image.
        recipe: batch size, workers and seed.
        preprocess: whose mean colour fills up images of a batch that are smaller than its largest.
        shuffle: another order in each epoch, and the recipe's repeats.
        processes: who shares a batch.
        begin: an epoch, and how many batches of it are done already.

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
        world=processes.world,
        begin=begin,
    )


_TOGETHER = 4  # images that are mixed by one draw in :func:`shown`: a batch's one draw would not show the range


def shown(
    recipe: Recipe, task: Task, data: str, split: str, count: int, log: Callable[[str], None] = print
) -> list[Image.Image]:
    """Images as the network sees them in training, with their targets.

    Args:
        recipe: the settings.
        task: whose images.
        data: as for training.
        split: ``train``, ``val`` or ``test``; ``train`` is shown augmented, the others as they are validated.
        count: how many images.
        tell: receives a line for each image that could not be read and is left out.

    Raises:
        InputError: bad data, or no such part.
    """
    splits = task.open_data(data, recipe.channels, recipe)
    if split not in splits:
        raise InputError(f"{data}: has no part {split!r}: {nearest(split, splits)}")
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
    found: list[Image.Image] = []
    for first in range(0, len(batch.indices), _TOGETHER):
        some = slice(first, first + _TOGETHER)
        images, targets = batch.images[some], batch.targets[some]
        ready, named = prepare(images, targets) if train else (prepare.normalize(images), targets)
        pixels = ((ready * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found += [task.visualize(as_view(array), target, classes) for array, target in zip(pixels, named, strict=True)]
    return found
