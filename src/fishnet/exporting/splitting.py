"""A rewriting of ONNX graphs: convolutions that start before their concatenation. What is computed stays the same.

A 1x1 convolution of several maps one behind the other is the sum of a convolution of each, and the norm and activation
before it act on each channel by itself. So each part can be convolved where it is made; and a part that was resized to
the others' size by nearest neighbour can be convolved before, on fewer px, since copies of a px have the same sum.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.exporting.layout import BLOCK
from fishnet.exporting.net import MAP, Net, copied, used

_ACTIVATIONS = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "Clip")  # px by px, channels alike
_OPSET = 15  # from which operations have the form that is written here
_SIZES = 3  # place of a Resize's input that says its sizes


@dataclass(frozen=True)
class _Way:
    """From a concatenation to a convolution.

    Attributes:
        joined: the concatenation, which stays for all else that takes it.
        between: norms and activations, in order; nobody else takes what they give.
        conv: the convolution.
        widths: channels of the parts.
    """

    joined: Any
    between: tuple[Any, ...]
    conv: Any
    widths: tuple[int, ...]


class _Made(Net):
    """A graph, and what makes and uses its values.

    Attributes:
        made: name of a value -> the node that makes it.
        uses: name of a value -> how often it is taken, also in subgraphs and as an output.
        constants: by name.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.uses = Counter(used(self.graph))
        self.constants = {constant.name: constant for constant in self.graph.initializer}
        self.made: dict[str, Any] = {}
        for node in self.graph.node:
            self.made.update(dict.fromkeys(node.output, node))

    def values(self, name: str) -> NDArray[Any]:
        """Of a constant."""
        import onnx

        found: NDArray[Any] = onnx.numpy_helper.to_array(self.constants[name])
        return found


def split_concatenations(model: Any) -> Any:
    """Convolves the parts of concatenations one by one, resized ones before they are resized, and adds up.

    Args:
        model: an ``onnx.ModelProto``, of any network; it is not changed.

    Returns:
        A model with the same inputs, outputs and metadata, whose outputs are the same to rounding.
    """
    rewritten = copied(model)
    if next((opset.version for opset in model.opset_import if not opset.domain), 0) < _OPSET:
        return rewritten
    net = _Made(rewritten)
    ways = {way.conv.output[0]: way for node in rewritten.graph.node if (way := _way(node, net)) is not None}
    gone = {node.output[0] for way in ways.values() for node in way.between}
    nodes: list[Any] = []
    for node in rewritten.graph.node:
        if node.output[0] in ways:
            nodes += _split(ways[node.output[0]], net)
        elif node.output[0] not in gone:
            nodes.append(node)
    nodes = [copied(node) for node in nodes]
    del rewritten.graph.node[:]
    rewritten.graph.node.extend(nodes)
    _drop_unused(rewritten.graph, net)
    return rewritten


def _way(conv: Any, net: _Made) -> _Way | None:
    """The way from a concatenation to this node, if it is a convolution that can be split."""
    if conv.op_type != "Conv" or not _pointwise(conv, net):
        return None
    between: list[Any] = []
    name = conv.input[0]
    while (node := net.made.get(name)) is not None and node.op_type != "Concat":
        alone = net.uses[name] == 1 and len(node.output) == 1
        if not alone or not (node.op_type in _ACTIVATIONS or _is_known_norm(node, net)):
            return None
        between.insert(0, node)
        name = node.input[0]
    if node is None or _attribute(node, "axis") not in (1, 1 - MAP):
        return None
    widths = tuple(net.channels(part) or 0 for part in node.input)
    if len(widths) < 2 or any(width == 0 or width % BLOCK for width in widths):
        return None
    weights = net.values(conv.input[1])
    return _Way(node, tuple(between), conv, widths) if weights.shape[1] == sum(widths) else None


def _pointwise(conv: Any, net: _Made) -> bool:
    """Whether a convolution is 1x1, plain, and fills blocks."""
    if conv.input[1] not in net.constants or (len(conv.input) > 2 and conv.input[2] not in net.constants):
        return False
    outputs, _, *kernel = net.constants[conv.input[1]].dims
    plain = (_attribute(conv, "group") or 1) == 1 and not any(_attribute(conv, "pads") or ())
    plain = plain and (_attribute(conv, "auto_pad") or b"NOTSET") in (b"NOTSET", b"VALID")
    return plain and kernel == [1, 1] and set(_attribute(conv, "strides") or (1,)) == {1} and not outputs % BLOCK


