"""What the trunk's tests share: weights drawn from their names, small nets, and measures of agreement."""

import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone import SPECS, FishNet, Spec
from tests.marks import slow

VARIANTS = tuple(SPECS)
PUBLISHED = ("fishnet99", "fishnet150", "fishnet201")
LARGE = {"fishnet150", "fishnet201", "fishnext150"}  # fishnet99 has every kind of part that these have but the groups


def computed(names: Iterable[str]) -> list[Any]:
    """Parameters of a test that computes whole networks: the large ones are slow."""
    return [slow(name) if name in LARGE else name for name in names]


# One unit everywhere: the smallest net with every kind of part, for what compiles slowly.
MICRO = Spec(
    tail=(16, 32, 64),
    body=(64, 48, 32),
    tail_depths=(1, 1, 1),
    bridge_depth=1,
    head_depths=(1, 1, 1),
    head_transfers=(1, 1, 1),
    stem=16,
)


def drawn(name: str, shape: Iterable[int]) -> Tensor:
    """A tensor that depends on its name and shape only (the recipe of the golden outputs)."""
    shape = tuple(shape)
    z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 4:
        z *= np.sqrt(1 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        z = 1 + 0.2 * abs(z)
    elif name.endswith(("running_mean", "bias")):
        z *= 0.1
    else:
        z = 1 + 0.1 * z
    return torch.from_numpy(np.asarray(z))


def drawn_state(model: nn.Module) -> dict[str, Tensor]:
    """A state dict for the model by :func:`drawn`; a linear layer's weight is drawn as the 1x1 convolution it is."""
    state = {}
    for name, own in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        shape = (*own.shape, 1, 1) if own.ndim == 2 else own.shape
        state[name] = drawn(name, shape).reshape(own.shape).to(own.dtype)
    return state


def filled(model: nn.Module) -> nn.Module:
    """The model with weights by :func:`drawn`, in evaluation mode."""
    model.load_state_dict(drawn_state(model))
    model.load_state_dict(drawn_state(model))
    return model.eval()


def net(name: str | Spec, **kwargs: object) -> FishNet:
    """A FishNet with drawn weights, in evaluation mode; by default with 10 classes."""
    spec = SPECS[name] if isinstance(name, str) else name
    model = filled(FishNet(spec, **{"num_classes": 10, **kwargs}))  # type: ignore[arg-type]
    assert isinstance(model, FishNet)
    return model


def on_meta(name: str, **kwargs: object) -> FishNet:
    """A FishNet on the meta device, which has shapes but no values."""
    with torch.device("meta"):
        return FishNet(SPECS[name], **kwargs)  # type: ignore[arg-type]


def image(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).to(dtype)


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    assert found.shape == wanted.shape
    return ((found.double() - wanted.double()).abs().max() / wanted.double().abs().max()).item()


def conv_macs(model: nn.Module, run: Callable[[], object]) -> int:
    """Multiply-accumulates of the model's convolutions in one pass; a linear layer counts as a 1x1 convolution."""
    total = 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d | nn.Linear)
        total += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return total


def plain_stages(model: FishNet, x: Tensor) -> list[Tensor]:
    """The paper's network, written independently: the body doubles sizes, so inputs must be multiples of 32."""
    maps = [model.stem(x)]
    for stage in model.tail:
        maps.append(F.max_pool2d(stage.refine(maps[-1]), 2))
    maps.append(model.bridge(maps[-1]))
    for stage, branch in zip(model.body, (2, 1, 0), strict=True):
        up = F.interpolate(stage.refine(maps[-1]), scale_factor=2, mode="nearest")
        maps.append(torch.cat((up, stage.transfer(maps[branch])), 1))
    for stage, branch in zip(model.head, (6, 5, 4), strict=True):
        maps.append(torch.cat((F.max_pool2d(stage.refine(maps[-1]), 2), stage.transfer(maps[branch])), 1))
    return maps
