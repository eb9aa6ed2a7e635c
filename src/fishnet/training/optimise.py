"""Which parameters are trained, by which optimiser, at which rate: timm's parts, put together from a recipe."""

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
    """Raises InputError for an optimiser that timm does not have."""
    known = [str(entry) for entry in list_optimizers()]
    if name not in known:
        raise InputError(f"unknown optimizer {name!r}: {nearest(name, known)}")


def freeze(model: Model, what: str) -> list[nn.Module]:
    """Takes parts of a model's trunk out of training.

    Args:
        model: parameters of the parts get ``requires_grad=False``.
        what: ``none``, ``trunk`` (all but a classifier's last layer) or names of the trunk's modules, with commas.

    Returns:
        The modules to be kept in evaluation mode, so that their running statistics stay as they are, too.

    Raises:
        InputError: a module that the trunk does not have, or nothing left to train.
    """
    if what in ("none", ""):
        return []
    trunk: Any = model.trunk.backbone
    named = dict(trunk.named_modules())
    if what == "trunk":
        found = trunk.get_classifier()  # of some nets several: deit_tiny_distilled_patch16_224
        scores: list[nn.Module] = list(found) if isinstance(found, tuple | list) else [found]
        trunk.requires_grad_(False)  # with tokens and position embeddings, which belong to no part
        for score in scores:
            score.requires_grad_(True)
        trained = {module for score in scores for module in score.modules()}
        parts = [part for part in named.values() if not trained & set(part.modules())]
    else:
        names = [name.strip() for name in what.split(",")]
        for name in names:
            if not name or name not in named:
                raise InputError(
                    f"freeze={what}: the trunk has no part {name!r}: {nearest(name, dict(trunk.named_children()))}"
                )
        parts = [named[name] for name in names]
    for part in parts:
        part.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(f"freeze={what}: leaves nothing to train")
    return parts


def freeze_norms(model: Model) -> list[nn.Module]:
    """Takes the batch norms of a model's trunk out of training, and gives them, to be kept in evaluation mode."""
    norms: list[nn.Module] = [part for part in model.trunk.backbone.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.requires_grad_(False)
    return norms


def optimizer_of(model: Model, recipe: Recipe) -> Optimizer:
    """timm's optimiser for the parameters that are trained.

    Raises:
        InputError: an optimiser that refuses these settings.
    """
    try:
        optimizer = create_optimizer_v2(
            _groups(model, recipe),
            opt=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
    except (ValueError, TypeError, AssertionError) as error:  # AssertionError: timm's, of those that need a GPU
        raise InputError(f"optimizer {recipe.optimizer} with these settings: {error}") from error
    if getattr(optimizer, "is_second_order", False):
        raise InputError(f"optimizer {recipe.optimizer}: needs second derivatives, which are not computed here")
    return optimizer


def _groups(model: Model, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameter groups with their weight decay, and with a rate for each layer where the recipe asks for it."""
    trunk: Any = model.trunk.backbone
    exempt = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") and not recipe.decay_norms else ()
    common: dict[str, Any] = {"weight_decay": recipe.weight_decay, "weight_decay_exclude_1d": not recipe.decay_norms}
    if recipe.layer_decay == 1:
        exempt = [f"trunk.backbone.{name}" for name in exempt]
        return list(param_groups_weight_decay(model, no_weight_decay_list=exempt, **common))
    layered = param_groups_layer_decay(trunk, no_weight_decay_list=exempt, layer_decay=recipe.layer_decay, **common)
    beside = param_groups_weight_decay(model.heads, **common)
    groups = [*layered, *({**group, "lr_scale": 1.0} for group in beside)]
    return [{key: value for key, value in group.items() if key != "param_names"} for group in groups if group["params"]]


def schedule_of(optimizer: Optimizer, recipe: Recipe, updates_per_epoch: int) -> Scheduler:
    """timm's schedule, stepped at every update: warm-up, then cosine, steps or constant."""
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
    """The learning rate in force: the highest of the parameter groups'."""
    return max(float(group["lr"]) for group in optimizer.param_groups)
