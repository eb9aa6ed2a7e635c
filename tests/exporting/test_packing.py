"""Packed convolutions compute what the model computes, at the size they were packed for and at others."""

from typing import Any

import pytest
import torch
from torch import nn

from fishnet.backbone.registry import create_model
from fishnet.exporting.packing import Packed, packed
from tests.backbone.helpers import filled
from tests.exporting.models import HEADS, NAMES, made

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")

BOUND = 1e-5  # of the range: some hundred float32 roundings of 6e-8
SMALL: dict[str, dict[str, int]] = {
    "detect": {"width": 64, "box_width": 64},
    "instances": {"width": 64, "box_width": 64, "mask_width": 32},
}
OBJECTS = 1e-4  # of scores: a second stage looks at places that have been rounded


def tensors(model: Any, task: str, x: torch.Tensor) -> list[torch.Tensor]:
    """What a model computes before it picks objects: of two equally good boxes rounding decides which comes first."""
    if task not in SMALL:
        return [*model(x)[task]]
    return [*model.only_head[1].pyramid(model.features(x)).values()]


@pytest.mark.parametrize(("task", "head"), HEADS, ids=NAMES)
@torch.inference_mode()
def test_every_task_head(task: str, head: str) -> None:
    _, model = made(task, head, **SMALL.get(task, {}))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = packed(model, torch.randn(1, 3, 96, 128))
    assert any(isinstance(module, Packed) for module in fast.modules())
    x = torch.randn(1, 3, 64, 96)
    for found, wanted in zip(tensors(fast, task, x), tensors(model, task, x), strict=True):
        assert (found - wanted).abs().max() <= BOUND * (wanted.max() - wanted.min())
    if task in SMALL:
        (found,), (wanted,) = fast(x)[task], model(x)[task]
        torch.testing.assert_close(found["scores"], wanted["scores"], atol=OBJECTS, rtol=0)
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
