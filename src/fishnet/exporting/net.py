"""The names and shapes of an ONNX graph, which all rewriting needs."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAP = 4  # dimensions of a feature map: batch, channels, height, width
Shape = list[int | None]


class Net:
    """A graph with its names and shapes.

    Args:
        model: an ``onnx.ModelProto``.

    Attributes:
        graph: the ``onnx.GraphProto``; constants are added to it.
        names: all names in use.
        shapes: name of a float32 value -> its dimensions; None for a dimension that is not fixed.
    """

    def __init__(self, model: Any) -> None:
        import onnx

        self.graph = model.graph
        self.names = {value.name for value in (*self.graph.input, *self.graph.initializer)} | set(used(self.graph))
        for node in self.graph.node:
            self.names.update(node.output)
        self.shapes: dict[str, Shape] = {}
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            kind = value.type.tensor_type
            if kind.HasField("shape") and kind.elem_type == onnx.TensorProto.FLOAT:
                self.shapes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]

    def fresh(self, name: str) -> str:
        """Returns the name, or a similar one that is not in use."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def constant(self, values: NDArray[Any], name: str) -> str:
        """Adds a constant and returns its name."""
        import onnx

        name = self.fresh(name)
        self.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def channels(self, name: str) -> int | None:
        """Returns the channels of a feature map; None if they are not fixed, or if the value is not a feature map."""
        shape = self.shapes.get(name)
        return shape[1] if shape is not None and len(shape) == MAP else None


def branches(node: Any) -> list[Any]:
    """Returns the graphs inside an operation such as If or Loop."""
    single = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*single, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def used(graph: Any) -> Iterator[str]:
    """Yields the names of a graph's outputs and of all inputs of its nodes and branches, once for each use."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for branch in branches(node):
            yield from used(branch)


def copied(model: Any) -> Any:
    """Returns a copy of an ``onnx.ModelProto``, or of any other onnx object."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy
