"""The stages of a network, and what each costs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.spec import STAGES

SCORE = "score"
"""The part of a classifier behind its last stage: pooling and the last layers."""

_BATCHES = 2, 3  # batch norms cannot train on one image where a map has one pixel


@dataclass
class Stage:
    """One stage of a network.

    Attributes:
        name: the module whose output is the stage's, or :data:`SCORE`.
        parameters: of the modules that run in this stage; a module that runs in several belongs to the first.
        macs: multiply-accumulates of convolutions and matrix products for one input.
        activation_bytes: what training keeps for each further float32 input until the backward pass has used it, in
            bytes. Attention counts as torch computes it without a fused kernel.
        shape: channels, height and width of the output; other shapes without the batch.
    """

    name: str
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0
    shape: tuple[int, ...] = ()


def candidate_names(model: nn.Module) -> list[str]:
    """The modules whose outputs may be the stages of a timm network; a forward pass need not run all of them.

    A FishNet's are those of the paper (``stem``, ``tail.0`` ... ``head.2``). Other networks list the ends of their
    stages in ``feature_info``; those without it have the modules that they consist of, up to the classifier.
    """
    if isinstance(model, FishNet):
        return list(STAGES[: STAGES.index(model.last_stage) + 1])
    known = dict(model.named_modules())
    infos = getattr(model, "feature_info", None) or ()
    listed = list(dict.fromkeys(str(info["module"]) for info in infos))
    if listed and all(name and name in known for name in listed):
        return listed
    config: Any = getattr(model, "default_cfg", None) or {}
    classifier = config.get("classifier") or ()
    heads = {str(name).partition(".")[0] for name in ((classifier,) if isinstance(classifier, str) else classifier)}
    return [name for child, module in model.named_children() if child not in heads for name in _parts(child, module)]


def _parts(name: str, module: nn.Module) -> list[str]:
    """A module's name, or those of the modules in a list, which does not run itself."""
    if not isinstance(module, nn.ModuleList):
        return [name]
    return [part for child, inner in module.named_children() for part in _parts(f"{name}.{child}", inner)]


@dataclass
class Walk:
    """Follows the forward passes of a model through its stages.

    Attributes:
        names: the stages, and :data:`SCORE` for what comes after the last one.
        current: number of the stage that runs, if all stages run in the order of ``names``.
        outputs: each finished stage's output by name, in the order of the pass; of several outputs the first.
        others: the further outputs of stages that have several, by name.
        on_finish: is called with the name of each stage that has finished.
    """

    names: list[str]
    current: int = 0
    outputs: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, list[Tensor]] = field(default_factory=dict)
    on_finish: Callable[[str], None] = lambda name: None

    @property
    def stage(self) -> str:
        """Name of the stage that runs."""
        return self.names[self.current]

    @contextmanager
    def follow(self, model: nn.Module) -> Iterator["Walk"]:
        """Follows the passes of a model inside the block."""
        modules = dict(model.named_modules())
        hooks = [
            modules[name].register_forward_hook(lambda _module, _inputs, output, i=i: self._finish(i, output))
            for i, name in enumerate(self.names[:-1])
        ]
        hooks.append(model.register_forward_pre_hook(lambda _module, _inputs: self._start()))
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _start(self) -> None:
        self.current, self.outputs, self.others = 0, {}, {}

    def _finish(self, number: int, output: Any) -> None:
        name = self.names[number]
        tensors = [each for each in (output if isinstance(output, list | tuple) else [output]) if torch.is_tensor(each)]
        if tensors:
            self.outputs.pop(name, None)
            self.outputs[name], self.others[name] = tensors[0], tensors[1:]
        self.current = number + 1
        self.on_finish(name)


def walk(model: nn.Module, shape: tuple[int, int, int] | None = None) -> Walk:
    """A new walk through the stages of a model.

    Args:
        model: on any device; only the meta device with a shape.
        shape: channels, height and width of an input. With it a pass in evaluation mode finds the stages that run, and
            their order.

    Raises:
        ValueError: no stage returns a tensor.
    """
    names = candidate_names(model)
    if shape is not None:
        first = Walk([*names, SCORE])
        with first.follow(model.eval()), torch.no_grad():
            model(torch.zeros(1, *shape, device="meta"))
        names = list(first.outputs)
        if not names:
            raise ValueError("no stage of this model returns a tensor")
    return Walk([*names, SCORE])


def count_stages(model: nn.Module, shape: tuple[int, int, int]) -> list[Stage]:
    """Counts the cost of each stage for an input of ``shape`` (channels, height, width).

    Nothing is computed: the model runs on torch's meta device, and is moved there for good.

    Raises:
        ValueError: the model has no stage that returns a tensor.
    """
    model.to("meta").eval()
    steps = walk(model, shape)
    stages = {name: Stage(name) for name in steps.names}
    flops: dict[str, int] = {}
    with (
        steps.follow(model), _counted_parameters(model, steps, stages), FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):  # fmt: skip
        steps.on_finish = lambda name: flops.__setitem__(name, counter.get_total_flops())
        scores = model(torch.zeros(1, *shape, device="meta"))
    steps.on_finish = lambda name: None
    steps.outputs[SCORE], flops[SCORE] = scores, counter.get_total_flops()
    fewer, more = (_kept_bytes(model, steps.names, (batch, *shape)) for batch in _BATCHES)
    before = 0
    for name, stage in stages.items():
        stage.macs, before = (flops[name] - before) // 2, flops[name]
        stage.activation_bytes = more[name] - fewer[name]
        if torch.is_tensor(steps.outputs[name]):
            stage.shape = tuple(steps.outputs[name].shape[1:])
    return list(stages.values())


def _kept_bytes(model: nn.Module, names: list[str], shape: tuple[int, ...]) -> dict[str, int]:
    """What the forward pass of a training step on a batch keeps for the backward pass, by stage, in bytes."""
    steps, counts = Walk(list(names)), dict.fromkeys(names, 0)
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own and storage._cdata not in kept:
            kept[storage._cdata] = tensor
            counts[steps.stage] += storage.nbytes()
        return tensor

    with steps.follow(model.train()), saved_tensors_hooks(keep, lambda tensor: tensor), torch.enable_grad():
        model(torch.zeros(*shape, device="meta"))
    return counts


@contextmanager
def _counted_parameters(model: nn.Module, steps: Walk, stages: Mapping[str, Stage]) -> Iterator[None]:
    """Adds the parameters of each module that runs inside the block to its stage, and all others to the last one."""
    counted: set[int] = set()

    def count(module: nn.Module, name: str) -> None:
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in counted:
                counted.add(id(parameter))
                stages[name].parameters += parameter.numel()

    modules = list(model.modules())
    hooks = [module.register_forward_pre_hook(lambda each, _inputs: count(each, steps.stage)) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    for module in modules:
        count(module, SCORE)
