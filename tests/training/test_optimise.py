"""Optimisation: rates over time and over layers, what is decayed, what is frozen."""

import itertools
import math
from typing import Any

import pytest
import torch
from timm.optim import list_optimizers
from torch import nn
from torch.optim import Optimizer

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.classification.heads import Classifier
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.trunk import Trunk, Wants
from fishnet.training.optimise import check_optimizer, freeze, optimizer_of, rate_of, schedule_of


def line() -> Model:
    """The smallest model there is."""
    return Model(Trunk(nn.Linear(2, 2), Wants()), {"classify": Classifier()})


def model_of(backbone: str) -> Model:
    return Model.build(ModelSpec.single("classify", backbone, Classes.of(["a", "b", "c"])))


# over time


def rates(recipe: Recipe, steps_per_epoch: int = 10) -> list[float]:
    """The learning rate before each step, and after the last."""
    optimizer = optimizer_of(line(), recipe)
    schedule = schedule_of(optimizer, recipe, steps_per_epoch)
    found = []
    for step in range(recipe.epochs * steps_per_epoch + 1):
        schedule.step_update(num_updates=step)
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        found.append(rate_of(optimizer))
    return found


def test_the_warm_up_is_a_line_from_a_twenty_fifth() -> None:
    found = rates(Recipe(lr=1.0, epochs=10, warmup_epochs=2.0))
    assert found[:20] == pytest.approx([0.04 + 0.96 * step / 20 for step in range(20)])
    assert found[20] == pytest.approx(1.0)


def test_the_warm_up_may_be_a_fraction_and_is_at_most_half() -> None:
    assert rates(Recipe(lr=1.0, epochs=4, warmup_epochs=0.5))[:6] == pytest.approx(
        [0.04 + 0.96 * step / 5 for step in range(5)] + [1.0]
    )
    assert rates(Recipe(lr=1.0, epochs=4, warmup_epochs=99.0))[20] == pytest.approx(1.0)
    assert rates(Recipe(lr=1.0, epochs=4, warmup_epochs=0.0))[0] == pytest.approx(1.0)


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_cosine(warmup: float) -> None:
    found = rates(Recipe(lr=0.8, epochs=10, warmup_epochs=warmup))
    start = round(10 * warmup)
    rest = 100 - start
    assert found[start:] == pytest.approx(
        [0.4 * (1 + math.cos(math.pi * step / rest)) for step in range(rest + 1)], abs=1e-12
    )
    assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_steps() -> None:
    found = rates(Recipe(lr=1.0, epochs=10, warmup_epochs=1.0, schedule="step", step_epochs=3))
    for first, after, rate in ((10, 40, 1.0), (40, 70, 0.1), (70, 100, 0.01)):
        assert found[first:after] == pytest.approx([rate] * (after - first))


def test_constant() -> None:
    found = rates(Recipe(lr=0.3, epochs=10, warmup_epochs=1.0, schedule="constant"))
    assert found[10:] == pytest.approx([0.3] * 91)


# over layers


def by_name(model: Model, optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    """The group of every parameter."""
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(groups), "no parameter twice"
    return {name: groups[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in groups}


@pytest.mark.parametrize(
    ("backbone", "order"),
    [
        ("fishnet_nano", ("stem", "tail", "body", "head", "last")),
        ("resnet18", ("conv1", "layer1", "layer2", "layer3", "layer4", "last")),
    ],
)
def test_rates_fall_towards_the_stem(backbone: str, order: tuple[str, ...]) -> None:
    model = model_of(backbone)
    recipe = Recipe(backbone=backbone, layer_decay=0.5, lr=1.0, epochs=2, warmup_epochs=0.0)
    optimizer = optimizer_of(model, recipe)
    schedule_of(optimizer, recipe, 10).step_update(num_updates=0)
    groups = by_name(model, optimizer)
    assert set(groups) == {name for name, _ in model.named_parameters()}
    last = {id(parameter) for parameter in model.trunk.backbone.get_classifier().parameters()}  # type: ignore[operator]
    rates: dict[str, list[float]] = {part: [] for part in order}
    for name, parameter in model.named_parameters():
        part = "last" if id(parameter) in last else name.split(".")[2]
        rates.setdefault(part, []).append(groups[name]["lr"])
    assert set(rates["last"]) == {1.0}, "the last layer learns at the full rate"
    for lower, upper in itertools.pairwise(order):
        assert max(rates[lower]) <= min(rates[upper]), (lower, upper)
    assert max(rates[order[0]]) < min(rates[order[-2]])


# weight decay


@pytest.mark.parametrize("layer_decay", [1.0, 0.9])
@pytest.mark.parametrize("decay_norms", [True, False])
def test_norms_and_biases_are_decayed_where_asked(decay_norms: bool, layer_decay: float) -> None:
    model = model_of("fishnet_nano")
    recipe = Recipe(weight_decay=0.1, decay_norms=decay_norms, layer_decay=layer_decay)
    groups = by_name(model, optimizer_of(model, recipe))
    sizes = {name: parameter.ndim for name, parameter in model.named_parameters()}
    assert {sizes[name] <= 1 for name in groups} == {True, False}
    for name, group in groups.items():
        assert group["weight_decay"] == (0.1 if decay_norms or sizes[name] > 1 else 0.0), name


# freezing


def test_nothing_is_frozen_by_default() -> None:
    model = model_of("fishnet_nano")
    assert freeze(model, "none") == []
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("backbone", ["fishnet_nano", "resnet18"])
def test_freezing_the_trunk_leaves_the_last_layer(backbone: str) -> None:
    model = model_of(backbone)
    freeze(model, "trunk")
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert trained == {id(parameter) for parameter in model.trunk.backbone.get_classifier().parameters()}  # type: ignore[operator]
    groups = by_name(model, optimizer_of(model, Recipe()))
    assert len(groups) == len(trained), "the optimizer has nothing else"


@pytest.mark.parametrize("backbone", ["test_vit", "deit_tiny_distilled_patch16_224"])
def test_freezing_the_trunk_freezes_tokens_and_positions(backbone: str) -> None:
    model = model_of(backbone)
    freeze(model, "trunk")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = ("head", "head_dist") if backbone.startswith("deit") else ("head",)
    assert trained == {f"trunk.backbone.{head}.{kind}" for head in heads for kind in ("weight", "bias")}


def test_freezing_parts() -> None:
    model = model_of("fishnet_nano")
    parts = freeze(model, "stem, tail")
    assert parts == [model.trunk.backbone.stem, model.trunk.backbone.tail]
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(("trunk.backbone.stem.", "trunk.backbone.tail.")), name


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("tale", "no module 'tale': did you mean tail"),
        ("stem,", "no module ''"),
        ("stem,tail,bridge,body,head,score", "no trainable parameters remain"),
    ],
)
def test_what_cannot_be_frozen(what: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        freeze(model_of("fishnet_nano"), what)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("optimizer", "words"), [("adahessian", "second derivatives"), ("fusedadam", "CUDA|apex|APEX")]
)
def test_optimisers_that_cannot_serve(optimizer: str, words: str) -> None:
    if optimizer == "fusedadam" and (torch.cuda.is_available() or optimizer not in list_optimizers()):
        pytest.skip("is for GPUs, and for timm with apex beside it")
    with pytest.raises(InputError, match=f"optimizer {optimizer}.*({words})"):
        optimizer_of(line(), Recipe(optimizer=optimizer))


def test_unknown_optimisers() -> None:
    check_optimizer("adamw")
    with pytest.raises(InputError, match="unknown optimizer 'adamww': did you mean adamw"):
        check_optimizer("adamww")
