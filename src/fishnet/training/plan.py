"""Prepares a training up to its first step: data, model, optimisation and batches."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytorch_lightning as pl
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from fishnet.analysis.profile import Cost, cost
from fishnet.backbone.registry import any_size_args, size_args
from fishnet.bundle.bundle import Bundle, is_bundle, read_bundle
from fishnet.bundle.checks import check_backbone
from fishnet.bundle.hub import bundle_path
from fishnet.data.base import ImageDataset
from fishnet.data.identity import fingerprint
from fishnet.data.loading import Batch
from fishnet.data.plausibility import note_lines
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.base import Source, Task
from fishnet.tasks.engine import pick_device, pick_training_precision
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import start_from, versions
from fishnet.training.batches import Prepare, loader, preprocess_of
from fishnet.training.checkpoints import Resumed
from fishnet.training.findings import report_findings
from fishnet.training.module import Position, TrainingModule
from fishnet.training.optimise import check_optimizer, freeze, freeze_norms
from fishnet.training.processes import Processes
from fishnet.weights import weight_names

Log = Callable[[str], None]
_TRAINING_ARGS = ("drop_rate", "drop_path_rate")  # arguments of the backbone that matter in training only
Batches = torch.utils.data.DataLoader[Batch]


@dataclass(frozen=True)
class Plan:
    """Everything that is set up before the first step.

    Attributes:
        task: the task.
        recipe: the settings, completed from the data.
        processes: the processes that take part.
        position: where the training starts.
        splits: the dataset of each split.
        model: the model to train.
        cost: the model's cost.
        module: the Lightning module.
        train, val: this process's batches.
        bundle: the bundle to write, without metrics.
    """

    task: Task
    recipe: Recipe
    processes: Processes
    position: Position
    splits: dict[str, ImageDataset]
    model: Model
    cost: Cost
    module: TrainingModule
    train: Batches
    val: Batches
    bundle: Bundle


def make_plan(
    task: Task,
    data: str,
    recipe: Recipe,
    processes: Processes,
    resumed: Resumed,
    weights: str | None,
    skip_findings: Collection[str] | None,
    log: Log,
) -> Plan:
    """Opens the data and builds the model, its Lightning module and the loaders.

    Args:
        task, data, recipe, weights: see :func:`~fishnet.training.fit.fit`.
        processes: the processes that take part.
        resumed: where the training starts.
        skip_findings: see :func:`~fishnet.training.fit.fit`. If it is None, no finding stops the training.
        log: is called with each line for the user.

    Raises:
        InputError: see :func:`~fishnet.training.fit.fit`.
    """
    _prepare_torch(recipe)
    recipe = _with_precision(recipe, log)
    recipe, splits = open_data(task, data, recipe, processes, skip_findings, log)
    start = resumed.preprocess
    if weights and is_bundle(bundle_path(weights)):
        start = read_bundle(bundle_path(weights)).preprocess
    preprocess = preprocess_of(task, recipe, splits["train"], start)
    if task.keeps_preprocess:
        for images in splits.values():
            images.reading = replace(preprocess.reading, max_pixels=recipe.max_pixels or None)
    validated = splits["val"]  # decoded as in predictions; the transforms of training images say what they need
    validated.reading = replace(validated.reading, min_side=preprocess.reading.min_side)
    task.check(splits, preprocess)
    spec = _spec_of(task, recipe, splits["train"], preprocess, log)
    if resumed != Resumed():  # its checkpoint has all weights
        spec = replace(spec, pretrained=False)
    model, model_cost, frozen = build_model(spec, recipe, weights, log)
    frozen += task.freeze(model)
    _log_model(task, recipe, model_cost, splits, task.sources(data, splits), log)
    train, val = build_loaders(task, recipe, splits, preprocess, processes, resumed.position)
    classes = splits["train"].classes
    module = TrainingModule(
        task, model, classes, task.criterion(recipe, splits["train"]), Prepare(task, recipe, preprocess, classes),
        recipe, updates_per_epoch=-(-len(train) // recipe.accumulate), frozen=frozen,
    )  # fmt: skip
    bundle = Bundle(
        recipe.backbone,
        dict(spec.heads),
        preprocess,
        backbone_args={name: value for name, value in spec.backbone_args.items() if name not in _TRAINING_ARGS},
        recipe=task.recipe_dict(recipe),
        data=task.kept_data() | _fingerprints(task.name, task.sources(data, splits)),
        versions=versions(),
        panoptic=task.panoptic_config(),
    )
    return Plan(task, recipe, processes, resumed.position, splits, model, model_cost, module, train, val, bundle)


def _with_precision(recipe: Recipe, log: Log) -> Recipe:
    """Returns the recipe with the precision that the training computes in, and logs it unless it is fp32."""
    precision, line = pick_training_precision(recipe.precision, pick_device(recipe.device))
    if line is not None:
        log(line)
    return recipe.replace({"precision": precision})


def _prepare_torch(recipe: Recipe) -> None:
    """Sets seed and threads. Raises InputError for settings that this machine or torch does not support."""
    check_backbone(recipe.backbone, {})
    device = pick_device(recipe.device)
    check_optimizer(recipe.optimizer)
    if recipe.sync_bn and device != "cuda":
        raise InputError(f"sync_bn: torch synchronizes batch norms on GPUs only, not on {device}")
    if recipe.sync_bn and recipe.on_error == "skip":
        raise InputError(
            "sync_bn with on_error=skip: a process without a readable image would stop the others: use one"
        )
    pl.seed_everything(recipe.seed, verbose=False)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)


def open_data(
    task: Task,
    data: str,
    recipe: Recipe,
    processes: Processes,
    skip_findings: Collection[str] | None,
    log: Log,
) -> tuple[Recipe, dict[str, ImageDataset]]:
    """Opens the splits of the data, reports their findings, and completes the recipe from the data.

    Raises:
        InputError: bad data, or findings that stop the training.
    """
    splits = task.open_data(data, recipe.channels, recipe)
    for source in task.sources(data, splits).values() if not processes.rank else ():
        report_findings(
            source.task.name, source.data, source.splits, log, skip=skip_findings or (),
            stop=skip_findings is not None, skip_broken=recipe.on_error == "skip",
        )  # fmt: skip
    return task.complete_recipe(recipe, splits, log), splits


def _fingerprints(task: str, sources: Mapping[str, Source]) -> dict[str, str]:
    """Identifies the task's data, or that of each head; keys of heads begin with the head's name.

    By this evaluations know how the images were held out, which joint trainings do in a way of their own, even with a
    single head.
    """
    prints = {name: fingerprint(source.data, source.splits) for name, source in sources.items()}
    if prints.keys() == {task}:
        return prints[task]
    return {f"{name}/{key}": value for name, values in prints.items() for key, value in values.items()}


def _spec_of(task: Task, recipe: Recipe, images: ImageDataset, preprocess: Preprocess, log: Log) -> ModelSpec:
    """Returns the spec of a recipe's model."""
    heads = task.head_configs(recipe, images, preprocess, log)
    backbone_args = {**_training_args(recipe), **_bundle_args(task, recipe)}
    return ModelSpec(recipe.backbone, heads, recipe.channels, backbone_args, pretrained=recipe.pretrained)


