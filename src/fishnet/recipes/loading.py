"""Loads recipes: those of the package by name, or YAML files. Torch-free."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from fishnet.bundle.renamed import with_current_keys
from fishnet.errors import InputError, nearest
from fishnet.files.documents import parse_yaml
from fishnet.files.reading import MIB, read_text
from fishnet.recipes.recipe import Recipe
from fishnet.tasks.info import task_info, task_names
from fishnet.weights import weight_names

_PACKAGED = files("fishnet") / "recipes"


def recipe_names(task: str) -> list[str]:
    """Returns the names of the recipes that the package has for a task."""
    folder = _PACKAGED / task
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(
    task: str,
    name: str = "small-data",
    overrides: Mapping[str, Any] | None = None,
    from_weights: Mapping[str, Any] | None = None,
) -> Recipe:
    """Loads a recipe of the package or from a file, and overrides some of its keys.

    A recipe of the package that starts from pretrained weights does so for networks that have weights in the package;
    for others only if ``overrides`` say so.

    Args:
        task: ``classify`` ...
        name: one of :func:`recipe_names`, or the path of a YAML file.
        overrides: keys to change.
        from_weights: keys that the weights to start from need. The keys of a recipe file and of ``overrides`` take
            precedence.

    Raises:
        InputError: no such task or recipe, not YAML, an unknown key (the nearest ones are offered) or an invalid value.
    """
    task_info(task)
    names = recipe_names(task)
    if name in names:
        text = (_PACKAGED / task / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).suffix in (".yaml", ".yml"):
        text = read_text(name, MIB, "recipe")
    else:
        raise InputError(f"unknown recipe {name!r} for {task}: {nearest(name, names)} (or give a .yaml file)")
    values = parse_yaml(text, name) or {}
    if not isinstance(values, dict):
        raise InputError(f"{name}: a recipe consists of KEY: VALUE lines")
    values = with_current_keys(values, name)
    _check_keys(task, values, name)
    _check_keys(task, overrides or {}, "settings")
    kept = {key: value for key, value in (from_weights or {}).items() if name in names or key not in values}
    given = {**kept, **(overrides or {})}
    recipe = Recipe().replace(values, where=name).replace(given, where="settings")
    if name in names and "pretrained" not in given and recipe.backbone not in weight_names():
        recipe = recipe.replace({"pretrained": False})  # a recipe of the package downloads nothing
    return recipe


def _check_keys(task: str, values: Mapping[str, Any], where: str) -> None:
    """Raises InputError for a key of another task. Unknown keys are left to :meth:`Recipe.replace`."""
    for name in values:
        field = Recipe.__dataclass_fields__.get(str(name))
        if field is not None and task not in (known := task_names(field.metadata["levels"])):
            raise InputError(f"{where}: {name}: is for {' and '.join(known)}, not for {task}")
