"""Memory formats and mixed precision: the same function, within what their arithmetic allows."""

import pytest
import torch
from torch import nn

from tests.backbone.helpers import VARIANTS, computed, difference, image, net


@pytest.mark.parametrize("name", computed(VARIANTS))
@torch.no_grad()
def test_channels_last(name: str) -> None:
    """Other kernels sum in another order: 1e-4 is some hundred float32 roundings of 6e-8, over up to 201 layers."""
    model, x = net(name), image(2, 3, 75, 64)
    wanted, features = model(x), model.forward_features(x)
    model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    assert difference(model(x), wanted) < 1e-4
    maps = model.forward_intermediates(x, intermediates_only=True)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)  # kept through the whole fish
    assert difference(maps[-1], features) < 1e-4


@pytest.mark.parametrize("name", ["fishnet99", "fishnet_nano"])
def test_channels_last_training(name: str) -> None:
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = net(name).double().train().to(memory_format=memory_format)
        x = image(2, 3, 96, 64, dtype=torch.float64).to(memory_format=memory_format)
        model(x).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert difference(grads[1], grads[0]) < 1e-9  # float64, where training's badly conditioned first steps are exact


@pytest.mark.parametrize("name", computed(VARIANTS))
@torch.no_grad()
def test_autocast(name: str) -> None:
    """bfloat16 rounds by up to 2**-9 = 0.2 % at each of hundreds of layers, and shortcuts add the errors up: 5 %."""
    model, x = net(name), image(2, 3, 75, 64)
    wanted = model.forward_stages(x, ["head.2"])["head.2"]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
        found = model.forward_stages(x, ["head.2"])["head.2"]
    assert logits.dtype == torch.bfloat16
    assert difference(logits, model(x)) < 0.05
    assert difference(found, wanted) < 0.05
    assert difference(found, wanted) > 0  # it was bfloat16 indeed


@pytest.mark.parametrize("checkpointing", [False, True])
def test_autocast_training(checkpointing: bool) -> None:
    model = net("fishnet_nano").train()
    model.set_grad_checkpointing(checkpointing)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(model(image(2, 3, 96, 96)), torch.tensor([1, 7]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())
    assert sum(p.grad.abs().sum() for p in model.parameters()) > 0