def build_model(spec: ModelSpec, recipe: Recipe, weights: str | None, log: Log) -> tuple[Model, Cost, list[nn.Module]]:
    """Builds the model with its initial weights. Returns it with its cost and its frozen modules.

    Raises:
        InputError: the model cannot be built, the weights are another network's, or a module to freeze is unknown.
    """
    model = Model.build(spec).to(memory_format=torch.channels_last)
    if spec.pretrained and not weights:
        place = "in this package" if recipe.backbone in weight_names() else "published"
        log(f"pretrained weights of {recipe.backbone}, {place} (--no-pretrained: random weights)")
    unfrozen = recipe.freeze == "none"  # new parts of a frozen trunk would stay random
    for note in start_from(model, weights, spec, extend=unfrozen) if weights else []:
        log(note)
    model_cost = cost(model, (recipe.channels, recipe.size, recipe.size))
    if recipe.grad_checkpointing:
        _set_grad_checkpointing(model, recipe.backbone)
    # a head may have no annotated image in one process, and synchronized norms would wait for it
    if recipe.sync_bn:
        convert_sync_batchnorm(model.trunk if len(model.heads) > 1 else model)
    frozen = freeze(model, recipe.freeze) + (freeze_norms(model) if recipe.trunk_norm == "frozen" else [])
    return model, model_cost, frozen


