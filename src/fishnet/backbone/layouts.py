"""The structure of checkpoints: dicts and prefixes around the tensors, and the layouts of FishNet weights.

Four layouts exist besides this project's own ("native"): A, B and C of the authors' releases, and pytorchcv's. Renaming
turns each of them into the native layout, so that all load strictly. docs/weights.md lists the published files.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fishnet.errors import InputError

State = dict[str, Tensor]

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "trunk.", "backbone.", "net.")

# Prefixes of keys and their native names; the longest matching prefix counts. ``_unit`` renames the rest of a key.
_STAGES = ("tail.0", "tail.1", "tail.2", "bridge", "body.0", "body.1", "body.2", "head.0", "head.1", "head.2")
_A = {
    **{f"conv{i + 1}.{slot}.": f"stem.{i}.{layer}." for i in range(3) for slot, layer in enumerate(("conv", "norm"))},
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
    """Layout A, with prefixes (after fish.fish.) that mean the same as other prefixes of A."""
    return _A | {f"fish.fish.{place}.": _A[f"fish.fish.{a}."] for place, a in places.items()}


_NO_NORM = "tail.0.refine.0.shortcut"  # has no norm in layout C
_BRIDGE = {"3.1.0": "3.0.2", "3.1.1": "3.0.3", "3.1.3": "3.1"}
_CV_HG = "features.hg."
_RENAMED = {
    "A": _A,
    "B": _like_a(_BRIDGE | {"9.4.0": "9.3.2", "9.4.1": "9.3.3", "9.4.4": "9.4.1"}),
    "C": _like_a(_BRIDGE | {"9.2.0": "9.3.0", "9.3.0": "9.3.2", "9.3.1": "9.3.3", "9.3.4": "9.4.1"})
    | {"fish.fish.0.0.0.shortcut.weight": f"{_NO_NORM}.conv.weight"},
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
# Key prefixes that identify a layout, tried in this order, because C has B's stage 3. One is enough: files may be
# truncated.
_SIGNS = {
    "C": ("fish.fish.0.0.0.shortcut.weight", "fish.fish.9.2.0.", "fish.fish.9.3.1.", "fish.fish.9.3.4."),
    "B": ("fish.fish.3.1.0.", "fish.fish.3.1.1.", "fish.fish.3.1.3.", "fish.fish.9.4.0.", "fish.fish.9.4.4."),
    "A": ("fish.fish.",),
    "pytorchcv": (_CV_HG,),
    "native": ("bridge.gate.",),
}


def _unit(name: str) -> str:
    """Renames the rest of a key, inside refining units and pre-activated convolutions, to native names."""
    name = re.sub(r"\bblock(\d+)\.", lambda m: f"{int(m[1]) - 1}.", name)  # pytorchcv counts from 1
    name = re.sub(r"\bbody\.conv(\d)\.(bn|conv)\.", r"\2\1.", name).replace("identity_conv.", "shortcut.")
    name = re.sub(r"\bbn(\d?)\.", r"norm\1.", name)
    return name.replace("shortcut.0.", "shortcut.norm.").replace("shortcut.2.", "shortcut.conv.")


def layout_of(state: Iterable[str]) -> str:
    """The FishNet layout of the keys: ``native``, ``A``, ``B``, ``C``, ``pytorchcv``, or ``unknown``."""
    keys = list(state)
    return next((layout for layout, signs in _SIGNS.items() if any(k.startswith(signs) for k in keys)), "unknown")


def unwrap_state(content: Any, depth: int = 4) -> Any:
    """The state dict inside a checkpoint's dicts; the content itself if there is none."""
    if isinstance(content, Mapping) and depth:
        for wrapper in WRAPPERS:
            inner = unwrap_state(content.get(wrapper), depth - 1)
            if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
                return inner
    return content


def strip_prefixes(state: Mapping[str, Tensor]) -> State:
    """Removes wrappers' prefixes (``module.``, ``_orig_mod.``, ``model.`` ...) that all keys share.

    Also removes the counter of torch's AveragedModel (``n_averaged``).
    """
    state = {key: value for key, value in state.items() if key != "n_averaged"}
    while state:
        common = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None)
        if common is None:
            break
        state = {key.removeprefix(common): value for key, value in state.items()}
    return state


def trunk_of(state: Mapping[str, Tensor]) -> State | None:
    """The backbone's tensors among those of a model with heads, without their prefix; None if there are none."""
    for prefix in ("trunk.backbone.", "trunk."):  # the second was used up to bundle schema 3
        trunk = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if trunk:
            return trunk
    return None


def to_native(state: Mapping[str, Tensor]) -> State:
    """Renames a FishNet state dict of any known layout to native keys.

    The classifier becomes two-dimensional, and missing ``num_batches_tracked`` become 0. Layout C's shortcut without
    a norm gets one that in evaluation is exactly the identity on its input, which is never negative. A state dict of an
    unknown layout only loses wrappers' prefixes.

    Raises:
        InputError: two keys have the same native name.
    """
    state = strip_prefixes(state)
    layout = layout_of(state)
    if layout == "unknown":
        return state
    if layout != "native":
        state = _rename(state, _RENAMED[layout])
    if layout == "C" and f"{_NO_NORM}.conv.weight" in state and f"{_NO_NORM}.norm.weight" not in state:
        _add_identity_norm(state, _NO_NORM)
    if (fc := state.get("score.fc.weight")) is not None and fc.ndim == 4:
        state["score.fc.weight"] = fc.flatten(1)
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
    return state


def _rename(state: State, table: Mapping[str, str]) -> State:
    prefixes = sorted(table, key=len, reverse=True)
    sources: dict[str, str] = {}
    for key in state:
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        name = key if prefix is None else table[prefix] + _unit(key.removeprefix(prefix))
        if name in sources:
            raise InputError(f"{sources[name]} and {key} are both the tensor {name}: remove one of them from the file")
        sources[name] = key
    return {name: state[key] for name, key in sources.items()}


def _add_identity_norm(state: State, place: str, eps: float = 1e-5) -> None:
    weight = state[f"{place}.conv.weight"]
    ones, zeros = weight.new_ones(weight.shape[1]), weight.new_zeros(weight.shape[1])
    state[f"{place}.norm.weight"], state[f"{place}.norm.bias"] = ones, zeros
    # Variance + eps must be exactly 1. Only float64 represents 1 - eps well enough for models in float64, and it rounds
    # to the right value for models in float32.
    state[f"{place}.norm.running_mean"], state[f"{place}.norm.running_var"] = zeros.clone(), ones.double() - eps


def rename_on_load(
    module: nn.Module, state: dict[str, Any], prefix: str, metadata: Mapping[str, Any] | None = None, *_: object
) -> None:
    """A load_state_dict pre-hook with which a FishNet, alone or inside another module, loads any known layout.

    Unknown layouts stay unchanged, for torch's own check to report.
    """
    unprefixed = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    native = to_native(unwrap_state(unprefixed))
    if layout_of(native) == "unknown":
        return
    for key in unprefixed:
        del state[prefix + key]
    variance = f"{_NO_NORM}.norm.running_var"
    if variance in native and (metadata or {}).get("assign_to_params_buffers"):  # assigning does not convert its type
        native[variance] = native[variance].to(native[f"{_NO_NORM}.conv.weight"].dtype)
    state.update({prefix + key: value for key, value in native.items()})
