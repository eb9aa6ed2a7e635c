"""An ONNX graph as a net of names: what every rewriting of graphs asks of one."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAP = 4  # dimensions of a map: batch, channels, height, width
Shape = list[int | None]


class Net:
    """A graph's names.

    Args:
        model: an ``onnx.ModelProto``.

    Attributes:
        graph: onnx's; constants are added to it.
        names: all that are taken.
        shapes: name of a float32 value -> its dimensions, None where one is not fixed.
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
        """That name, or one like it that nothing has yet."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def constant(self, values: NDArray[Any], name: str) -> str:
        """Adds a constant, and gives its name."""
        import onnx

        name = self.fresh(name)
        self.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def channels(self, name: str) -> int | None:
        """How many a map has; None where that is not fixed, and for what is no map."""
        shape = self.shapes.get(name)
        return shape[1] if shape is not None and len(shape) == MAP else None


def branches(node: Any) -> list[Any]:
    """Graphs within an operation, as If and Loop have them."""
    own = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*own, *(graph for attribute in node.attribute for graph in attribute.graphs)]


def used(graph: Any) -> Iterator[str]:
    """Every name that is taken in a graph and its branches, as often as it is, and those of its outputs."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for branch in branches(node):
            yield from used(branch)


def copied(model: Any) -> Any:
    """A copy of an ``onnx.ModelProto``, or of any other part."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy
