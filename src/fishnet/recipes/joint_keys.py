"""Which keys the recipes of joint trainings have, and where. Torch-free."""

from collections.abc import Iterable, Mapping
from typing import Any

from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks.info import task_info

QUALITIES = tuple(f"{name}{part}" for part in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ"))
SECTION = ("task", "data", "loss_weight", "recipe")  # of a head, besides its recipe keys
MERGING = ("panoptic_score", "panoptic_overlap", "stuff_area")  # of panoptic trainings alone
JOINT = (  # besides the shared recipe keys
    "heads", "sampling", "loss_weighting", "monitor", "keep_heads", "kept", *MERGING,
)  # fmt: skip
TRAINING = "training"  # of a kept head: the data and the recipe that it was trained with
DATA_KEYS = ("classes", "fold", "ignore", "void", "threshold_masks", "difficult", "multi_label")
UNSUPPORTED = ("crop", "crop_size", "cutmix", "mixup", "mosaic", "native", "single_class")
CROPPED = (  # keys of images that are cropped to a square, as classifiers alone take them
    "color_jitter", "crop_pct", "crop_ratio", "crop_scale", "end", "erase", "rand_augment_magnitude",
    "rand_augment_ops", "val_size",
)  # fmt: skip
_TRUNK_KEYS = ("end", "trunk_norm")  # keys of some levels' models that belong to the trunk


def head_keys() -> list[str]:
    """The recipe keys that each head sets for itself; all others are shared."""
    return [name for name, field in Recipe.__dataclass_fields__.items() if _is_head_key(name, field.metadata)]


def _is_head_key(name: str, metadata: Mapping[str, Any]) -> bool:
    if name in ("head", *DATA_KEYS):
        return True
    return bool(metadata["levels"]) and metadata["group"] in ("Model", "Training") and name not in _TRUNK_KEYS


def joint_keys() -> list[str]:
    """The recipe keys that joint trainings know, shared or for the heads."""
    return [name for name in Recipe.__dataclass_fields__ if name not in UNSUPPORTED]


def panoptic_keys() -> list[str]:
    """The recipe keys that panoptic trainings know."""
    known = {*keys_of("instances"), *keys_of("segment")} - {*CROPPED, "multi_label", "fold"}
    return [name for name in joint_keys() if name in known]


def is_cropped(tasks: Iterable[str]) -> bool:
    """Whether all heads take images that are cropped to a square."""
    return not any(task_info(task).any_size for task in tasks)
