"""Training's random transform."""

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from fishnet.data.transforms import TrainTransform
from fishnet.preprocess import Preprocess


def transform(interpolation: str = "bilinear") -> TrainTransform:
    preprocess = Preprocess((16, 24), interpolation=interpolation)
    return TrainTransform(preprocess, crop_scale=(0.5, 1.0), crop_ratio=(0.7, 1.4), flip=0.5)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
@pytest.mark.parametrize("shape", [(30, 20), (1, 1), (1, 500)])
def test_exact_size(interpolation: str, mode: str, channels: int, shape: tuple[int, int]) -> None:
    tensor, target = transform(interpolation=interpolation)(Image.new(mode, shape, "white"), 5)
    assert (tuple(tensor.shape), tensor.dtype, target) == ((channels, 16, 24), torch.uint8, 5)
    assert (tensor == 255).all()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flip(flip: float) -> None:
    whole = TrainTransform(Preprocess((20, 40)), crop_scale=(1.0, 1.0), crop_ratio=(2.0, 2.0), flip=flip)
    image = Image.linear_gradient("L").rotate(90).resize((40, 20))
    expected = tv.pil_to_tensor(image)
    assert torch.equal(whole(image, 0)[0], expected.flip(-1) if flip else expected)


def test_crops_differ() -> None:
    image = Image.linear_gradient("L")
    assert len({transform()(image, 0)[0].numpy().tobytes() for _ in range(10)}) == 10
