"""Convolutions start before their concatenation, and nothing that is computed changes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from fishnet.backbone.registry import create_model
from fishnet.exporting.folding import folded
from fishnet.exporting.graphs import write_onnx
from fishnet.exporting.rewriting import optimise
from fishnet.exporting.splitting import split_concatenations
from tests.backbone.helpers import filled
from tests.exporting.models import made
from tests.exporting.test_layout import Small, ort, outputs

BOUND = 1e-5  # of the range: sums come in another order


def convolutions(model: Any) -> list[tuple[int, ...]]:
    """Shapes of the weights of all convolutions, in the order of the graph."""
    weights = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    return [weights[node.input[1]] for node in model.graph.node if node.op_type == "Conv"]


def assert_same(model: Any, *shape: int) -> Any:
    """Splits a model's concatenations, sees that it is sound and computes the same, and gives it."""
    before = model.SerializeToString()
    rewritten = split_concatenations(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(rewritten, full_check=True)
    names = {constant.name for constant in rewritten.graph.initializer}
    assert names <= {name for node in rewritten.graph.node for name in node.input}, "no constant is left over"
    for found, wanted in zip(outputs(rewritten, *shape), outputs(model, *shape), strict=True):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= BOUND * np.ptp(wanted)
    return rewritten


def joined(small: Small, *, sizes: bool = False, side: int = 16) -> str:
    """A map of 16 channels resized to another's size, before that other one of so many."""
    half = small.add("MaxPool", "half", "image", kernel_shape=[2, 2], strides=[2, 2])
    if sizes:
        shape = small.add("Shape", "shape", "image")
        up = small.add("Resize", "up", half, "", "", shape, mode="nearest", nearest_mode="floor",
                       coordinate_transformation_mode="asymmetric")  # fmt: skip
    else:
        up = small.doubled("up", half)
    return small.add("Concat", "both", up, small.conv("side", "image", 16, side), axis=1)


@pytest.mark.parametrize("sizes", [False, True], ids=["scales", "sizes"])
def test_the_resized_part_is_convolved_before(sizes: bool) -> None:
    small = Small()
    both = joined(small, sizes=sizes, side=32)
    mean = small.add("GlobalAveragePool", "mean", both)  # somebody else's: the concatenation stays
    small.conv("conv", small.add("Relu", "relu", small.norm("norm", both, 48)), 48, 64)
    small.add("Add", "last", "conv", small.conv("other", mean, 48, 64))
    rewritten = assert_same(small.model("last", 16), 2, 16, 10, 12)
    assert convolutions(rewritten) == [(32, 16, 1, 1), (64, 16, 1, 1), (64, 32, 1, 1), (64, 48, 1, 1)]
    fewer = [node.input[0] for node in rewritten.graph.node if node.op_type == "BatchNormalization"]
    assert fewer == ["half", "side"]


def test_a_bias_is_added_once_and_odd_sizes_are_met() -> None:
    small = Small()
    both = joined(small, sizes=True)
    bias = small.constant("bias", np.full(16, 3, np.float32))
    weight = small.constant("weight", small.random.standard_normal((16, 32, 1, 1)).astype(np.float32))
    small.add("Conv", "last", both, weight, bias)
    rewritten = assert_same(small.model("last", 16), 1, 16, 9, 13)
    assert len(convolutions(rewritten)) == 3


def left_alone(kind: str) -> Any:
    small = Small()
    if kind == "3x3":
        weight = small.constant("weight", small.random.standard_normal((16, 32, 3, 3)).astype(np.float32))
        small.add("Conv", "last", joined(small), weight)
    elif kind == "groups":
        weight = small.constant("weight", small.random.standard_normal((16, 16, 1, 1)).astype(np.float32))
        small.add("Conv", "last", joined(small), weight, group=2)
    elif kind == "strides":
        weight = small.constant("weight", small.random.standard_normal((16, 32, 1, 1)).astype(np.float32))
        small.add("Conv", "last", joined(small), weight, strides=[2, 2])
    elif kind == "channels":
        small.conv("last", joined(small, side=12), 28, 16)
    elif kind == "softmax":
        small.conv("last", small.add("Softmax", "softmax", joined(small), axis=1), 32, 16)
    elif kind == "shared":
        relu = small.add("Relu", "relu", joined(small))
        small.add("Add", "last", small.conv("conv", relu, 32, 32), relu)
    return small.model("last", 16)


@pytest.mark.parametrize("kind", ["3x3", "groups", "strides", "channels", "softmax", "shared"])
def test_what_cannot_be_split_is_left(kind: str) -> None:
    model = left_alone(kind)
    assert split_concatenations(model) == model
    outputs(model, 1, 16, 8, 8)  # the graph is a sound one


@pytest.mark.parametrize(
    "name", ["fishnet_nano", "fishnet_tiny", "fishnet_small", "fishnext150", "densenet121", "dla34"]
)
def test_whole_networks(name: str, tmp_path: Path) -> None:
    net, path = filled(create_model(name, num_classes=7)), tmp_path / "net.onnx"
    lean = folded(net, torch.randn(1, 3, 64, 96))
    torch.onnx.export(
        lean, (torch.randn(1, 3, 64, 96),), str(path), input_names=["image"], dynamo=False, opset_version=17,
        dynamic_axes={"image": {0: "n", 2: "h", 3: "w"}},
    )  # fmt: skip
    model = onnx.load(str(path))
    rewritten = assert_same(model, 2, 3, 96, 64)
    assert len(convolutions(rewritten)) > len(convolutions(model))
    size = (97, 131) if name.startswith("fish") else (64, 64)
    for found, wanted in zip(outputs(optimise(model), 1, 3, *size), outputs(model, 1, 3, *size), strict=True):
        assert np.abs(found - wanted).max() <= BOUND * np.ptp(wanted)


@pytest.mark.parametrize(("task", "head"), [("detect", "faster-rcnn"), ("detect", "fcos")])
def test_detectors(task: str, head: str, tmp_path: Path) -> None:
    """Graphs with subgraphs in them, and with values that are no maps."""
    bundle, model = made(task, head, width=64, box_width=64)
    write_onnx(model, bundle, tmp_path / "model.onnx")
    graph = onnx.load(str(tmp_path / "model.onnx"))
    rewritten = optimise(graph)
    onnx.checker.check_model(rewritten)
    assert {p.key: p.value for p in rewritten.metadata_props} == {p.key: p.value for p in graph.metadata_props}
    image = np.random.default_rng(0).standard_normal((1, 3, 96, 128), np.float32)
    found, wanted = (
        dict(zip(bundle_outputs, values, strict=True))
        for one in (rewritten, graph)
        for bundle_outputs in [[output.name for output in one.graph.output]]
        for values in [ort.InferenceSession(one.SerializeToString()).run(None, {"image": image})]
    )
    assert len(found["scores"]) > 0
    np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-4)
