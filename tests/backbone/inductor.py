"""A network by torch's real compiler, in a process of its own: how far its outputs are from those of the model itself.

Run as ``python -m tests.backbone.inductor evaluation`` or ``training``; prints one number.
"""

import copy
import sys

import torch
from torch import nn

from tests.backbone.helpers import MICRO, difference, image, net


def used() -> float:
    """In evaluation."""
    model, x = net(MICRO), image(2, 3, 64, 75)
    with torch.no_grad():
        return difference(torch.compile(model, fullgraph=True)(x), model(x))


def trained() -> float:
    """The gradients of one step in float64, and the running statistics after it."""
    plain, x = net(MICRO).double().train(), image(2, 3, 64, 96, dtype=torch.float64)
    twin = copy.deepcopy(plain)
    pairs = [(_gradients(torch.compile(twin, fullgraph=True), x), _gradients(plain, x))]
    pairs += zip(twin.buffers(), plain.buffers(), strict=True)
    return max(difference(found, wanted) for found, wanted in pairs)


def _gradients(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    model(x).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print({"training": trained, "evaluation": used}[sys.argv[1]]())
