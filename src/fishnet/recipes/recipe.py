"""Recipes: all settings of a training, as plain YAML validated against one dataclass. Torch-free."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal

from fishnet.bundle.renamed import with_current_keys
from fishnet.errors import InputError, nearest
from fishnet.files.documents import parse_yaml
from fishnet.files.reading import MIB, read_text
from fishnet.images.preprocess import LONGEST
from fishnet.tasks.info import task_info, task_names

IMAGE: Final = ("classification",)
REGION: Final = ("detection",)
PIXEL: Final = ("segmentation",)


def key(default: Any, text: str, levels: tuple[str, ...] = (), group: str = "Training") -> Any:
    """One recipe key: its default, its help text, the levels that know it (none named: all), and its group of flags."""
    return dataclasses.field(default=default, metadata={"help": text, "levels": levels, "group": group})


_model, _input, _augment, _run = (partial(key, group=group) for group in ("Model", "Input", "Augmentation", "Machine"))


@dataclass(frozen=True)
class Recipe:
    """All settings of a training. Every field is a key of the YAML and a flag of ``fishnet train``."""

    backbone: str = _model("fishnet_small", "Any FishNet (`fishnet list`) or timm model.")
    head: str = _model("default", "Task head; default: the task's first.")
    pretrained: bool = _model(False, "Start from the backbone's published weights.")
    end: Literal["head", "body"] = _model(
        "head", "FishNets only: the whole fish, or all but its head (a quarter of the cost).", IMAGE
    )
    freeze: str = _model(
        "none", "What stays as it is: none, trunk (all but the task head), or trunk modules, e.g. stem,tail."
    )
    trunk_norm: Literal["batch", "frozen", "group"] = _model(
        "batch",
        "The trunk's norms: as built; batch norms kept as they are (pretrained trunks); or group norms.",
        (*REGION, *PIXEL),
    )
    grad_checkpointing: bool = _model(False, "Recompute features in the backward pass: less memory, more time.")
    drop_rate: float = _model(0.0, "Dropout before the last layer, 0 to 1.", (*IMAGE, *PIXEL))
    drop_path_rate: float = _model(0.0, "Stochastic depth of the deepest unit, 0 to 1.")
    head_norm: Literal["group", "batch", "none"] = _model(
        "group", "Norms in the FPN and the task head.", (*REGION, *PIXEL)
    )
    decoder_channels: int = _model(256, "Channels of the decoder.", PIXEL)
    edges: bool = _model(False, "Heads body and fish: look at the stem's map at stride 2, too, and score there.", PIXEL)
    fpn_channels: int = _model(256, "Channels of the FPN and of the heads over it.", REGION)
    box_width: int = _model(1024, "Two-stage heads: values in the box head's fully connected layers.", REGION)
    box_convs: int = _model(0, "Two-stage heads: 3x3 convolutions in the box head; 0: fully connected alone.", REGION)
    mask_width: int = _model(256, "Mask heads: channels.", REGION)
    anchors: Literal["default", "auto"] = _model(
        "default", "Anchor sizes: published (32 to 512 px), or auto: fitted to the training part's boxes.", REGION
    )
    proposals: int = _model(1000, "Two-stage heads: proposals an image.", REGION)
    roi_samples: int = _model(512, "Two-stage heads: proposals an image that the second stage learns from.", REGION)
    max_detections: int = _model(100, "Objects found in an image, at most.", REGION)
    nms_iou: float = _model(
        0.5, "Overlap (IoU) from which the lower-scored of two boxes of a class goes, 0 to 1.", REGION
    )
    score_threshold: float = _model(0.05, "Scores below it are never given, 0 to 1.", REGION)
    threshold: float = _model(0.5, "Score from which fishnet predict shows an object, 0 to 1.", REGION)
    size: int = _input(224, "Side of the square input, px; of detectors and segmenters the image's shorter side.")
    max_size: int = _input(0, "Longest side of the input, px; 0: 5/3 of the shorter.", (*REGION, *PIXEL))
    native: bool = _input(
        False, "Images keep their own size (maps, microscopy); size is then only what training cuts out.", PIXEL
    )
    crop_size: int = _input(0, "Side of the square that training cuts out, px of the input; 0: as size.", PIXEL)
    classes: tuple[str, ...] = _input(
        (), "Names of the classes to use, where the data has more: objects, pixels and images of others are left out."
    )
    fold: int = _input(-1, "Tables with a column of folds: the number of the fold to validate with; -1: none.", IMAGE)
    ignore: tuple[int | Literal["none"], ...] = _input(
        (),
        "Ids in the masks that are neither learnt from nor measured, besides the format's own; none: no others, not "
        "even 255 where it looks like an outline.",
        PIXEL,
    )
    void: tuple[str, ...] = _input((), "Names of classes that are neither learnt from nor measured.", PIXEL)
    threshold_masks: int = _input(
        0, "Masks are black and white: from this number on foreground, below background, e.g. 128; 0: ids.", PIXEL
    )
    difficult: Literal["ignore", "use"] = _input(
        "ignore",
        "Pascal VOC's objects marked difficult: neither trained on nor counted, as in its own evaluation; or used.",
        REGION,
    )
    val_size: int = _input(0, "Side of the input in validation and use, px; 0: as in training.", IMAGE)
    channels: int = _input(3, "Input channels: 3 (RGB), 1 (grey), or as many as TIFF stacks or .npy files hold.")
    sixteen_bit: Literal["shift", "stretch", "stretch-each"] = _input(
        "shift",
        "More than 8 bits: shift, the upper 8 of 16 bits; stretch, the dataset's range of values as 0 to 255; "
        "stretch-each, each image's own range.",
    )
    max_pixels: int = _input(0, "Largest image, px, for large files that you trust; 0: 178956970, and 1 GB to decode.")
    crop_pct: float = _input(0.875, "Validation: share of the shorter side that the centre crop keeps, 0 to 1.", IMAGE)
    interpolation: str = _input("bilinear", "Resizing: nearest, bilinear, bicubic or lanczos.")
    val_fraction: float = _input(0.1, "Share of the training images held out where the data has no val part.")
    on_error: Literal["stop", "skip"] = _input("stop", "What to do about images that cannot be read.")
    crop_scale: tuple[float, float] = _augment((0.25, 1.0), "Smallest and largest share of the area in a crop.", IMAGE)
    crop_ratio: tuple[float, float] = _augment((0.75, 1.3333), "Narrowest and widest crop, width / height.", IMAGE)
    flip: float = _augment(0.5, "Probability of mirroring.")
    flip_vertical: float = _augment(0.0, "Probability of turning upside down.", (*REGION, *PIXEL))
    jitter: tuple[float, float] = _augment(
        (1.0, 1.0), "Smallest and largest scale, relative to the validation's.", (*REGION, *PIXEL)
    )
    canvas: bool = _augment(
        False, "Cut out of, or padded to, one fixed size (large-scale jitter), instead of whole images.", REGION
    )
    crop: float = _augment(0.0, "Probability of a crop that keeps objects.", REGION)
    photometric: float = _augment(
        0.0, "Probability of changing brightness, contrast, saturation and hue.", (*REGION, *PIXEL)
    )
    single_class: float = _augment(
        1.0, "Largest share of one class in a crop, 0 to 1: other crops are drawn up to ten times.", PIXEL
    )
    mosaic: float = _augment(0.0, "Probability of putting four images together; needs canvas.", REGION)
    color_jitter: float = _augment(
        0.0, "Largest relative change of brightness, contrast and saturation, 0 to 1.", IMAGE
    )
    rand_augment_ops: int = _augment(0, "RandAugment's operations an image; 0 leaves it out.", IMAGE)
    rand_augment_magnitude: int = _augment(9, "RandAugment's magnitude, 0 to 30.", IMAGE)
    erase: float = _augment(0.0, "Probability of erasing a rectangle.", IMAGE)
    lighting: float = _augment(0.0, "PCA lighting's standard deviation (0.1 as published); 0 leaves it out.")
    mixup: float = _augment(
        0.0, "Alpha of mixup; 0 leaves it out. With cutmix too, each step draws one of them.", IMAGE
    )
    cutmix: float = _augment(0.0, "Alpha of cutmix; 0 leaves it out.", IMAGE)
    epochs: int = key(30, "Passes over the training images.")
    repeats: int = key(1, "Passes over few training images that make one epoch, each augmented anew.")
    batch_size: int = key(32, "Images a step, of all processes together.")
    accumulate: int = key(1, "Batches whose gradients are added up for one update.")
    optimizer: str = key("sgd", "Any of timm's: sgd (Nesterov momentum), adamw, lamb ...")
    lr: float = key(0.05, "Peak learning rate.")
    momentum: float = key(0.9, "Of SGD.")
    layer_decay: float = key(1.0, "Learning rate of each layer relative to the one above it, 0 to 1.")
    weight_decay: float = key(1e-4, "Weight decay.")
    decay_norms: bool = key(False, "Decay norms and biases too, as published.")
    schedule: Literal["cosine", "step", "milestones", "constant"] = key(
        "cosine", "Learning rate over time, after the warm-up."
    )
    warmup_epochs: float = key(1.0, "Linear warm-up, in epochs; fractions count; at most half of the training.")
    step_epochs: int = key(30, "Step schedule: epochs between divisions of the rate by 10.")
    milestones: tuple[int, ...] = key((), "Milestones schedule: epochs at which the rate is divided by 10.")
    loss: str = key(
        "cross-entropy", "Sum of losses: cross-entropy, dice, focal, lovasz, e.g. cross-entropy+0.5*dice.", PIXEL
    )
    boundary: float = key(0.0, "Weight of the cross-entropy within 2 px of the classes' boundaries; 0: none.", PIXEL)
    auxiliary: float = key(
        0.0, "Weight of scores from the trunk's stride 16 that training learns by too; 0: none.", PIXEL
    )
    label_smoothing: float = key(0.0, "Cross-entropy's label smoothing, 0 to 1.", (*IMAGE, *PIXEL))
    class_weights: Literal["none", "balanced", "median"] = key(
        "none",
        "balanced: each class counts alike, however many images or pixels; median: by the median frequency over its "
        "own.",
        (*IMAGE, *PIXEL),
    )
    clip_grad: float = key(0.0, "Largest gradient norm; 0 leaves gradients alone.")
    ema: float = key(0.0, "Decay of the moving average of the weights that is validated and kept, e.g. 0.999; 0: none.")
    patience: int = key(0, "Epochs without a better one after which training stops; 0 never stops early.")
    seed: int = key(0, "Of weights, order and augmentation.")
    checkpoint_steps: int = _run(0, "Steps between checkpoints, besides one at each epoch's end; 0: only those.")
    log_steps: int = _run(0, "Steps between rows of the log; 0: a tenth of an epoch, at most 50.")
    precision: Literal["32", "bf16", "16"] = _run("32", "Arithmetic: 32-bit, or mixed with bf16 or 16-bit.")
    workers: int = _run(1, "Processes that read images; 0 reads in the training process.")
    threads: int = _run(0, "CPU threads of the training process; 0 leaves the choice to torch.")
    device: Literal["auto", "cpu", "cuda", "mps"] = _run("auto", "Where to compute.")
    devices: int = _run(0, "Processes on each machine, one a GPU; 0: as torchrun or SLURM say, else 1.")
    nodes: int = _run(0, "Machines; 0: as torchrun or SLURM say, else 1.")
    strategy: Literal["ddp", "sharded"] = _run(
        "ddp", "Several processes: whole models (ddp), or parameters shared out."
    )
    sync_bn: bool = _run(False, "Batch norms over all processes' images; on GPUs only.")

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high or value == _INFINITY:
                raise InputError(f"{name}={value}: must be {_bounds(low, high)}")
        for name in ("val_size", "crop_size"):
            if 0 < getattr(self, name) < 32:
                raise InputError(f"{name}={getattr(self, name)}: must be 0 or from 32")
        self._check_pairs()
        self._check_in_vain()
        if any(id_ != "none" and not 0 <= id_ < 2**32 for id_ in self.ignore):
            raise InputError(f"ignore={list(self.ignore)}: must be ids, 0 or more, or none")
        if 0 < self.max_size < self.size:
            raise InputError(
                f"max_size={self.max_size}: the longest side cannot be below the shorter, size={self.size}"
            )
        if self.mosaic and not self.canvas:
            raise InputError(f"mosaic={self.mosaic}: four images need a fixed size: set canvas, too")
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise InputError(f"milestones={list(self.milestones)}: must be rising numbers of epochs")
        for name in ("lighting", "rand_augment_ops"):
            if getattr(self, name) and self.channels != 3 and (name, self.channels) != ("rand_augment_ops", 1):
                raise InputError(f"{name}={getattr(self, name)}: does not go with channels={self.channels}")

    def _check_pairs(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise InputError(
                f"crop_scale={list(self.crop_scale)}: must be two shares of the area, 0 < first <= second <= 1"
            )
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise InputError(f"crop_ratio={list(self.crop_ratio)}: must be two ratios, 0 < first <= second")
        low, high = self.jitter
        if not 0.05 <= low <= high <= 20:
            raise InputError(f"jitter={list(self.jitter)}: must be two scales, 0.05 <= first <= second <= 20")

    def _check_in_vain(self) -> None:
        """Raises InputError for keys that others make of no use."""
        if self.native and self.max_size:
            raise InputError(f"max_size={self.max_size}: does not go with native: images keep their own size")
        if "cross-entropy" in self.loss or self.boundary or self.auxiliary:
            return
        for name in ("class_weights", "label_smoothing"):
            if (value := getattr(self, name)) != Recipe.__dataclass_fields__[name].default:
                raise InputError(
                    f"{name}={value}: is for cross-entropy, and loss={self.loss} has none: add cross-entropy, boundary "
                    "or auxiliary"
                )

    @property
    def longest(self) -> int:
        """Longest side of the input, px, where images keep their proportions; ``size`` where they keep their size."""
        return self.size if self.native else self.max_size or round(LONGEST * self.size)

    def to_dict(self, task: str) -> dict[str, Any]:
        """The keys that a task knows, for YAML and JSON."""
        values = {name: getattr(self, name) for name in keys_of(task)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def replace(self, overrides: Mapping[str, Any], where: str = "recipe") -> "Recipe":
        """A copy with some keys changed, names and types checked. ``native`` puts an earlier ``max_size`` out of use.

        Raises:
            InputError: an unknown key (the nearest are offered), or a value of the wrong type or out of range.
        """
        hints = typing.get_type_hints(Recipe)
        for name in overrides:
            if name not in hints:
                raise InputError(f"{where}: unknown key {name!r}: {nearest(str(name), hints)}")
        values = {name: _convert(where, name, value, hints[name]) for name, value in overrides.items()}
        if values.get("native"):
            values.setdefault("max_size", 0)
        return dataclasses.replace(self, **values)


_INFINITY = float("inf")
_RANGES = (
    ("drop_rate", 0, 0.99), ("drop_path_rate", 0, 0.99), ("size", 32, 8192), ("crop_pct", 0.05, 1), ("flip", 0, 1),
    ("val_size", 0, 8192), ("color_jitter", 0, 1), ("rand_augment_ops", 0, 20), ("rand_augment_magnitude", 0, 30),
    ("erase", 0, 1), ("lighting", 0, 10), ("mixup", 0, _INFINITY), ("cutmix", 0, _INFINITY), ("channels", 1, 1024),
    ("val_fraction", 0.001, 0.9), ("epochs", 1, _INFINITY), ("repeats", 1, _INFINITY),
    ("batch_size", 1, _INFINITY), ("lr", 0, _INFINITY),
    ("accumulate", 1, _INFINITY), ("layer_decay", 0.01, 1), ("ema", 0, 0.999999), ("patience", 0, _INFINITY),
    ("checkpoint_steps", 0, _INFINITY), ("log_steps", 0, _INFINITY), ("devices", 0, 1024), ("nodes", 0, 65536),
    ("fold", -1, 1_000_000),
    ("weight_decay", 0, _INFINITY), ("warmup_epochs", 0, _INFINITY), ("step_epochs", 1, _INFINITY),
    ("label_smoothing", 0, 1), ("clip_grad", 0, _INFINITY), ("workers", 0, 1024), ("threads", 0, 1024),
    ("momentum", 0, 1), ("seed", 0, 2**32 - 1), ("fpn_channels", 8, 4096), ("box_width", 8, 16384),
    ("box_convs", 0, 16), ("mask_width", 8, 4096), ("proposals", 1, 100_000), ("roi_samples", 1, 100_000),
    ("max_detections", 1, 100_000), ("nms_iou", 0, 1), ("score_threshold", 0, 1),
    ("threshold", 0, 1), ("max_size", 0, 16384),
    ("flip_vertical", 0, 1), ("crop", 0, 1), ("photometric", 0, 1), ("mosaic", 0, 1),
    ("decoder_channels", 8, 4096), ("crop_size", 0, 8192), ("single_class", 0, 1), ("boundary", 0, 1000),
    ("auxiliary", 0, 1000), ("threshold_masks", 0, 65_535),
)  # fmt: skip


def keys_of(task: str) -> list[str]:
    """The recipe keys that a task knows."""
    return [name for name, field in Recipe.__dataclass_fields__.items() if task in task_names(field.metadata["levels"])]


def _check_keys(task: str, values: Mapping[str, Any], where: str) -> None:
    """Raises InputError for a key of another task; unknown ones are none of its business."""
    for name in values:
        field = Recipe.__dataclass_fields__.get(str(name))
        if field is not None and task not in (known := task_names(field.metadata["levels"])):
            raise InputError(f"{where}: {name}: is for {' and '.join(known)}, not for {task}")


def _bounds(low: float, high: float) -> str:
    return f"{low} or more, and finite" if high == _INFINITY else f"from {low} to {high}"


def _convert(where: str, name: str, value: Any, hint: Any) -> Any:
    """Checks one value against a field's type; ints pass as floats, numeric strings such as 1e-4 as numbers."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if str(value) in arguments:
            return str(value)
        raise InputError(f"{where}: {name}={value!r}: {nearest(str(value), arguments)}")
    if origin is tuple and arguments[-1] is Ellipsis:
        if isinstance(value, list | tuple):
            return tuple(_convert(where, name, v, arguments[0]) for v in value)
        kind = "texts" if arguments[0] is str else "numbers"
        raise InputError(f"{where}: {name}={value!r}: must be a list of {kind}")
    if origin is tuple:
        if isinstance(value, list | tuple) and len(value) == len(arguments):
            return tuple(_convert(where, name, v, a) for v, a in zip(value, arguments, strict=True))
        raise InputError(f"{where}: {name}={value!r}: must be a list of {len(arguments)} numbers")
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _one_of(where, name, value, arguments)
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where}: {name}={value!r}: must be {_article(hint.__name__)}")


