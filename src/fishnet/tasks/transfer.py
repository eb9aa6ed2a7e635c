"""From one model of a task into another: heads by name and shape, rows of classes by the classes' names."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from fishnet.bundle.classes import Classes
from fishnet.tasks.base import ClassRows
from fishnet.tasks.model import Model

State = dict[str, Tensor]


def with_rows_by_name(model: Model, head: str, state: Mapping[str, Tensor], theirs: Classes, ours: Classes) -> State:
    """A state whose rows of classes are put in the order of a head's own classes; new classes get the model's rows.

    Args:
        model: the receiving model; its tensors stay as they are.
        head: the name of its head.
        state: tensors of another model of the task and head, under the names of :meth:`Model.state_dict`.
        theirs, ours: the classes of the state and of the model.

    Returns:
        The state; tensors whose rows cannot be told apart stay as they are.
    """
    own, placed = model.state_dict(), dict(state)
    for name, rows in model.class_rows()[head].items():
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in own and key in state:
                placed[key] = _placed(own[key], state[key], rows, theirs, ours)
    return placed


def _placed(own: Tensor, tensor: Tensor, rows: ClassRows, theirs: Classes, ours: Classes) -> Tensor:
    """One tensor's rows by the names of the classes."""
    if own.shape[1:] != tensor.shape[1:]:
        return tensor
    counts = [(rows.background + len(classes)) * rows.each for classes in (ours, theirs)]
    if len(own) % counts[0] or len(tensor) % counts[1] or len(own) // counts[0] != len(tensor) // counts[1]:
        return tensor
    blocks = [
        one.reshape(len(own) // counts[0], -1, rows.each, *one.shape[1:]) for one in (own.clone(), tensor.to(own.dtype))
    ]
    blocks[0][:, : rows.background] = blocks[1][:, : rows.background]
    index = {name: i for i, name in enumerate(theirs.names)}
    for i, name in enumerate(ours.names):
        if name in index:
            blocks[0][:, rows.background + i] = blocks[1][:, rows.background + index[name]]
    return blocks[0].reshape(own.shape)


def load_head(model: Model, name: str, state: Mapping[str, Tensor]) -> list[str]:
    """Loads one head from a state, where names and shapes agree.

    Args:
        model: the receiving model.
        name: of its head.
        state: as :func:`with_rows_by_name` gives it.

    Returns:
        Lines that count what came, what was left out and what is new, by module.
    """
    prefix, receiver = f"heads.{name}.", model.heads[name]
    own = receiver.state_dict()
    head = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    fitting = {key: value for key, value in head.items() if key in own and own[key].shape == value.shape}
    receiver.load_state_dict(fitting, strict=False)
    misshapen = [key for key in head if key in own and key not in fitting]
    lines = [f"head: {len(fitting)} of {len(own)} tensors came along"] if own else []
    for keys, what in (
        (misshapen, "left out, of another shape here"),
        ([key for key in head if key not in own], "left out, not in this head"),
        ([key for key in own if key not in head], "new, not in the bundle"),
    ):
        if keys:
            lines.append(f"head: {len(keys)} tensors {what} ({by_module(keys)})")
    return lines


def said_of_classes(theirs: Classes, ours: Classes) -> list[str]:
    """What becomes of the classes; nothing where they are the same in the same order."""
    if theirs.names == ours.names:
        return []
    kept = [name for name in ours.names if name in theirs.names]
    lines = [f"classes by name: {len(kept)} of {len(ours)} keep their weights"]
    for names, what in (
        ([name for name in ours.names if name not in theirs.names], "new here"),
        ([name for name in theirs.names if name not in ours.names], "left out"),
    ):
        if names:
            lines[0] += f"; {len(names)} {what} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
    return lines


def by_module(keys: Iterable[str]) -> str:
    """Counts of tensors by the part of the model that they are in: ``fpn.inner_blocks 8, rpn.head 6``."""
    counts = Counter(".".join(re.split(r"\.\d+(?:\.|$)", key.rpartition(".")[0])[0].split(".")[:2]) for key in keys)
    return ", ".join(f"{module} {count}" for module, count in counts.items())
