"""Rewrites ONNX graphs so that convolutions come before concatenations. The outputs stay the same.

A 1x1 convolution of concatenated maps is the sum of a convolution of each map, and the norm and activation before it
act on each channel separately. So each map can be convolved before the concatenation. A map that was upsampled by
nearest neighbour can be convolved before it is upsampled, on fewer px, since copies of a px have the same result.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fishnet.exporting.layout import BLOCK
from fishnet.exporting.net import MAP, Net, copied, used

_ACTIVATIONS = (
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "HardSigmoid",
    "Elu",
    "Clip",
)  # elementwise, equal for channels
_OPSET = 15  # the lowest in which the operations written here have this form
_SIZES = 3  # index of a Resize's input with the output's size


@dataclass(frozen=True)
class _Chain:
    """The nodes from a concatenation to a convolution.

    Attributes:
        concat: the concatenation, which stays for all other nodes that use it.
        between: norms and activations, in order; no other nodes use their outputs.
        conv: the convolution.
        widths: channels of the concatenated maps.
    """

    concat: Any
    between: tuple[Any, ...]
    conv: Any
    widths: tuple[int, ...]


class _Graph(Net):
    """A graph, and which nodes compute and use its values.

    Attributes:
        producers: name of a value -> the node that computes it.
        uses: name of a value -> how often it is used, also in subgraphs and as an output.
        constants: by name.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.uses = Counter(used(self.graph))
        self.constants = {constant.name: constant for constant in self.graph.initializer}
        self.producers: dict[str, Any] = {}
        for node in self.graph.node:
            self.producers.update(dict.fromkeys(node.output, node))

    def values(self, name: str) -> NDArray[Any]:
        """Returns the values of a constant."""
        import onnx

        values: NDArray[Any] = onnx.numpy_helper.to_array(self.constants[name])
        return values


def split_concatenations(model: Any) -> Any:
    """Convolves concatenated maps one by one, upsampled ones before they are upsampled, and adds the results.

    Args:
        model: an ``onnx.ModelProto``, of any network; it is not changed.

    Returns:
        A model with the same inputs, outputs and metadata, whose outputs are the same to rounding.
    """
    rewritten = copied(model)
    if next((opset.version for opset in model.opset_import if not opset.domain), 0) < _OPSET:
        return rewritten
    net = _Graph(rewritten)
    chains = {chain.conv.output[0]: chain for node in rewritten.graph.node if (chain := _chain_to(node, net))}
    removed = {node.output[0] for chain in chains.values() for node in chain.between}
    nodes: list[Any] = []
    for node in rewritten.graph.node:
        if node.output[0] in chains:
            nodes += _split(chains[node.output[0]], net)
        elif node.output[0] not in removed:
            nodes.append(node)
    nodes = [copied(node) for node in nodes]
    del rewritten.graph.node[:]
    rewritten.graph.node.extend(nodes)
    _drop_unused(rewritten.graph, net)
    return rewritten


def _chain_to(conv: Any, net: _Graph) -> _Chain | None:
    """Returns the nodes from a concatenation to this node, if it is a convolution that can be split."""
    if conv.op_type != "Conv" or not _is_pointwise(conv, net):
        return None
    between: list[Any] = []
    name = conv.input[0]
    while (node := net.producers.get(name)) is not None and node.op_type != "Concat":
        used_once = net.uses[name] == 1 and len(node.output) == 1
        if not used_once or not (node.op_type in _ACTIVATIONS or _is_known_norm(node, net)):
            return None
        between.insert(0, node)
        name = node.input[0]
    if node is None or _attribute(node, "axis") not in (1, 1 - MAP):
        return None
    widths = tuple(net.channels(name) or 0 for name in node.input)
    if len(widths) < 2 or any(width == 0 or width % BLOCK for width in widths):
        return None
    weights = net.values(conv.input[1])
    return _Chain(node, tuple(between), conv, widths) if weights.shape[1] == sum(widths) else None


