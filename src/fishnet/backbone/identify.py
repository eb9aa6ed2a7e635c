"""Identifies the network of a checkpoint, also of one that does not fit the model it is loaded into."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fishnet.backbone.archives import non_finite_tensors, read_checkpoint
from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.layouts import State, layout_of, strip_prefixes, to_native, trunk_of
from fishnet.backbone.variants import SPECS
from fishnet.backbone.weights import MisfitError, mismatches
from fishnet.errors import InputError


@contextmanager
def identify_misfits() -> Iterator[None]:
    """Adds the likely network of the weights to the error of weights that do not fit."""
    try:
        yield
    except MisfitError as error:
        raise InputError(
            f"{error.where}does not fit this model: {error.problems}. The file seems to hold {describe(error.state)}."
            f"{error.hint}"
        ) from None


@dataclass(frozen=True)
class Description:
    """The contents of a checkpoint.

    Attributes:
        layout: ``native``, ``A``, ``B``, ``C``, ``pytorchcv``, or ``unknown``.
        variant: the registered FishNet that it fits in everything but classes and input channels (perhaps only up to
            the end of the body), or None.
        near: if it nearly fits a registered FishNet (a damaged file, for instance), that FishNet and the difference.
        num_classes: outputs of its classifier, 0 without a classifier; None for an unknown layout.
        in_chans: input channels; None for an unknown layout.
        parameters: number of values, without running statistics and counters.
        tensors: number of tensors of all kinds.
        not_finite: number of tensors with values that are NaN or infinite.
    """

    layout: str
    variant: str | None
    near: str | None
    num_classes: int | None
    in_chans: int | None
    parameters: int
    tensors: int
    not_finite: int = 0

    @property
    def network(self) -> str:
        """The name or a description of the network."""
        if self.layout == "unknown":
            return "no FishNet of a known layout"
        return self.variant or self.near or "a FishNet of no registered variant"

    def __str__(self) -> str:
        if self.layout == "unknown":
            return f"{self.network} ({self.parameters:,} parameters)"
        return f"{self.network} in layout {self.layout}, {self.num_classes} classes, {self.in_chans} input channels"


def describe(state: Mapping[str, Tensor]) -> Description:
    """Describes a state dict, or the backbone's part of it for a model with heads."""
    state = strip_prefixes(state)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(value.numel() for key, value in state.items() if not key.endswith(buffers))
    broken = len(non_finite_tensors(state))
    trunk = state if layout_of(state) != "unknown" else trunk_of(state) or state
    layout, native = layout_of(trunk), to_native(trunk)
    if layout == "unknown":
        return Description(layout, None, None, None, None, parameters, len(state), broken)
    fc, first = native.get("score.fc.weight"), native.get("stem.0.conv.weight")
    classes, chans = 0 if fc is None else fc.shape[0], None if first is None else first.shape[1]
    return Description(layout, *_variant_of(native), classes, chans, parameters, len(state), broken)


def read_and_describe(path: str | Path) -> tuple[State, Description]:
    """Reads a checkpoint file and describes it; see :func:`read_checkpoint` and :func:`describe`."""
    state = read_checkpoint(path)
    try:
        return state, describe(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _variant_of(native: State) -> tuple[str | None, str | None]:
    """The registered FishNet that a state dict fits, or a description of the one that it nearly fits."""
    ends_early = not any(key.startswith("head.") for key in native)
    ignored = ("score.fc.", "stem.0.conv.", *(("head.", "score.") if ends_early else ()))
    tensors = {key: value for key, value in native.items() if not key.startswith(ignored)}
    near, min_wrong = None, len(tensors) // 10
    for name in SPECS:
        expected = {key: value for key, value in _meta_state(name).items() if not key.startswith(ignored)}
        wrong = sum(key not in expected or expected[key].shape != value.shape for key, value in tensors.items())
        wrong += sum(key not in tensors for key in expected)
        if not wrong:
            return name, None
        if wrong < min_wrong:
            near, min_wrong = f"{name} but for {'; '.join(mismatches(expected, tensors))}", wrong
    return None, near


@functools.cache
def _meta_state(variant: str) -> State:
    """The tensors of a registered FishNet on the meta device, which have names and shapes but no values."""
    with torch.device("meta"):
        return FishNet(SPECS[variant]).state_dict()
