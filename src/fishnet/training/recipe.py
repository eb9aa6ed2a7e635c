"""Recipes: all settings of a training, as plain YAML validated against one dataclass. Torch-free."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from fishnet.errors import InputError, nearest


def key(default: Any, text: str) -> Any:
    """One recipe key: its default and its help text."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Recipe:
    """All settings of a training. Every field is a key of the YAML and a flag of ``fishnet train``."""

    backbone: str = key("fishnet_small", "Any FishNet (`fishnet list`) or timm model.")
    head: str = key("default", "Task head.")
    pretrained: bool = key(False, "Start from the backbone's published weights.")
    end: Literal["head", "body"] = key(
        "head", "FishNets only: the whole fish, or all but its head (a quarter of the cost)."
    )
    freeze: str = key(
        "none", "What stays as it is: none, trunk (all but the task head), or trunk modules, e.g. stem,tail."
    )
    grad_checkpointing: bool = key(False, "Recompute features in the backward pass: less memory, more time.")
    drop_rate: float = key(0.0, "Dropout before the classifier, 0 to 1.")
    drop_path_rate: float = key(0.0, "Stochastic depth of the deepest unit, 0 to 1.")
    size: int = key(224, "Side of the square input, px.")
    val_size: int = key(0, "Side of the input in validation and use, px; 0: as in training.")
    channels: int = key(3, "Input channels: 3 (RGB), 1 (grey), or as many as TIFF stacks or .npy files hold.")
    crop_pct: float = key(0.875, "Validation: share of the shorter side that the centre crop keeps, 0 to 1.")
    interpolation: str = key("bilinear", "Resizing: nearest, bilinear, bicubic or lanczos.")
    crop_scale: tuple[float, float] = key((0.25, 1.0), "Training: smallest and largest share of the area in a crop.")
    crop_ratio: tuple[float, float] = key((0.75, 1.3333), "Training: narrowest and widest crop, width / height.")
    flip: float = key(0.5, "Training: probability of mirroring.")
    color_jitter: float = key(0.0, "Training: largest relative change of brightness, contrast and saturation, 0 to 1.")
    rand_augment_ops: int = key(0, "Training: RandAugment's operations a picture; 0 leaves it out.")
    rand_augment_magnitude: int = key(9, "Training: RandAugment's magnitude, 0 to 30.")
    erase: float = key(0.0, "Training: probability of erasing a rectangle.")
    lighting: float = key(0.0, "Training: PCA lighting's standard deviation (0.1 as published); 0 leaves it out.")
    mixup: float = key(0.0, "Training: alpha of mixup; 0 leaves it out. With cutmix too, each step draws one of them.")
    cutmix: float = key(0.0, "Training: alpha of cutmix; 0 leaves it out.")
    val_fraction: float = key(0.1, "Share of the training pictures held out where the data has no val part.")
    on_error: Literal["stop", "skip"] = key("stop", "What to do about pictures that cannot be read.")
    epochs: int = key(30, "Passes over the training pictures.")
    batch_size: int = key(32, "Pictures a step, of all processes together.")
    accumulate: int = key(1, "Batches whose gradients are added up for one update.")
    optimizer: str = key("sgd", "Any of timm's: sgd (Nesterov momentum), adamw, lamb ...")
    lr: float = key(0.05, "Peak learning rate.")
    momentum: float = key(0.9, "Of SGD.")
    layer_decay: float = key(1.0, "Learning rate of each layer relative to the one above it, 0 to 1.")
    weight_decay: float = key(1e-4, "Weight decay.")
    decay_norms: bool = key(False, "Decay norms and biases too, as published.")
    schedule: Literal["cosine", "step", "constant"] = key("cosine", "Learning rate over time, after the warm-up.")
    warmup_epochs: float = key(1.0, "Linear warm-up, in epochs; fractions count; at most half of the training.")
    step_epochs: int = key(30, "Step schedule: epochs between divisions of the rate by 10.")
    label_smoothing: float = key(0.0, "Cross-entropy's label smoothing, 0 to 1.")
    class_weights: Literal["none", "balanced"] = key(
        "none", "balanced: each class counts alike, however many pictures."
    )
    clip_grad: float = key(0.0, "Largest gradient norm; 0 leaves gradients alone.")
    ema: float = key(0.0, "Decay of the moving average of the weights that is validated and kept, e.g. 0.999; 0: none.")
    patience: int = key(0, "Epochs without a better one after which training stops; 0 never stops early.")
    checkpoint_steps: int = key(0, "Steps between checkpoints, besides one at each epoch's end; 0: only those.")
    log_steps: int = key(0, "Steps between rows of the log; 0: a tenth of an epoch, at most 50.")
    precision: Literal["32", "bf16", "16"] = key("32", "Arithmetic: 32-bit, or mixed with bf16 or 16-bit.")
    workers: int = key(1, "Processes that read pictures; 0 reads in the training process.")
    threads: int = key(0, "CPU threads of the training process; 0 leaves the choice to torch.")
    seed: int = key(0, "Of weights, order and augmentation.")
    device: Literal["auto", "cpu", "cuda", "mps"] = key("auto", "Where to compute.")
    devices: int = key(0, "Processes on each machine, one a GPU; 0: as torchrun or SLURM say, else 1.")
    nodes: int = key(0, "Machines; 0: as torchrun or SLURM say, else 1.")
    strategy: Literal["ddp", "sharded"] = key("ddp", "Several processes: whole models (ddp), or parameters shared out.")
    sync_bn: bool = key(False, "Batch norms over all processes' pictures; on GPUs only.")

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high or value == _INFINITY:
                raise InputError(f"{name}={value}: must be {_bounds(low, high)}")
        if 0 < self.val_size < 32:
            raise InputError(f"val_size={self.val_size}: must be 0 or from 32")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise InputError(
                f"crop_scale={list(self.crop_scale)}: must be two shares of the area, 0 < first <= second <= 1"
            )
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise InputError(f"crop_ratio={list(self.crop_ratio)}: must be two ratios, 0 < first <= second")
        for name in ("lighting", "rand_augment_ops"):
            if getattr(self, name) and self.channels != 3 and (name, self.channels) != ("rand_augment_ops", 1):
                raise InputError(f"{name}={getattr(self, name)}: does not go with channels={self.channels}")

    def to_dict(self) -> dict[str, Any]:
        """For YAML and JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def replace(self, overrides: Mapping[str, Any], where: str = "recipe") -> "Recipe":
        """A copy with some keys changed, names and types checked.

        Raises:
            InputError: an unknown key (the nearest are offered), or a value of the wrong type or out of range.
        """
        hints = typing.get_type_hints(Recipe)
        for name in overrides:
            if name not in hints:
                raise InputError(f"{where}: unknown key {name!r}: {nearest(str(name), hints)}")
        values = {name: _convert(where, name, value, hints[name]) for name, value in overrides.items()}
        return dataclasses.replace(self, **values)


_INFINITY = float("inf")
_RANGES = (
    ("drop_rate", 0, 0.99), ("drop_path_rate", 0, 0.99), ("size", 32, 8192), ("crop_pct", 0.05, 1), ("flip", 0, 1),
    ("val_size", 0, 8192), ("color_jitter", 0, 1), ("rand_augment_ops", 0, 20), ("rand_augment_magnitude", 0, 30),
    ("erase", 0, 1), ("lighting", 0, 10), ("mixup", 0, _INFINITY), ("cutmix", 0, _INFINITY), ("channels", 1, 1024),
    ("val_fraction", 0.001, 0.9), ("epochs", 1, _INFINITY), ("batch_size", 1, _INFINITY), ("lr", 0, _INFINITY),
    ("accumulate", 1, _INFINITY), ("layer_decay", 0.01, 1), ("ema", 0, 0.999999), ("patience", 0, _INFINITY),
    ("checkpoint_steps", 0, _INFINITY), ("log_steps", 0, _INFINITY), ("devices", 0, 1024), ("nodes", 0, 65536),
    ("weight_decay", 0, _INFINITY), ("warmup_epochs", 0, _INFINITY), ("step_epochs", 1, _INFINITY),
    ("label_smoothing", 0, 1), ("clip_grad", 0, _INFINITY), ("workers", 0, 1024), ("threads", 0, 1024),
    ("momentum", 0, 1), ("seed", 0, 2**32 - 1),
)  # fmt: skip


def _bounds(low: float, high: float) -> str:
    return f"{low} or more, and finite" if high == _INFINITY else f"from {low} to {high}"


def _convert(where: str, name: str, value: Any, hint: Any) -> Any:
    """Checks one value against a field's type; ints pass as floats, numeric strings such as 1e-4 as numbers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if str(value) in arguments:
            return str(value)
        raise InputError(f"{where}: {name}={value!r}: {nearest(str(value), arguments)}")
    if origin is tuple:
        if isinstance(value, list | tuple) and len(value) == len(arguments):
            return tuple(_convert(where, name, v, a) for v, a in zip(value, arguments, strict=True))
        raise InputError(f"{where}: {name}={value!r}: must be a list of {len(arguments)} numbers")
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(where, name, value, arguments[0])
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where}: {name}={value!r}: must be {_article(hint.__name__)}")


