"""How far gradients reach: their norms at each stage's output and at each weight, on real batches."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from fishnet.analysis.inspection.stages import walk
from fishnet.analysis.inspection.subject import Subject
from fishnet.errors import InputError
from fishnet.training.checkpoints import Resumed
from fishnet.training.jobs import single_job
from fishnet.training.plan import Plan, make_plan
from fishnet.training.processes import Processes


@dataclass(frozen=True)
class Flow:
    """The gradients of a model's training loss, as means over several batches.

    Attributes:
        loss: the loss.
        stages: for each stage the L2 norm of the loss's gradient at its output, of the whole batch.
        weights: for each weight of the trunk with two or more axes, in the order of the network's parameters, the L2
            norm of its gradient divided by its own. Weights of norm 0 are left out: the last convolutions of units
            where they start at zero, which makes the gradients of the units' other weights 0 at first.
        images: number of images that were read.
    """

    loss: float
    stages: dict[str, float]
    weights: dict[str, float]
    images: int


def gradient_flow(
    subject: Subject,
    data: str,
    *,
    batches: int = 4,
    batch_size: int = 16,
    size: int | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Flow:
    """Measures the gradients of a training's loss at its first step.

    The model is in training mode, in float32; images are those of the training split, as the recipe ``small-data``
    augments them. Nothing is updated.

    Args:
        subject: a network, or a bundle with one head.
        data: labelled data, as for training.
        batches, batch_size: how many images are read.
        size: side of the input, px; by default the bundle's or 224.
        log: is called with lines about the data.

    Raises:
        InputError: bad data, a bundle with several heads, or data of other classes than a bundle's.
    """
    if not subject.task:
        raise InputError(f"{subject.model}: has several heads: gradients are measured for bundles with one head")
    settings: dict[str, Any] = {"batch_size": batch_size, "precision": "fp32", "workers": 0}
    if not subject.is_bundle:
        settings |= {"backbone": subject.model, "pretrained": subject.pretrained}
    if size or not subject.is_bundle:
        settings["size"] = size or subject.size[0]
    weights = subject.model if subject.is_bundle else None
    job = single_job(subject.task, data, None, weights, settings)
    plan = make_plan(job.make_task(), job.data, job.recipe, Processes(), Resumed(), weights, (), log)
    if subject.is_bundle and set(plan.bundle.only_head.classes.names) != set(subject.classes):
        raise InputError(f"{data}: has other classes than {subject.model}: give data like those of its training")
    return _measure(plan, batches)


def _measure(plan: Plan, batches: int) -> Flow:
    model, module = plan.model.train(), plan.module
    backbone = model.trunk.backbone
    steps = walk(backbone)
    named = [(name, p) for name, p in backbone.named_parameters() if p.ndim > 1 and float(p.detach().norm()) > 0]
    stages: dict[str, list[float]] = {}
    weights: dict[str, list[float]] = {}
    losses: list[float] = []
    images = 0
    for batch in islice(_readable(plan), batches):
        model.zero_grad()
        pixels, targets = module.prepare(batch.images, batch.targets)
        with steps.follow(backbone):
            outputs = plan.task.run(model, pixels, targets)
        for output in steps.outputs.values():
            if output.requires_grad:
                output.retain_grad()
        loss = torch.stack(list(module.criterion(outputs, targets).values())).sum()
        module.check_finite(loss)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        images += len(batch.indices)
        for name, output in steps.outputs.items():
            if output.grad is not None:
                stages.setdefault(name, []).append(float(output.grad.norm()))
        for name, parameter in named:
            if parameter.grad is not None:
                weights.setdefault(name, []).append(float(parameter.grad.norm() / parameter.detach().norm()))
    return Flow(_mean(losses), _means(stages), _means(weights), images)


def _readable(plan: Plan) -> Iterable[Any]:
    for batch in plan.train:
        if batch.broken:
            raise InputError(f"{batch.broken[0]}; fix or remove it")
        yield batch


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: _mean(own) for name, own in values.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
