"""Folded norms: as many as may be, none that must not be, and the same outputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fishnet.backbone.registry import create_model
from fishnet.exporting.folding import folded
from tests.backbone.helpers import VARIANTS, filled
from tests.exporting.models import HEADS, NAMES, made


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def away(found: Tensor, wanted: Tensor) -> float:
    """Largest difference, as a share of the range."""
    return float((found - wanted).abs().max() / (wanted.max() - wanted.min()))


# 1e-5 of the range, as promised: some hundred float32 roundings of 6e-8, over up to 200 layers.
BOUND = 1e-5


@pytest.mark.parametrize("name", [*VARIANTS, "resnet18", "efficientnet_b0", "densenet121", "resnetv2_50", "repvgg_a0"])
@torch.no_grad()
def test_the_same_logits_with_fewer_norms(name: str) -> None:
    model, x = filled(create_model(name)), torch.randn(2, 3, 64, 96)
    lean = folded(model, x)
    assert away(lean(x), model(x)) < BOUND
    assert norms(lean) < norms(model)


@torch.no_grad()
def test_what_remains_of_a_fishnet() -> None:
    """The norms of the units' inputs (sums and concatenations) and of what is pooled stay: nothing else."""
    model, x = filled(create_model("fishnet99")), torch.randn(1, 3, 64, 64)
    lean = folded(model, x)
    left = {name.rpartition(".")[2] for name, module in lean.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert left == {"norm1", "norm"}
    assert not any(isinstance(unit.norm2, nn.BatchNorm2d) for unit in lean.modules() if hasattr(unit, "norm2"))


@pytest.mark.parametrize(("task", "head"), HEADS, ids=NAMES)
@torch.no_grad()
def test_every_task_head(task: str, head: str) -> None:
    _, model = made(task, head, norm="batch") if task != "classify" else made(task, head)
    x = torch.randn(1, 3, 96, 128)
    lean = folded(model, x)
    assert norms(lean) < norms(model)
    for name, wanted in model.features(x).maps.items():
        assert away(lean.features(x).maps[name], wanted) < BOUND
    if task in ("classify", "segment"):
        assert away(lean(x)[task], model(x)[task]) < BOUND


class Twice(nn.Module):
    """A convolution whose output is also needed as it is."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.norm, self.how = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), how

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        y = self.conv(x)
        others: dict[str, Callable[[], Tensor | tuple[Tensor, Tensor]]] = {
            "plain": lambda: self.norm(y),
            "sum": lambda: self.norm(y) + y,
            "output": lambda: (self.norm(y), y),
            "in place": lambda: self.norm(F.relu_(y)),
            "view": lambda: self.norm(y) + y.flatten(2).mean(),
            "other input": lambda: self.norm(y) + self.norm(x[:, :1, 1:-1, 1:-1].expand(-1, 4, -1, -1)),
            "shared": lambda: self.norm(y) + self.norm(self.conv(x + 1)),
        }
        return others[self.how]()


@pytest.mark.parametrize(
    ("how", "left"),
    [("plain", 0), ("shared", 0), ("sum", 1), ("output", 1), ("in place", 1), ("view", 1), ("other input", 1)],
)
@torch.no_grad()
def test_only_where_nobody_else_sees_it(how: str, left: int) -> None:
    model, x = Twice(how), torch.randn(2, 3, 8, 8)
    filled_norm = model.norm
    nn.init.uniform_(filled_norm.running_mean)  # type: ignore[arg-type]
    nn.init.uniform_(filled_norm.running_var, 0.5, 2)  # type: ignore[arg-type]
    model.eval()
    lean = folded(model, x)
    assert norms(lean) == left
    found, wanted = lean(x), model(x)
    pairs = zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]
    assert all(away(a, b) < BOUND for a, b in pairs)


def test_the_model_itself_stays_and_training_is_refused() -> None:
    model = filled(create_model("fishnet_nano"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded(model, torch.randn(1, 3, 64, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="eval"):
        folded(model.train(), torch.randn(1, 3, 64, 64))
