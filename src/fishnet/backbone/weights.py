"""Checkpoints: reading them safely, telling what they are, and giving their tensors this project's names.

Four layouts of FishNet weights exist besides our own ("native"): A, B and C of the authors' releases and pytorchcv's.
All become native by renaming alone, so that any of them loads strictly. docs/weights.md lists the published files.
"""

import argparse
import hashlib
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fishnet.errors import InputError

State = dict[str, Tensor]

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.", "trunk.", "net.")

# Layouts B and C in terms of A (all below fish.fish.).
_B_TO_A = {"3.1.0": "3.0.2", "3.1.1": "3.0.3", "3.1.3": "3.1", "9.4.0": "9.3.2", "9.4.1": "9.3.3", "9.4.4": "9.4.1"}
_C_TO_A = {
    "3.1.0": "3.0.2", "3.1.1": "3.0.3", "3.1.3": "3.1",
    "9.2.0": "9.3.0", "9.3.0": "9.3.2", "9.3.1": "9.3.3", "9.3.4": "9.4.1", "0.0.0.shortcut": "0.0.0.shortcut.2",
}  # fmt: skip

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]


def _rules(table: Mapping[str, str | Callable[[re.Match[str]], str]]) -> list[Rule]:
    def rule(pattern: str, target: str | Callable[[re.Match[str]], str]) -> Rule:
        return re.compile(pattern), (lambda m: m.expand(target)) if isinstance(target, str) else target

    return [rule(pattern, target) for pattern, target in table.items()]


# Each key is rewritten by the first rule that matches its beginning, then by the first unit rule that matches inside.
_A_PLACES = _rules(
    {
        r"^conv([123])\.0\.": lambda m: f"stem.{int(m[1]) - 1}.conv.",
        r"^conv([123])\.1\.": lambda m: f"stem.{int(m[1]) - 1}.norm.",
        r"^fish\.fish\.([012])\.0\.": r"tail.\1.refine.",
        r"^fish\.fish\.3\.0\.0\.": "bridge.squeeze.norm.",
        r"^fish\.fish\.3\.0\.2\.": "bridge.squeeze.conv.",
        r"^fish\.fish\.3\.0\.3\.": "bridge.expand.norm.",
        r"^fish\.fish\.3\.1\.": "bridge.expand.conv.",
        r"^fish\.fish\.3\.2\.": "bridge.refine.",
        r"^fish\.fish\.3\.3\.0\.0\.": "bridge.gate.norm.",
        r"^fish\.fish\.3\.3\.0\.3\.": "bridge.gate.fc1.",
        r"^fish\.fish\.3\.3\.0\.5\.": "bridge.gate.fc2.",
        r"^fish\.fish\.([456])\.0\.": lambda m: f"body.{int(m[1]) - 4}.refine.",
        r"^fish\.fish\.([456])\.1\.": lambda m: f"body.{int(m[1]) - 4}.transfer.",
        r"^fish\.fish\.9\.3\.0\.": "score.squeeze.norm.",
        r"^fish\.fish\.9\.3\.2\.": "score.squeeze.conv.",
        r"^fish\.fish\.9\.3\.3\.": "score.norm.",
        r"^fish\.fish\.9\.4\.1\.": "score.fc.",
        r"^fish\.fish\.([789])\.0\.": lambda m: f"head.{int(m[1]) - 7}.refine.",
        r"^fish\.fish\.([789])\.1\.": lambda m: f"head.{int(m[1]) - 7}.transfer.",
    }
)
_A_UNITS = _rules({r"\.bn([123])\.": r".norm\1.", r"\.shortcut\.0\.": ".shortcut.norm.", r"\.shortcut\.2\.": ".shortcut.conv."})

