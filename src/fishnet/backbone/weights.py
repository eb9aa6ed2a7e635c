"""Loading the weights of checkpoint files into models, strictly."""

import logging
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from fishnet.backbone.archives import check_finite, check_name_hash, read_checkpoint
from fishnet.backbone.layouts import (
    State,
    layout_of,
    rename_on_load,
    strip_prefixes,
    to_native,
    trunk_of,
)
from fishnet.errors import InputError

__all__ = [
    "MisfitError", "State", "check_finite", "check_name_hash", "check_ordered", "checkpoint_filter_fn", "classifiers",
    "fit", "layout_of", "load_weights", "match_by_order", "mismatches", "pair_by_order", "read_checkpoint",
    "rename_on_load", "strip_prefixes", "to_native", "trunk_of",
]  # fmt: skip

_logger = logging.getLogger(__name__)


class MisfitError(InputError):
    """Weights that do not fit a model.

    Attributes:
        problems: the missing, unexpected and misshapen tensors.
        hint: a suggestion after a space, or empty.
        state: the weights.
        where: the file followed by a colon and a space, or empty.
    """

    def __init__(self, problems: str, hint: str, state: State, where: str = "") -> None:
        super().__init__(f"{where}does not fit this model: {problems}.{hint}")
        self.problems, self.hint, self.state, self.where = problems, hint, state, where


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: nn.Module) -> State:
    """timm's filter of pretrained weights: native keys, adapted as in :func:`load_weights`. Logs each adaptation.

    Raises:
        InputError: weights of another network.
    """
    native, notes = fit(model, dict(state), adapt=True)
    for note in notes:
        _logger.warning("pretrained weights: %s", note)
    return native


def load_weights(model: nn.Module, path: str | Path, *, adapt: bool = False, by_order: bool = False) -> list[str]:
    """Loads a checkpoint file into a model, strictly: all tensors must match, or nothing is loaded.

    Args:
        model: a FishNet, or any timm model whose own layout the file has.
        path: see :func:`read_checkpoint`.
        adapt: allow another number of classes (the classifier keeps its new weights), a trunk without a score layer
            (the model keeps its new one), other input channels (the first convolution's are repeated and scaled, or
            summed), tensors of a task head (left out), and a model that ends earlier (the rest is left out).
        by_order: see :func:`match_by_order`.

    Returns:
        One line for each adaptation; empty if the file fitted without any.

    Raises:
        InputError: as :func:`read_checkpoint`, :func:`fit` and :func:`match_by_order`.
    """
    if by_order:
        check_ordered(path)
    if isinstance(model, FeatureGetterNet):  # features_only=True
        model = model.model
    state = read_checkpoint(path)
    try:
        state, notes = fit(model, match_by_order(model, state) if by_order else state, adapt=adapt)
    except MisfitError as error:
        raise MisfitError(error.problems, error.hint, error.state, f"{path}: ") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    model.load_state_dict(state)
    return notes


def fit(model: nn.Module, weights: State, *, adapt: bool = False) -> tuple[State, list[str]]:
    """Turns a checkpoint's tensors into a state dict of a model, without loading it.

    Returns:
        The state dict, and a line for each adaptation; see :func:`load_weights`.

    Raises:
        MisfitError: tensors that are missing, unexpected or misshapen.
        InputError: values that are not finite.
    """
    check_finite(weights)
    notes: list[str] = []
    state, model_state = to_native(weights), model.state_dict()
    config = getattr(model, "pretrained_cfg", None) or {}
    if adapt:
        state, notes = _adapt(model_state, state, config)
    if problems := mismatches(model_state, state):
        hint = ""
        if not adapt and not mismatches(model_state, _adapt(model_state, state, config)[0]):
            hint = " Loading with adapt=True would make it fit"
        raise MisfitError("; ".join(problems), hint, weights)
    return state, notes


def _adapt(model_state: Mapping[str, Tensor], state: State, config: Mapping[str, Any]) -> tuple[State, list[str]]:
    """The tensors of a state that fit a model, and a line for each adaptation."""
    state, notes = dict(state), list[str]()
    trunk = trunk_of(state)
    if trunk is not None and trunk_of(model_state) is None:
        notes.append(f"{len(state) - len(trunk)} tensors of a task head left out")
        state = to_native(trunk)
    if layout_of(model_state) == layout_of(state) == "native":
        notes += _drop_end(model_state, state)
    classifiers = _names(config.get("classifier") or "score.fc")
    notes += _add_score(model_state, state, classifiers)
    for name in classifiers:
        notes += _replace_classifier(model_state, state, name)
    for name in _names(config.get("first_conv") or "stem.0.conv"):
        weight, expected = state.get(f"{name}.weight"), model_state.get(f"{name}.weight")
        if weight is None or expected is None or weight.ndim != 4 or weight.shape[1] == expected.shape[1]:
            continue
        notes.append(f"input convolution adapted from {weight.shape[1]} to {expected.shape[1]} channels")
        state[f"{name}.weight"] = _to_channels(weight, expected.shape[1])
    return state, notes


