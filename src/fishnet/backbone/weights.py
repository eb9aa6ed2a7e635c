"""Checkpoints: reading them safely, telling what they are, and giving their tensors this project's names.

Four layouts of FishNet weights exist besides our own ("native"): A, B and C of the authors' releases and pytorchcv's.
All become native by renaming alone, so that any of them loads strictly. docs/weights.md lists the published files.
"""

import argparse
import hashlib
import logging
import math
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fishnet.errors import InputError

_logger = logging.getLogger(__name__)

State = dict[str, Tensor]

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "trunk.", "net.")

# Beginnings of keys and what they become: the longest that matches counts. Names inside a unit follow by ``_unit``.
_STAGES = ("tail.0", "tail.1", "tail.2", "bridge", "body.0", "body.1", "body.2", "head.0", "head.1", "head.2")
_A = {
    **{f"conv{i + 1}.{slot}.": f"stem.{i}.{part}." for i in range(3) for slot, part in enumerate(("conv", "norm"))},
    **{f"fish.fish.{i}.0.": f"{stage}.refine." for i, stage in enumerate(_STAGES) if stage != "bridge"},
    **{f"fish.fish.{i}.1.": f"{stage}.transfer." for i, stage in enumerate(_STAGES) if i > 3},
    "fish.fish.3.0.0.": "bridge.squeeze.norm.",
    "fish.fish.3.0.2.": "bridge.squeeze.conv.",
    "fish.fish.3.0.3.": "bridge.expand.norm.",
    "fish.fish.3.1.": "bridge.expand.conv.",
    "fish.fish.3.2.": "bridge.refine.",
    "fish.fish.3.3.0.0.": "bridge.gate.norm.",
    "fish.fish.3.3.0.3.": "bridge.gate.fc1.",
    "fish.fish.3.3.0.5.": "bridge.gate.fc2.",
    "fish.fish.9.3.0.": "score.squeeze.norm.",
    "fish.fish.9.3.2.": "score.squeeze.conv.",
    "fish.fish.9.3.3.": "score.norm.",
    "fish.fish.9.4.1.": "score.fc.",
}


def _like_a(places: Mapping[str, str]) -> dict[str, str]:
    """Layout A with places (below fish.fish.) that mean others of A."""
    return _A | {f"fish.fish.{place}.": _A[f"fish.fish.{a}."] for place, a in places.items()}


_BARE = "tail.0.refine.0.shortcut"  # has no norm in layout C
_BRIDGE = {"3.1.0": "3.0.2", "3.1.1": "3.0.3", "3.1.3": "3.1"}
_CV_HG = "features.hg."
_RENAMED = {
    "A": _A,
    "B": _like_a(_BRIDGE | {"9.4.0": "9.3.2", "9.4.1": "9.3.3", "9.4.4": "9.4.1"}),
    "C": _like_a(_BRIDGE | {"9.2.0": "9.3.0", "9.3.0": "9.3.2", "9.3.1": "9.3.3", "9.3.4": "9.4.1"})
    | {"fish.fish.0.0.0.shortcut.weight": f"{_BARE}.conv.weight"},
    "pytorchcv": {
        **{f"features.init_block.conv{i + 1}.": f"stem.{i}." for i in range(3)},
        **{f"{_CV_HG}down1_seq.unit{i + 1}.blocks.": f"tail.{i}.refine." for i in range(3)},
        **{f"{_CV_HG}skip1_seq.unit{3 - i}.blocks.": f"body.{i}.transfer." for i in range(3)},
        **{f"{_CV_HG}up_seq.unit{i + 1}.blocks.": f"body.{i}.refine." for i in range(3)},
        **{f"{_CV_HG}skip2_seq.unit{3 - i}.blocks.": f"head.{i}.transfer." for i in range(3)},
        **{f"{_CV_HG}down2_seq.unit{i + 1}.blocks.": f"head.{i}.refine." for i in range(3)},
        f"{_CV_HG}skip1_seq.unit4.conv1.": "bridge.squeeze.",
        f"{_CV_HG}skip1_seq.unit4.conv2.": "bridge.expand.",
        f"{_CV_HG}skip1_seq.unit4.blocks.": "bridge.refine.",
        f"{_CV_HG}skip1_seq.unit4.se.bn.": "bridge.gate.norm.",
        f"{_CV_HG}skip1_seq.unit4.se.conv": "bridge.gate.fc",
        "features.final_block.conv1.": "score.squeeze.",
        "features.final_block.preactiv.bn.": "score.norm.",
        "output.final_conv.": "score.fc.",
    },
}
# What only one layout has, asked in this order; C's stage 3 is B's. One sign is enough: files may be truncated.
_SIGNS = {
    "C": ("fish.fish.0.0.0.shortcut.weight", "fish.fish.9.2.0.", "fish.fish.9.3.1.", "fish.fish.9.3.4."),
    "B": ("fish.fish.3.1.0.", "fish.fish.3.1.1.", "fish.fish.3.1.3.", "fish.fish.9.4.0.", "fish.fish.9.4.4."),
    "A": ("fish.fish.",),
    "pytorchcv": (_CV_HG,),
    "native": ("bridge.gate.",),
}


