"""Agreement with pytorchcv's FishNet, an independent program (PyPI, MIT), on its own random weights."""

from typing import Any

import pytest
import torch
from torch import nn

from fishnet.backbone import SPECS, FishNet
from fishnet.backbone.weights import to_native
from tests.backbone.helpers import difference, filled, image

pytorchcv = pytest.importorskip("pytorchcv.models.fishnet", reason="pytorchcv is not installed")


def pair(name: str, size: int, **kwargs: int) -> tuple[Any, FishNet]:
    """pytorchcv's net with drawn weights, and this project's with the same ones, both in float64."""
    theirs = getattr(pytorchcv, name)(**kwargs).double()
    if size != 224:
        theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # its own is a fixed 7x7
    filled(theirs)
    chans, classes = kwargs.get("in_channels", 3), kwargs.get("num_classes", 1000)
    ours = FishNet(SPECS[name], num_classes=classes, in_chans=chans).double().eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize(
    ("name", "size", "kwargs"),
    [
        pytest.param("fishnet99", 64, {}, id="99-64"),
        pytest.param("fishnet150", 64, {"in_channels": 1, "num_classes": 7}, id="150-64-1channel-7classes"),
        pytest.param("fishnet99", 96, {"in_channels": 5, "num_classes": 2}, id="99-96-5channels-2classes"),
        pytest.param("fishnet99", 224, {}, id="99-224", marks=pytest.mark.slow),
        pytest.param("fishnet150", 256, {"num_classes": 21}, id="150-256-21classes", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_same_logits(name: str, size: int, kwargs: dict[str, int]) -> None:
    theirs, ours = pair(name, size, **kwargs)
    x = image(1, ours.in_chans, size, size, dtype=torch.float64)
    assert difference(ours(x), theirs(x)) < 1e-9


@pytest.mark.parametrize("name", ["fishnet99", "fishnet150"])
def test_same_training_step(name: str) -> None:
    theirs, ours = pair(name, 64, num_classes=7)
    x = image(2, 3, 64, 96, dtype=torch.float64)
    for model in (theirs, ours):
        model.train()(x).square().mean().backward()

    gradients = to_native({key: p.grad for key, p in theirs.named_parameters()})
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for key, p in ours.named_parameters():
        assert (p.grad - gradients[key]).abs().max() < 1e-9 * largest, key
    statistics = to_native(theirs.state_dict())
    for key, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, statistics[key], rtol=1e-9, atol=1e-12)
