"""Isolated convolutions: those that no shortcut bypasses, found on the graph that autograd records of a forward pass.

The paper (Sun et al., NeurIPS 2018, arXiv 1901.03495, section 3) calls a convolution isolated that the gradient must
pass on its way to an earlier stage, such as the projection where a stage of a ResNet changes its width. Here the fewest
convolutions on any path through a stage are counted: where a shortcut without weights bypasses all of them, that is 0.
If several paths have as few, the names are those of one of them. Convolutions, and linear layers as torch records them
(addmm, mm), are counted; products of other kinds, such as einsum, are not.
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
        min_convolutions_to_score: the fewest convolutions between the stage's output and the input of the score
            layers; None if there is no path, and for the score layers.
    """

    stage: str
    isolated: tuple[str, ...]
    min_convolutions_to_score: int | None


def find_isolated(model: nn.Module, shape: tuple[int, int, int]) -> list[Isolation]:
    """The isolated convolutions of each stage, from the first stage to the score layers.

    A stage's inputs are the outputs of other stages that it uses directly; where there is none, the image. A stage with
    several inputs, such as those of a FishNet's body and head, has the isolated convolutions of the input that has most
    of them.

    Args:
        model: is moved to torch's meta device for good.
        shape: channels, height and width of an input.

    Raises:
        ValueError: the model has no stage that returns a tensor.
    """
    model.to("meta").eval().requires_grad_(True)
    image = torch.zeros(1, *shape, device="meta", requires_grad=True)
    steps = walk(model, shape)
    with steps.follow(model), torch.enable_grad():
        scores = model(image)
    outputs = {name: [output, *steps.others[name]] for name, output in steps.outputs.items()}
    last = list(outputs)[-1]
    outputs[SCORE] = [scores] if torch.is_tensor(scores) else []
    nodes = {name: [each.grad_fn for each in own if each.grad_fn is not None] for name, own in outputs.items()}
    weights = {id(parameter): name for name, parameter in model.named_parameters()}
    distances = {node: len(path) for node, path in shortest_paths(nodes[last][0], ()).items()}
    rows = []
    for name, own in nodes.items():
        if not own:
            continue
        sources = [node for other, others in nodes.items() if other != name for node in others]
        paths = shortest_paths(own[0], sources)
        reached = [paths[node] for node in sources if node in paths and node is not own[0]]
        if not reached:
            reached = [path for node, path in paths.items() if getattr(node, "variable", None) is image]
        path = max(reached, key=len, default=())
        names = tuple(_weight_of(node, weights) for node in reversed(path))
        rows.append(Isolation(name, names, None if name == SCORE else distances.get(own[0])))
    return rows


def shortest_paths(end: Any, sources: Collection[Any]) -> dict[Any, tuple[Any, ...]]:
    """The paths from an operation back to all that it depends on, with the fewest convolutions.

    Args:
        end: a node of autograd's graph.
        sources: nodes at which paths end.

    Returns:
        For each node that was reached, the convolutions on the path from ``end`` to it, in this order: that of ``end``
        itself is included, that of the node is not.
    """
    stop = set(sources) - {end}
    paths: dict[Any, tuple[Any, ...]] = {end: ()}
    done: set[Any] = set()
    queue = deque([end])
    while queue:
        node = queue.popleft()
        if node in done:
            continue
        done.add(node)
        if node in stop:
            continue
        is_convolution = node.name().startswith(_WEIGHTED)
        path = (*paths[node], node) if is_convolution else paths[node]
        for source, _ in node.next_functions:
            if source is not None and (source not in paths or len(path) < len(paths[source])):
                paths[source] = path
                (queue.append if is_convolution else queue.appendleft)(source)
    return paths


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
