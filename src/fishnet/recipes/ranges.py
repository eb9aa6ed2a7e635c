"""The ranges of a recipe's numbers. Torch-free."""

from typing import Any

from fishnet.errors import InputError

INFINITY = float("inf")
RANGES = (
    ("drop_rate", 0, 0.99), ("drop_path_rate", 0, 0.99), ("size", 32, 8192), ("crop_pct", 0.05, 1), ("flip", 0, 1),
    ("val_size", 0, 8192), ("color_jitter", 0, 1), ("rand_augment_ops", 0, 20), ("rand_augment_magnitude", 0, 30),
    ("erase", 0, 1), ("lighting", 0, 10), ("mixup", 0, INFINITY), ("cutmix", 0, INFINITY), ("channels", 1, 1024),
    ("val_fraction", 0.001, 0.9), ("epochs", 1, INFINITY), ("repeats", 1, INFINITY),
    ("batch_size", 1, INFINITY), ("lr", 0, INFINITY),
    ("accumulate", 1, INFINITY), ("layer_decay", 0.01, 1), ("ema", 0, 0.999999), ("patience", 0, INFINITY),
    ("checkpoint_steps", 0, INFINITY), ("log_steps", 0, INFINITY), ("devices", 0, 1024), ("nodes", 0, 65536),
    ("fold", -1, 1_000_000),
    ("weight_decay", 0, INFINITY), ("warmup_epochs", 0, INFINITY), ("step_epochs", 1, INFINITY),
    ("label_smoothing", 0, 1), ("clip_grad", 0, INFINITY), ("workers", 0, 1024), ("threads", 0, 1024),
    ("momentum", 0, 1), ("seed", 0, 2**32 - 1), ("fpn_channels", 8, 4096), ("box_width", 8, 16384),
    ("box_convs", 0, 16), ("mask_width", 8, 4096), ("proposals", 1, 100_000), ("roi_samples", 1, 100_000),
    ("max_detections", 1, 100_000), ("nms_iou", 0, 1), ("score_threshold", 0, 1),
    ("threshold", 0, 1), ("max_size", 0, 16384),
    ("flip_vertical", 0, 1), ("crop", 0, 1), ("photometric", 0, 1), ("mosaic", 0, 1),
    ("decoder_channels", 8, 4096), ("crop_size", 0, 8192), ("single_class", 0, 1), ("boundary", 0, 1000),
    ("auxiliary", 0, 1000), ("threshold_masks", 0, 65_535),
)  # fmt: skip


def check_ranges(recipe: Any) -> None:
    """Raises InputError for a number of a recipe that is out of its range or not finite."""
    for name, low, high in RANGES:
        value = getattr(recipe, name)
        if not low <= value <= high or value == INFINITY:
            raise InputError(f"{name}={value}: must be {_bounds(low, high)}")


def _bounds(low: float, high: float) -> str:
    return f"{low} or more, and finite" if high == INFINITY else f"from {low} to {high}"