def _log_model(
    task: Task,
    recipe: Recipe,
    model_cost: Cost,
    splits: dict[str, ImageDataset],
    sources: Mapping[str, Source],
    log: Log,
) -> None:
    counts = ", ".join(f"{len(images):,} {name}" for name, images in splits.items())
    classes = _count_classes(task, splits["train"], sources)
    log(
        f"{task.name}: {recipe.backbone}, {model_cost.parameters / 1e6:.2f} M parameters, {model_cost.macs / 1e6:,.1f} "
        f"MMACs at {recipe.size} px; {classes}; images: {counts}"
    )
    for source in sources.values():
        for line in note_lines(source.splits):
            log(line)


def _count_classes(task: Task, images: ImageDataset, sources: Mapping[str, Source]) -> str:
    """The number of classes, by head where there are several."""
    if (panoptic := task.panoptic_config()) is not None:
        return f"{len(panoptic.segments)} classes"
    if len(sources) == 1:
        return f"{len(images.classes)} classes"
    return "classes: " + ", ".join(f"{len(s.splits['train'].classes)} {name}" for name, s in sources.items())


def build_loaders(
    task: Task,
    recipe: Recipe,
    splits: dict[str, ImageDataset],
    preprocess: Preprocess,
    processes: Processes,
    position: Position,
) -> tuple[Batches, Batches]:
    """Returns this process's batches of the training and the validation split.

    Raises:
        InputError: the processes cannot share the batches equally.
    """
    begin = position.epoch, position.batches
    transform = task.train_transform(recipe, preprocess)
    train = loader(splits["train"], transform, recipe, preprocess, shuffle=True, processes=processes, begin=begin)
    if preprocess.fit == "native":  # images of different sizes: one per process at a time
        recipe = recipe.replace({"batch_size": processes.world})
    val = loader(splits["val"], task.eval_transform(preprocess), recipe, preprocess, shuffle=False, processes=processes)
    return train, val


def _bundle_args(task: Task, recipe: Recipe) -> dict[str, Any]:
    """Returns the arguments of the backbone that belong in the bundle."""
    fixed = any_size_args(recipe.backbone) if task.any_size else size_args(recipe.backbone, recipe.size)
    if fixed and recipe.val_size not in (0, recipe.size):
        raise InputError(f"val_size={recipe.val_size}: {recipe.backbone} only takes the size that it is trained with")
    norm = {"norm_layer": "groupnorm"} if recipe.trunk_norm == "group" else {}
    return {**({"end": recipe.end} if recipe.end != "head" else {}), **norm, **fixed}


def _training_args(recipe: Recipe) -> dict[str, Any]:
    """Returns the arguments of the backbone that matter in training only."""
    return {name: value for name in _TRAINING_ARGS if (value := getattr(recipe, name))}


def _set_grad_checkpointing(model: Model, backbone: str) -> None:
    try:
        model.trunk.backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    except (AttributeError, AssertionError) as error:
        raise InputError(f"grad_checkpointing: {backbone} cannot recompute its features") from error