_CV_PLACES = _rules(
    {
        r"^features\.init_block\.conv([123])\.conv\.": lambda m: f"stem.{int(m[1]) - 1}.conv.",
        r"^features\.init_block\.conv([123])\.bn\.": lambda m: f"stem.{int(m[1]) - 1}.norm.",
        r"^features\.hg\.down1_seq\.unit(\d)\.blocks\.": lambda m: f"tail.{int(m[1]) - 1}.refine.",
        r"^features\.hg\.skip1_seq\.unit4\.conv1\.": "bridge.squeeze.",
        r"^features\.hg\.skip1_seq\.unit4\.conv2\.": "bridge.expand.",
        r"^features\.hg\.skip1_seq\.unit4\.blocks\.": "bridge.refine.",
        r"^features\.hg\.skip1_seq\.unit4\.se\.bn\.": "bridge.gate.norm.",
        r"^features\.hg\.skip1_seq\.unit4\.se\.conv": "bridge.gate.fc",
        r"^features\.hg\.skip1_seq\.unit(\d)\.blocks\.": lambda m: f"body.{3 - int(m[1])}.transfer.",
        r"^features\.hg\.up_seq\.unit(\d)\.blocks\.": lambda m: f"body.{int(m[1]) - 1}.refine.",
        r"^features\.hg\.skip2_seq\.unit(\d)\.blocks\.": lambda m: f"head.{3 - int(m[1])}.transfer.",
        r"^features\.hg\.down2_seq\.unit(\d)\.blocks\.": lambda m: f"head.{int(m[1]) - 1}.refine.",
        r"^features\.final_block\.conv1\.": "score.squeeze.",
        r"^features\.final_block\.preactiv\.bn\.": "score.norm.",
        r"^output\.final_conv\.": "score.fc.",
    }
)
_CV_UNITS = _rules(
    {
        r"\bblock(\d+)\.body\.conv(\d)\.bn\.": lambda m: f"{int(m[1]) - 1}.norm{m[2]}.",
        r"\bblock(\d+)\.body\.conv(\d)\.conv\.": lambda m: f"{int(m[1]) - 1}.conv{m[2]}.",
        r"\bblock(\d+)\.identity_conv\.bn\.": lambda m: f"{int(m[1]) - 1}.shortcut.norm.",
        r"\bblock(\d+)\.identity_conv\.conv\.": lambda m: f"{int(m[1]) - 1}.shortcut.conv.",
        r"^(bridge|score)\.(squeeze|expand)\.bn\.": r"\1.\2.norm.",
    }
)


def _first(rules: Iterable[Rule], key: str) -> str:
    for pattern, target in rules:
        key, hits = pattern.subn(target, key, count=1)
        if hits:
            break
    return key


def layout_of(state: Iterable[str]) -> str:
    """Which FishNet layout the keys have: ``native``, ``A``, ``B``, ``C``, ``pytorchcv``, or ``unknown``."""
    keys = set(state)

    def has(prefix: str) -> bool:
        return any(key.startswith(prefix) for key in keys)

    if has("fish.fish."):
        if has("fish.fish.9.4.4."):
            return "B"
        return "C" if has("fish.fish.9.3.4.") or has("fish.fish.9.2.0.") else "A"
    if has("features.hg."):
        return "pytorchcv"
    if has("stem.0.conv.") and has("bridge.gate."):
        return "native"
    return "unknown"


def strip_prefixes(state: Mapping[str, Tensor]) -> State:
    """Removes wrappers' prefixes (``module.``, ``_orig_mod.``, ``model.`` ...) that every key carries."""
    state = dict(state)
    stripped = True
    while stripped and state:
        stripped = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                stripped = True
    return state


def to_native(state: Mapping[str, Tensor]) -> State:
    """Renames a FishNet state dict of any known layout to native keys; an unknown one is returned as it is.

    The classifier becomes two-dimensional, missing ``num_batches_tracked`` are filled with 0, and layout C's bare
    shortcut gets a norm that is exactly the identity on its never negative input (in evaluation).
    """
    state = strip_prefixes(state)
    layout = layout_of(state)
    if layout == "unknown":
        return state
    if layout in "BC":
        state = _to_layout_a(state, _B_TO_A if layout == "B" else _C_TO_A)
    if layout in "ABC":
        state = {_first(_A_UNITS, _first(_A_PLACES, key)): value for key, value in state.items()}
    elif layout == "pytorchcv":
        state = {_first(_CV_UNITS, _first(_CV_PLACES, key)): value for key, value in state.items()}
    if layout == "C" and "tail.0.refine.0.shortcut.norm.weight" not in state:
        _add_identity_norm(state, "tail.0.refine.0.shortcut")
    if (fc := state.get("score.fc.weight")) is not None and fc.ndim == 4:
        state["score.fc.weight"] = fc.flatten(1)
    for key in [key for key in state if key.endswith(".running_mean")]:
        state.setdefault(key.removesuffix("running_mean") + "num_batches_tracked", torch.tensor(0))
    return state


def _to_layout_a(state: State, table: Mapping[str, str]) -> State:
    by_length = sorted(table, key=len, reverse=True)
    renamed: State = {}
    for key, value in state.items():
        rest = key.removeprefix("fish.fish.")
        source = next((old for old in by_length if rest.startswith(f"{old}.")), None)
        if source == "0.0.0.shortcut" and rest != "0.0.0.shortcut.weight":
            source = None
        renamed[key if source is None else f"fish.fish.{table[source]}{rest.removeprefix(source)}"] = value
    return renamed


