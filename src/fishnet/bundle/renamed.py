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
"""Of recipes and of ``head_args``: old name -> new name."""


def with_current_keys(values: Mapping[Any, Any], where: str) -> dict[Any, Any]:
    """A copy in which old keys have their present names.

    Args:
        values: a recipe, or the arguments of a head.
        where: names the values in an error.

    Raises:
        InputError: a key under both names.
    """
    for old, new in KEYS.items():
        if old in values and new in values:
            raise InputError(f"{where}: {old} is the old name of {new}: give one of them")
    return {KEYS.get(name, name): value for name, value in values.items()}
