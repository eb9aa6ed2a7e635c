"""segmentation-models-pytorch accepts every FishNet as a timm encoder."""

import pytest
import torch

import fishnet.backbone  # noqa: F401  (registers the variants)
from tests.backbone.helpers import image

smp = pytest.importorskip("segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed")


@pytest.mark.parametrize("arch", ["FPN", "UPerNet", "Unet"])
@pytest.mark.parametrize("encoder", ["tu-fishnet99", "tu-fishnet_nano"])
def test_decoders_train_on_it(arch: str, encoder: str) -> None:
    model = smp.create_model(arch, encoder_name=encoder, encoder_weights=None, in_channels=4, classes=5)
    found = model(image(2, 4, 64, 96))
    assert found.shape == (2, 5, 64, 96)
    found.square().mean().backward()
    encoder_gradients = [p.grad for p in model.encoder.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in encoder_gradients)
    assert sum(grad.abs().sum() for grad in encoder_gradients) > 0


@torch.no_grad()
def test_the_encoder_s_maps_are_the_pyramid() -> None:
    encoder = smp.encoders.get_encoder("tu-fishnet99", weights=None).eval()
    x = image(1, 3, 64, 64)
    maps = encoder(x)
    assert encoder.out_channels == [3, 0, 320, 832, 1600, 2112]
    assert [tuple(m.shape[1:]) for m in maps[2:]] == [(320, 16, 16), (832, 8, 8), (1600, 4, 4), (2112, 2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(maps[2:], encoder.model(x), strict=True))
