"""Adaptive pooling as matrix products is torch's: sizes that bins divide and that they do not."""

import pytest
import torch
from torch import nn

from fishnet.exporting.pooling import AdaptivePool, replace_pools


@pytest.mark.parametrize("bins", [(1, 1), (2, 2), (3, 3), (6, 6), (3, 5)])
@pytest.mark.parametrize("size", [(2, 3), (6, 6), (7, 20), (31, 17)])
def test_as_torch(bins: tuple[int, int], size: tuple[int, int]) -> None:
    """In float64 to 1e-12: another order of summing some hundred numbers."""
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    assert torch.allclose(AdaptivePool(bins)(x), nn.AdaptiveAvgPool2d(bins)(x), rtol=0, atol=1e-12)


def test_what_is_replaced() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Sequential(nn.AdaptiveAvgPool2d(3)), nn.AdaptiveAvgPool2d((2, 1)))
    x = torch.randn(1, 3, 9, 7)
    wanted = [child(x) for child in model]
    replace_pools(model)
    kinds = [type(model[0]), type(model[1][0]), type(model[2])]  # type: ignore[index]
    assert kinds == [nn.AdaptiveAvgPool2d, AdaptivePool, AdaptivePool]
    assert all(torch.allclose(child(x), it, atol=1e-6) for child, it in zip(model, wanted, strict=True))
