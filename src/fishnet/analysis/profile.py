"""Counts the cost of networks."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """A network's size and work.

    Attributes:
        parameters: number of parameters.
        macs: multiply-accumulates of convolutions and matrix products for one input.
    """

    parameters: int
    macs: int


def cost(model: nn.Module, shape: tuple[int, int, int] = (3, 224, 224)) -> Cost:
    """Counts a model's parameters and MACs for one input of ``shape`` (channels, height, width).

    The MACs of a copy are counted on torch's meta device, where nothing is computed. A model whose work depends on its
    detections (``has_dynamic_cost``) runs on the CPU instead, on one input of zeros.
    """
    device = "cpu" if getattr(model, "has_dynamic_cost", False) else "meta"
    counted = copy.deepcopy(model).to(device).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted(torch.zeros(1, *shape, device=device))
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)
