"""Keys of bundles and recipe files that earlier versions wrote under other names. Torch-free."""

from collections.abc import Mapping
from typing import Any

from fishnet.errors import InputError

KEYS = {
    "detections": "max_detections",
    "floor": "score_threshold",
    "nms": "nms_iou",
    "samples": "roi_samples",
}
"""Recipes and ``head_args``: old name -> current name."""

DATA_KEYS = {"pictures": "images"}
"""The fingerprint of a training's data, in bundles and checkpoints: old name -> current name."""


_VALUES = {"precision": {"32": "fp32", "16": "fp16"}}
"""Recipes: key -> old value -> current value."""


def with_current_keys(values: Mapping[Any, Any], where: str, names: Mapping[str, str] = KEYS) -> dict[Any, Any]:
    """Returns a copy in which old keys, and values of recipes, have their current names.

    Args:
        values: a recipe, the arguments of a head, or the fingerprint of data.
        where: where the values come from, for the error message.
        names: old name -> current name.

    Raises:
        InputError: a key is given under both names.
    """
    for old, new in names.items():
        if old in values and new in values:
            raise InputError(f"{where}: {old} is the old name of {new}: give only {new}")
    current = {names.get(name, name): value for name, value in values.items()}
    return {name: _VALUES.get(name, {}).get(str(value), value) for name, value in current.items()}
