"""Which layers of a graph compute with 8 bits: those that feed others, and not the last ones.

What a last layer gives is read as it is: as logits, or as scores, offsets of boxes and masks. 256 steps are too coarse
for that, and last layers are small. So they stay in float32, and with them everything that comes after. A layer is a
last one if what it gives reaches no other layer as values: that a detector cuts its second stage's maps where its first
stage says is no such way.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

# By lower-case names, as ONNX and as OpenVINO have them: the inputs whose values are handed on. Any other operation
# hands on all of its inputs' values.
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
    """One of a graph's.

    Attributes:
        kind: its type's name, as ONNX or OpenVINO have it.
        name: its own, unlike any other's.
        inputs: names of the values that it takes, in order.
        outputs: names of the values that it gives.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def last_layers(operations: Iterable[Operation], layers: frozenset[str]) -> list[str]:
    """Names of the layers whose values reach no other layer.

    Args:
        operations: of a graph, in any order.
        layers: names of those that multiply by weights.
    """
    operations = list(operations)
    takers: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        for place in _handed_on(operation):
            takers[operation.inputs[place]].append(operation)
    return [it.name for it in operations if it.name in layers and not _reaches(it, takers, layers)]


def _handed_on(operation: Operation) -> Iterable[int]:
    places = _DATA.get(operation.kind.lower())
    every = range(len(operation.inputs))
    return every if places is None else (place for place in places if place in every)


def _reaches(start: Operation, takers: dict[str, list[Operation]], layers: frozenset[str]) -> bool:
    seen: set[str] = set()
    waiting = list(start.outputs)
    while waiting:
        for operation in takers[waiting.pop()]:
            if operation.name in layers:
                return True
            if operation.name not in seen:
                seen.add(operation.name)
                waiting += operation.outputs
    return False
