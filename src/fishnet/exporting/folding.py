"""Folds batch norms into the convolutions before them: the same function with less work.

In evaluation mode a batch norm is a scale and a shift for each channel, which a preceding convolution can absorb. That
is exact to rounding, but only valid if nothing else uses the convolution's output. So one pass through the model is
recorded, operation by operation, and a pair is folded if the convolution's outputs all go to that norm only, and the
norm gets no other inputs. A pre-activated network keeps the norms after its sums and concatenations, as no convolution
comes right before them.
"""

import copy
from collections import defaultdict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

M = TypeVar("M", bound=nn.Module)

_CONVOLUTIONS = (torch.ops.aten.convolution.default,)
_NORMS = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
    torch.ops.aten.cudnn_batch_norm.default,
)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what uses each convolution's output.

    Attributes:
        convs: id of an output -> id of the convolution's weights.
        uses: id of a tensor -> the norms that use it, by id of their running mean; None for any other operation.
        norm_inputs: id of a norm's running mean -> ids of its inputs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.convs: dict[int, int] = {}
        self.uses: dict[int, list[int | None]] = defaultdict(list)
        self.norm_inputs: dict[int, list[int]] = defaultdict(list)
        self.alive: list[Any] = []  # ids are unique only while the tensors exist

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        norm = id(args[3]) if func in _NORMS else None
        if norm is not None:
            self.norm_inputs[norm].append(id(args[0]))
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.uses[id(leaf)].append(norm)
        result = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            self.convs[id(result)] = id(args[1])
        self.alive.append((args, result))
        return result


def folded(model: M, example: Tensor) -> M:
    """Returns a copy of a model with its batch norms folded where that is exact.

    Args:
        model: in evaluation mode.
        example: an input of the model, on its device; its values do not matter.

    Raises:
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError("norms are folded in evaluation mode: call model.eval() first")
    copied = copy.deepcopy(model)
    for conv, norm in _pairs(copied, example):
        modules: Any = copied.get_submodule(conv), copied.get_submodule(norm)
        _replace(copied, conv, fuse_conv_bn_eval(*modules))
        _replace(copied, norm, _without_norm(copied.get_submodule(norm)))
    return copied.eval()


def _pairs(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Returns the names of the convolutions and norms that can be folded."""
    convs = {id(m.weight): name for name, m in model.named_modules() if type(m) is nn.Conv2d}
    norms = {
        id(m.running_mean): name
        for name, m in model.named_modules()
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and _is_supported(m)
    }
    with torch.no_grad(), _Recorder() as recorder:
        model_outputs = {id(leaf) for leaf in tree_leaves(model(example))}
    outputs_of: dict[int, list[int]] = defaultdict(list)
    for output, weight in recorder.convs.items():
        outputs_of[weight].append(output)
    pairs = []
    for weight, outputs in outputs_of.items():
        users = {norm for output in outputs for norm in recorder.uses[output]}
        norm = next(iter(users), None)
        if len(users) != 1 or norm is None or weight not in convs or norm not in norms:
            continue
        used_once = all(len(recorder.uses[output]) == 1 and output not in model_outputs for output in outputs)
        if used_once and set(recorder.norm_inputs[norm]) == set(outputs):
            pairs.append((convs[weight], norms[norm]))
    return pairs


def _is_supported(norm: nn.BatchNorm2d) -> bool:
    """Whether a norm only normalizes, or is timm's, which also activates."""
    return type(norm) is nn.BatchNorm2d or type(norm).__name__ == "BatchNormAct2d"


def _without_norm(norm: nn.Module) -> nn.Module:
    """Returns what remains of a folded norm."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(norm.drop, norm.act)  # type: ignore[arg-type]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
