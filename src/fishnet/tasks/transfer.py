"""Transfer of weights between models of a task: heads by name and shape, rows of classes by the classes' names."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from torch import Tensor

from fishnet.bundle.classes import Classes
from fishnet.tasks.head import ClassRows
from fishnet.tasks.model import Model

State = dict[str, Tensor]


def match_class_rows(
    model: Model, head: str, state: Mapping[str, Tensor], source_classes: Classes, classes: Classes
) -> State:
    """Puts the rows of classes in a state into the order of a model's classes. New classes get the model's own rows.

    Args:
        model: the receiving model; it is not changed.
        head: the name of its head.
        state: tensors of another model of the task and head, under the names of :meth:`Model.state_dict`.
        source_classes: the state's classes.
        classes: the model's classes.

    Returns:
        The state. Tensors whose rows do not belong to classes are unchanged.
    """
    model_state, matched = model.state_dict(), dict(state)
    for name, rows in model.class_rows()[head].items():
        for key in (f"{name}.weight", f"{name}.bias"):
            if key in model_state and key in state:
                matched[key] = _match_rows(model_state[key], state[key], rows, source_classes, classes)
    return matched


def _match_rows(target: Tensor, source: Tensor, rows: ClassRows, source_classes: Classes, classes: Classes) -> Tensor:
    """A source tensor's rows in the order of the model's classes; the source itself where the shapes do not fit."""
    if target.shape[1:] != source.shape[1:]:
        return source
    groups, remainder = divmod(len(target), (rows.background + len(classes)) * rows.per_class)
    source_groups, source_remainder = divmod(len(source), (rows.background + len(source_classes)) * rows.per_class)
    if remainder or source_remainder or groups != source_groups:
        return source
    result, available = (
        tensor.reshape(groups, -1, rows.per_class, *tensor.shape[1:])
        for tensor in (target.clone(), source.to(target.dtype))
    )
    result[:, : rows.background] = available[:, : rows.background]
    index = {name: i for i, name in enumerate(source_classes.names)}
    for i, name in enumerate(classes.names):
        if name in index:
            result[:, rows.background + i] = available[:, rows.background + index[name]]
    return result.reshape(target.shape)


def load_head(model: Model, name: str, state: Mapping[str, Tensor]) -> list[str]:
    """Loads one head from a state, where names and shapes agree.

    Args:
        model: the receiving model.
        name: the head's name.
        state: from :func:`match_class_rows`.

    Returns:
        Lines with the numbers of tensors that were loaded, left out or stay new, by module.
    """
    prefix, receiver = f"heads.{name}.", model.heads[name]
    head_state = receiver.state_dict()
    head = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    matching = {key: value for key, value in head.items() if key in head_state and head_state[key].shape == value.shape}
    receiver.load_state_dict(matching, strict=False)
    misshapen = [key for key in head_state if key in head and key not in matching]
    lines = [f"head: {len(matching)} of {len(head_state)} tensors loaded"] if head_state else []
    for keys, outcome in (
        (misshapen, "left out, because shapes differ"),
        ([key for key in head if key not in head_state], "left out, not in this head"),
        ([key for key in head_state if key not in head], "new, not in the bundle"),
    ):
        if keys:
            lines.append(f"head: {len(keys)} tensors {outcome} ({by_module(keys)})")
    return lines


def describe_class_changes(source_classes: Classes, classes: Classes) -> list[str]:
    """A line that counts the classes that keep their weights, are new or are left out; empty if nothing changes."""
    if source_classes.names == classes.names:
        return []
    kept = [name for name in classes.names if name in source_classes.names]
    line = f"classes by name: {len(kept)} of {len(classes)} keep their weights"
    for names, outcome in (
        ([name for name in classes.names if name not in source_classes.names], "new here"),
        ([name for name in source_classes.names if name not in classes.names], "left out"),
    ):
        if names:
            line += f"; {len(names)} {outcome} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
    return [line]


def by_module(keys: Iterable[str]) -> str:
    """Counts of tensors by their module in the model: ``fpn.inner_blocks 8, rpn.head 6``."""
    counts = Counter(".".join(re.split(r"\.\d+(?:\.|$)", key.rpartition(".")[0])[0].split(".")[:2]) for key in keys)
    return ", ".join(f"{module} {count}" for module, count in counts.items())
