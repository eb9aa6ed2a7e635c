"""torch.export: one program for every batch and every size from 64 px up, equal to the network it was made from.

The bound is 64 and not the network's own 32 because torch.export fixes what has size 1, and up to 60 px the map at
stride 32 is a single pixel. Equal means to the last bit: an exported program calls the same kernels in the same order.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fishnet.backbone import FishNet
from tests.backbone.helpers import difference, image, net
from tests.marks import slow

TRACED = (2, 3, 96, 80)
# None of them is the traced one: divisible by 32 or not, smaller and larger, several batches, one image.
UNSEEN = ((1, 3, 64, 64), (2, 3, 75, 101), (3, 3, 96, 160), (5, 3, 65, 66), (1, 3, 224, 224))
Exported = tuple[FishNet, ExportedProgram]


class Pyramid(nn.Module):
    """A module whose output is a FishNet's feature pyramid."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.trunk.forward_intermediates(x, intermediates_only=True)  # type: ignore[no-any-return]


def exported(model: nn.Module, smallest_batch: int = 1) -> ExportedProgram:
    batch, height, width = Dim("batch", min=smallest_batch), Dim("height", min=64), Dim("width", min=64)
    return torch.export.export(model, (image(*TRACED),), dynamic_shapes=({0: batch, 2: height, 3: width},))


def assert_same(found: Callable[[Tensor], Any], wanted: Callable[[Tensor], Any]) -> None:
    """Asserts the same output, a tensor or a list of tensors, at all sizes not used in the export."""
    with torch.no_grad():
        for shape in UNSEEN:
            a, b = found(image(*shape)), wanted(image(*shape))
            a, b = ([a], [b]) if isinstance(b, Tensor) else (a, b)
            assert len(a) == len(b) > 0
            assert all(torch.equal(one, other) for one, other in zip(a, b, strict=True)), shape


@pytest.fixture(scope="module")
def nano() -> Exported:
    model = net("fishnet_nano")
    return model, exported(model)


def test_the_smallest_at_any_batch_and_size(nano: Exported) -> None:
    model, program = nano
    assert_same(program.module(), model)


@pytest.mark.slow
def test_any_batch_and_size() -> None:
    model = net("fishnet99")
    assert_same(exported(model).module(), model)


@pytest.mark.parametrize("options", [slow({}), {"end": "body"}], ids=["head", "body"])
def test_pyramid(options: dict[str, str]) -> None:
    model = Pyramid(net("fishnet_nano", **options))
    assert_same(exported(model).module(), model)


@pytest.mark.slow
def test_a_large_pyramid() -> None:
    model = Pyramid(net("fishnext150"))
    assert_same(exported(model).module(), model)


@pytest.mark.slow
def test_body_alone() -> None:
    model = net("fishnet_nano", end="body")
    assert_same(exported(model).module(), model)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["catavgmax", ""])
def test_without_classes(pool: str) -> None:
    model = net("fishnet_nano", num_classes=0, global_pool=pool)
    assert_same(exported(model).module(), model)


def test_the_bounds_are_those_asked_for(nano: Exported) -> None:
    """The network adds no bound of its own (a largest batch, a multiple of 32), and raises outside the bounds."""
    program = nano[1]
    lowest = sorted(int(bounds.lower) for bounds in program.range_constraints.values())
    assert lowest[1:] == [64, 64]
    assert lowest[0] in (0, 1)  # torch notes a smallest batch of 1 as 0
    assert all(bounds.upper > 10**9 for bounds in program.range_constraints.values())
    for shape in [(1, 3, 63, 64), (1, 3, 64, 63), (1, 4, 64, 64)]:
        with pytest.raises((AssertionError, RuntimeError)):
            program.module()(image(*shape))


@pytest.mark.slow
def test_training() -> None:
    """Exported for training: batch statistics, gradients of the program's own weights, and statistics written once.

    float32 at another size than the traced one. The kernels are the same, so 1e-6 is no more than a sum in another
    order in the backward pass.
    """
    model = net("fishnet_nano").train()
    twin = exported(model, smallest_batch=2).module()
    x = image(3, 3, 75, 101)
    grads = []
    for one in (model, twin):
        one(x).square().mean().backward()
        grads.append({key: p.grad for key, p in one.named_parameters()})
    assert grads[0].keys() == grads[1].keys()
    whole = [torch.cat([grad.flatten() for grad in each.values()]) for each in grads]
    assert difference(whole[1], whole[0]) < 1e-6
    state = twin.state_dict()
    for key, buffer in model.named_buffers():
        assert torch.equal(state[key], buffer), key


@pytest.mark.slow
def test_onnx(tmp_path: Any) -> None:
    """ONNX Runtime has kernels of its own: 1e-4 is some hundred float32 roundings of 6e-8, over 40 layers."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: torch.onnx needs it")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, path = net("fishnet_nano"), tmp_path / "nano.onnx"
    torch.onnx.export(
        model,
        (image(2, 3, 75, 96),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: Dim("batch", min=1)},),
        dynamo=True,
    )
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        x = image(batch, 3, 75, 96)
        (found,) = session.run(None, {"image": x.numpy()})
        with torch.no_grad():
            assert difference(torch.from_numpy(found), model(x)) < 1e-4
