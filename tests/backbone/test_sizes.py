"""Inputs of any size from 32 px, channels and classes; for multiples of 32 the outputs are the paper's, bit for bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fishnet.backbone import STAGES, STRIDES, FishNet
from tests.backbone.helpers import MICRO, VARIANTS, computed, image, net, on_meta, plain_stages


def size_at(stride: int, size: int) -> int:
    """Stem and its pooling round up, all later pooling rounds down."""
    return -(-size // 4) // (stride // 4)


@pytest.fixture(scope="module")
def nano() -> FishNet:
    return net("fishnet_nano")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(height=st.integers(32, 150), width=st.integers(32, 150))
@torch.no_grad()
def test_every_size(nano: FishNet, height: int, width: int) -> None:
    maps = nano.forward_stages(image(1, 3, height, width), STAGES)
    for (name, found), stride in zip(maps.items(), STRIDES, strict=True):
        assert found.shape[2:] == (size_at(stride, height), size_at(stride, width)), name
        assert found.isfinite().all(), name


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (75, 101), (61, 224)])
@pytest.mark.parametrize("name", computed(VARIANTS))
def test_every_variant_takes_odd_sizes(name: str, size: tuple[int, int]) -> None:
    assert on_meta(name)(torch.empty(2, 3, *size, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("name", computed(VARIANTS))
@torch.no_grad()
def test_multiples_of_32_are_the_plain_net_bit_for_bit(name: str) -> None:
    model = net(name)
    x = image(2, 3, 64, 96)
    plain = plain_stages(model, x)
    assert len(plain) == len(STAGES)
    found = model.forward_stages(x, STAGES)
    for stage, wanted in zip(STAGES, plain, strict=True):
        assert torch.equal(found[stage], wanted), stage
    assert torch.equal(model(x), model.forward_head(plain[-1]))


@pytest.mark.parametrize("size", [(32, 32), (32, 160), (128, 64), (224, 224)])
@torch.no_grad()
def test_more_multiples_of_32_bit_for_bit(size: tuple[int, int]) -> None:
    model = net("fishnet_nano")
    x = image(1, 3, *size)
    found = model.forward_stages(x, STAGES)
    for stage, wanted in zip(STAGES, plain_stages(model, x), strict=True):
        assert torch.equal(found[stage], wanted), stage


@torch.no_grad()
def test_plain_doubling_fails_where_the_resize_is_needed() -> None:
    model, x = net("fishnet_nano"), image(1, 3, 75, 101)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        plain_stages(model, x)
    assert model(x).isfinite().all()


@pytest.mark.parametrize("chans", [1, 2, 3, 13])
@pytest.mark.parametrize("classes", [0, 1, 7])
@torch.no_grad()
def test_channels_and_classes(chans: int, classes: int) -> None:
    model = net(MICRO, in_chans=chans, num_classes=classes)
    found = model(image(2, chans, 40, 50))
    assert found.shape == (2, classes or model.head_hidden_size)
    assert found.isfinite().all()


class TestSinglePixelMaps:
    """Up to 60 px the map at 1/32 is one pixel: batch statistics need a second image."""

    @pytest.mark.parametrize("size", [(32, 32), (45, 60)])
    def test_two_images_train(self, size: tuple[int, int]) -> None:
        model = net("fishnet_nano").train()
        model(image(2, 3, *size)).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    @pytest.mark.parametrize("size", [(32, 32), (60, 60), (33, 47)])
    def test_one_image_is_refused_in_one_line(self, size: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match=rf"one image of {size[0]}x{size[1]} px .* batch of 2 or more") as refusal:
            net("fishnet_nano").train()(image(1, 3, *size))
        assert "\n" not in str(refusal.value)

    @pytest.mark.parametrize("size", [(61, 32), (60, 61)])
    def test_one_image_trains_from_61_px(self, size: tuple[int, int]) -> None:
        assert net("fishnet_nano").train()(image(1, 3, *size)).isfinite().all()

    def test_one_image_evaluates(self) -> None:
        assert net("fishnet_nano")(image(1, 3, 32, 32)).isfinite().all()

    def test_one_image_trains_with_frozen_norms_or_without_batch_norm(self) -> None:
        frozen = net("fishnet_nano").train()
        for module in frozen.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        assert frozen(image(1, 3, 32, 32)).isfinite().all()
        assert net("fishnet_nano", norm_layer="groupnorm1").train()(image(1, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 31, 64), "input of 31x64 px is too small: FishNet needs at least 32x32"),
        ((1, 3, 64, 8), "input of 64x8 px is too small"),
        ((1, 4, 64, 64), r"expected input of shape \(batch, 3, height, width\), got \(1, 4, 64, 64\)"),
        ((3, 64, 64), r"expected input of shape \(batch, 3, height, width\), got \(3, 64, 64\)"),
    ],
)
def test_wrong_input_is_refused_in_one_line(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        net(MICRO)(image(*shape))
    assert "\n" not in str(refusal.value)
