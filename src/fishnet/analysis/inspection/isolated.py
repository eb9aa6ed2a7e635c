"""Isolated convolutions: those that no shortcut bypasses, found on the graph that autograd records of a forward pass.

The paper (Sun et al., NeurIPS 2018, arXiv 1901.03495, section 3) calls a convolution isolated that the gradient must
pass on its way to an earlier stage, such as the projection where a stage of a ResNet changes its width. Here they are
counted: among all ways from a stage's inputs to its output, those with the fewest convolutions have no detour left, so
the convolutions on them are isolated. Linear layers count as convolutions of one pixel.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fishnet.analysis.inspection.stages import SCORE, walk

_WEIGHTED = ("ConvolutionBackward", "AddmmBackward", "MmBackward", "LinearBackward", "MkldnnLinearBackward")


_MAX_STEPS = 8  # operations between a parameter and the convolution that it is the weight of


@dataclass(frozen=True)
class Isolation:
    """The isolated convolutions of a stage.

    Attributes:
        stage: its name.
        isolated: the weights of the isolated convolutions, from input to output.
        to_score: the fewest convolutions between the stage's output and the input of the score layers; None if there is
            no way.
    """

    stage: str
    isolated: tuple[str, ...]
    to_score: int | None


def find_isolated(model: nn.Module, shape: tuple[int, int, int]) -> list[Isolation]:
    """The isolated convolutions of each stage, from the first stage to the score layers.

    A stage with several inputs, such as those of a FishNet's body and head, has the isolated convolutions of the input
    that has most of them. The first stage's input is the image.

    Args:
        model: is moved to torch's meta device for good.
        shape: channels, height and width of an input.
    """
    model.to("meta").eval().requires_grad_(True)
    image = torch.zeros(1, *shape, device="meta", requires_grad=True)
    steps = walk(model)
    with steps.of(model), torch.enable_grad():
        scores = model(image)
    ends = {name: output.grad_fn for name, output in steps.outputs.items() if output.grad_fn is not None}
    ends[SCORE] = scores.grad_fn
    weights = {id(parameter): name for name, parameter in model.named_parameters()}
    last = next(name for name in reversed(steps.names) if name in ends and name != SCORE)
    distances = {id(node): len(way) for node, way in fewest(ends[last], ()).items()}
    rows = []
    for name in (name for name in steps.names if name in ends):
        sources: list[Any] = [node for other, node in ends.items() if other != name]
        ways = fewest(ends[name], sources)
        reached = [ways[node] for node in sources if node in ways]
        reached += [way for node, way in ways.items() if getattr(node, "variable", None) is image]
        way = max(reached, key=len, default=())
        to_score = 0 if name == last else distances.get(id(ends[name]))
        names = tuple(_weight_of(node, weights) for node in reversed(way))
        rows.append(Isolation(name, names, None if name == SCORE else to_score))
    return rows


def fewest(end: Any, sources: Collection[Any]) -> dict[Any, tuple[Any, ...]]:
    """The ways from an operation back to all that it depends on, with the fewest convolutions.

    Args:
        end: a node of autograd's graph.
        sources: nodes behind which no way goes on.

    Returns:
        For each node that was reached, the convolutions on the way from ``end`` to it, in this order; those of ``end``
        itself are included, those of the node reached are not.
    """
    stop = set(sources)
    ways: dict[Any, tuple[Any, ...]] = {end: ()}
    done: set[Any] = set()
    queue = deque([end])
    while queue:
        node = queue.popleft()
        if node in done:
            continue
        done.add(node)
        if node in stop and node is not end:
            continue
        is_convolution = node.name().startswith(_WEIGHTED)
        way = (*ways[node], node) if is_convolution else ways[node]
        for source, _ in node.next_functions:
            if source is not None and (source not in ways or len(way) < len(ways[source])):
                ways[source] = way
                (queue.append if is_convolution else queue.appendleft)(source)
    return ways


def _weight_of(convolution: Any, names: dict[int, str]) -> str:
    """The name of a convolution's weight, without the last part; ``?`` where it is not a parameter."""
    for node in _weight_nodes(convolution):
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            return name.rpartition(".")[0] or name
    return "?"


def _weight_nodes(convolution: Any) -> Iterator[Any]:
    """The leaves of a convolution's own weight and bias, which may be standardised or transposed before their use."""
    for source, _ in convolution.next_functions:
        node = source
        for _ in range(_MAX_STEPS):
            if node is None or hasattr(node, "variable"):
                break
            followers = [follower for follower, _ in node.next_functions if follower is not None]
            node = followers[0] if len(followers) == 1 else None
        if node is not None:
            yield node