def _drop_end(model_state: Mapping[str, Tensor], state: State) -> list[str]:
    """Drops the stages of the fish's head, or the score layer, that a model does not have. Changes ``state``."""
    extra = {section for key in state if (section := _end_section(key))} - {_end_section(key) for key in model_state}
    if not extra:
        return []
    keys = [key for key in state if _end_section(key) in extra | {"score"}]
    for key in keys:
        del state[key]
    if extra == {"score"}:
        return [f"{len(keys)} tensors of the score layer left out"]
    score = {key: value for key, value in model_state.items() if key.startswith("score.")}
    state |= score
    end = "after an earlier stage" if any(key.startswith("head.") for key in model_state) else "with the body"
    score_note = "its score layer is new" if score else "it has no score layer"
    return [f"{len(keys)} tensors of the fish's head left out: this trunk ends {end}, {score_note}"]


def _add_score(model_state: Mapping[str, Tensor], state: State, classifiers: Iterable[str]) -> list[str]:
    """Adds the model's own layers around its classifier to a trunk from which they were pruned. Changes ``state``."""
    sections = tuple(f"{name.partition('.')[0]}." for name in classifiers)
    if any(key.startswith(sections) for key in state):
        return []
    layers = {f"{name}.{kind}" for name in classifiers for kind in ("weight", "bias")}
    own = {k: v for k, v in model_state.items() if k.startswith((*sections, "norm.")) and k not in {*layers, *state}}
    state |= own
    return [f"no score layer in the file: this model's, of {len(own)} tensors, is new"] if own else []


def _replace_classifier(model_state: Mapping[str, Tensor], state: State, name: str) -> list[str]:
    """Replaces a classifier of another shape by the model's own, or drops it. Changes ``state``."""
    weight, expected = state.get(f"{name}.weight"), model_state.get(f"{name}.weight")
    if getattr(weight, "shape", None) == getattr(expected, "shape", None):
        return []
    for key in (f"{name}.weight", f"{name}.bias"):
        state.pop(key, None)
        if key in model_state:
            state[key] = model_state[key]
    source = "no classifier in the file" if weight is None else f"classifier of {weight.shape[0]} classes left out"
    model = "this model has none" if expected is None else f"this model's, of {expected.shape[0]} classes, is new"
    return [f"{source}: {model}"]


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """The names of a network's classifier layers; most networks have one."""
    return _names((getattr(model, "pretrained_cfg", None) or {}).get("classifier") or "score.fc")


def _end_section(key: str) -> str | None:
    """The section of a tensor's name, if networks may end before it: ``head.0`` ... or ``score``; None for others."""
    match = re.match(r"head\.\d|score", key)
    return match[0] if match else None


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _to_channels(weight: Tensor, channels: int) -> Tensor:
    """Converts input channels as timm does: sums them to one, or repeats and scales them to keep the output's scale."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    old = weight.shape[1]
    return weight.repeat(1, math.ceil(channels / old), 1, 1)[:, :channels] * (old / channels)


def mismatches(model_state: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[str]:
    """Descriptions of the tensors of a state, or of a header with shapes, that do not match a model's."""
    optional = {key for key in model_state if key.endswith("num_batches_tracked")}
    missing = sorted(model_state.keys() - state.keys() - optional)
    unexpected = sorted(state.keys() - model_state.keys())
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(model_state[key].shape)}"
        for key in sorted(model_state.keys() & state.keys())
        if state[key].shape != model_state[key].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    return [f"{len(names)} {kind} ({_abbreviated(names)})" for kind, names in kinds if names]


def _abbreviated(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def check_ordered(path: str | Path) -> None:
    """Raises InputError for a file format that does not keep the order of layers."""
    if Path(path).suffix.lower() == ".safetensors":
        raise InputError(f"{path}: cannot match by order: safetensors files do not keep the order of layers")


def pair_by_order(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
    """The state dict's key for each of the model's keys, by position, without counters (``num_batches_tracked``).

    Raises:
        InputError: different numbers of tensors.
    """
    names, keys = (
        [key for key in tensors if not key.endswith("num_batches_tracked")] for tensors in (model.state_dict(), state)
    )
    if len(names) != len(keys):
        raise InputError(f"cannot match by order: the file has {len(keys)} tensors, the model {len(names)}")
    return dict(zip(names, keys, strict=True))


def match_by_order(model: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Renames a state dict's tensors by position: the file's order of tensors must be the model's.

    For files of the same network with other names. Shapes must match, and so must the ends of the names where they are
    torch's own (``weight``, ``running_mean`` ...).

    Raises:
        InputError: different numbers of tensors, or a pair that does not match.
    """
    model_state, kinds = model.state_dict(), {"weight", "bias", "running_mean", "running_var"}
    pairs = pair_by_order(model, state)
    for name, key in pairs.items():
        ends = {key.rpartition(".")[2], name.rpartition(".")[2]}
        shape, expected = tuple(state[key].shape), tuple(model_state[name].shape)
        if shape != expected or (len(ends) > 1 and ends <= kinds):
            raise InputError(f"cannot match by order: {key} {shape} of the file is not {name} {expected} of the model")
    return {name: state[key] for name, key in pairs.items()}
