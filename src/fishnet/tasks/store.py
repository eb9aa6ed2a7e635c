"""Models and weights, between memory, bundles and checkpoint files."""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fishnet.backbone.weights import check_finite, fit, load_weights, read_checkpoint, trunk_of
from fishnet.bundle import WEIGHTS, Bundle, check_backbone, is_bundle, read_bundle
from fishnet.errors import InputError
from fishnet.files.tensors import read_header
from fishnet.hub import local
from fishnet.tasks import get_task
from fishnet.tasks.base import ModelSpec, TaskModel
from fishnet.tasks.checked import build_checked
from fishnet.tasks.transfer import by_module, load_head, said_of_classes, with_rows_by_name


def save_weights(model: TaskModel, path: Path) -> None:
    """Writes a model's tensors as safetensors."""
    save_state(model.state_dict(), path)


def save_state(state: dict[str, Tensor], path: Path) -> None:
    """Writes tensors as safetensors, as a file of the user's usual permissions (``save_file`` makes private ones)."""
    path.write_bytes(save({key: value.detach().cpu().contiguous().clone() for key, value in state.items()}))


def build_from(bundle: Bundle) -> TaskModel:
    """The model that a bundle describes, weights not yet loaded.

    Raises:
        InputError: an unknown task or backbone, or arguments that would have the backbone load other files.
    """
    check_backbone(bundle.backbone, bundle.backbone_args)
    return get_task(bundle.task).build(
        ModelSpec(
            bundle.backbone,
            bundle.classes,
            bundle.preprocess.channels,
            bundle.head,
            bundle.backbone_args,
            bundle.head_args,
        )
    )


def load_model(folder: str | Path) -> tuple[Bundle, TaskModel]:
    """A bundle's config and its model, in evaluation mode.

    Raises:
        InputError: no bundle, a missing or altered file, weights that are not the described model's, or values that are
            not finite.
    """
    bundle, weights = read_bundle(folder), Path(folder) / WEIGHTS
    try:
        model = build_checked(lambda: build_from(bundle), read_header(weights))
        model.load_state_dict(load_file(weights))
        check_finite(model.state_dict())
    except InputError as error:
        where = "" if str(error).startswith(str(weights)) else f"{folder}: "
        raise InputError(f"{where}{error}") from error
    except (RuntimeError, SafetensorError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: the weights are not those of {bundle.backbone} ({first})") from error
    return bundle, model.eval()


def start_from(model: TaskModel, source: str, task: str, spec: ModelSpec) -> list[str]:
    """Loads weights from a checkpoint file or a bundle, and says what was left out or is new.

    A bundle of the same task and head gives its head too, where names and shapes agree; rows of classes are matched by
    the classes' names. Everything else gives its trunk.

    Args:
        model: receives the weights.
        source: a checkpoint file, a bundle's folder, or a bundle on the hub.
        task, spec: what the model was built from.

    Raises:
        InputError: no such file or bundle, or weights of another network.
        WorkError: a bundle on the hub that could not be fetched.
    """
    path = local(source)
    if is_bundle(path):
        return _start_from_bundle(model, source, path, task, spec)
    if path.is_dir():
        raise InputError(f"{source}: not a bundle: give a bundle's folder or a checkpoint file")
    return [f"weights from {source}", *load_weights(model.trunk, path, adapt=True)]


def _start_from_bundle(model: TaskModel, source: str, path: Path, task: str, spec: ModelSpec) -> list[str]:
    bundle = read_bundle(path)
    hint = f"{source} is a {bundle.backbone}: say --backbone {bundle.backbone} --size {bundle.preprocess.size[0]}; "
    if "body" in (bundle.head, bundle.backbone_args.get("end")) and len(getattr(model.trunk, "head", ())):
        hint = f"{source} ends with the body, without the fish's head: it can start a segmenter with --head body; "
    state, notes = read_checkpoint(path / WEIGHTS), list[str]()
    if trunk_of(state) is None:  # a model that is its trunk alone: what all names carry was taken off
        state = {f"trunk.{key}": value for key, value in state.items()}
    same = bundle.task == task and get_task(task).head_named(bundle.head) == spec.head
    if same:
        notes = said_of_classes(bundle.classes, spec.classes)
        state = with_rows_by_name(model, state, bundle.classes, spec.classes)
    try:
        check_finite(state)
        trunk, further = fit(model.trunk, trunk_of(state) or {}, adapt=True)
    except InputError as error:
        raise InputError(f"{hint}{path / WEIGHTS}: {error}") from None
    model.trunk.load_state_dict(trunk)
    notes += further
    if same:
        notes += load_head(model, state)
        theirs, ours = (json.dumps(args.get("anchors")) for args in (bundle.head_args, spec.head_args))
        if theirs != ours:
            notes.append("anchors: other ones than the bundle's, which its head has learnt with")
    elif head := [key for key in state if not key.startswith("trunk.")]:
        whose = f"of {bundle.task}, head {bundle.head}, and this is {task}, head {spec.head}"
        notes.append(f"{len(head)} tensors of a task head left out: it is {whose} ({by_module(head)})")
    return [f"weights from {source} ({bundle.task}, {bundle.backbone}, {len(bundle.classes)} classes)", *notes]


def versions() -> dict[str, str]:
    """Versions of the packages that a model depends on."""
    found = {}
    for package in ("fishnet-vision", "torch", "torchvision", "timm", "pytorch-lightning"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