def _is_pointwise(conv: Any, net: _Graph) -> bool:
    """Whether a convolution is 1x1 without groups, stride and padding, and its channels are a multiple of the block."""
    if conv.input[1] not in net.constants or (len(conv.input) > 2 and conv.input[2] not in net.constants):
        return False
    outputs, _, *kernel = net.constants[conv.input[1]].dims
    plain = (_attribute(conv, "group") or 1) == 1 and not any(_attribute(conv, "pads") or ())
    plain = plain and (_attribute(conv, "auto_pad") or b"NOTSET") in (b"NOTSET", b"VALID")
    return plain and kernel == [1, 1] and set(_attribute(conv, "strides") or (1,)) == {1} and not outputs % BLOCK


def _is_known_norm(node: Any, net: _Graph) -> bool:
    is_norm = node.op_type == "BatchNormalization" and not _attribute(node, "training_mode")
    return is_norm and all(name in net.constants for name in node.input[1:])


def _attribute(node: Any, name: str) -> Any:
    """Returns an attribute's value; None if it is not given."""
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _split(chain: _Chain, net: _Graph) -> list[Any]:
    """Returns the nodes that replace a chain: a convolution of each map, and their sum."""
    import onnx

    nodes: list[Any] = []
    terms: list[str] = []
    ends = np.cumsum((0, *chain.widths))
    for number, (name, (start, end)) in enumerate(zip(chain.concat.input, pairwise(ends.tolist()), strict=True)):
        base = f"{chain.conv.output[0]}_part{number}"
        resize = _nearest(name, net)
        value = name if resize is None else resize.input[0]
        for node in chain.between:
            inputs = [value]
            if node.op_type == "BatchNormalization":
                inputs += [net.constant(net.values(name)[start:end], f"{base}_{name}") for name in node.input[1:]]
            else:
                inputs += node.input[1:]
            value = net.fresh(f"{base}_{node.op_type}")
            nodes.append(_like(node, inputs, value))
        inputs = [value, net.constant(net.values(chain.conv.input[1])[:, start:end], f"{base}_weight")]
        if number == len(chain.widths) - 1:
            inputs += chain.conv.input[2:]
        value = net.fresh(f"{base}_conv")
        nodes.append(_like(chain.conv, inputs, value))
        if resize is not None:
            nodes += _resized(resize, value, net)
            value = nodes[-1].output[0]
        terms.append(value)
    total = terms[0]
    for term in terms[1:]:
        name = chain.conv.output[0] if term == terms[-1] else net.fresh(f"{chain.conv.output[0]}_sum")
        nodes.append(onnx.helper.make_node("Add", [total, term], [name], name=name))
        total = name
    return nodes


def _nearest(name: str, net: _Graph) -> Any:
    """Returns the nearest-neighbour Resize that computes a map and keeps its channels; None if there is none."""
    node = net.producers.get(name)
    if node is None or node.op_type != "Resize" or (_attribute(node, "mode") or b"nearest") != b"nearest":
        return None
    if net.channels(node.input[0]) != net.channels(name) or _attribute(node, "axes") is not None:
        return None
    if (_attribute(node, "coordinate_transformation_mode") or b"") == b"tf_crop_and_resize":  # may fill in values
        return None
    by_sizes = len(node.input) > _SIZES and bool(node.input[_SIZES])
    return node if by_sizes or node.input[2] in net.constants else None


def _resized(resize: Any, value: str, net: _Graph) -> list[Any]:
    """Returns the nodes that resize another map in the same chain."""
    import onnx

    nodes: list[Any] = []
    inputs = [value, *resize.input[1:]]
    if len(inputs) > _SIZES and inputs[_SIZES]:  # with the other map's number of channels
        bounds = [net.constant(np.array([i], np.int64), f"{value}_{i}") for i in (0, 1, 2, 4)]
        batch, sides, channels, sizes = (
            net.fresh(f"{value}_{suffix}") for suffix in ("n", "sides", "channels", "sizes")
        )
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
    """Returns a node with the same type and attributes."""
    import onnx

    new = onnx.helper.make_node(node.op_type, inputs, [output], name=output, domain=node.domain)
    new.attribute.extend(node.attribute)
    return new


def _drop_unused(graph: Any, net: _Graph) -> None:
    """Removes the constants that are no longer used."""
    names = set(used(graph))
    kept = [constant for constant in graph.initializer if constant.name in names or not net.uses[constant.name]]
    if len(kept) < len(graph.initializer):
        kept = [copied(constant) for constant in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
