"""Maps find their way into onnxruntime's layout, and nothing that is computed changes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fishnet.backbone.registry import create_model
from fishnet.exporting.folding import folded
from fishnet.exporting.layout import BLOCK, stay_blocked
from tests.backbone.helpers import filled

ort = pytest.importorskip("onnxruntime")

BOUND = 1e-5  # of the range: onnxruntime fuses other operations, and so rounds otherwise


def entries(model: Any) -> list[str]:
    """Maps that were given a way in."""
    return [node.input[0] for node in model.graph.node if "_blocked" in node.name]


def outputs(model: Any, *shape: int) -> list[Any]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    return list(session.run(None, {"image": image}))


def assert_same(model: Any, *shape: int) -> Any:
    """Rewrites a model, sees that it is sound and computes the same, and gives it."""
    before = model.SerializeToString()
    rewritten = stay_blocked(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(rewritten, full_check=True)
    for found, wanted in zip(outputs(rewritten, *shape), outputs(model, *shape), strict=True):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= BOUND * np.ptp(wanted)
    return rewritten


class Small:
    """Builds a graph of one image, a node at a time."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.random = np.random.default_rng(1)

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(self, name: str, image: str, inputs: int, outputs: int) -> str:
        weight = self.random.standard_normal((outputs, inputs, 1, 1)).astype(np.float32)
        return self.add("Conv", name, image, self.constant(f"{name}.weight", weight))

    def norm(self, name: str, image: str, channels: int) -> str:
        values = [self.random.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(4)]
        names = [self.constant(f"{name}.{i}", value) for i, value in enumerate(values)]
        return self.add("BatchNormalization", name, image, *names)

    def doubled(self, name: str, image: str) -> str:
        scales = self.constant(f"{name}.scales", np.array([1, 1, 2, 2], np.float32))
        return self.add("Resize", name, image, "", scales, mode="nearest", nearest_mode="floor",
                        coordinate_transformation_mode="asymmetric")  # fmt: skip

    def model(self, result: str, channels: int) -> Any:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, "h", "w"])
        output = helper.make_tensor_value_info(result, TensorProto.FLOAT, ["n", "c", "y", "x"])
        graph = helper.make_graph(self.nodes, "small", [image], [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        helper.set_model_props(model, {"fishnet": "as it was"})
        return model


def joined(width: int, axis: int = 1) -> Any:
    """A resized map beside a convolved one, then a norm and a convolution."""
    small = Small()
    a = small.doubled("up", small.add("MaxPool", "half", "image", kernel_shape=[2, 2], strides=[2, 2]))
    both = small.add("Concat", "both", a, small.conv("side", "image", width, width), axis=axis)
    channels = 2 * width if axis in (1, -3) else width
    small.conv("last", small.add("Relu", "relu", small.norm("norm", both, channels)), channels, 16)
    return small.model("last", width)


def test_a_resized_map_beside_a_convolved_one() -> None:
    rewritten = assert_same(joined(BLOCK), 2, BLOCK, 8, 12)
    assert entries(rewritten) == ["up"]
    assert {p.key: p.value for p in rewritten.metadata_props} == {"fishnet": "as it was"}


def test_once_for_all_that_take_a_map() -> None:
    small = Small()
    up = small.doubled("up", "image")
    other = small.doubled("up_blocked", "image")  # a name that is taken
    big = small.conv("big", up, 16, 16)
    first = small.add("Add", "first", up, big)
    second = small.norm("second", up, 16)
    third = small.add("Concat", "third", first, second, other, axis=1)
    small.conv("last", third, 48, 16)
    assert entries(assert_same(small.model("last", 16), 1, 16, 6, 6)) == ["up", "up_blocked"]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(joined(12), id="channels that fill no blocks"),
        pytest.param(joined(BLOCK, axis=2), id="one below the other"),
    ],
)
def test_what_would_gain_nothing_is_left(model: Any) -> None:
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    rewritten = stay_blocked(model)
    # the norm's way in is right where its channels fill blocks; the concatenation has none
    assert "up" not in entries(rewritten)
    assert_same(model, 1, channels, 8, 8)


def test_a_sum_that_only_goes_out_is_left() -> None:
    small = Small()
    small.doubled("out", small.add("Add", "sum", "image", small.conv("conv", "image", 16, 16)))
    assert entries(assert_same(small.model("out", 16), 1, 16, 6, 6)) == []


def test_a_gate_is_not_spread_as_a_map() -> None:
    small = Small()
    mean = small.add("GlobalAveragePool", "mean", "image")
    gate = small.add("Sigmoid", "gate", mean)
    conv = small.conv("conv", "image", 16, 16)
    small.conv("last", small.add("Add", "sum", conv, gate), 16, 16)
    assert "gate" not in entries(assert_same(small.model("last", 16), 2, 16, 6, 6))


@pytest.mark.parametrize("name", ["fishnet_nano", "fishnet_tiny", "fishnet_small", "fishnext150", "resnet18", "dla34"])
def test_whole_networks(name: str, tmp_path: Path) -> None:
    net, path = filled(create_model(name, num_classes=7)), tmp_path / "net.onnx"
    lean = folded(net, torch.randn(1, 3, 64, 96))
    axes = {"image": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        lean, (torch.randn(1, 3, 64, 96),), str(path), input_names=["image"], dynamo=False, opset_version=17,
        dynamic_axes=axes,
    )  # fmt: skip
    rewritten = assert_same(onnx.load(str(path)), 2, 3, 96, 64)
    assert bool(entries(rewritten)) == name.startswith("fishne")