def _add_identity_norm(state: State, place: str, eps: float = 1e-5) -> None:
    conv = state[f"{place}.conv.weight"]
    one = torch.ones(conv.shape[1], dtype=conv.dtype)
    state[f"{place}.norm.weight"], state[f"{place}.norm.bias"] = one, torch.zeros_like(one)
    state[f"{place}.norm.running_mean"], state[f"{place}.norm.running_var"] = torch.zeros_like(one), one - eps


def native_for(state: Mapping[str, Tensor], model: nn.Module) -> State:
    """timm's filter for pretrained files: native keys, and for a trunk that ends with the body nothing of the rest."""
    native = to_native(state)
    _truncate(model, native)
    return native


def _truncate(model: nn.Module, state: State) -> int:
    """Fits a whole fish's state to a FishNet without a head, in place; gives the number of tensors left out."""
    own = model.state_dict()
    if not any(key.startswith("head.") for key in state) or any(key.startswith("head.") for key in own):
        return 0
    left_out = [key for key in state if key.startswith(("head.", "score."))]
    for key in left_out:
        del state[key]
    state.update({key: value for key, value in own.items() if key.startswith("score.")})
    return len(left_out)


def check_name_hash(path: str | Path) -> None:
    """Checks a file called NAME-<first 8 digits of the SHA-1>.pth (or .pth.zip with that file inside).

    Other names carry no hash and pass.

    Raises:
        InputError: the content is not what the name promises (a broken or altered download).
    """
    path = Path(path)
    promised = re.search(r"-([0-9a-f]{8})\.pth(\.zip)?$", path.name)
    if promised is None:
        return
    content = path.read_bytes()
    if promised[2]:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            content = archive.read(archive.namelist()[0])
    found = hashlib.sha1(content, usedforsecurity=False).hexdigest()[:8]
    if found != promised[1]:
        raise InputError(f"{path}: SHA-1 begins with {found}, not {promised[1]}: delete the file and download it again")


