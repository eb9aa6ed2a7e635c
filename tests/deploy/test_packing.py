"""Packed convolutions compute what the model computes, at the size they were packed for and at others."""

from typing import Any

import pytest
import torch
from torch import nn

from fishnet.backbone.registry import create_model
from fishnet.deploy.packing import Packed, packed
from tests.backbone.helpers import filled
from tests.deploy.models import HEADS, NAMES, made

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")

BOUND = 1e-5  # of the range: some hundred float32 roundings of 6e-8
SMALL: dict[str, dict[str, int]] = {
    "detect": {"width": 64, "box_width": 64},
    "instances": {"width": 64, "box_width": 64, "mask_width": 32},
}
OBJECTS = 1e-4  # of scores, and of the range of boxes: a second stage looks at places that have been rounded


def tensors(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    values = outputs.values() if isinstance(outputs, dict) else outputs
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize(("task", "head"), HEADS, ids=NAMES)
@torch.inference_mode()
def test_every_task_head(task: str, head: str) -> None:
    _, model = made(task, head, **SMALL.get(task, {}))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = packed(model, torch.randn(1, 3, 96, 128))
    assert any(isinstance(module, Packed) for module in fast.modules())
    bound = OBJECTS if task in ("detect", "instances") else BOUND
    x = torch.randn(1, 3, 64, 96)
    found, wanted = tensors(fast(x)), tensors(model(x))
    assert [tensor.shape for tensor in found] == [tensor.shape for tensor in wanted]
    for one, other in zip(found, wanted, strict=True):
        if one.is_floating_point() and one.numel():
            assert (one - other).abs().max() <= bound * max(1.0, float(other.max() - other.min()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["fishnet_nano", "fishnext150", "resnet18", "efficientnet_b0", "tf_efficientnet_b0"])
@torch.inference_mode()
def test_other_convolutions(name: str) -> None:
    """Grouped and depthwise ones too; those that are no plain nn.Conv2d stay."""
    model = filled(create_model(name, num_classes=7))
    fast = packed(model, torch.randn(1, 3, 64, 64))
    x = torch.randn(2, 3, 96, 64)
    assert (fast(x) - model(x)).abs().max() <= BOUND * (model(x).max() - model(x).min())
    own = [m for m in model.modules() if isinstance(m, nn.Conv2d) and type(m) is not nn.Conv2d]
    assert sum(isinstance(m, nn.Conv2d) for m in fast.modules()) >= len(own)


def test_only_for_prediction() -> None:
    with pytest.raises(ValueError, match="eval"):
        packed(create_model("fishnet_nano").train(), torch.randn(1, 3, 64, 64))
