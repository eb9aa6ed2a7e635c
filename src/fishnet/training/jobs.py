"""What a call of ``fishnet.train`` asks for: the settings, the data and the task. Importing this imports no torch."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fishnet.bundle.bundle import Bundle, HeadConfig, is_bundle, read_bundle, read_panoptic
from fishnet.bundle.hub import bundle_path
from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.errors import InputError
from fishnet.files.values import mapping
from fishnet.recipes.joint_keys import TRAINING
from fishnet.recipes.joint_recipe import load_joint_recipe
from fishnet.recipes.loading import load_recipe
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks.info import task_info

if TYPE_CHECKING:
    from fishnet.tasks.base import Task

PANOPTIC = "panoptic"  # key among a recipe's kept heads that holds how two of them are merged; no head has this name
Data = str | Path | Mapping[str, str | Path] | None
_HEAD_KEYS = (  # keys that set the shapes of a head's tensors, and how the head turns its outputs into results
    "fpn_channels", "box_width", "box_convs", "mask_width", "head_norm", "anchors", "proposals", "roi_samples",
    "max_detections", "nms_iou", "score_threshold", "htc_interleaved", "htc_mask_flow", "htc_semantic",
    "decoder_channels", "edges", "auxiliary",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A training to run.

    Attributes:
        data: the data's name; empty for a joint training, whose heads have their own.
        recipe: the settings; of a joint training those that its heads share.
        make_task: makes the task. This imports torch.
    """

    data: str
    recipe: Recipe
    make_task: Callable[[], "Task"]


def single_job(task: str, data: Data, recipe: str | None, weights: str | None, settings: Mapping[str, Any]) -> Job:
    """The training of one task's model; for the arguments see :func:`fishnet.training.train.train`.

    Raises:
        InputError: an unknown task or recipe, no data, or invalid settings.
    """
    task_info(task)
    if data is None or isinstance(data, Mapping):
        raise InputError(f"data: {task} takes one dataset: give a folder, a file or a name")
    from_weights = {} if weights is None else _keys_from_weights(bundle_path(weights), task)
    if "size" in settings or settings.get("native"):  # the bundle's max_size belongs to the bundle's size
        from_weights.pop("max_size", None)
    loaded = load_recipe(task, recipe or "small-data", settings, from_weights)

    def make_task() -> "Task":
        from fishnet.tasks import get_task

        return get_task(task).for_recipe(loaded)

    return Job(str(data), loaded, make_task)


def joint_job(task: str, data: Data, recipe: str | None, weights: str | None, settings: Mapping[str, Any]) -> Job:
    """The training of several heads on one trunk; for the arguments see :func:`fishnet.training.train.train`.

    Raises:
        InputError: an unknown recipe, a head without data, or invalid settings.
    """
    if data is not None and not isinstance(data, Mapping):
        raise InputError(f"data={data}: {task} takes the data of each head: give a mapping, HEAD: DATA")
    paths = {name: str(path) for name, path in (data or {}).items()}
    bundle = _bundle_of(weights)
    shared, heads = ({}, {}) if bundle is None else (_shared_keys(bundle, settings), _keys_of_heads(bundle))
    loaded = load_joint_recipe(recipe, paths, settings, shared, heads)
    if loaded.keep_heads and bundle is not None:
        merged = {} if bundle.panoptic is None else {PANOPTIC: bundle.panoptic.to_dict()}
        loaded = loaded.keeping({name: _kept(bundle, name) for name in bundle.heads} | merged)
    elif loaded.keep_heads and not loaded.kept:
        raise InputError("keep_heads: there are no heads to keep: give a bundle as weights")

    def make_task() -> "Task":
        from fishnet.tasks.joint import Joint

        kept = {name: _kept_head(name, head) for name, head in loaded.kept.items() if name != PANOPTIC}
        merged = loaded.kept.get(PANOPTIC)
        return Joint(loaded, kept, None if merged is None else read_panoptic(merged, kept))

    return Job("", loaded.shared, make_task)


def panoptic_job(task: str, data: Data, recipe: str | None, weights: str | None, settings: Mapping[str, Any]) -> Job:
    """The training of a panoptic model; for the arguments see :func:`fishnet.training.train.train`.

    Raises:
        InputError: an unknown recipe, no data, or invalid settings.
    """
    if isinstance(data, Mapping):
        raise InputError(f"data: {task} takes one dataset: give a folder or a file")
    paths = {} if data is None else dict.fromkeys((INSTANCES, SEGMENT), str(data))
    bundle = _bundle_of(weights)
    shared, heads = ({}, {}) if bundle is None else (_shared_keys(bundle, settings), _keys_of_heads(bundle))
    loaded = load_joint_recipe(recipe, paths, settings, shared, heads, kind="panoptic")

    def make_task() -> "Task":
        from fishnet.tasks.panoptic.task import Panoptic

        return Panoptic(loaded)

    return Job(loaded.heads[0].data, loaded.shared, make_task)


JOBS: Mapping[str, Callable[[str, Data, str | None, str | None, Mapping[str, Any]], Job]] = {
    "joint": joint_job,
    "panoptic": panoptic_job,
}
"""Trainings of several heads; all others are those of a task."""


def _kept(bundle: Bundle, name: str) -> dict[str, Any]:
    """A head's config, with the data fingerprint and recipe of its training, which identify its held-out images."""
    before = bundle.recipe.get("kept", {}).get(name)
    if before is not None and TRAINING in before:  # it was kept by that training, too
        return {**bundle.heads[name].to_dict(), TRAINING: deepcopy(before[TRAINING])}
    data = {key: value for key, value in bundle.data.items() if "/" not in key or key.startswith(f"{name}/")}
    recipe = {**bundle.recipe, **bundle.recipe.get("heads", {}).get(name, {})}
    plain = {key: value for key, value in recipe.items() if key in Recipe.__dataclass_fields__}
    return {**bundle.heads[name].to_dict(), TRAINING: deepcopy({"data": data, "recipe": plain})}  # YAML without aliases


def _kept_head(name: str, values: Any) -> HeadConfig:
    """A kept head's config from a recipe. Raises InputError for one that is incomplete or invalid."""
    try:
        config = {key: value for key, value in mapping(values, f"kept: {name}").items() if key != TRAINING}
        mapping(mapping(values.get(TRAINING, {}), f"kept: {name}: {TRAINING}").get("data", {}), f"kept: {name}: data")
        return HeadConfig.from_dict(config, name)
    except (KeyError, TypeError) as error:
        raise InputError(f"kept: {name}: is not a head's config, or incomplete ({error}): leave kept out") from error


def _bundle_of(weights: str | None) -> Bundle | None:
    """The bundle that training starts from; None for a checkpoint file or none."""
    path = None if weights is None else bundle_path(weights)
    return None if path is None or not is_bundle(path) else read_bundle(path)


def _shared_keys(bundle: Bundle, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The shared recipe keys that a bundle's weights need, and its sizes if it takes whole images."""
    values: dict[str, Any] = {"backbone": bundle.backbone, "channels": bundle.preprocess.channels}
    if bundle.backbone_args.get("norm_layer") == "groupnorm":
        values["trunk_norm"] = "group"
    if (
        bundle.preprocess.fit == "whole"
        and settings.get("size", bundle.preprocess.size[0]) == bundle.preprocess.size[0]
    ):
        values |= {"size": bundle.preprocess.size[0], "max_size": bundle.preprocess.size[1]}
    return {**values, "sixteen_bit": _sixteen_bit(bundle)}


def _keys_from_weights(weights: Path, task: str) -> dict[str, Any]:
    """Returns the recipe keys that a bundle's weights need, with sizes for its own task only; none for a checkpoint."""
    if not is_bundle(weights):
        return {}
    bundle = read_bundle(weights)
    values: dict[str, Any] = {"backbone": bundle.backbone, "channels": bundle.preprocess.channels}
    if bundle.backbone_args.get("norm_layer") == "groupnorm" and "trunk_norm" in keys_of(task):
        values["trunk_norm"] = "group"
    name = next((name for name, head in bundle.heads.items() if head.task == task), None)
    if name is None:
        return values
    values |= _keys_of_head(bundle, name)
    if "end" in bundle.backbone_args:
        values["end"] = bundle.backbone_args["end"]
    if bundle.preprocess.fit == "native":
        values["native"] = True
    elif bundle.preprocess.fit == "whole" and "max_size" in keys_of(task):
        values["max_size"] = bundle.preprocess.size[1]
    return {**values, "size": bundle.preprocess.size[0], "sixteen_bit": _sixteen_bit(bundle)}


def _keys_of_heads(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """The keys of each of a bundle's heads by the head's name, and by its task where no other head is of the task."""
    tasks = [head.task for head in bundle.heads.values()]
    keys = {name: _keys_of_head(bundle, name) for name in bundle.heads}
    by_task = {head.task: keys[name] for name, head in bundle.heads.items() if tasks.count(head.task) == 1}
    return by_task | keys


def _keys_of_head(bundle: Bundle, name: str) -> dict[str, Any]:
    """The recipe keys that a head's weights need."""
    head, known = bundle.heads[name], keys_of(bundle.heads[name].task)
    recipe = {**bundle.recipe, **bundle.recipe.get("heads", {}).get(name, {})}
    return {"head": head.head, **{key: recipe[key] for key in _HEAD_KEYS if key in recipe and key in known}}


def _sixteen_bit(bundle: Bundle) -> str:
    if bundle.preprocess.sixteen_bit == "stretch" and bundle.preprocess.value_range is None:
        return "stretch-each"  # older versions: each image's own range
    return bundle.preprocess.sixteen_bit
