"""Rewrites ONNX graphs so that onnxruntime keeps its blocked memory layout. The outputs stay the same.

onnxruntime convolves feature maps in blocks of channels. It keeps this layout through norms, activations, pooling,
additions and concatenations, which it can then fuse. A single operand in the usual layout, such as a resized map, makes
it leave the layout, and from there on every map is converted back and forth. A depthwise 1x1 convolution with weights
of one brings such a map into the layout without changing its values, and what follows stays in it.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from fishnet.exporting.net import MAP, Net, copied

BLOCK = 16  # channels of a block, for the widest vector units; 8 for others
_KEEPING = {  # operations that keep the layout, if all of their input maps have it
    "Add", "Sum", "BatchNormalization", "Concat", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Clip",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout",
}  # fmt: skip
_JOINING = {"Add", "Sum", "Concat"}


class _Blocked(Net):
    """A graph, and which of its feature maps are in the blocked layout.

    Attributes:
        users: name of a value -> the nodes that use it.
        blocked: names of the maps in the blocked layout.
        converted: name of a map -> name of the same map in the blocked layout.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.blocked: set[str] = set()
        self.converted: dict[str, str] = {}
        self.users: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.users[name].append(node)


def stay_blocked(model: Any) -> Any:
    """Converts feature maps to onnxruntime's blocked layout where they are combined with maps that have it.

    Args:
        model: an ``onnx.ModelProto``, of any opset and any network; it is not changed.

    Returns:
        A model with the same inputs, outputs and metadata, whose outputs are the same to rounding.
    """
    rewritten = copied(model)
    net = _Blocked(rewritten)
    nodes: list[Any] = []
    for node in list(rewritten.graph.node):
        for name in _maps_to_convert(node, net):
            if name not in net.converted:
                nodes.append(_conversion(name, net))
            for index, value in enumerate(node.input):
                if value == name:
                    node.input[index] = net.converted[name]
        _record_layout(node, net)
        nodes.append(node)
    del rewritten.graph.node[:]
    rewritten.graph.node.extend(nodes)
    return rewritten


def _record_layout(node: Any, net: _Blocked) -> None:
    """Records whether a node's output is in the blocked layout."""
    maps = _input_maps(node)
    kept = node.op_type in _KEEPING and bool(maps) and all(name in net.blocked for name in maps)
    if (kept or node.op_type == "Conv") and _blocked_channels(node.output[0], net) is not None:
        net.blocked.add(node.output[0])


def _input_maps(node: Any) -> list[str]:
    """Returns a node's input maps. Only the first input of a norm is a map."""
    if node.op_type not in _JOINING:
        return list(node.input[:1])
    return [name for name in node.input if name]


def _blocked_channels(name: str, net: _Blocked) -> int | None:
    """Returns a map's channels if they are a multiple of the block; None for all other values."""
    channels = net.channels(name)
    return None if channels is None or channels % BLOCK else channels


def _maps_to_convert(node: Any, net: _Blocked) -> list[str]:
    """Returns the input maps of a node that should be converted to the blocked layout."""
    maps = list(dict.fromkeys(_input_maps(node)))
    outside = [name for name in maps if name not in net.blocked]
    if not outside or any(_blocked_channels(name, net) is None for name in outside):
        return []
    joins = node.op_type in _JOINING and len(outside) < len(maps) and _joins_channels(node, net)
    if joins or node.op_type == "BatchNormalization":
        return outside if _is_kept_after(node, net) else []
    return []


def _joins_channels(node: Any, net: _Blocked) -> bool:
    """Whether a node concatenates channels, or adds without broadcasting."""
    shapes = [net.shapes.get(name) for name in node.input]
    if node.op_type == "Concat":
        return any(a.name == "axis" and a.i in (1, 1 - MAP) for a in node.attribute)
    known = [shape for shape in shapes if shape is not None]
    may_broadcast = any(shape is None or 1 in shape[2:] for shape in shapes)
    return not may_broadcast and len({shape[1] for shape in known}) == 1


def _is_kept_after(node: Any, net: _Blocked) -> bool:
    """Whether a node's output is used by an operation that supports the layout."""
    return any(user.op_type == "Conv" or user.op_type in _KEEPING for user in net.users[node.output[0]])


def _conversion(name: str, net: _Blocked) -> Any:
    """Returns a depthwise convolution with weights of one, and records its output map."""
    import onnx

    channels = _blocked_channels(name, net)
    assert channels is not None
    weight = net.constant(np.ones((channels, 1, 1, 1), np.float32), f"{name}_ones")
    blocked = net.fresh(f"{name}_blocked")
    net.converted[name] = blocked
    net.blocked.add(blocked)
    net.shapes[blocked] = net.shapes[name]
    return onnx.helper.make_node("Conv", [name, weight], [blocked], name=blocked, group=channels, kernel_shape=[1, 1])