def _is_known_norm(node: Any, net: _Made) -> bool:
    known = node.op_type == "BatchNormalization" and not _attribute(node, "training_mode")
    return known and all(name in net.constants for name in node.input[1:])


def _attribute(node: Any, name: str) -> Any:
    """An attribute's value; None where it is not given."""
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _split(way: _Way, net: _Made) -> list[Any]:
    """The nodes that take the place of a way's own: a convolution for each part, and their sum."""
    import onnx

    nodes: list[Any] = []
    parts: list[str] = []
    ends = np.cumsum((0, *way.widths))
    for number, (name, (start, end)) in enumerate(zip(way.joined.input, pairwise(ends.tolist()), strict=True)):
        base = f"{way.conv.output[0]}_part{number}"
        resize = _nearest(name, net)
        value = name if resize is None else resize.input[0]
        for node in way.between:
            inputs = [value]
            if node.op_type == "BatchNormalization":
                inputs += [net.constant(net.values(it)[start:end], f"{base}_{it}") for it in node.input[1:]]
            else:
                inputs += node.input[1:]
            value = net.fresh(f"{base}_{node.op_type}")
            nodes.append(_like(node, inputs, value))
        inputs = [value, net.constant(net.values(way.conv.input[1])[:, start:end], f"{base}_weight")]
        if number == len(way.widths) - 1:
            inputs += way.conv.input[2:]
        value = net.fresh(f"{base}_conv")
        nodes.append(_like(way.conv, inputs, value))
        if resize is not None:
            nodes += _resized(resize, value, net)
            value = nodes[-1].output[0]
        parts.append(value)
    total = parts[0]
    for part in parts[1:]:
        name = way.conv.output[0] if part == parts[-1] else net.fresh(f"{way.conv.output[0]}_sum")
        nodes.append(onnx.helper.make_node("Add", [total, part], [name], name=name))
        total = name
    return nodes


def _nearest(name: str, net: _Made) -> Any:
    """The node that makes a map by copying px of another one with as many channels; None where something else does."""
    node = net.made.get(name)
    if node is None or node.op_type != "Resize" or (_attribute(node, "mode") or b"nearest") != b"nearest":
        return None
    if net.channels(node.input[0]) != net.channels(name) or _attribute(node, "axes") is not None:
        return None
    if (_attribute(node, "coordinate_transformation_mode") or b"") == b"tf_crop_and_resize":  # px of no px: a constant
        return None
    by_sizes = len(node.input) > _SIZES and bool(node.input[_SIZES])
    return node if by_sizes or node.input[2] in net.constants else None


def _resized(resize: Any, value: str, net: _Made) -> list[Any]:
    """The nodes that resize another map in the same way."""
    import onnx

    nodes: list[Any] = []
    inputs = [value, *resize.input[1:]]
    if len(inputs) > _SIZES and inputs[_SIZES]:  # with the number of channels of the other map
        bounds = [net.constant(np.array([i], np.int64), f"{value}_{i}") for i in (0, 1, 2, 4)]
        batch, sides, channels, sizes = (net.fresh(f"{value}_{what}") for what in ("n", "sides", "channels", "sizes"))
        nodes += [
            onnx.helper.make_node("Slice", [inputs[_SIZES], bounds[0], bounds[1], bounds[0]], [batch], name=batch),
            onnx.helper.make_node("Shape", [value], [channels], name=channels, start=1, end=2),
            onnx.helper.make_node("Slice", [inputs[_SIZES], bounds[2], bounds[3], bounds[0]], [sides], name=sides),
            onnx.helper.make_node("Concat", [batch, channels, sides], [sizes], name=sizes, axis=0),
        ]
        inputs[_SIZES] = sizes
    nodes.append(_like(resize, inputs, net.fresh(f"{value}_resized")))
    return nodes


def _like(node: Any, inputs: list[str], output: str) -> Any:
    """A node of the same kind and attributes."""
    import onnx

    made = onnx.helper.make_node(node.op_type, inputs, [output], name=output, domain=node.domain)
    made.attribute.extend(node.attribute)
    return made


def _drop_unused(graph: Any, net: _Made) -> None:
    """Takes out the constants that nobody takes any more."""
    taken = set(used(graph))
    kept = [constant for constant in graph.initializer if constant.name in taken or not net.uses[constant.name]]
    if len(kept) < len(graph.initializer):
        kept = [copied(constant) for constant in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
