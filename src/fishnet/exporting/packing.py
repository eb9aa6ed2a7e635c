"""Convolutions whose weights lie as the processor's library wants them: the same module, faster on a CPU.

By itself torch puts a convolution's weights into that order at every call, which for one image at a time is much of
the work where maps are small and channels many.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fishnet.errors import InputError
from fishnet.exporting.folding import folded


class Packed(nn.Module):
    """An ``nn.Conv2d`` for prediction on a CPU, its weights in oneDNN's order. It has no parameters.

    Args:
        conv: on the CPU, float32, padded with zeros.
        size: of an input that it gets, (batch, channels, height, width): others are taken too, but this one is what
            the order is chosen for.
    """

    def __init__(self, conv: nn.Conv2d, size: torch.Size) -> None:
        super().__init__()
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.numbers = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
        self.weights = reorder(conv.weight.detach(), *self.numbers, list(size))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, H, W) -> what the convolution gives."""
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        return convolve(x, self.weights, self.bias, *self.numbers, "none", [], "")  # type: ignore[no-any-return]


def packed(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a model for prediction on this CPU: norms folded, channels last, weights in the library's order.

    Args:
        model: in evaluation mode, on the CPU, float32.
        example: an input as the copy will mostly get it; any other that the model takes will do too.

    Returns:
        The copy. It cannot be trained, saved or moved; its output is the model's but for rounding.

    Raises:
        InputError: a build of torch without oneDNN.
        ValueError: a model in training mode.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise InputError("this build of torch comes without oneDNN, which the packed engine needs")
    fast = folded(model, example).to(memory_format=torch.channels_last)
    sizes: dict[nn.Module, torch.Size] = {}

    def note(conv: nn.Module, inputs: Any, _output: Any) -> None:
        sizes.setdefault(conv, inputs[0].shape)

    hooks = [conv.register_forward_hook(note) for conv in fast.modules() if _plain(conv)]
    with torch.no_grad():
        fast(example.contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        made = {conv: Packed(conv, size) for conv, size in sizes.items() if isinstance(conv, nn.Conv2d)}
    for parent in list(fast.modules()):
        for name, child in list(parent.named_children()):
            if child in made:
                setattr(parent, name, made[child])
    return fast.eval()


def _plain(module: nn.Module) -> bool:
    """Whether a module is a convolution of which all is known."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )
