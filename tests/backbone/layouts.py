"""Other layouts of FishNet weights, made from native ones by an independent mapping."""

import re

from torch import Tensor

State = dict[str, Tensor]

LAYOUTS = ("native", "A", "B", "C", "pytorchcv")

# Native modules -> places in A, B and C, below fish.fish.
_BRIDGE = {
    "squeeze.norm": "0.0 0.0 0.0",
    "squeeze.conv": "0.2 1.0 1.0",
    "expand.norm": "0.3 1.1 1.1",
    "expand.conv": "1 1.3 1.3",
    "gate.norm": "3.0.0 3.0.0 3.0.0",
    "gate.fc1": "3.0.3 3.0.3 3.0.3",
    "gate.fc2": "3.0.5 3.0.5 3.0.5",
}
_SCORE = {
    "squeeze.norm": "3.0 3.0 2.0",
    "squeeze.conv": "3.2 4.0 3.0",
    "norm": "3.3 4.1 3.1",
    "fc": "4.1 4.4 3.4",
}
_UNIT = {"norm1": "bn1", "norm2": "bn2", "norm3": "bn3", "shortcut.norm": "shortcut.0", "shortcut.conv": "shortcut.2"}

_CV = {
    "bridge.squeeze": "features.hg.skip1_seq.unit4.conv1",
    "bridge.expand": "features.hg.skip1_seq.unit4.conv2",
    "bridge.gate.norm": "features.hg.skip1_seq.unit4.se.bn",
    "bridge.gate.fc1": "features.hg.skip1_seq.unit4.se.conv1",
    "bridge.gate.fc2": "features.hg.skip1_seq.unit4.se.conv2",
    "score.squeeze": "features.final_block.conv1",
    "score.norm": "features.final_block.preactiv.bn",
    "score.fc": "output.final_conv",
}


def renamed(key: str, layout: str) -> str:
    """A native key's name in another layout."""
    if layout == "native":
        return key
    module, _, kind = key.rpartition(".")
    place = _pytorchcv(module) if layout == "pytorchcv" else _official(module, "ABC".index(layout))
    return f"{place}.{kind}"


def _official(module: str, column: int) -> str:
    if match := re.fullmatch(r"stem\.(\d)\.(conv|norm)", module):
        return f"conv{int(match[1]) + 1}.{('conv', 'norm').index(match[2])}"
    if match := re.fullmatch(r"(tail|body|head)\.(\d)\.(refine|transfer)\.(\d+)\.(.+)", module):
        part, stage, branch, unit, rest = match.groups()
        number = int(stage) + {"tail": 0, "body": 4, "head": 7}[part]
        return f"fish.fish.{number}.{('refine', 'transfer').index(branch)}.{unit}.{_UNIT.get(rest, rest)}"
    if match := re.fullmatch(r"bridge\.refine\.(\d+)\.(.+)", module):
        return f"fish.fish.3.2.{match[1]}.{_UNIT.get(match[2], match[2])}"
    part, _, rest = module.partition(".")
    number, table = {"bridge": (3, _BRIDGE), "score": (9, _SCORE)}[part]
    return f"fish.fish.{number}.{table[rest].split()[column]}"


def _pytorchcv(module: str) -> str:
    if match := re.fullmatch(r"stem\.(\d)\.(conv|norm)", module):
        return f"features.init_block.conv{int(match[1]) + 1}.{match[2].replace('norm', 'bn')}"
    if match := re.fullmatch(r"(?:(tail|body|head)\.(\d)|bridge)\.(refine|transfer)\.(\d+)\.(.+)", module):
        part, stage, branch, unit, rest = match.groups()
        if part is None:
            where = "skip1_seq.unit4"
        elif branch == "refine":
            where = {"tail": "down1_seq", "body": "up_seq", "head": "down2_seq"}[part] + f".unit{int(stage) + 1}"
        else:
            where = {"body": "skip1_seq", "head": "skip2_seq"}[part] + f".unit{3 - int(stage)}"
        kind, name = re.fullmatch(r"(norm|conv|shortcut)\.?(.+)", rest).groups()  # type: ignore[union-attr]
        inner = (
            f"identity_conv.{name.replace('norm', 'bn')}"
            if kind == "shortcut"
            else f"body.conv{name}.{kind.replace('norm', 'bn')}"
        )
        return f"features.hg.{where}.blocks.block{int(unit) + 1}.{inner}"
    begin = next(begin for begin in _CV if module.startswith(begin))
    return _CV[begin] + module.removeprefix(begin).replace("norm", "bn")


def to_layout(native: State, layout: str) -> State:
    """A native state dict as a file of another layout has it: names, and a classifier that is a 1x1 convolution.

    Layout C has no norm in the first shortcut: the weights lose it, and mean another function unless it was the
    identity.
    """
    state = dict(native)
    if layout == "C":
        bare = "tail.0.refine.0.shortcut."
        state = {key: value for key, value in state.items() if not key.startswith(f"{bare}norm.")}
    if layout != "native" and "score.fc.weight" in state:
        state["score.fc.weight"] = state["score.fc.weight"][:, :, None, None]
    state = {renamed(key, layout): value for key, value in state.items()}
    if layout == "C":
        state = {key.replace("fish.fish.0.0.0.shortcut.2.", "fish.fish.0.0.0.shortcut."): v for key, v in state.items()}
    return state
