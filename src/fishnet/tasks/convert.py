"""Conversion of checkpoint files: to this project's tensor names, or to a classifier's bundle."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fishnet.backbone.identify import Description, describe, identify_misfits, read_and_describe
from fishnet.backbone.registry import create_model
from fishnet.backbone.weights import (
    check_ordered,
    fit,
    load_weights,
    pair_by_order,
    to_native,
    trunk_of,
)
from fishnet.bundle.bundle import WEIGHTS, Bundle, is_bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.files.writing import atomic_path
from fishnet.images.decoding import mode_of
from fishnet.images.preprocess import Preprocess
from fishnet.tasks.store import build_from, save_state, save_weights, versions


def native_from_checkpoint(file: str | Path, out: Path) -> Description:
    """Writes a FishNet checkpoint of any known layout as safetensors with this project's names.

    All tensors are checked against the registered network of the file. (A FishNet with a custom ``Spec`` needs no
    conversion: its ``load_state_dict`` accepts every layout.)

    Returns:
        A description of the file written.

    Raises:
        InputError: no checkpoint, no FishNet, no registered FishNet, or an incomplete one.
    """
    weights, contents = read_and_describe(file)
    if contents.layout == "unknown":
        raise InputError(
            f"{file}: no FishNet of a known layout: for another timm network, make a bundle (--backbone NAME --bundle "
            "DIR)"
        )
    if trunk_of(weights) is not None:
        raise InputError(f"{file}: holds a model with a task head: train with it as weights, without converting it")
    if contents.variant is None:
        raise InputError(f"{file}: incomplete, or no registered network: it seems to hold {contents}")
    classes, in_chans = contents.num_classes, contents.in_chans or 3
    with torch.device("meta"):
        model = create_model(contents.variant, num_classes=classes, in_chans=in_chans, **_end_args(weights))
    try:
        with identify_misfits():
            state, _ = fit(model, weights)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    with atomic_path(out) as partial:
        save_state(state, partial)
    return describe(state)


def bundle_from_checkpoint(
    file: str | Path,
    folder: Path,
    backbone: str | None = None,
    *,
    by_order: bool = False,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    crop_pct: float | None = None,
    interpolation: str | None = None,
) -> Bundle:
    """Makes a classifier's bundle from a checkpoint.

    Args:
        file: see :func:`~fishnet.backbone.weights.read_checkpoint`.
        folder: the bundle's folder.
        backbone: the timm network of the weights; a FishNet is identified from the file.
        by_order: see :func:`~fishnet.backbone.weights.match_by_order`.
        classes: names in the order of the outputs; by default ImageNet's if there are 1000 outputs.
        mean, std: per channel or one for all, of pixel values from 0 to 1; by default the network's.
        size: side of the input, px; by default the network's.
        crop_pct: share of the shorter side that the centre crop keeps, 0..1; by default the network's.
        interpolation: as in :class:`~fishnet.images.preprocess.Preprocess`; by default the network's.

    Returns:
        The bundle as written.

    Raises:
        InputError: a bundle's own weights, weights of another network, unknown classes or another number of them than
            of outputs, or preprocessing that the network does not support.
    """
    if Path(file).name == WEIGHTS and is_bundle(Path(file).parent):
        raise InputError(f"{Path(file).parent}: is already a bundle, with classes and preprocessing: copy the folder")
    if by_order:
        check_ordered(file)
    weights, contents = read_and_describe(file)
    name = backbone or contents.variant
    if name is None:
        raise InputError(f"{file}: seems to hold {contents}: name its timm network with --backbone NAME")
    args = _end_args(weights) if contents.layout != "unknown" and contents.variant == name else {}
    model = create_model(name, **args)
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    try:
        state = _renamed_by_order(model, weights) if by_order else to_native(weights)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    classifier, first_conv = (_layer_weight(state, config.get(key)) for key in ("classifier", "first_conv"))
    if classifier is None:
        raise InputError(f"{file}: has no classifier of {name}: a bundle needs one to predict")
    channels = first_conv.shape[1] if first_conv is not None and first_conv.ndim == 4 else 3
    bundle = Bundle.single(
        "classify",
        name,
        _class_table(classes, classifier.shape[0], str(file)),
        _preprocess(model, config, channels, mean, std, size, crop_pct, interpolation),
        backbone_args=args,
        versions=versions(),
    )
    task_model = build_from(bundle)
    with identify_misfits():
        load_weights(task_model.trunk.backbone, file, by_order=by_order)
    return write_bundle(folder, bundle, lambda path: save_weights(task_model, path))


def _end_args(state: dict[str, Tensor]) -> dict[str, Any]:
    """The backbone argument of a FishNet that ends with the body; no argument for a whole fish."""
    return {} if any(key.startswith("head.") for key in to_native(state)) else {"end": "body"}


def _renamed_by_order(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: state[key] for name, key in pair_by_order(model, state).items()}


def _layer_weight(state: dict[str, Tensor], layers: str | Iterable[str] | None) -> Tensor | None:
    """The weight of the layer that timm's config names, or of the first of several."""
    name = layers if isinstance(layers, str) else next(iter(layers or ()), "")
    return state.get(f"{name}.weight")


def _class_table(names: Sequence[str] | None, outputs: int, file: str) -> Classes:
    if names is None:
        if outputs != 1000:
            raise InputError(f"{file}: no class names for {outputs} outputs: give --classes FILE, with one per line")
        names = imagenet_names()
    if len(names) != outputs:
        raise InputError(f"{file}: {outputs} outputs but {len(names)} class names")
    return Classes.of(names)


def imagenet_names() -> list[str]:
    """ImageNet-1k's names in the usual order of outputs, from timm. Duplicates get their WordNet id."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names = [info.index_to_description(i).split(",")[0] for i in range(1000)]
    return [
        f"{name} ({info.index_to_label_name(i)})" if names.count(name) > 1 else name for i, name in enumerate(names)
    ]


def _preprocess(
    model: nn.Module,
    config: dict[str, Any],
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    size: int | None,
    crop_pct: float | None,
    interpolation: str | None,
) -> Preprocess:
    """The network's own preprocessing from timm, with the given arguments instead."""
    from timm.data import resolve_model_data_config

    mode_of(channels)  # raises if images cannot have that many channels
    data_config: dict[str, Any] = resolve_model_data_config(model)
    height, width = data_config["input_size"][1:]
    if size is not None and size != height and config.get("fixed_input_size"):
        raise InputError(f"size={size}: this network supports only {height} px")
    if size is not None and size < 32:
        raise InputError(f"size={size}: must be at least 32")
    means = _per_channel(data_config["mean"] if mean is None else mean, channels, "mean")
    stds = _per_channel(data_config["std"] if std is None else std, channels, "std")
    if min(stds) <= 0:
        raise InputError(f"std={min(stds):g}: must be more than 0")
    crop_pct = data_config["crop_pct"] if crop_pct is None else crop_pct
    interpolation = interpolation or data_config["interpolation"].replace("random", "bilinear")
    return Preprocess((size or height, size or width), crop_pct, interpolation, means, stds)


def _per_channel(values: Sequence[float], channels: int, key: str) -> tuple[float, ...]:
    if len(values) == channels:
        return tuple(values)
    if len(values) == 1:
        return tuple(values) * channels
    if channels == 1 and values:
        return (sum(values) / len(values),)
    raise InputError(f"{key}: {len(values)} values for {channels} channels: give one, or one per channel")
