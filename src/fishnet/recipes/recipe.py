"""Recipes: all settings of a training, as plain YAML that is validated against one dataclass. Torch-free."""

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from fishnet.errors import InputError, nearest
from fishnet.images.preprocess import LONGEST
from fishnet.recipes.ranges import check_ranges
from fishnet.recipes.values import convert
from fishnet.tasks.info import task_names

_CLASSIFICATION: Final = ("classification",)
_DETECTION: Final = ("detection",)
_SEGMENTATION: Final = ("segmentation",)


def key(default: Any, text: str, levels: tuple[str, ...] = (), group: str = "Training") -> Any:
    """Declares one recipe key: default, help text, levels that have it (all by default), and its group of flags."""
    return dataclasses.field(default=default, metadata={"help": text, "levels": levels, "group": group})


_model, _input, _augment, _run = (partial(key, group=group) for group in ("Model", "Input", "Augmentation", "Machine"))


@dataclass(frozen=True)
class Recipe:
    """All settings of a training. Every field is a key of the YAML and a flag of ``fishnet train``."""

    backbone: str = _model("fishnet_small", "Any FishNet (`fishnet list`) or timm model.")
    head: str = _model("default", "Task head. Default: the task's first one.")
    pretrained: bool = _model(
        False, "Start from the backbone's pretrained weights: those in this package, or published ones (a download)."
    )
    end: Literal["head", "body"] = _model(
        "head",
        "FishNet only: head, the whole network; or body, without the fish's head, at a quarter of the cost.",
        _CLASSIFICATION,
    )
    freeze: str = _model(
        "none", "What to freeze: none, trunk (everything but the task head), or modules of the trunk, e.g. stem,tail."
    )
    trunk_norm: Literal["batch", "frozen", "group"] = _model(
        "batch",
        "Normalization in the trunk: batch, as built; frozen, batch norms that training does not change (for "
        "pretrained trunks); or group, group norms.",
        (*_DETECTION, *_SEGMENTATION),
    )
    grad_checkpointing: bool = _model(False, "Recompute features in the backward pass: less memory, more time.")
    drop_rate: float = _model(0.0, "Dropout before the last layer, 0 to 1.", (*_CLASSIFICATION, *_SEGMENTATION))
    drop_path_rate: float = _model(0.0, "Stochastic depth rate of the deepest unit, 0 to 1.")
    head_norm: Literal["group", "batch", "none"] = _model(
        "group", "Normalization in the FPN and the task head.", (*_DETECTION, *_SEGMENTATION)
    )
    decoder_channels: int = _model(256, "Channels of the decoder.", _SEGMENTATION)
    edges: bool = _model(
        False, "Heads body and fish: use the stem's feature map at stride 2, too, and predict there.", _SEGMENTATION
    )
    fpn_channels: int = _model(256, "Channels of the FPN and of the heads on top of it.", _DETECTION)
    box_width: int = _model(1024, "Two-stage heads: width of the box head's fully connected layers.", _DETECTION)
    box_convs: int = _model(
        0, "Two-stage heads: 3x3 convolutions in the box head; 0: only fully connected layers.", _DETECTION
    )
    mask_width: int = _model(256, "Channels of the mask head.", _DETECTION)
    htc_interleaved: bool = _model(
        True, "Head htc: train each stage's mask head on the boxes that the stage has refined.", _DETECTION
    )
    htc_mask_flow: bool = _model(True, "Head htc: pass the features of each mask head to the next one.", _DETECTION)
    htc_semantic: bool = _model(
        True,
        "Head htc: also classify every pixel, and add the features of this branch to those of boxes and masks.",
        _DETECTION,
    )
    anchors: Literal["default", "auto"] = _model(
        "default",
        "Anchor sizes: default, as published (32 to 512 px); or auto, fitted to the boxes of the training split.",
        _DETECTION,
    )
    proposals: int = _model(1000, "Two-stage heads: proposals per image.", _DETECTION)
    roi_samples: int = _model(
        512, "Two-stage heads: proposals per image that are sampled to train the second stage.", _DETECTION
    )
    max_detections: int = _model(100, "Maximum number of detections per image.", _DETECTION)
    nms_iou: float = _model(
        0.5,
        "NMS IoU threshold, 0 to 1: if two boxes of a class overlap more, the one with the lower score is dropped.",
        _DETECTION,
    )
    score_threshold: float = _model(0.05, "Detections with lower scores are dropped, 0 to 1.", _DETECTION)
    threshold: float = _model(0.5, "Confidence threshold of `fishnet predict`, 0 to 1.", _DETECTION)
    size: int = _input(224, "Side of the square input, px; for detectors and segmenters, the image's shorter side.")
    max_size: int = _input(
        0, "Maximum length of the input's longer side, px; 0: 5/3 of size.", (*_DETECTION, *_SEGMENTATION)
    )
    native: bool = _input(
        False,
        "Keep images at their own size (maps, microscopy); size is then only the size of training crops.",
        _SEGMENTATION,
    )
    crop_size: int = _input(
        0, "Side of the square training crops, px of the input; 0: the same as size.", _SEGMENTATION
    )
    multi_label: bool = _input(
        False,
        "Images may have several labels, or none: tables with a column labels or with columns of 0 and 1, or the "
        "classes of annotated objects.",
        _CLASSIFICATION,
    )
    classes: tuple[str, ...] = _input(
        (),
        "Names of the classes to use if the data has more: images, objects and pixels of other classes are left out.",
    )
    fold: int = _input(-1, "Tables with a fold column: the fold to validate on; -1: none.", _CLASSIFICATION)
    ignore: tuple[int | Literal["none"], ...] = _input(
        (),
        "Mask ids to ignore in training and evaluation, besides the format's own; none: no others, not even 255 "
        "where it looks like an outline.",
        _SEGMENTATION,
    )
    void: tuple[str, ...] = _input((), "Names of classes to ignore in training and evaluation.", _SEGMENTATION)
    threshold_masks: int = _input(
        0,
        "Binarize masks: pixels with a value of at least this threshold are foreground, all others background; "
        "0: masks contain class ids.",
        _SEGMENTATION,
    )
    difficult: Literal["ignore", "use"] = _input(
        "ignore",
        "Pascal VOC objects marked difficult: ignore them in training and evaluation, as VOC's own evaluation does; "
        "or use them.",
        _DETECTION,
    )
    val_size: int = _input(
        0, "Side of the input in validation and prediction, px; 0: the same as in training.", _CLASSIFICATION
    )
    channels: int = _input(3, "Input channels: 3 (RGB), 1 (grey), or as many as the TIFF stacks or .npy files have.")
    sixteen_bit: Literal["shift", "stretch", "stretch-each"] = _input(
        "shift",
        "Images of more than 8 bits: shift, use the upper 8 of 16 bits; stretch, map the dataset's range of values "
        "to 0..255; stretch-each, map each image's own range.",
    )
    max_pixels: int = _input(
        0,
        "Maximum number of pixels of an image, for large files you trust; 0: 178956970, and at most 1 GB to decode.",
    )
    crop_pct: float = _input(
        0.875, "Validation: fraction of the shorter side that the centre crop keeps, 0 to 1.", _CLASSIFICATION
    )
    interpolation: str = _input("bilinear", "Interpolation in resizing: nearest, bilinear, bicubic or lanczos.")
    val_fraction: float = _input(
        0.1, "Fraction of the training images to hold out for validation if the data has no val split."
    )
    on_error: Literal["stop", "skip"] = _input("stop", "What to do with images that cannot be read.")
    crop_scale: tuple[float, float] = _augment(
        (0.25, 1.0), "Random crops: smallest and largest fraction of the area.", _CLASSIFICATION
    )
    crop_ratio: tuple[float, float] = _augment(
        (0.75, 1.3333), "Random crops: smallest and largest width / height.", _CLASSIFICATION
    )
    flip: float = _augment(0.5, "Probability of a horizontal flip.")
    flip_vertical: float = _augment(0.0, "Probability of a vertical flip.", (*_DETECTION, *_SEGMENTATION))
    jitter: tuple[float, float] = _augment(
        (1.0, 1.0),
        "Scale jitter: smallest and largest scale, relative to validation.",
        (*_DETECTION, *_SEGMENTATION),
    )
    canvas: bool = _augment(
        False, "Crop or pad images to one fixed size (large-scale jitter), instead of using them whole.", _DETECTION
    )
    crop: float = _augment(0.0, "Probability of a random crop that contains at least one complete object.", _DETECTION)
    photometric: float = _augment(
        0.0, "Probability of changing brightness, contrast, saturation and hue.", (*_DETECTION, *_SEGMENTATION)
    )
    single_class: float = _augment(
        1.0,
        "Maximum fraction of a crop that one class may cover, 0 to 1; other crops are redrawn up to ten times.",
        _SEGMENTATION,
    )
    mosaic: float = _augment(0.0, "Probability of combining four images into one; needs canvas.", _DETECTION)
    color_jitter: float = _augment(
        0.0, "Maximum relative change of brightness, contrast and saturation, 0 to 1.", _CLASSIFICATION
    )
    rand_augment_ops: int = _augment(0, "RandAugment: operations per image; 0: off.", _CLASSIFICATION)
    rand_augment_magnitude: int = _augment(9, "RandAugment: magnitude, 0 to 30.", _CLASSIFICATION)
    erase: float = _augment(0.0, "Probability of erasing a random rectangle.", _CLASSIFICATION)
    lighting: float = _augment(0.0, "Standard deviation of PCA lighting (0.1 as published); 0: off.")
    mixup: float = _augment(
        0.0, "Alpha of mixup; 0: off. With cutmix on as well, each step uses one of the two.", _CLASSIFICATION
    )
    cutmix: float = _augment(0.0, "Alpha of cutmix; 0: off.", _CLASSIFICATION)
    epochs: int = key(30, "Number of epochs.")
    repeats: int = key(1, "Passes over the training images in one epoch, for small data; each pass is augmented anew.")
    batch_size: int = key(32, "Batch size, over all processes.")
    accumulate: int = key(1, "Number of batches over which gradients are accumulated for one update.")
    optimizer: str = key("sgd", "Any timm optimizer: sgd (Nesterov momentum), adamw, lamb ...")
    lr: float = key(0.05, "Peak learning rate.")
    momentum: float = key(0.9, "Momentum of SGD.")
    layer_decay: float = key(
        1.0, "Layer-wise learning-rate decay: rate of a layer relative to the one above it, 0 to 1."
    )
    weight_decay: float = key(1e-4, "Weight decay.")
    decay_norms: bool = key(False, "Apply weight decay to norms and biases too, as published.")
    schedule: Literal["cosine", "step", "milestones", "constant"] = key(
        "cosine", "Learning-rate schedule after the warm-up."
    )
    warmup_epochs: float = key(1.0, "Epochs of linear warm-up; may be a fraction; at most half of the training.")
    step_epochs: int = key(30, "Schedule step: the learning rate is divided by 10 every step_epochs epochs.")
    milestones: tuple[int, ...] = key((), "Schedule milestones: epochs at which the learning rate is divided by 10.")
    loss: str = key(
        "cross-entropy",
        "Sum of losses: cross-entropy, dice, focal, lovasz, e.g. cross-entropy+0.5*dice.",
        _SEGMENTATION,
    )
    boundary: float = key(
        0.0, "Weight of an extra cross-entropy within 2 px of class boundaries; 0: off.", _SEGMENTATION
    )
    auxiliary: float = key(
        0.0, "Weight of an auxiliary loss on the trunk's features at stride 16; 0: off.", _SEGMENTATION
    )
    label_smoothing: float = key(
        0.0, "Label smoothing of the cross-entropy, 0 to 1.", (*_CLASSIFICATION, *_SEGMENTATION)
    )
    class_weights: Literal["none", "balanced", "median"] = key(
        "none",
        "Weights of the classes in the cross-entropy. balanced: every class has the same total weight, however many "
        "images or pixels it has (with multi_label: images with and without the label have the same total weight); "
        "median: the median class frequency divided by the class's own.",
        (*_CLASSIFICATION, *_SEGMENTATION),
    )
    clip_grad: float = key(0.0, "Maximum gradient norm; 0: no clipping.")
    ema: float = key(
        0.0, "Decay of the exponential moving average (EMA) of the weights, which is validated and kept; 0: off."
    )
    patience: int = key(0, "Epochs without improvement after which training stops early; 0: never.")
    seed: int = key(0, "Random seed of weights, order and augmentation.")
    checkpoint_steps: int = _run(
        0, "Steps between checkpoints within an epoch; 0: none. One is always saved at the end of an epoch."
    )
    log_steps: int = _run(0, "Steps between rows of the log; 0: a tenth of an epoch, at most 50.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _run(
        "auto",
        "32-bit floats, or mixed precision with bf16 or 16-bit floats. auto: bf16 on CPUs with AMX and on CUDA GPUs "
        "that compute in it, else fp32. Validation is in fp32.",
    )
    workers: int = _run(1, "Processes that load images; 0: load in the training process.")
    threads: int = _run(0, "CPU threads of the training process; 0: torch's default.")
    device: Literal["auto", "cpu", "cuda", "mps"] = _run("auto", "Device to train on.")
    devices: int = _run(0, "Training processes per machine, one per GPU; 0: as torchrun or SLURM set it, else 1.")
    nodes: int = _run(0, "Number of machines; 0: as torchrun or SLURM set it, else 1.")
    strategy: Literal["ddp", "sharded"] = _run(
        "ddp", "Several processes: ddp, each has the whole model; or sharded, each has a share of the parameters."
    )
    sync_bn: bool = _run(False, "Synchronize batch norms across processes; GPUs only.")

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("val_size", "crop_size"):
            if 0 < getattr(self, name) < 32:
                raise InputError(f"{name}={getattr(self, name)}: must be 0, or 32 or more")
        self._check_pairs()
        self._check_unused()
        if any(id_ != "none" and not 0 <= id_ < 2**32 for id_ in self.ignore):
            raise InputError(f"ignore={list(self.ignore)}: must be ids, 0 or more, or none")
        if 0 < self.max_size < self.size:
            raise InputError(
                f"max_size={self.max_size}: the longer side cannot be below the shorter one, size={self.size}"
            )
        if self.mosaic and not self.canvas:
            raise InputError(f"mosaic={self.mosaic}: needs images of a fixed size: set canvas, too")
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise InputError(f"milestones={list(self.milestones)}: must be epoch numbers in increasing order")
        for name in ("lighting", "rand_augment_ops"):
            if getattr(self, name) and self.channels != 3 and (name, self.channels) != ("rand_augment_ops", 1):
                raise InputError(f"{name}={getattr(self, name)}: does not work with channels={self.channels}")

    def _check_pairs(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise InputError(
                f"crop_scale={list(self.crop_scale)}: must be two fractions of the area, 0 < first <= second <= 1"
            )
        low, high = self.crop_ratio
        if not 0 < low <= high:
            raise InputError(f"crop_ratio={list(self.crop_ratio)}: must be two ratios, 0 < first <= second")
        low, high = self.jitter
        if not 0.05 <= low <= high <= 20:
            raise InputError(f"jitter={list(self.jitter)}: must be two scales, 0.05 <= first <= second <= 20")

    def _check_unused(self) -> None:
        """Raises InputError for keys that have no effect beside others."""
        if self.native and self.max_size:
            raise InputError(f"max_size={self.max_size}: has no effect with native, where images keep their own size")
        for name in ("mixup", "cutmix") if self.multi_label else ():
            if value := getattr(self, name):
                raise InputError(f"{name}={value}: not supported with multi_label: set it to 0")
        if self.multi_label and self.class_weights == "median":
            raise InputError("class_weights=median: compares classes of one label: with multi_label, use balanced")
        if "cross-entropy" in self.loss or self.boundary or self.auxiliary:
            return
        for name in ("class_weights", "label_smoothing"):
            if (value := getattr(self, name)) != Recipe.__dataclass_fields__[name].default:
                raise InputError(
                    f"{name}={value}: applies to cross-entropy, and loss={self.loss} has none: add cross-entropy, "
                    "boundary or auxiliary"
                )

    @property
    def longest(self) -> int:
        """Maximum length of the input's longer side, px; ``size`` where images keep their own size."""
        return self.size if self.native else self.max_size or round(LONGEST * self.size)

    def to_dict(self, task: str) -> dict[str, Any]:
        """Returns the values of a task's keys, for YAML and JSON."""
        values = {name: getattr(self, name) for name in keys_of(task)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def replace(self, overrides: Mapping[str, Any], where: str = "recipe") -> "Recipe":
        """Returns a copy with some keys changed. Setting ``native`` resets ``max_size``, unless both are given.

        Args:
            overrides: new values by key.
            where: where the values come from, for error messages.

        Raises:
            InputError: an unknown key (the nearest ones are offered), or a value of the wrong type or out of range.
        """
        hints = typing.get_type_hints(Recipe)
        for name in overrides:
            if name not in hints:
                raise InputError(f"{where}: unknown key {name!r}: {nearest(str(name), hints)}")
        values = {name: convert(where, name, value, hints[name]) for name, value in overrides.items()}
        if values.get("native"):
            values.setdefault("max_size", 0)
        return dataclasses.replace(self, **values)


def keys_of(task: str) -> list[str]:
    """Returns the recipe keys of a task."""
    return [name for name, field in Recipe.__dataclass_fields__.items() if task in task_names(field.metadata["levels"])]
