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

_BATCH = 2  # the smallest batch that batch norms can train on where a map has one pixel


@dataclass
class Stage:
    """One stage of a network.

    Attributes:
        name: the module whose output is the stage's, or :data:`SCORE`.
        parameters: of the modules that run in this stage; a module that runs in several belongs to the first.
        macs: multiply-accumulates of convolutions and matrix products for one input.
        activation_bytes: what training keeps of one float32 input until the backward pass has used it, in bytes.
        shape: channels, height and width of the output; other shapes without the batch.
    """

    name: str
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0
    shape: tuple[int, ...] = ()


def stage_names(model: nn.Module) -> list[str]:
    """The modules whose outputs are the stages of a timm network, in the order of the forward pass.

    A FishNet's are those of the paper (``stem``, ``tail.0`` ... ``head.2``). Other networks list the ends of their
    stages in ``feature_info``; those without it have the modules that they consist of.
    """
    if isinstance(model, FishNet):
        return list(STAGES[: STAGES.index(model.last_stage) + 1])
    known = dict(model.named_modules())
    infos = getattr(model, "feature_info", None) or ()
    listed = list(dict.fromkeys(str(info["module"]) for info in infos))
    if listed and all(name in known for name in listed):
        return listed
    return [name for name, _ in model.named_children()]


@dataclass
class Walk:
    """Follows a forward pass through the stages of a model.

    Attributes:
        names: the stages, and :data:`SCORE` for what comes after the last one.
        current: number of the stage that runs.
        outputs: each finished stage's output by name.
        on_finish: is called with the name of each stage that has finished.
    """

    names: list[str]
    current: int = 0
    outputs: dict[str, Tensor] = field(default_factory=dict)
    on_finish: Callable[[str], None] = lambda name: None

    @property
    def stage(self) -> str:
        """Name of the stage that runs."""
        return self.names[self.current]

    @contextmanager
    def of(self, model: nn.Module) -> Iterator["Walk"]:
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
        self.current, self.outputs = 0, {}

    def _finish(self, number: int, output: Any) -> None:
        output = output[0] if isinstance(output, list | tuple) else output
        if isinstance(output, Tensor):
            self.outputs[self.names[number]] = output
        self.current = number + 1
        self.on_finish(self.names[number])


def walk(model: nn.Module) -> Walk:
    """A new walk through the stages of a model."""
    return Walk([*stage_names(model), SCORE])


def count_stages(model: nn.Module, shape: tuple[int, int, int]) -> list[Stage]:
    """Counts the cost of each stage for an input of ``shape`` (channels, height, width).

    Nothing is computed: the model runs on torch's meta device, and is moved there for good.

    Raises:
        ValueError: the model has no stage that returns a tensor.
    """
    model.to("meta").train()
    steps = walk(model)
    stages = {name: Stage(name) for name in steps.names}
    flops: dict[str, int] = {}
    own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if id(tensor) not in own and storage._cdata not in kept:
            kept[storage._cdata] = tensor
            stages[steps.stage].activation_bytes += storage.nbytes() // _BATCH
        return tensor

    with (
        steps.of(model), _counted_parameters(model, steps, stages), FlopCounterMode(display=False) as counter,
        saved_tensors_hooks(keep, lambda tensor: tensor),
    ):  # fmt: skip
        steps.on_finish = lambda name: flops.__setitem__(name, counter.get_total_flops())
        scores = model(torch.zeros(_BATCH, *shape, device="meta"))
    if not steps.outputs:
        raise ValueError("no stage of this model returns a tensor")
    steps.outputs[SCORE], flops[SCORE] = scores, counter.get_total_flops()
    before = 0
    for name, stage in stages.items():
        if name in flops:
            stage.macs, before = (flops[name] - before) // 2 // _BATCH, flops[name]
        if name in steps.outputs:
            stage.shape = tuple(steps.outputs[name].shape[1:])
    return list(stages.values())


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
