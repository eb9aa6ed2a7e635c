"""Trainable parameters, optimizer and learning-rate schedule of a recipe, built with timm."""

from typing import Any

from timm.optim import create_optimizer_v2, list_optimizers, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from fishnet.errors import InputError, nearest
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.model import Model

_SCHEDULES = {"cosine": "cosine", "step": "step", "milestones": "multistep", "constant": "step"}


def check_optimizer(name: str) -> None:
    """Raises InputError if timm has no optimizer of this name."""
    known = [str(entry) for entry in list_optimizers()]
    if name not in known:
        raise InputError(f"unknown optimizer {name!r}: {nearest(name, known)}")


def freeze(model: Model, what: str) -> list[nn.Module]:
    """Freezes modules of a model's trunk.

    Args:
        model: parameters of the frozen modules get ``requires_grad=False``.
        what: ``none``, ``trunk`` (all but a classifier's last layer) or names of the trunk's modules, comma-separated.

    Returns:
        The frozen modules, which must be kept in evaluation mode so that their running statistics do not change.

    Raises:
        InputError: the trunk has no such module, or nothing is left to train.
    """
    if what in ("none", ""):
        return []
    trunk: Any = model.trunk.backbone
    modules = dict(trunk.named_modules())
    if what == "trunk":
        classifier = trunk.get_classifier()  # some networks have several: deit_tiny_distilled_patch16_224
        layers: list[nn.Module] = list(classifier) if isinstance(classifier, tuple | list) else [classifier]
        trunk.requires_grad_(False)  # including tokens and position embeddings, which belong to no module
        for layer in layers:
            layer.requires_grad_(True)
        trained = {module for layer in layers for module in layer.modules()}
        frozen = [module for module in modules.values() if not trained & set(module.modules())]
    else:
        names = [name.strip() for name in what.split(",")]
        for name in names:
            if not name or name not in modules:
                raise InputError(
                    f"freeze={what}: the trunk has no module {name!r}: {nearest(name, dict(trunk.named_children()))}"
                )
        frozen = [modules[name] for name in names]
    for module in frozen:
        module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"freeze={what}: no trainable parameters remain")
    return frozen


def freeze_norms(model: Model) -> list[nn.Module]:
    """Freezes the batch norms of a model's trunk. Returns them, as they must be kept in evaluation mode."""
    norms: list[nn.Module] = [module for module in model.trunk.backbone.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.requires_grad_(False)
    return norms


def optimizer_of(model: Model, recipe: Recipe) -> Optimizer:
    """Returns timm's optimizer for the trainable parameters.

    Raises:
        InputError: the optimizer does not accept these settings.
    """
    try:
        optimizer = create_optimizer_v2(
            _groups(model, recipe),
            opt=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
    except (ValueError, TypeError, AssertionError) as error:  # AssertionError: from timm's optimizers that need a GPU
        raise InputError(f"optimizer {recipe.optimizer} does not accept these settings: {error}") from error
    if getattr(optimizer, "is_second_order", False):
        raise InputError(f"optimizer {recipe.optimizer}: needs second derivatives, which are not supported")
    return optimizer


def _groups(model: Model, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns parameter groups with their weight decay and, with ``layer_decay``, a learning rate for each layer."""
    trunk: Any = model.trunk.backbone
    exempt = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") and not recipe.decay_norms else ()
    common: dict[str, Any] = {"weight_decay": recipe.weight_decay, "weight_decay_exclude_1d": not recipe.decay_norms}
    if recipe.layer_decay == 1:
        exempt = [f"trunk.backbone.{name}" for name in exempt]
        return list(param_groups_weight_decay(model, no_weight_decay_list=exempt, **common))
    layered = param_groups_layer_decay(trunk, no_weight_decay_list=exempt, layer_decay=recipe.layer_decay, **common)
    heads = param_groups_weight_decay(model.heads, **common)
    groups = [*layered, *({**group, "lr_scale": 1.0} for group in heads)]
    return [{key: value for key, value in group.items() if key != "param_names"} for group in groups if group["params"]]


def schedule_of(optimizer: Optimizer, recipe: Recipe, updates_per_epoch: int) -> Scheduler:
    """Returns timm's schedule, stepped at every update: warm-up, then cosine, steps or constant."""
    warmup = min(recipe.warmup_epochs, recipe.epochs / 2)
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched=_SCHEDULES[recipe.schedule],
        num_epochs=recipe.epochs - warmup,  # type: ignore[arg-type]
        decay_epochs=recipe.step_epochs if recipe.schedule == "step" else recipe.epochs + 1,
        # timm counts milestones from the end of the warm-up, and one update early; half an update makes them exact
        decay_milestones=[epoch - warmup + 0.5 / updates_per_epoch for epoch in recipe.milestones],  # type: ignore[misc]
        decay_rate=0.1,
        warmup_epochs=warmup,  # type: ignore[arg-type]
        warmup_prefix=True,
        warmup_lr=recipe.lr * 0.04,
        min_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    assert isinstance(schedule, Scheduler)
    return schedule


def rate_of(optimizer: Optimizer) -> float:
    """Returns the current learning rate: the highest of the parameter groups'."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