def _article(name: str) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}[name]


def recipe_names(task: str) -> list[str]:
    """The recipes that the package carries for a task."""
    folder = files("fishnet") / "recipes" / task
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(
    task: str,
    name: str = "small-data",
    overrides: Mapping[str, Any] | None = None,
    brought: Mapping[str, Any] | None = None,
) -> Recipe:
    """A recipe of the package or of a file, with overrides.

    Args:
        task: ``classify`` ...
        name: one of :func:`recipe_names`, or the path of a YAML file.
        overrides: keys to change.
        brought: keys that weights to start from bring; those of a file and ``overrides`` win over them.

    Raises:
        InputError: no such recipe, not YAML, an unknown key (with the nearest valid one) or an invalid value.
    """
    names = recipe_names(task)
    if name in names:
        text = (files("fishnet") / "recipes" / task / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).suffix in (".yaml", ".yml"):
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot read this recipe ({error})") from error
    else:
        raise InputError(f"unknown recipe {name!r} for {task}: {nearest(name, names)} (or give a .yaml file)")
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{name}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}: a recipe is a list of KEY: VALUE lines")
    kept = {key: value for key, value in (brought or {}).items() if name in names or key not in values}
    return Recipe().replace(values, where=name).replace({**kept, **(overrides or {})}, where="command line")
