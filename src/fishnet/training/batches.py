"""From data sets to batches on the model's device, as a recipe asks."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fishnet.data.base import Batch, EpochSampler, LabelledSet, Seeded, Transform, collate
from fishnet.data.labels import Classes
from fishnet.data.statistics import channel_statistics
from fishnet.data.transforms import EvalTransform, Lighting, Normalise, TrainTransform
from fishnet.errors import InputError, nearest
from fishnet.preprocess import Preprocess
from fishnet.tasks.base import Task
from fishnet.training.processes import Processes
from fishnet.training.recipe import Recipe

_GREY = ((0.449,), (0.226,))  # the means of ImageNet's three channels' statistics
_RGB = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def preprocess_of(recipe: Recipe, pictures: LabelledSet, start: Preprocess | None = None) -> Preprocess:
    """The preprocessing that a recipe asks for, in validation and use.

    Means and deviations are those of ``start``, the bundle that training starts from, where its channels are the
    recipe's; else those that published weights were trained with; else ImageNet's; for channels that are neither RGB
    nor grey they are measured on the pictures.
    """
    mean: tuple[float, ...]
    std: tuple[float, ...]
    config = get_pretrained_cfg(recipe.backbone) if recipe.pretrained and recipe.channels == 3 else None
    if start is not None and start.channels == recipe.channels:
        mean, std = start.mean, start.std
    elif config is not None:
        mean, std = config.mean, config.std
    elif recipe.channels not in (1, 3):
        mean, std = channel_statistics(pictures)
    else:
        mean, std = _RGB if recipe.channels == 3 else _GREY
    size = recipe.val_size or recipe.size
    return Preprocess((size, size), recipe.crop_pct, recipe.interpolation, mean, std)


def train_transform(recipe: Recipe, preprocess: Preprocess) -> TrainTransform:
    """What happens to a picture by itself."""
    return TrainTransform(
        dataclasses.replace(preprocess, size=(recipe.size, recipe.size)),
        crop_scale=recipe.crop_scale,
        crop_ratio=recipe.crop_ratio,
        flip=recipe.flip,
        rand_augment_ops=recipe.rand_augment_ops,
        rand_augment_magnitude=recipe.rand_augment_magnitude,
        color_jitter=recipe.color_jitter,
        erase=recipe.erase,
    )


class Prepare(nn.Module):
    """What happens to a batch on the model's device: normalisation, and in training PCA lighting and the task's mixing.

    Draws from torch's global generators.
    """

    def __init__(self, task: Task, recipe: Recipe, preprocess: Preprocess, classes: Classes) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.lighting = Lighting(recipe.lighting) if recipe.lighting else None
        self.mixing = task.mixing(recipe, classes)

    def forward(self, images: Tensor, targets: Any) -> tuple[Tensor, Any]:
        """Pixels (batch, channels, height, width), 0..255 -> normalised images and targets for training."""
        light = None if self.lighting is None else self.lighting.draw(len(images)).to(images.device)
        images = self.normalise(images, light)
        return (images, targets) if self.mixing is None or len(images) < 2 else self.mixing(images, targets)


def loader(
    pictures: LabelledSet,
    transform: Transform,
    recipe: Recipe,
    *,
    shuffle: bool,
    processes: Processes = Processes(),  # noqa: B008
    begin: tuple[int, int] = (0, 0),
) -> DataLoader[Batch]:
    """This process's batches of a picture set; the last, smaller one of an epoch is left out when shuffling.

    Args:
        pictures: the set.
        transform: of each picture.
        recipe: batch size, workers and seed.
        shuffle: another order in each epoch.
        processes: who shares a batch.
        begin: an epoch, and how many batches of it are done already.

    Raises:
        InputError: the processes cannot share the batches equally.
    """
    batch_size = processes.share(recipe.batch_size)
    sampler = EpochSampler(
        len(pictures),
        shuffle=shuffle,
        seed=recipe.seed,
        rank=processes.rank,
        world=processes.world,
        begin=(begin[0], begin[1] * batch_size),
    )
    return DataLoader(
        Seeded(pictures, transform, recipe.seed),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        num_workers=recipe.workers,
        collate_fn=collate,
        drop_last=shuffle and len(sampler) > batch_size,
        persistent_workers=recipe.workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


_TOGETHER = 4  # pictures that are mixed by one draw in :func:`shown`: a batch's one draw would not show the range


def shown(
    recipe: Recipe, task: Task, data: str, split: str, count: int, tell: Callable[[str], None] = print
) -> list[tuple[Any, str]]:
    """Pictures as the network sees them in training, with the names of their classes.

    Args:
        recipe: the settings.
        task: whose pictures.
        data: as for training.
        split: ``train``, ``val`` or ``test``; ``train`` is shown augmented, the others as they are validated.
        count: how many pictures.
        tell: receives a line for each picture that could not be read and is left out.

    Returns:
        Pairs of a uint8 array of shape (height, width, channels) and the class, or classes with their shares.

    Raises:
        InputError: bad data, or no such part.
    """
    sets = task.open_data(data, recipe.channels, recipe)
    if split not in sets:
        raise InputError(f"{data}: has no part {split!r}: {nearest(split, sets)}")
    pictures, classes = sets[split], sets["train"].classes
    preprocess = preprocess_of(recipe, sets["train"])
    train = split == "train"
    recipe = recipe.replace({"batch_size": min(count, len(pictures)), "workers": 0})
    transform = train_transform(recipe, preprocess) if train else EvalTransform(preprocess)
    batch = next(iter(loader(pictures, transform, recipe, shuffle=True)))
    if not batch.indices:
        raise InputError(f"{data}: no picture of {split} could be read; first: {batch.broken[0]}")
    for line in batch.broken:
        tell(line)
    prepare = Prepare(task, recipe, preprocess, classes)
    torch.manual_seed(recipe.seed)
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocess.mean, preprocess.std))
    found: list[tuple[Any, str]] = []
    for images, targets in zip(batch.images.split(_TOGETHER), batch.targets.split(_TOGETHER), strict=True):
        ready, named = prepare(images, targets) if train else (prepare.normalise(images), targets)
        pixels = ((ready * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found += [(array, task.caption(target, classes)) for array, target in zip(pixels, named, strict=True)]
    return found
