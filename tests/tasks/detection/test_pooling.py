"""RoIAlign and its gradient: torchvision's operators are the reference."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, roi_align

from fishnet.tasks.detection.pooling import SAMPLES, PyramidRoIAlign, pool


def boxes_over(height: int, width: int, count: int, images: int) -> Tensor:
    """Boxes of all sizes, some of them partly or wholly outside, flat, or without an area."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    halves = torch.rand(count, 2, generator=generator) ** 3 * torch.tensor([width, height])
    corners = torch.cat([centres - halves, centres + halves], 1)
    corners[0], corners[1, 2:] = torch.tensor([width + 90.0, 0, width + 99, 9]), corners[1, :2]
    corners[2] = torch.tensor([0.0, 0, width, height])
    return torch.cat([torch.randint(images, (count, 1), generator=generator).float(), corners], 1)


@pytest.mark.parametrize("size", [1, 7, 14])
@pytest.mark.parametrize(("height", "width"), [(12, 17), (1, 5)])
def test_gradient_equals_torchvision(size: int, height: int, width: int) -> None:
    features = torch.randn(3, 4, height, width, dtype=torch.float64, requires_grad=True)
    rois = boxes_over(height * 8, width * 8, 40, 3).double()
    ours, theirs = pool(features, rois, 1 / 8, size), roi_align(features, rois, size, 1 / 8, SAMPLES)
    assert torch.equal(ours, theirs)
    gradient = torch.randn_like(ours)
    (own,) = torch.autograd.grad(ours, features, gradient)
    (other,) = torch.autograd.grad(theirs, features, gradient)
    assert other.abs().max() > 1
    torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-10)  # float64: only the order of the sums differs


def test_no_box_has_a_gradient_of_zero() -> None:
    features = torch.randn(1, 2, 4, 4, requires_grad=True)
    pool(features, torch.zeros(0, 5), 0.25, 7).sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_gradient_has_the_type_of_the_features_under_autocast() -> None:
    features = torch.randn(1, 2, 6, 6, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pool(features, torch.tensor([[0.0, 0, 0, 20, 20]]), 0.25, 7)
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.dtype == torch.bfloat16
    assert features.grad.float().sum() == pytest.approx(2 * 49, rel=0.01)  # the weights of each bin sum to 1


def maps_of(strides: Sequence[int], height: int, width: int) -> dict[str, Tensor]:
    return {str(stride): torch.randn(2, 3, height // stride, width // stride) for stride in strides}


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8,)])
def test_each_box_is_pooled_from_its_level(strides: tuple[int, ...]) -> None:
    height, width = 512, 640
    maps = maps_of(strides, height, width)
    rois = boxes_over(height, width, 60, 2)
    boxes = [rois[rois[:, 0] == image, 1:] for image in range(2)]
    ours = PyramidRoIAlign({name: int(name) for name in maps}, 7)(maps, boxes)
    theirs = MultiScaleRoIAlign(list(maps), 7, SAMPLES)(maps, boxes, [(height, width)] * 2)
    assert torch.equal(ours, theirs)


def test_boxes_that_are_not_numbers_keep_their_rows() -> None:
    boxes = torch.tensor([[8.0, 8, 40, 40], [torch.nan, 5, torch.inf, -torch.inf], [0, 0, 90, 90]])
    maps = maps_of((4, 8, 16), 128, 128)
    pooled = PyramidRoIAlign({name: int(name) for name in maps}, 7)(maps, [boxes[:1], boxes[1:]])
    assert pooled.shape == (3, 3, 7, 7)
    assert pooled.isfinite().all()


def test_scale_is_the_stride_where_the_input_is_padded() -> None:
    maps = {"8": torch.arange(8.0).repeat(8, 1)[None, None]}  # of an image of 33 px, padded to 64
    pooled = PyramidRoIAlign({"8": 8}, 1)(maps, [torch.tensor([[16.0, 16, 32, 32]])], [(33, 33)])
    assert pooled.item() == 3
