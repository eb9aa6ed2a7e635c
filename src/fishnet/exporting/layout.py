"""A rewriting of ONNX graphs that lets onnxruntime keep its own memory layout. What is computed stays the same.

onnxruntime convolves on maps in blocks of channels, and carries this layout on through norms, activations, poolings,
additions and concatenations, into which it can then fuse. A single operand in the usual layout, such as a map resized
to another's size, makes it give the layout up, and every map from there on is put back and forth. A depthwise 1x1
convolution with weights of one is such a map's way into the layout: it changes no value, and what follows stays inside.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from fishnet.exporting.net import MAP, Net, copied

BLOCK = 16  # channels of a block, of the widest vector units; 8 of others
_CARRIED = {  # operations through which the layout is carried, if all of the maps they take have it
    "Add", "Sum", "BatchNormalization", "Concat", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Clip",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout",
}  # fmt: skip
_JOINING = {"Add", "Sum", "Concat"}


class _Blocked(Net):
    """A graph, and where its maps are in the blocked layout.

    Attributes:
        takers: name of a value -> the nodes that take it.
        inside: names of the maps in the blocked layout.
        entered: name of a map -> that of the same map in the blocked layout.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.inside: set[str] = set()
        self.entered: dict[str, str] = {}
        self.takers: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.takers[name].append(node)


def stay_blocked(model: Any) -> Any:
    """Gives maps that come from outside onnxruntime's blocked layout a way in, where they meet maps that have it.

    Args:
        model: an ``onnx.ModelProto``, of any opset and any network; it is not changed.

    Returns:
        A model with the same inputs, outputs and metadata, whose outputs are the same to rounding.
    """
    rewritten = copied(model)
    net = _Blocked(rewritten)
    nodes: list[Any] = []
    for node in list(rewritten.graph.node):
        for name in _strangers(node, net):
            if name not in net.entered:
                nodes.append(_entry(name, net))
            for place, value in enumerate(node.input):
                if value == name:
                    node.input[place] = net.entered[name]
        _follow(node, net)
        nodes.append(node)
    del rewritten.graph.node[:]
    rewritten.graph.node.extend(nodes)
    return rewritten


def _follow(node: Any, net: _Blocked) -> None:
    """Notes whether what a node gives is in the blocked layout."""
    taken = _maps(node, net)
    carried = node.op_type in _CARRIED and bool(taken) and all(name in net.inside for name in taken)
    if (carried or node.op_type == "Conv") and _channels(node.output[0], net) is not None:
        net.inside.add(node.output[0])


def _maps(node: Any, net: _Blocked) -> list[str]:
    """The maps among what a node takes; of a norm only the first."""
    if node.op_type not in _JOINING:
        return list(node.input[:1])
    return [name for name in node.input if name]


def _channels(name: str, net: _Blocked) -> int | None:
    """A map's channels, if they come in whole blocks; None for all other values."""
    channels = net.channels(name)
    return None if channels is None or channels % BLOCK else channels


def _strangers(node: Any, net: _Blocked) -> list[str]:
    """Maps outside of the layout that a node takes, and that should be inside for it."""
    outside = [name for name in dict.fromkeys(_maps(node, net)) if name not in net.inside]
    if not outside or any(_channels(name, net) is None for name in outside):
        return []
    if node.op_type == "BatchNormalization":
        return outside if _goes_on(node, net) else []
    if node.op_type in _JOINING and len(outside) < len(set(_maps(node, net))) and _joins(node, net):
        return outside if _goes_on(node, net) else []
    return []


def _joins(node: Any, net: _Blocked) -> bool:
    """Whether a node joins whole maps: channels one behind the other, or sums without broadcasting."""
    shapes = [net.shapes.get(name) for name in node.input]
    if node.op_type == "Concat":
        return any(a.name == "axis" and a.i in (1, 1 - MAP) for a in node.attribute)
    known = [shape for shape in shapes if shape is not None]
    one = any(shape is None or 1 in shape[2:] for shape in shapes)  # may be spread over the other
    return not one and len({shape[1] for shape in known}) == 1


def _goes_on(node: Any, net: _Blocked) -> bool:
    """Whether what a node gives is taken by anything that knows the layout."""
    return any(taker.op_type == "Conv" or taker.op_type in _CARRIED for taker in net.takers[node.output[0]])


def _entry(name: str, net: _Blocked) -> Any:
    """A depthwise convolution with weights of one, and notes the map it gives."""
    import onnx

    channels = _channels(name, net)
    assert channels is not None
    weight = net.constant(np.ones((channels, 1, 1, 1), np.float32), f"{name}_ones")
    blocked = net.fresh(f"{name}_blocked")
    net.entered[name] = blocked
    net.inside.add(blocked)
    net.shapes[blocked] = net.shapes[name]
    return onnx.helper.make_node("Conv", [name, weight], [blocked], name=blocked, group=channels, kernel_shape=[1, 1])
