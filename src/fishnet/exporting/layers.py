"""Finds the last layers of a graph, which are not quantized.

The outputs of a last layer are the logits, or the scores, box offsets and masks. 256 steps are too coarse for them, and
last layers are small, so they and everything after them stay in float32. A layer is a last one if the values of its
output reach no other layer. In a detector, the first stage's boxes determine where the second stage's features are
pooled, but their values do not reach it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

# The inputs whose values an operation passes on, by its lower-case name in ONNX or OpenVINO. Other operations pass on
# the values of all inputs.
_DATA: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "expand", "broadcast", "flatten", "gather", "gatherelements", "gathernd", "pad", "reshape", "resize",
            "interpolate", "roialign", "slice", "stridedslice", "split", "variadicsplit", "squeeze", "tile",
            "transpose", "unsqueeze",
        ),
        (0,),
    ),
    **dict.fromkeys(("scatterelements", "scatternd", "scatterelementsupdate", "scatterndupdate"), (0, 2)),
    **dict.fromkeys(("where", "select"), (1, 2)),
    **dict.fromkeys(
        (
            "constantofshape", "if", "loop", "nonmaxsuppression", "nonzero", "range", "shape", "shapeof", "size",
            "topk",
        ),
        (),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """One operation of a graph.

    Attributes:
        kind: the name of its type in ONNX or OpenVINO.
        name: unique within the graph.
        inputs: names of its input values, in order.
        outputs: names of its output values.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def last_layers(operations: Iterable[Operation], layers: frozenset[str]) -> list[str]:
    """Returns the names of the layers whose values reach no other layer.

    Args:
        operations: the operations of a graph, in any order.
        layers: names of the operations that multiply by weights.
    """
    operations = list(operations)
    users: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        for index in _data_inputs(operation):
            users[operation.inputs[index]].append(operation)
    candidates = [operation for operation in operations if operation.name in layers]
    return [operation.name for operation in candidates if not _reaches_layer(operation, users, layers)]


def _data_inputs(operation: Operation) -> Iterable[int]:
    """Yields the indices of the inputs whose values are passed on."""
    indices = range(len(operation.inputs))
    data = _DATA.get(operation.kind.lower())
    return indices if data is None else (index for index in data if index in indices)


def _reaches_layer(start: Operation, users: dict[str, list[Operation]], layers: frozenset[str]) -> bool:
    seen: set[str] = set()
    waiting = list(start.outputs)
    while waiting:
        for operation in users[waiting.pop()]:
            if operation.name in layers:
                return True
            if operation.name not in seen:
                seen.add(operation.name)
                waiting += operation.outputs
    return False