def _unit(name: str) -> str:
    """The rest of a renamed key, inside refining units and pre-activated convolutions: to this project's names."""
    name = re.sub(r"\bblock(\d+)\.", lambda m: f"{int(m[1]) - 1}.", name)  # pytorchcv counts from 1
    name = re.sub(r"\bbody\.conv(\d)\.(bn|conv)\.", r"\2\1.", name).replace("identity_conv.", "shortcut.")
    name = re.sub(r"\bbn(\d?)\.", r"norm\1.", name)
    return name.replace("shortcut.0.", "shortcut.norm.").replace("shortcut.2.", "shortcut.conv.")


def layout_of(state: Iterable[str]) -> str:
    """Which FishNet layout the keys have: ``native``, ``A``, ``B``, ``C``, ``pytorchcv``, or ``unknown``."""
    keys = list(state)
    return next((layout for layout, signs in _SIGNS.items() if any(k.startswith(signs) for k in keys)), "unknown")


def strip_prefixes(state: Mapping[str, Tensor]) -> State:
    """Removes wrappers' prefixes (``module.``, ``_orig_mod.``, ``model.`` ...) that every key carries."""
    state = dict(state)
    while state:
        common = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None)
        if common is None:
            break
        state = {key.removeprefix(common): value for key, value in state.items()}
    return state


def to_native(state: Mapping[str, Tensor]) -> State:
    """Renames a FishNet state dict of any known layout to native keys; an unknown one only loses wrappers' prefixes.

    The classifier becomes two-dimensional, missing ``num_batches_tracked`` are filled with 0, and layout C's bare
    shortcut gets a norm that is exactly the identity on its never negative input (in evaluation).

    Raises:
        InputError: two tensors that mean the same one.
    """
    state = strip_prefixes(state)
    layout = layout_of(state)
    if layout == "unknown":
        return state
    if layout != "native":
        state = _rename(state, _RENAMED[layout])
    if layout == "C" and f"{_BARE}.conv.weight" in state and f"{_BARE}.norm.weight" not in state:
        _add_identity_norm(state, _BARE)
    if (fc := state.get("score.fc.weight")) is not None and fc.ndim == 4:
        state["score.fc.weight"] = fc.flatten(1)
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
    return state


def _rename(state: State, table: Mapping[str, str]) -> State:
    beginnings = sorted(table, key=len, reverse=True)
    sources: dict[str, str] = {}
    for key in state:
        begin = next((begin for begin in beginnings if key.startswith(begin)), None)
        name = key if begin is None else table[begin] + _unit(key.removeprefix(begin))
        if name in sources:
            raise InputError(f"{sources[name]} and {key} mean the same tensor, {name}: which one is not clear")
        sources[name] = key
    return {name: state[key] for name, key in sources.items()}


def _add_identity_norm(state: State, place: str, eps: float = 1e-5) -> None:
    weight = state[f"{place}.conv.weight"]
    one, zero = weight.new_ones(weight.shape[1]), weight.new_zeros(weight.shape[1])
    state[f"{place}.norm.weight"], state[f"{place}.norm.bias"] = one, zero
    # Variance + eps must be 1 to the last bit. Only float64 holds 1 - eps well enough for models in float64, and it
    # rounds to the right value for those in float32.
    state[f"{place}.norm.running_mean"], state[f"{place}.norm.running_var"] = zero.clone(), one.double() - eps


def rename_on_load(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any] | None = None, *_: object
) -> None:
    """A load_state_dict pre-hook: lets a FishNet, alone or inside another module, load any known layout.

    Whatever is no FishNet stays as it is, for torch's own check to report.
    """
    mine = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    native = to_native(_unwrapped(mine))
    if layout_of(native) == "unknown":
        return
    for key in mine:
        del state[prefix + key]
    variance = f"{_BARE}.norm.running_var"
    if variance in native and (metadata or {}).get("assign_to_params_buffers"):  # no copy that would change its type
        native[variance] = native[variance].to(native[f"{_BARE}.conv.weight"].dtype)
    state.update({prefix + key: value for key, value in native.items()})


def native_for(state: Mapping[str, Tensor], model: nn.Module) -> State:
    """timm's filter for pretrained weights: native keys, adapted as by :func:`load_weights`, each adaptation logged.

    Raises:
        InputError: weights of another network.
    """
    native, notes = _fit(model, dict(state), adapt=True)
    for note in notes:
        _logger.warning("pretrained weights: %s", note)
    return native


