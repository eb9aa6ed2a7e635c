"""A FishNet can be copied, pickled, saved, and loaded inside other modules."""

import copy
import pickle
from collections.abc import Callable
from io import BytesIO

import pytest
import torch
from torch import Tensor, nn

from fishnet.backbone import FishNet
from tests.backbone.helpers import MICRO, drawn_state, image, net


class Detector(nn.Module):
    """A module with a FishNet and parts of its own inside."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = FishNet(MICRO, num_classes=10)
        self.extra = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.extra(self.trunk(x))  # type: ignore[no-any-return]


def saved(model: nn.Module) -> nn.Module:
    buffer = BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), saved])
@torch.no_grad()
def test_copies_are_whole_and_their_own(copied: Callable[[nn.Module], nn.Module]) -> None:
    model, x = net(MICRO, act_layer="gelu"), image(1, 3, 64, 64)
    before = model(x)
    twin = copied(model)
    assert torch.equal(twin(x), before)
    twin.load_state_dict({f"module.{key}": value * 0 for key, value in model.state_dict().items()})
    assert torch.equal(model(x), before)
    assert not torch.equal(twin(x), before)


@torch.no_grad()
def test_loads_inside_another_module() -> None:
    model, x = Detector().eval(), image(1, 3, 64, 64)
    state = drawn_state(model)
    model.load_state_dict(state)
    alone = FishNet(MICRO, num_classes=10).eval()
    alone.load_state_dict({k.removeprefix("trunk."): v for k, v in state.items() if k.startswith("trunk.")})
    assert torch.equal(model(x), model.extra(alone(x)))
    twin = Detector().eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))


@pytest.mark.parametrize("key", ["trunk.bridge.gate.fc1.weight", "extra.weight"])
def test_inside_another_module_nothing_is_forgiven(key: str) -> None:
    model = Detector()
    state = model.state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=rf'Missing key\(s\) in state_dict: "{key}"'):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "trunk.stem.7.weight"'):
        model.load_state_dict({**model.state_dict(), "trunk.stem.7.weight": torch.zeros(1)})


def test_parallel_prefix_loads_strictly() -> None:
    model = net(MICRO)
    twin = FishNet(MICRO, num_classes=10)
    twin.load_state_dict({f"module.{key}": value for key, value in model.state_dict().items()})
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
