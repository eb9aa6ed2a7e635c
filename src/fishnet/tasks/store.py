"""Models and weights, between memory, bundles and checkpoint files."""

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fishnet.backbone.identify import identified
from fishnet.backbone.weights import check_finite, fit, load_weights, read_checkpoint, trunk_of
from fishnet.bundle.bundle import WEIGHTS, Bundle, HeadConfig, check_backbone, is_bundle, read_bundle
from fishnet.bundle.hub import local
from fishnet.errors import InputError
from fishnet.files.tensors import read_header
from fishnet.tasks import get_task
from fishnet.tasks.checked import build_checked
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.transfer import by_module, load_head, said_of_classes, with_rows_by_name

T = TypeVar("T")


def save_weights(model: Model, path: Path) -> None:
    """Writes a model's tensors as safetensors."""
    save_state(model.state_dict(), path)


def save_state(state: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors, as a file of the user's usual permissions (``save_file`` makes private ones)."""
    path.write_bytes(save({key: value.detach().cpu().contiguous().clone() for key, value in state.items()}))


def build_from(bundle: Bundle) -> Model:
    """The model that a bundle describes, weights not yet loaded.

    Raises:
        InputError: an unknown task or backbone, or arguments that would have the backbone load other files.
    """
    check_backbone(bundle.backbone, bundle.backbone_args)
    return Model.build(ModelSpec(bundle.backbone, bundle.heads, bundle.preprocess.channels, bundle.backbone_args))


def current_names(state: Mapping[str, T], head: str) -> dict[str, T]:
    """Tensors by the names that a model has today, from those of a model with one head up to bundle schema 3.

    Args:
        state: by name; values of any kind. Names of today stay as they are.
        head: the name of the model's only head.
    """
    if any(key.startswith(("heads.", "trunk.backbone.")) for key in state):
        return dict(state)
    return {
        f"trunk.backbone.{key.removeprefix('trunk.')}" if key.startswith("trunk.") else f"heads.{head}.{key}": value
        for key, value in state.items()
    }


def load_model(folder: str | Path) -> tuple[Bundle, Model]:
    """A bundle's config and its model, in evaluation mode.

    Raises:
        InputError: no bundle, a missing or altered file, weights that are not the described model's, or values that are
            not finite.
    """
    bundle, weights = read_bundle(folder), Path(folder) / WEIGHTS
    try:
        head = next(iter(bundle.heads))
        model = build_checked(lambda: build_from(bundle), current_names(read_header(weights), head))
        model.load_state_dict(current_names(load_file(weights), head))
        check_finite(model.state_dict())
    except InputError as error:
        where = "" if str(error).startswith(str(weights)) else f"{folder}: "
        raise InputError(f"{where}{error}") from error
    except (RuntimeError, SafetensorError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: the weights are not those of {bundle.backbone} ({first})") from error
    return bundle, model.eval()


def start_from(model: Model, source: str, spec: ModelSpec) -> list[str]:
    """Loads weights from a checkpoint file or a bundle, and says what was left out or is new.

    A bundle gives its trunk, and a head wherever the model has one of that name, task and kind: what agrees in name and
    shape; rows of classes are matched by the classes' names. A checkpoint file gives its trunk.

    Args:
        model: receives the weights.
        source: a checkpoint file, a bundle's folder, or a bundle on the hub.
        spec: what the model was built from.

    Raises:
        InputError: no such file or bundle, or weights of another network.
        WorkError: a bundle on the hub that could not be fetched.
    """
    path = local(source)
    if is_bundle(path):
        return _start_from_bundle(model, source, path, spec)
    if path.is_dir():
        raise InputError(f"{source}: not a bundle: give a bundle's folder or a checkpoint file")
    with identified():
        return [f"weights from {source}", *load_weights(model.trunk.backbone, path, adapt=True)]


def _start_from_bundle(model: Model, source: str, path: Path, spec: ModelSpec) -> list[str]:
    bundle = read_bundle(path)
    state = current_names(_read_state(path), next(iter(bundle.heads)))
    notes, trunk_notes = list[str](), list[str]()
    for name, config in spec.heads.items():
        if name in bundle.heads and _same_kind(bundle.heads[name], config):
            notes += said_of_classes(bundle.heads[name].classes, config.classes)
            state = with_rows_by_name(model, name, state, bundle.heads[name].classes, config.classes)
    backbone = model.trunk.backbone
    try:
        check_finite(state)
        with identified():
            trunk, trunk_notes = fit(backbone, trunk_of(state) or {}, adapt=True)
    except InputError as error:
        raise InputError(f"{_hint(source, bundle, backbone)}{path / WEIGHTS}: {error}") from None
    backbone.load_state_dict(trunk)
    notes += trunk_notes
    for name, config in spec.heads.items():
        if name in bundle.heads and _same_kind(bundle.heads[name], config):
            notes += load_head(model, name, state)
            theirs, ours = (json.dumps(one.head_args.get("anchors")) for one in (bundle.heads[name], config))
            if theirs != ours:
                notes.append("anchors: other ones than the bundle's, which its head has learnt with")
    notes += _left_out(bundle, spec, state)
    tasks = ", ".join(head.task for head in bundle.heads.values())
    classes = ", ".join(str(len(head.classes)) for head in bundle.heads.values())
    return [f"weights from {source} ({tasks}, {bundle.backbone}, {classes} classes)", *notes]


def _read_state(path: Path) -> dict[str, Tensor]:
    """A bundle's tensors under the names that they have in its file."""
    state = read_checkpoint(path / WEIGHTS)
    if trunk_of(state) is None:  # a model that is its trunk alone: what all names carry was taken off
        state = {f"trunk.{key}": value for key, value in state.items()}
    return state


def _same_kind(theirs: HeadConfig, ours: HeadConfig) -> bool:
    return theirs.task == ours.task and get_task(ours.task).head_named(theirs.head) == ours.head


def _hint(source: str, bundle: Bundle, backbone: nn.Module) -> str:
    """What to say where a bundle's trunk does not fit."""
    heads = {head.head for head in bundle.heads.values()}
    if {"body"} & {*heads, bundle.backbone_args.get("end")} and len(getattr(backbone, "head", ())):
        return f"{source} ends with the body, without the fish's head: it can start a segmenter with --head body; "
    return f"{source} is a {bundle.backbone}: say --backbone {bundle.backbone} --size {bundle.preprocess.size[0]}; "


def _left_out(bundle: Bundle, spec: ModelSpec, state: Mapping[str, Tensor]) -> list[str]:
    """A line for each of a bundle's heads that the model has no place for."""
    notes = []
    ours = ", ".join(f"{config.task}, head {config.head}" for config in spec.heads.values())
    for name, config in bundle.heads.items():
        prefix = f"heads.{name}."
        keys = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
        if keys and not (name in spec.heads and _same_kind(config, spec.heads[name])):
            whose = f"of {config.task}, head {config.head}, and this is {ours}"
            notes.append(f"{len(keys)} tensors of a task head left out: it is {whose} ({by_module(keys)})")
    return notes


def versions() -> dict[str, str]:
    """Versions of the packages that a model depends on."""
    found = {}
    for package in ("fishnet-vision", "torch", "torchvision", "timm", "pytorch-lightning"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