def check_name_hash(path: str | Path) -> None:
    """Checks a file called NAME-<first 8 digits of its SHA-1 or SHA-256>.pth (or .pth.zip with that file inside).

    Other names carry no hash and pass; so does one of eight decimal digits, which may be a date.

    Raises:
        InputError: the content is not what the name promises (a broken or altered download).
    """
    path = Path(path)
    promised = re.search(r"-(?!\d{8}\.)([0-9a-f]{8})\.pth(\.zip)?$", path.name)
    if promised is None:
        return
    try:
        content = path.read_bytes()
        if promised[2]:
            with zipfile.ZipFile(BytesIO(content)) as archive:
                content = archive.read(archive.namelist()[0])
    except Exception as error:  # zip files break in many ways
        raise InputError(f"{path}: not a readable zip file ({_line(error)}): download it again") from error
    found = [hashlib.new(name, content, usedforsecurity=False).hexdigest()[:8] for name in ("sha1", "sha256")]
    if promised[1] not in found:
        raise InputError(f"{path}: SHA-1 begins with {found[0]}, not {promised[1]}: delete the file, download it again")


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def read_checkpoint(path: str | Path) -> State:
    """The tensors of a checkpoint file, without wrappers' prefixes, in the file's own layout and order.

    Takes .safetensors, anything torch.save wrote (.pth, .pt, .tar, .ckpt ...), and a zip of one such file. Where the
    file is a dict of dicts, the averaged weights (``state_dict_ema``, ``model_ema``, ``ema``) come before the plain
    ones (``state_dict``, ``model_state_dict``, ``model``).

    Raises:
        InputError: no such file, not a checkpoint, no tensors inside, or a pickle that needs more than tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name the checkpoint file (a bundle's is model.safetensors)")
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    is_safe = path.suffix.lower() == ".safetensors"
    content = _unwrapped(_load_safetensors(path) if is_safe else _load_pickle(path))
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    tensors.pop("n_averaged", None)  # the counter of torch's AveragedModel
    if not tensors:
        raise InputError(f"{path}: holds no state dict (looked for tensors and for {', '.join(WRAPPERS)})")
    return strip_prefixes(tensors)


def _unwrapped(content: Any, depth: int = 4) -> Any:
    """The state dict inside a checkpoint's dicts; the content itself where there is none."""
    if isinstance(content, Mapping) and depth:
        for wrapper in WRAPPERS:
            inner = _unwrapped(content.get(wrapper), depth - 1)
            if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
                return inner
    return content


def _load_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:  # a damaged header surfaces as many kinds
        raise InputError(f"{path}: not a readable safetensors file ({_line(error)})") from error


def _load_pickle(path: Path) -> Any:
    source: Path | BytesIO = path
    # Harmless companions of state dicts: training options, and figures as numpy scalars (best_prec1).
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    names: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if len(archive.namelist()) == 1:
                    source = BytesIO(archive.read(archive.namelist()[0]))
        with torch.serialization.safe_globals([argparse.Namespace, np.dtype, *dtypes, *names]):
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise nearly every kind for a file that is no checkpoint
        if needed := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path}: refused: its pickle needs more than tensors ({needed[1]}) and could run any code; where you "
                "trust it, save its state_dict alone"
            ) from error
        inner = re.search(r"Unpickler error: *(\S[^\n]*)", str(error))
        raise InputError(f"{path}: not a readable checkpoint ({inner[1] if inner else _line(error)})") from error


@dataclass(frozen=True)
class Description:
    """What a checkpoint holds.

    Attributes:
        layout: ``native``, ``A``, ``B``, ``C``, ``pytorchcv``, or ``unknown``.
        variant: the registered FishNet it fits in everything but classes and input channels (perhaps only as far as
            the end of the body), or None.
        num_classes: outputs of its classifier, 0 without one; None for an unknown layout.
        in_chans: input channels; None for an unknown layout.
        parameters: number of values, running statistics and counters left out.
        tensors: number of tensors, of every kind.
    """

    layout: str
    variant: str | None
    num_classes: int | None
    in_chans: int | None
    parameters: int
    tensors: int

    def __str__(self) -> str:
        if self.layout == "unknown":
            return f"no FishNet of a known layout ({self.parameters:,} parameters)"
        return (
            f"{self.variant or 'a FishNet of no registered variant'} in layout {self.layout}, "
            f"{self.num_classes} classes, {self.in_chans} input channels"
        )


def describe(state: Mapping[str, Tensor]) -> Description:
    """Tells what a state dict is."""
    state = strip_prefixes(state)
    layout, native = layout_of(state), to_native(state)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(value.numel() for key, value in state.items() if not key.endswith(buffers))
    if layout == "unknown":
        return Description(layout, None, None, None, parameters, len(state))
    fc, first = native.get("score.fc.weight"), native.get("stem.0.conv.weight")
    classes, chans = 0 if fc is None else fc.shape[0], None if first is None else first.shape[1]
    return Description(layout, _variant_of(native), classes, chans, parameters, len(state))


