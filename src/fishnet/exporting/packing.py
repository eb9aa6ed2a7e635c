"""Convolutions with weights in oneDNN's own layout: the same function, faster on a CPU.

Without this, torch reorders a convolution's weights at every call. For a single image with small feature maps of many
channels, that is a large part of the work.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fishnet.errors import InputError
from fishnet.exporting.folding import folded


class Packed(nn.Module):
    """An ``nn.Conv2d`` for prediction on a CPU, with its weights in oneDNN's layout. It has no parameters.

    Args:
        conv: on the CPU, float32, padded with zeros.
        size: the input size (batch, channels, height, width) that the layout is chosen for; others also work.
    """

    def __init__(self, conv: nn.Conv2d, size: torch.Size) -> None:
        super().__init__()
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.numbers = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        reorder: Any = torch.ops.mkldnn._reorder_convolution_weight
        self.weights = reorder(conv.weight.detach(), *self.numbers, list(size))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, in, H, W) to the convolution's output."""
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        return convolve(x, self.weights, self.bias, *self.numbers, "none", [], "")  # type: ignore[no-any-return]


def packed(model: nn.Module, example: Tensor) -> nn.Module:
    """Returns a copy of a model for prediction on this CPU: norms folded, channels last, weights in oneDNN's layout.

    The copy cannot be trained, saved or moved. Its outputs are the model's to rounding.

    Args:
        model: in evaluation mode, on the CPU, float32.
        example: a typical input; the copy also takes all others that the model takes.

    Raises:
        InputError: this build of torch has no oneDNN.
        ValueError: the model is in training mode.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise InputError("the packed engine needs oneDNN, which this build of torch does not have")
    fast = folded(model, example).to(memory_format=torch.channels_last)
    sizes: dict[nn.Module, torch.Size] = {}

    def record_size(conv: nn.Module, inputs: Any, _output: Any) -> None:
        sizes.setdefault(conv, inputs[0].shape)

    hooks = [conv.register_forward_hook(record_size) for conv in fast.modules() if _is_supported(conv)]
    with torch.no_grad():
        fast(example.contiguous(memory_format=torch.channels_last))
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        packed_convs = {conv: Packed(conv, size) for conv, size in sizes.items() if isinstance(conv, nn.Conv2d)}
    for parent in list(fast.modules()):
        for name, child in list(parent.named_children()):
            if child in packed_convs:
                setattr(parent, name, packed_convs[child])
    return fast.eval()


def _is_supported(module: nn.Module) -> bool:
    """Whether a module is a plain convolution, padded with zeros and without hooks."""
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )
