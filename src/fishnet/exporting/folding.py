"""Batch norms folded into the convolutions before them: the same function with less work.

A norm in evaluation is a factor and a sum for each channel; behind a convolution both go into its weights. That is
exact but for rounding, and only right where nobody else sees what the convolution gives. So a pass through the model is
watched, operation by operation, and a pair is folded when all that the convolution gives goes to that norm alone, and
the norm gets nothing else. A pre-activated net keeps the norms of its sums and concatenations: these have no
convolution right before them.
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


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what becomes of each convolution's output.

    Attributes:
        made: id of an output -> id of the convolution's weights.
        uses: id of a tensor -> the norms that took it, by id of their running mean; None for any other operation.
        given: id of a norm's running mean -> ids of its inputs.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.made: dict[int, int] = {}
        self.uses: dict[int, list[int | None]] = defaultdict(list)
        self.given: dict[int, list[int]] = defaultdict(list)
        self.alive: list[Any] = []  # an id is a tensor's own only as long as the tensor lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        norm = id(args[3]) if func in _NORMS else None
        if norm is not None:
            self.given[norm].append(id(args[0]))
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self.uses[id(leaf)].append(norm)
        result = func(*args, **(kwargs or {}))
        if func in _CONVOLUTIONS:
            self.made[id(result)] = id(args[1])
        self.alive.append((args, result))
        return result


def folded(model: M, example: Tensor) -> M:
    """A copy of a model with its batch norms folded where that is exact.

    Args:
        model: in evaluation mode.
        example: an input that it takes, of its device; its values do not matter.

    Raises:
        ValueError: a model in training mode.
    """
    if model.training:
        raise ValueError("norms are folded in evaluation mode: model.eval() first")
    lean = copy.deepcopy(model)
    for conv, norm in _pairs(lean, example):
        parts: Any = lean.get_submodule(conv), lean.get_submodule(norm)
        _replace(lean, conv, fuse_conv_bn_eval(*parts))
        _replace(lean, norm, _rest(lean.get_submodule(norm)))
    return lean.eval()


def _pairs(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of the convolutions and norms that may be folded."""
    convs = {id(m.weight): name for name, m in model.named_modules() if type(m) is nn.Conv2d}
    norms = {
        id(m.running_mean): name
        for name, m in model.named_modules()
        if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None and _known(m)
    }
    with torch.no_grad(), _Watch() as watch:
        outputs = model(example)
    shown = {id(leaf) for leaf in tree_leaves(outputs)}
    outputs_of: dict[int, list[int]] = defaultdict(list)
    for output, weight in watch.made.items():
        outputs_of[weight].append(output)
    pairs = []
    for weight, made in outputs_of.items():
        takers = {norm for output in made for norm in watch.uses[output]}
        norm = next(iter(takers), None)
        if len(takers) != 1 or norm is None or weight not in convs or norm not in norms:
            continue
        alone = all(len(watch.uses[output]) == 1 and output not in shown for output in made)
        if alone and set(watch.given[norm]) == set(made):
            pairs.append((convs[weight], norms[norm]))
    return pairs


def _known(norm: nn.BatchNorm2d) -> bool:
    """Whether what a norm does beside normalising is known: nothing, or as timm's it activates."""
    return type(norm) is nn.BatchNorm2d or type(norm).__name__ == "BatchNormAct2d"


def _rest(norm: nn.Module) -> nn.Module:
    """What remains of a folded norm."""
    if type(norm) is nn.BatchNorm2d:
        return nn.Identity()
    return nn.Sequential(norm.drop, norm.act)  # type: ignore[arg-type]


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
