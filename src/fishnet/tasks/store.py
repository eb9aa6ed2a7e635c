"""Loads and saves models and weights: bundles, checkpoint files and state dicts."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save
from torch import Tensor, nn

from fishnet.backbone.archives import load_tensors, read_state
from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.identify import identify_misfits
from fishnet.backbone.weights import check_finite, fit, load_weights, trunk_of
from fishnet.bundle.bundle import Bundle, HeadConfig, is_bundle, read_with_weights
from fishnet.bundle.checks import check_backbone
from fishnet.bundle.hub import bundle_path
from fishnet.errors import InputError
from fishnet.files.tensors import TensorFile
from fishnet.tasks import get_task
from fishnet.tasks.checked import build_checked
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.transfer import by_module, describe_class_changes, load_head, match_class_rows

T = TypeVar("T")
_BODY = ("stem.", "tail.", "bridge.", "body.")  # the parts of a FishNet up to the body's end


def save_weights(model: Model, path: Path) -> None:
    """Writes a model's tensors as safetensors."""
    save_state(model.state_dict(), path)


def save_state(state: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors, with the user's default permissions (``save_file`` writes private files)."""
    path.write_bytes(save({key: value.detach().cpu().contiguous().clone() for key, value in state.items()}))


def build_from(bundle: Bundle) -> Model:
    """Builds the model that a bundle describes, without loading its weights.

    Raises:
        InputError: an unknown task or backbone, or arguments with which the backbone would load other files.
    """
    check_backbone(bundle.backbone, bundle.backbone_args)
    return Model.build(ModelSpec(bundle.backbone, bundle.heads, bundle.preprocess.channels, bundle.backbone_args))


def current_names(state: Mapping[str, T], head: str) -> dict[str, T]:
    """Renames the tensors of a bundle of schema 1 to 3, whose model has one head, to a model's current names.

    Args:
        state: values of any kind by name. Current names are kept.
        head: the name of the only head.
    """
    if any(key.startswith(("heads.", "trunk.backbone.")) for key in state):
        return dict(state)
    return {
        f"trunk.backbone.{key.removeprefix('trunk.')}" if key.startswith("trunk.") else f"heads.{head}.{key}": value
        for key, value in state.items()
    }


def load_model(folder: str | Path) -> tuple[Bundle, Model]:
    """Reads a bundle and loads its model, in evaluation mode.

    Raises:
        InputError: no bundle, a missing or altered file, weights of another model, or values that are not finite.
    """
    bundle, weights = read_with_weights(folder)
    return bundle, model_of(bundle, weights)


def model_of(bundle: Bundle, weights: TensorFile) -> Model:
    """Builds a bundle's model from weights in memory, in evaluation mode.

    Raises:
        InputError: weights of another model, or values that are not finite.
    """
    head = next(iter(bundle.heads))
    try:
        model = build_checked(lambda: build_from(bundle), current_names(weights.header, head))
        model.load_state_dict(current_names(load_tensors(weights), head))
        check_finite(model.state_dict())
    except InputError as error:
        where = "" if str(error).startswith(str(weights.path)) else f"{weights.path.parent}: "
        raise InputError(f"{where}{error}") from error
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{weights.path.parent}: the weights are not those of {bundle.backbone} ({reason})") from error
    return model.eval()


def start_from(model: Model, source: str, spec: ModelSpec, *, extend: bool = True) -> list[str]:
    """Loads weights from a checkpoint file or a bundle into a model.

    From a bundle the trunk is loaded, and each head that the model has too, see :func:`_by_model_names`: the tensors
    that agree in name and shape. Rows of classes are matched by the classes' names. From a checkpoint file the trunk is
    loaded.

    Args:
        model: receives the weights.
        source: a checkpoint file, a bundle's folder, or a bundle on the hub.
        spec: the model's own.
        extend: whether a model of several heads may have a part of the trunk that a bundle's trunk does not have.

    Returns:
        One line for the source, then one for each group of tensors that was left out or is new.

    Raises:
        InputError: no such file or bundle, or weights of another network.
        WorkError: a bundle on the hub could not be fetched.
    """
    path = bundle_path(source)
    if is_bundle(path):
        return _start_from_bundle(model, source, path, spec, extend)
    if path.is_dir():
        raise InputError(f"{source}: not a bundle: give a bundle's folder or a checkpoint file")
    with identify_misfits():
        return [f"weights from {source}", *load_weights(model.trunk.backbone, path, adapt=True)]


def _start_from_bundle(model: Model, source: str, path: Path, spec: ModelSpec, extend: bool) -> list[str]:
    bundle, weights = read_with_weights(path)
    state = current_names(_stored_state(weights), next(iter(bundle.heads)))
    bundle, state = _by_model_names(bundle, state, spec)
    notes, trunk_notes = list[str](), list[str]()
    for name, config in spec.heads.items():
        if name in bundle.heads and _same_kind(bundle.heads[name], config):
            changes = describe_class_changes(bundle.heads[name].classes, config.classes)
            notes += [f"{_label(name, spec)}{line}" for line in changes]
            state = match_class_rows(model, name, state, bundle.heads[name].classes, config.classes)
    backbone = model.trunk.backbone
    stored = dict(trunk_of(state) or {})
    if extend and len(spec.heads) > 1:
        notes += _add_end(backbone, stored)
    try:
        check_finite(state)
        with identify_misfits():
            trunk, trunk_notes = fit(backbone, stored, adapt=True)
    except InputError as error:
        raise InputError(f"{_hint(source, bundle, backbone)}{weights.path}: {error}") from None
    backbone.load_state_dict(trunk)
    notes += trunk_notes
    for name, config in spec.heads.items():
        if name in bundle.heads and _same_kind(bundle.heads[name], config):
            notes += [f"{_label(name, spec)}{line}" for line in load_head(model, name, state)]
            if _anchors(bundle.heads[name]) != _anchors(config):
                notes.append(f"{_label(name, spec)}anchors: differ from the bundle's, with which its head was trained")
    notes += _left_out(bundle, spec, state)
    if len(bundle.heads) > 1:
        heads = "; ".join(f"{name}: {head.task}, {len(head.classes)} classes" for name, head in bundle.heads.items())
        return [f"weights from {source} ({bundle.backbone}; {heads})", *notes]
    head = next(iter(bundle.heads.values()))
    return [f"weights from {source} ({head.task}, {bundle.backbone}, {len(head.classes)} classes)", *notes]


def _label(name: str, spec: ModelSpec) -> str:
    """The prefix of lines about a head."""
    return f"{name}: " if len(spec.heads) > 1 else ""


def _add_end(backbone: nn.Module, stored: dict[str, Tensor]) -> list[str]:
    """Adds the model's own fish's head to a trunk that ends with the body; other heads of the model may need it."""
    if not isinstance(backbone, FishNet) or any(not key.startswith(_BODY) for key in stored) or not stored:
        return []
    new = {key: value for key, value in backbone.state_dict().items() if key.startswith("head.")}
    stored |= new
    return [f"the bundle's trunk ends with the body: the fish's head, of {len(new)} tensors, is new"] if new else []


def _named(spec: ModelSpec, name: str, notes: list[str]) -> list[str]:
    """Lines about a head, which say its name if the model has several heads."""
    return [f"{name}: {note}" for note in notes] if len(spec.heads) > 1 else notes


def _by_model_names(bundle: Bundle, state: dict[str, Tensor], spec: ModelSpec) -> tuple[Bundle, dict[str, Tensor]]:
    """Renames a bundle's heads to those of the model that they can start.

    A head starts the model's head of its name. A head whose name the model does not have starts the model's only head
    of the same task and kind.
    """
    names: dict[str, str] = {}
    for name, stored in bundle.heads.items():
        fitting = [own for own, config in spec.heads.items() if _same_kind(stored, config) and own not in bundle.heads]
        if name not in spec.heads and len(fitting) == 1 and fitting[0] not in names.values():
            names[name] = fitting[0]
    renamed = {}
    for key, value in state.items():
        room, _, rest = key.partition(".")
        head, _, inner = rest.partition(".")
        renamed[f"heads.{names[head]}.{inner}" if room == "heads" and head in names else key] = value
    heads = {names.get(name, name): head for name, head in bundle.heads.items()}
    return replace(bundle, heads=heads), renamed


def _anchors(config: HeadConfig) -> str:
    return json.dumps(config.head_args.get("anchors"))


def _stored_state(weights: TensorFile) -> dict[str, Tensor]:
    """A bundle's tensors under their names in the file."""
    state = read_state(weights)
    if trunk_of(state) is None:  # the file holds only a trunk, whose common prefix was removed
        state = {f"trunk.{key}": value for key, value in state.items()}
    return state


def _same_kind(stored: HeadConfig, wanted: HeadConfig) -> bool:
    return stored.task == wanted.task and get_task(wanted.task).resolve_head(stored.head) == wanted.head


def _hint(source: str, bundle: Bundle, backbone: nn.Module) -> str:
    """The start of the message for a bundle whose trunk does not fit."""
    heads = {head.head for head in bundle.heads.values()}
    ends_early = heads == {"body"} or bundle.backbone_args.get("end") == "body"
    if ends_early and len(getattr(backbone, "head", ())):
        return f"{source} ends with the body, without the fish's head: it can start a segmenter with head=body; "
    return f"{source} is a {bundle.backbone}: give backbone={bundle.backbone} and size={bundle.preprocess.size[0]}; "


def _left_out(bundle: Bundle, spec: ModelSpec, state: Mapping[str, Tensor]) -> list[str]:
    """One line for each of a bundle's heads that the model does not have."""
    notes = []
    model_heads = ", ".join(f"{config.task}, head {config.head}" for config in spec.heads.values())
    for name, config in bundle.heads.items():
        prefix = f"heads.{name}."
        keys = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
        if keys and not (name in spec.heads and _same_kind(config, spec.heads[name])):
            notes.append(
                f"{len(keys)} tensors of a task head left out: it is of {config.task}, head {config.head}, and this "
                f"model is {model_heads} ({by_module(keys)})"
            )
    return notes


def versions() -> dict[str, str]:
    """Versions of the installed packages that a model depends on."""
    installed = {}
    for package in ("fishnet-vision", "torch", "torchvision", "timm", "pytorch-lightning"):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed
