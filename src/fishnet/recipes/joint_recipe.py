"""Recipes of joint trainings: settings that all heads share, and a section for each head. Torch-free."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, get_args

from fishnet.bundle.checks import MAX_HEADS, RESERVED_NAMES
from fishnet.bundle.panoptic import INSTANCES, SEGMENT
from fishnet.bundle.renamed import with_current_keys
from fishnet.errors import InputError, nearest
from fishnet.files.documents import parse_yaml
from fishnet.files.reading import MIB, read_text
from fishnet.files.values import integer, mapping, real, text
from fishnet.recipes.joint_keys import (
    CROPPED,
    DATA_KEYS,
    JOINT,
    MERGING,
    QUALITIES,
    SECTION,
    UNSUPPORTED,
    head_keys,
    is_cropped,
    joint_keys,
)
from fishnet.recipes.loading import load_recipe, recipe_names
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks.info import task_names

Kind = Literal["joint", "panoptic"]
LossWeighting = Literal["fixed", "uncertainty"]
MEAN: Final = "mean"
_SAMPLINGS = ("size", "sqrt")
_HEAD_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


@dataclass(frozen=True)
class JointHead:
    """One head of a joint training.

    Attributes:
        name: the head's name, in the bundle too.
        task: ``classify`` ...
        data: its data, as for a training of the task alone.
        recipe: the shared settings with the head's own keys.
        loss_weight: factor of the head's losses, above 0.
    """

    name: str
    task: str
    data: str
    recipe: Recipe
    loss_weight: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """The head's section of a recipe."""
        keys = [key for key in head_keys() if key in keys_of(self.task)]
        values = self.recipe.to_dict(self.task)
        return {
            "task": self.task,
            "data": self.data,
            "loss_weight": self.loss_weight,
            **{key: values[key] for key in keys},
        }


@dataclass(frozen=True)
class JointRecipe:
    """All settings of a joint training.

    Attributes:
        shared: the settings that all heads share.
        heads: in order.
        sampling: how an epoch draws from the heads' data: ``size``, each sample once; ``sqrt``, each head's data with
            a share in proportion to the square root of its size; or a weight for each head by name.
        loss_weighting: ``fixed``, the heads' own ``loss_weight``; or ``uncertainty``, times a factor that is learned
            (Kendall et al. 2018, arXiv 1705.07115).
        monitor: the metric that decides which epoch is best: ``mean`` of the heads' own monitors, or one such as
            ``detect/AP``.
        keep_heads: keep the heads of the bundle that training starts from, as they are, on a frozen trunk.
        kept: these heads by name, as in the bundle's config; of a panoptic model also its ``panoptic``.
        kind: ``joint``; or ``panoptic``, whose heads ``instances`` and ``segment`` have the same data.
        merging: thresholds of panoptic segments that are not the defaults: ``panoptic_score``, ``panoptic_overlap`` and
            ``stuff_area``; see :class:`~fishnet.bundle.panoptic.PanopticConfig`.
    """

    shared: Recipe
    heads: tuple[JointHead, ...]
    sampling: Literal["size", "sqrt"] | Mapping[str, float] = "size"
    loss_weighting: LossWeighting = "fixed"
    monitor: str = MEAN
    keep_heads: bool = False
    kept: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "joint"
    merging: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [head.name for head in self.heads]
        if len(names) + len(self.kept) > MAX_HEADS:
            raise InputError(f"heads: {len(names) + len(self.kept)} heads: a model has at most {MAX_HEADS}")
        if isinstance(self.sampling, Mapping):
            _check_weights(self.sampling, names)
        if self.loss_weighting not in get_args(LossWeighting):
            raise InputError(
                f"loss_weighting={self.loss_weighting}: {nearest(self.loss_weighting, get_args(LossWeighting))}"
            )
        if self.kind == "panoptic":
            if self.sampling != "size" or self.keep_heads:
                raise InputError(f"{'keep_heads' if self.keep_heads else 'sampling'}: is only for joint training")
            _check_panoptic(self.heads)
            _check_monitor(self.monitor)
            return
        if self.merging:
            raise InputError(f"{next(iter(self.merging))}: is only for panoptic training")
        _check_apart(self.heads)
        head, _, metric = self.monitor.partition("/")
        if self.monitor != MEAN and not (head in names and metric):
            raise InputError(
                f"monitor={self.monitor}: must be {MEAN}, or HEAD/METRIC with one of the heads {', '.join(names)}"
            )

    @property
    def data(self) -> dict[str, str]:
        """Each head's data by its name."""
        return {head.name: head.data for head in self.heads}

    @property
    def _plain_sampling(self) -> str | dict[str, float]:
        return dict(self.sampling) if isinstance(self.sampling, Mapping) else self.sampling

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON, which :func:`load_joint_recipe` reads."""
        skipped = {*head_keys(), *UNSUPPORTED}
        if not is_cropped(head.task for head in self.heads):
            skipped |= set(CROPPED)
        values = {name: getattr(self.shared, name) for name in Recipe.__dataclass_fields__ if name not in skipped}
        return {
            **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
            "loss_weighting": self.loss_weighting,
            "monitor": self.monitor,
            **({} if self.kind == "panoptic" else {"sampling": self._plain_sampling, "keep_heads": self.keep_heads}),
            **({"kept": dict(self.kept)} if self.kept else {}),
            **self.merging,
            "heads": {head.name: head.to_dict() for head in self.heads},
        }

    def keeping(self, heads: Mapping[str, Any]) -> "JointRecipe":
        """A copy that keeps these heads of a bundle, given as in its config."""
        return replace(self, kept=dict(heads))


def load_joint_recipe(
    name: str | None = None,
    data: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    from_weights: Mapping[str, Any] | None = None,
    heads_from_weights: Mapping[str, Mapping[str, Any]] | None = None,
    kind: Kind = "joint",
) -> JointRecipe:
    """Loads the recipe of a joint training.

    Args:
        name: a YAML file with a section for each head, or the name of a recipe of the package, which has none; by
            default ``small-data``.
        data: each head's data by the head's name. Heads that the file has no section for are named after their task.
        overrides: keys to change. A key that heads set for themselves changes in all heads that have it.
        from_weights: keys that the weights to start from need. The keys of a file and of ``overrides`` take precedence.
        heads_from_weights: the same for heads, by the head's name or its task.
        kind: what the recipe is for.

    Raises:
        InputError: no such file or recipe, a section or key that is missing, unknown or invalid; see :class:`Recipe`.
    """
    values, where = _read(name or "small-data", kind)
    overrides = dict(overrides or {})
    sections = _sections(values.pop("heads", None) or {}, data or {}, where)
    tasks = [section["task"] for section in sections.values()]
    joint = {
        key: (overrides if key in overrides else values).pop(key) for key in JOINT if key in {**values, **overrides}
    }
    for key in JOINT:
        values.pop(key, None)
    _check_shared(values, tasks, where)
    _check_shared({key: value for key, value in overrides.items() if key not in head_keys()}, tasks, "settings")
    own = {key: overrides.pop(key) for key in head_keys() if key in overrides}
    # the head of the label maps can only be set in a file
    if kind == "panoptic" and "head" in own and INSTANCES in sections:
        sections[INSTANCES]["head"] = own.pop("head")
    _check_own(own, tasks)
    if where in recipe_names(kind):  # a file's own keys come before those of the weights
        values = {**values, **(from_weights or {})}
    shared = (
        Recipe().replace({**_defaults(kind), **(from_weights or {}), **values}, where).replace(overrides, "settings")
    )
    stored = heads_from_weights or {}
    heads = tuple(
        _head(head, section, shared, own, stored.get(head, stored.get(section["task"], {})), where)
        for head, section in sections.items()
    )
    if kind == "panoptic":
        joint.setdefault("monitor", QUALITIES[0])
    return JointRecipe(shared, heads, kind=kind, **_joint_values(joint, where))


def _read(name: str, kind: Kind) -> tuple[dict[str, Any], str]:
    """The values of a recipe and what messages call it."""
    if name in recipe_names(kind):
        content = (files("fishnet") / "recipes" / kind / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).suffix in (".yaml", ".yml"):
        content = read_text(name, MIB, "recipe")
    else:
        raise InputError(
            f"unknown recipe {name!r} for {kind}: {nearest(name, recipe_names('joint'))} (or give a .yaml file)"
        )
    values = parse_yaml(content, name) or {}
    if not isinstance(values, dict):
        raise InputError(f"{name}: a recipe consists of KEY: VALUE lines")
    return with_current_keys(values, name), name


def _defaults(kind: Kind) -> dict[str, Any]:
    """The shared settings of the package's recipe for small data."""
    values, _ = _read("small-data", kind)
    return {key: value for key, value in values.items() if key not in JOINT}


def _sections(heads: Any, data: Mapping[str, str], where: str) -> dict[str, dict[str, Any]]:
    """The section of each head by name, each with its task and data."""
    sections = {
        name: dict(mapping(section, f"{where}: heads: {name}"))
        for name, section in mapping(heads, f"{where}: heads").items()
    }
    for name in data:
        if name not in sections and name not in task_names():
            known = {*sections, *task_names()}
            raise InputError(
                f"{name}={data[name]}: there is no head {name!r} and no task of this name: {nearest(str(name), known)} "
                f"(or give a recipe file with a section for {name!r} under heads)"
            )
        sections.setdefault(name, {})["data"] = data[name]
    if not sections:
        raise InputError(
            f"{where}: joint training needs heads: give a file with a heads section, or --TASK DATA for each task"
        )
    for name, section in sections.items():
        if name in RESERVED_NAMES:
            raise InputError(f"{where}: heads: {name!r} is a key of predictions beside those of the heads: rename it")
        if not _HEAD_NAME.fullmatch(name):
            raise InputError(
                f"{where}: heads: {name!r} is not a valid name: use lower-case letters, digits, - and _, a letter first"
            )
        section.setdefault("task", name)
        if section["task"] not in task_names():
            raise InputError(
                f"{where}: heads: {name}: task={section['task']!r}: {nearest(str(section['task']), task_names())}"
            )
        if not section.get("data"):
            raise InputError(f"{where}: heads: {name}: data is missing: add data: PATH, or give {name}=PATH")
        section["data"] = text(section["data"], f"{where}: heads: {name}: data")
    return sections


def _head(
    name: str,
    section: dict[str, Any],
    shared: Recipe,
    own: Mapping[str, Any],
    stored: Mapping[str, Any],
    where: str,
) -> JointHead:
    """One head of a recipe, from its section, the settings of heads (``own``) and those of the weights (``stored``)."""
    place, task = f"{where}: heads: {name}", section["task"]
    known = [key for key in head_keys() if key in keys_of(task)]
    given = {key: value for key, value in section.items() if key not in SECTION}
    for key in given:
        if key in Recipe.__dataclass_fields__ and key not in head_keys():
            raise InputError(f"{place}: {key} is shared by all heads: move it out of the heads")
        if key not in known:
            raise InputError(f"{place}: unknown key {key!r}: {nearest(str(key), (*known, *SECTION))}")
    base = load_recipe(task, text(section.get("recipe", "small-data"), f"{place}: recipe", 1000))
    values = {**{key: getattr(base, key) for key in known}, **{k: v for k, v in stored.items() if k in known}}
    recipe = (
        shared.replace(values).replace(given, place).replace({k: v for k, v in own.items() if k in known}, "settings")
    )
    weight = real(section.get("loss_weight", 1.0), f"{place}: loss_weight", 1e-6, 1e6)
    return JointHead(name, task, section["data"], recipe, weight)