def _variant_of(native: Mapping[str, Tensor]) -> str | None:
    from fishnet.backbone.fishnet import FishNet
    from fishnet.backbone.variants import SPECS

    beyond = () if any(key.startswith("head.") for key in native) else ("head.", "score.")

    def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
        free = ("score.fc.", "stem.0.conv.", *beyond)
        return {key: value.shape for key, value in state.items() if not key.startswith(free)}

    found = shapes(native)
    for name, spec in SPECS.items():
        with torch.device("meta"):
            if shapes(FishNet(spec).state_dict()) == found:
                return name
    return None


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
        InputError: listing what is missing, unexpected or misshapen, and what the file seems to be.
    """
    if by_order and Path(path).suffix.lower() == ".safetensors":
        raise InputError(f"{path}: safetensors files do not keep the order of layers: nothing to match by")
    found = read_checkpoint(path)
    try:
        state, notes = _fit(model, match_by_order(model, found) if by_order else found, adapt=adapt)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    model.load_state_dict(state)
    return notes


def _fit(model: nn.Module, found: State, *, adapt: bool) -> tuple[State, list[str]]:
    """The state a model takes, and a line for each adaptation; InputError where it does not fit."""
    notes: list[str] = []
    state, own = to_native(found), model.state_dict()
    if adapt:
        state, notes = _adapt(own, state, getattr(model, "pretrained_cfg", None) or {})
    if problems := _mismatches(own, state):
        hint = ""
        if not adapt and not _mismatches(own, _adapt(own, state, getattr(model, "pretrained_cfg", None) or {})[0]):
            hint = " Loading with adapt=True would make it fit"
        raise InputError(
            f"does not fit this model: {'; '.join(problems)}. The file seems to be {describe(found)}.{hint}"
        )
    return state, notes


def _adapt(own: Mapping[str, Tensor], state: State, config: Mapping[str, Any]) -> tuple[State, list[str]]:
    """What of a state fits a model, with a line for everything that was changed."""
    state, notes = dict(state), []

    def drop(unwanted: list[str]) -> int:
        for key in unwanted:
            del state[key]
        return len(unwanted)

    trunk = {key for key in state if key.startswith("trunk.")}
    if trunk and not any(key.startswith("trunk.") for key in own):
        notes.append(f"{drop([key for key in state if key not in trunk])} tensors of a task head left out")
        state = to_native(state)
    head = [key for key in state if key.startswith(("head.", "score."))]
    both_fish = layout_of(own) == layout_of(state) == "native"
    if both_fish and _has_head(head) and not _has_head(own):
        left_out = f"{drop(head)} tensors of the fish's head left out"
        notes.append(f"{left_out}: this trunk ends with the body, its score layer is new")
        state |= {key: value for key, value in own.items() if key.startswith("score.")}
    for name in _names(config.get("classifier") or "score.fc"):
        weight, wanted = state.get(f"{name}.weight"), own.get(f"{name}.weight")
        if (weight is None and wanted is None) or (
            weight is not None and wanted is not None and weight.shape == wanted.shape
        ):
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


def _has_head(keys: Iterable[str]) -> bool:
    return any(key.startswith("head.") for key in keys)


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _to_channels(weight: Tensor, channels: int) -> Tensor:
    """As timm does, from any number of channels: summed for one, else repeated and scaled to keep the output's size."""
    if channels == 1:
        return weight.sum(1, keepdim=True)
    old = weight.shape[1]
    return weight.repeat(1, math.ceil(channels / old), 1, 1)[:, :channels] * (old / channels)


def _mismatches(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
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


def match_by_order(model: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Gives a state dict the model's keys by position: tensors in the file's order meet the model's.

    For files of the same network under other names. Shapes must agree, and so must the last part of the names where it
    is torch's own (``weight``, ``running_mean`` ...). Counters (``num_batches_tracked``) are left out on both sides.

    Raises:
        InputError: different counts, or the first pair that does not agree.
    """
    own = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    theirs = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    if len(own) != len(theirs):
        raise InputError(f"cannot match by order: the file has {len(theirs)} tensors, the model {len(own)}")
    kinds = {"weight", "bias", "running_mean", "running_var"}
    for (name, wanted), (key, value) in zip(own.items(), theirs.items(), strict=True):
        ends = {key.rpartition(".")[2], name.rpartition(".")[2]}
        if wanted.shape != value.shape or (len(ends) > 1 and ends <= kinds):
            raise InputError(f"cannot match by order: {key} {tuple(value.shape)} meets {name} {tuple(wanted.shape)}")
    return dict(zip(own, theirs.values(), strict=True))