def rename_on_load(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """A load_state_dict pre-hook: lets a FishNet, alone or inside another module, load any known layout."""
    mine = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if layout_of(strip_prefixes(mine)) in ("unknown", "native") and layout_of(mine) != "unknown":
        return
    native = to_native(mine)
    if layout_of(native) == "unknown":
        return
    for key in mine:
        del state[prefix + key]
    state.update({prefix + key: value for key, value in native.items()})


def read_checkpoint(path: str | Path) -> State:
    """The tensors of a checkpoint file, without wrappers' prefixes, in the file's own layout.

    Takes .safetensors, anything torch.save wrote (.pth, .pt, .tar, .ckpt ...), and a zip of one such file. Where the
    file is a dict of dicts, the averaged weights (``state_dict_ema``, ``model_ema``, ``ema``) come before the plain
    ones (``state_dict``, ``model_state_dict``, ``model``).

    Raises:
        InputError: no such file, not a checkpoint, no tensors inside, or a pickle that needs more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise InputError(f"{path}: holds no state dict (looked for tensors and for {', '.join(WRAPPERS)})")
    return strip_prefixes(tensors)


def _load_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error


def _load_pickle(path: Path) -> Any:
    source: Path | BytesIO = path
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                if len(names) == 1 and not names[0].endswith("data.pkl"):
                    source = BytesIO(archive.read(names[0]))
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)|Unsupported (?:global|class|operand)[^\n]*", str(error))
        reason = f" ({wanted[1] or wanted[0]})" if wanted else ""
        raise InputError(
            f"{path}: refused: its pickle needs more than tensors{reason}, or it is no checkpoint; "
            "save its state_dict alone, or convert it to safetensors where you trust it"
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from error


@dataclass(frozen=True)
class Description:
    """What a checkpoint holds.

    Attributes:
        layout: ``native``, ``A``, ``B``, ``C``, ``pytorchcv``, or ``unknown``.
        variant: the registered FishNet it fits in everything but classes and input channels, or None.
        num_classes: outputs of its classifier, 0 without one; None for an unknown layout.
        in_chans: input channels; None for an unknown layout.
        parameters: number of values, running statistics and counters left out.
    """

    layout: str
    variant: str | None
    num_classes: int | None
    in_chans: int | None
    parameters: int


def describe(state: Mapping[str, Tensor]) -> Description:
    """Tells what a state dict is."""
    layout = layout_of(strip_prefixes(state))
    native = to_native(state)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(value.numel() for key, value in native.items() if not key.endswith(buffers))
    if layout == "unknown":
        return Description(layout, None, None, None, parameters)
    fc, first = native.get("score.fc.weight"), native.get("stem.0.conv.weight")
    return Description(
        layout,
        _variant_of(native),
        0 if fc is None else fc.shape[0],
        None if first is None else first.shape[1],
        parameters,
    )


def _variant_of(native: Mapping[str, Tensor]) -> str | None:
    from fishnet.backbone.fishnet import FishNet
    from fishnet.backbone.variants import SPECS

    def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
        return {k: v.shape for k, v in state.items() if not k.startswith(("score.fc.", "stem.0.conv."))}

    found = shapes(native)
    for name, spec in SPECS.items():
        with torch.device("meta"):
            if shapes(FishNet(spec).state_dict()) == found:
                return name
    return None


def load_weights(model: nn.Module, path: str | Path, *, adapt: bool = False) -> list[str]:
    """Loads a checkpoint file into a model, strictly: every tensor finds its place, or nothing is loaded.

    Args:
        model: a FishNet, or any timm model whose own layout the file has.
        path: see :func:`read_checkpoint`.
        adapt: allow another number of classes (the classifier is left new), other input channels (timm's
            ``adapt_input_conv``), and a trunk that ends earlier (the rest is left out).

    Returns:
        One line for each adaptation made; empty where the file fitted as it was.

    Raises:
        InputError: listing what is missing, unexpected or misshapen, and what the file seems to be.
    """
    found = read_checkpoint(path)
    state = to_native(found)
    notes = _adapt(model, state) if adapt else []
    problems = _mismatches(model, state)
    if problems:
        raise InputError(f"{path}: does not fit this model: {'; '.join(problems)}. {_guess(found)}")
    model.load_state_dict(state)
    return notes


def _guess(state: Mapping[str, Tensor]) -> str:
    it = describe(state)
    if it.layout == "unknown":
        return f"The file is no FishNet of a known layout ({it.parameters:,} parameters)"
    return f"The file is {it.variant or 'a FishNet'} in layout {it.layout}, {it.num_classes} classes, {it.in_chans} input channels"


def _adapt(model: nn.Module, state: State) -> list[str]:
    from timm.models import adapt_input_conv

    notes = []
    if left_out := _truncate(model, state):
        notes.append(f"{left_out} tensors of the fish's head left out: this trunk ends with the body, its score layer is new")
    own = model.state_dict()
    config = getattr(model, "pretrained_cfg", {})
    classifier, first = config.get("classifier") or "score.fc", config.get("first_conv") or "stem.0.conv"
    for name in (classifier,) if isinstance(classifier, str) else classifier:
        weight, wanted = state.get(f"{name}.weight"), own.get(f"{name}.weight")
        if weight is None or (wanted is not None and wanted.shape == weight.shape):
            continue
        for part in ("weight", "bias"):
            if state.pop(f"{name}.{part}", None) is not None and f"{name}.{part}" in own:
                state[f"{name}.{part}"] = own[f"{name}.{part}"]
        classes = 0 if wanted is None else wanted.shape[0]
        notes.append(f"classifier of {weight.shape[0]} classes left out: this model's {classes} are new")
    key = f"{first}.weight"
    if key in state and key in own and state[key].shape[1] != own[key].shape[1]:
        channels = own[key].shape[1]
        notes.append(f"input convolution adapted from {state[key].shape[1]} to {channels} channels")
        state[key] = adapt_input_conv(channels, state[key])
    return notes


def _mismatches(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    own = model.state_dict()
    optional = {key for key in own if key.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - optional)
    unexpected = sorted(state.keys() - own.keys())
    misshapen = sorted(
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    )
    kinds = (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
    return [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds if names]


def _some(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def match_by_order(model: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Gives a state dict the model's keys by position: tensors in the file's order meet the model's, shapes agreeing.

    For files of the same network under other names. Counters (``num_batches_tracked``) are left out on both sides.

    Raises:
        InputError: different counts, or the first pair whose shapes differ.
    """
    own = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    theirs = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    if len(own) != len(theirs):
        raise InputError(f"cannot match by order: the file has {len(theirs)} tensors, the model {len(own)}")
    for (name, wanted), (key, value) in zip(own.items(), theirs.items(), strict=True):
        if wanted.shape != value.shape:
            raise InputError(
                f"cannot match by order: {key} {tuple(value.shape)} meets {name} {tuple(wanted.shape)}"
            )
    return dict(zip(own, theirs.values(), strict=True))