def _joint_values(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings of joint trainings alone, checked."""
    sampling = values.get("sampling", "size")
    if isinstance(sampling, Mapping):
        values["sampling"] = {
            str(name): real(weight, f"{where}: sampling: {name}", 0) for name, weight in sampling.items()
        }
    elif sampling not in _SAMPLINGS:
        raise InputError(
            f"{where}: sampling={sampling!r}: choose from {', '.join(_SAMPLINGS)}, or give a weight for each head"
        )
    for key in ("loss_weighting", "monitor"):
        if key in values:
            text(values[key], f"{where}: {key}", 1000)
    if not isinstance(values.get("keep_heads", False), bool):
        raise InputError(f"{where}: keep_heads={values['keep_heads']!r}: must be true or false")
    mapping(values.get("kept", {}), f"{where}: kept")
    values["merging"] = {key: values.pop(key) for key in MERGING if key in values}
    for key, value in values["merging"].items():
        if key == "stuff_area":
            integer(value, f"{where}: {key}", 0, 2**40)
        else:
            real(value, f"{where}: {key}", 0, 1)
    return values


def _check_weights(weights: Mapping[str, float], names: list[str]) -> None:
    for name in (*weights, *names):
        if name not in names:
            raise InputError(f"sampling: {name}: no such head: {nearest(name, names)}")
        if name not in weights:
            raise InputError(f"sampling: {name} is missing: give a weight for each head")
    if not sum(weights.values()) > 0:
        raise InputError("sampling: all weights are 0: at least one must be above 0")


def _check_apart(heads: Iterable[JointHead]) -> None:
    """Raises InputError for two heads that learn the same classes of the same data."""
    seen: dict[tuple[Any, ...], str] = {}
    for head in heads:
        values = tuple(getattr(head.recipe, key) for key in DATA_KEYS)
        other = seen.setdefault((head.task, head.data, *values), head.name)
        if other != head.name:
            raise InputError(
                f"heads: {other} and {head.name} learn the same classes of {head.data}: remove one, or give each its "
                "own data or classes"
            )


def _check_panoptic(heads: Sequence[JointHead]) -> None:
    """Raises InputError for other heads than those of panoptic models, or heads with different data."""
    if {head.name: head.task for head in heads} != {name: name for name in (INSTANCES, SEGMENT)}:
        names = ", ".join(head.name for head in heads)
        raise InputError(f"heads: a panoptic model has the heads {INSTANCES} and {SEGMENT}, not {names}")
    if len({head.data for head in heads}) > 1:
        raise InputError(
            f"heads: the heads of a panoptic model have the same data, not {' and '.join(head.data for head in heads)}"
        )


def _check_monitor(monitor: str) -> None:
    """Raises InputError for what no panoptic training measures."""
    if monitor not in QUALITIES and not monitor.startswith(("instances/", "segment/")):
        raise InputError(f"monitor={monitor}: {nearest(monitor, QUALITIES)}, or one such as instances/mask_AP")


def _check_shared(values: Mapping[str, Any], tasks: list[str], where: str) -> None:
    """Raises InputError for keys that joint trainings do not have, or that belong to the heads."""
    cropped = is_cropped(tasks)
    for key in values:
        if key in UNSUPPORTED:
            raise InputError(f"{where}: {key} is not supported in joint training: leave it out")
        if key in CROPPED and not cropped:
            raise InputError(f"{where}: {key} is for joint trainings of classifiers alone: leave it out")
        if key in head_keys():
            raise InputError(f"{where}: {key} is a key of the heads: move it into their sections")
        if key not in Recipe.__dataclass_fields__:
            shared = set(joint_keys()) - set(head_keys())
            raise InputError(f"{where}: unknown key {key!r}: {nearest(str(key), (*shared, *JOINT))}")


def _check_own(values: Mapping[str, Any], tasks: list[str]) -> None:
    """Raises InputError for settings of heads that no head has, or that are ambiguous."""
    for key in values:
        having = [task for task in tasks if key in keys_of(task)]
        if not having:
            raise InputError(f"settings: {key}: none of the heads ({', '.join(tasks)}) has this key")
        if key == "head" and len(tasks) > 1:
            raise InputError("settings: head: which head is meant? Give it in a recipe file, in the head's section")