def _one_of(where: str, name: str, value: Any, hints: tuple[Any, ...]) -> Any:
    """A value of one of several types, the first that takes it. Raises the InputError of the first where none does."""
    first: InputError | None = None
    for hint in (hint for hint in hints if hint is not type(None)):
        try:
            return _convert(where, name, value, hint)
        except InputError as error:
            first = first or error
    raise first or InputError(f"{where}: {name}={value!r}: no value that is known")


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
        InputError: no such task or recipe, not YAML, an unknown key (with the nearest valid one) or an invalid value.
    """
    task_info(task)
    names = recipe_names(task)
    if name in names:
        text = (files("fishnet") / "recipes" / task / f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).suffix in (".yaml", ".yml"):
        text = read_text(name, MIB, "recipe")
    else:
        raise InputError(f"unknown recipe {name!r} for {task}: {nearest(name, names)} (or give a .yaml file)")
    values = parse_yaml(text, name) or {}
    if not isinstance(values, dict):
        raise InputError(f"{name}: a recipe is a list of KEY: VALUE lines")
    values = with_current_keys(values, name)
    _check_keys(task, values, name)
    _check_keys(task, overrides or {}, "command line")
    kept = {key: value for key, value in (brought or {}).items() if name in names or key not in values}
    return Recipe().replace(values, where=name).replace({**kept, **(overrides or {})}, where="command line")
