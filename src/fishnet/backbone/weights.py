"""Weights of checkpoint files, fitted into models strictly."""

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
        problems: what is missing, unexpected or misshapen.
        hint: what would help, after a space; empty where nothing is known to.
        state: the weights.
        where: the file, with a colon and a space; empty where there is none.
    """

    def __init__(self, problems: str, hint: str, state: State, where: str = "") -> None:
        super().__init__(f"{where}does not fit this model: {problems}.{hint}")
        self.problems, self.hint, self.state, self.where = problems, hint, state, where


def checkpoint_filter_fn(state: Mapping[str, Tensor], model: nn.Module) -> State:
    """timm's filter for pretrained weights: native keys, adapted as by :func:`load_weights`, each adaptation logged.

    Raises:
        InputError: weights of another network.
    """
    native, notes = fit(model, dict(state), adapt=True)
    for note in notes:
        _logger.warning("pretrained weights: %s", note)
    return native


def load_weights(model: nn.Module, path: str | Path, *, adapt: bool = False, by_order: bool = False) -> list[str]:
    """Loads a checkpoint file into a model, strictly: every tensor finds its place, or nothing is loaded.

    Args:
        model: a FishNet, or any timm model whose own layout the file has.
        path: see :func:`read_checkpoint`.
        adapt: allow another number of classes (the classifier is left new), other input channels (the first
            convolution's are repeated and scaled, or summed), a task head beside the trunk (left out), and a trunk
            that ends earlier (the rest is left out).
        by_order: see :func:`match_by_order`.

    Returns:
        One line for each adaptation made; empty where the file fitted as it was.

    Raises:
        InputError: as :func:`read_checkpoint`, :func:`fit` and :func:`match_by_order`.
    """
    if by_order:
        check_ordered(path)
    if isinstance(model, FeatureGetterNet):  # features_only=True
        model = model.model
    found = read_checkpoint(path)
    try:
        state, notes = fit(model, match_by_order(model, found) if by_order else found, adapt=adapt)
    except MisfitError as error:
        raise MisfitError(error.problems, error.hint, error.state, f"{path}: ") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    model.load_state_dict(state)
    return notes


def fit(model: nn.Module, found: State, *, adapt: bool = False) -> tuple[State, list[str]]:
    """Makes of a checkpoint's tensors the state that a model takes; the model itself is left alone.

    Returns:
        The state, and a line for each adaptation; see :func:`load_weights`.

    Raises:
        MisfitError: listing what is missing, unexpected or misshapen.
        InputError: values that are not finite.
    """
    check_finite(found)
    notes: list[str] = []
    state, own = to_native(found), model.state_dict()
    if adapt:
        state, notes = _adapt(own, state, getattr(model, "pretrained_cfg", None) or {})
    if problems := mismatches(own, state):
        hint = ""
        if not adapt and not mismatches(own, _adapt(own, state, getattr(model, "pretrained_cfg", None) or {})[0]):
            hint = " Loading with adapt=True would make it fit"
        raise MisfitError("; ".join(problems), hint, found)
    return state, notes


def _adapt(own: Mapping[str, Tensor], state: State, config: Mapping[str, Any]) -> tuple[State, list[str]]:
    """What of a state fits a model, with a line for everything that was changed."""
    state, notes = dict(state), []

    def drop(unwanted: list[str]) -> int:
        for key in unwanted:
            del state[key]
        return len(unwanted)

    trunk = trunk_of(state)
    if trunk is not None and trunk_of(own) is None:
        notes.append(f"{len(state) - len(trunk)} tensors of a task head left out")
        state = to_native(trunk)
    if layout_of(own) == layout_of(state) == "native":
        beyond = {part for key in state if (part := _end_part(key))} - {_end_part(key) for key in own}
        score = {key: value for key, value in own.items() if key.startswith("score.")}
        if beyond - {"score"}:
            end = "earlier" if any(key.startswith("head.") for key in own) else "with the body"
            count = drop([key for key in state if _end_part(key) in beyond | {"score"}])
            its_score = f"its score layer is {'new' if score else 'not there'}"
            notes.append(f"{count} tensors of the fish's head left out: this trunk ends {end}, {its_score}")
            state |= score
        elif beyond:
            count = drop([key for key in state if _end_part(key) == "score"])
            notes.append(f"{count} tensors of the score layer left out")
    for name in _names(config.get("classifier") or "score.fc"):
        weight, wanted = state.get(f"{name}.weight"), own.get(f"{name}.weight")
        if getattr(weight, "shape", None) == getattr(wanted, "shape", None):
            continue
        parts = [f"{name}.weight", f"{name}.bias"]
        drop([part for part in parts if part in state])
        state |= {part: own[part] for part in parts if part in own}
        theirs = "no classifier in the file" if weight is None else f"classifier of {weight.shape[0]} classes left out"
        ours = "this model has none" if wanted is None else f"this model's, of {wanted.shape[0]} classes, is new"
        notes.append(f"{theirs}: {ours}")
    for name in _names(config.get("first_conv") or "stem.0.conv"):
        weight, wanted = state.get(f"{name}.weight"), own.get(f"{name}.weight")
        if weight is None or wanted is None or weight.ndim != 4 or weight.shape[1] == wanted.shape[1]:
            continue
        notes.append(f"input convolution adapted from {weight.shape[1]} to {wanted.shape[1]} channels")
        state[f"{name}.weight"] = _to_channels(weight, wanted.shape[1])
    return state, notes


def classifiers(model: nn.Module) -> tuple[str, ...]:
    """The names of a network's classifier layers: one, or where it has several all of them."""
    return _names((getattr(model, "pretrained_cfg", None) or {}).get("classifier") or "score.fc")


def _end_part(key: str) -> str | None:
    """Which of the parts that a network may lack a tensor is of: ``head.0`` ... or ``score``; None for others."""
    found = re.match(r"head\.\d|score", key)
    return found[0] if found else None


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _to_channels(weight: Tensor, channels: int) -> Tensor:
    """As timm does, from any number of channels: summed for one, else repeated and scaled to keep the output's size."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    old = weight.shape[1]
    return weight.repeat(1, math.ceil(channels / old), 1, 1)[:, :channels] * (old / channels)


def mismatches(own: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[str]:
    """In words what of a state, or of a header with shapes, is missing, unexpected or misshapen for a model."""
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - optional)
    unexpected = sorted(state.keys() - own.keys())
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if state[key].shape != own[key].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names]


def _some(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def check_ordered(path: str | Path) -> None:
    """Raises InputError for a file whose format does not keep the order of layers."""
    if Path(path).suffix.lower() == ".safetensors":
        raise InputError(f"{path}: safetensors files do not keep the order of layers: nothing to match by")


def pair_by_order(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, str]:
    """The model's keys and a state dict's, by position. Counters (``num_batches_tracked``) are left out on both sides.

    Raises:
        InputError: different counts.
    """
    own, theirs = (
        [key for key in keys if not key.endswith("num_batches_tracked")] for keys in (model.state_dict(), state)
    )
    if len(own) != len(theirs):
        raise InputError(f"cannot match by order: the file has {len(theirs)} tensors, the model {len(own)}")
    return dict(zip(own, theirs, strict=True))


def match_by_order(model: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Gives a state dict the model's keys by position: tensors in the file's order meet the model's.

    For files of the same network under other names. Shapes must agree, and so must the last part of the names where it
    is torch's own (``weight``, ``running_mean`` ...).

    Raises:
        InputError: different counts, or the first pair that does not agree.
    """
    own, kinds = model.state_dict(), {"weight", "bias", "running_mean", "running_var"}
    pairs = pair_by_order(model, state)
    for name, key in pairs.items():
        ends = {key.rpartition(".")[2], name.rpartition(".")[2]}
        found, wanted = tuple(state[key].shape), tuple(own[name].shape)
        if found != wanted or (len(ends) > 1 and ends <= kinds):
            raise InputError(f"cannot match by order: {key} {found} meets {name} {wanted}")
    return {name: state[key] for name, key in pairs.items()}
