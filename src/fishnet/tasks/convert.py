"""Checkpoint files of others, converted: to this project's names, or to a bundle that predicts."""

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

    Every tensor is checked to have its place in the registered network that the file is of. (A FishNet of a ``Spec``
    of one's own needs no conversion: its ``load_state_dict`` takes every layout.)

    Returns:
        What was written.

    Raises:
        InputError: no checkpoint, no FishNet, none that is registered, or not all of one.
    """
    found, it = read_and_describe(file)
    if it.layout == "unknown":
        raise InputError(
            f"{file}: no FishNet of a known layout: for another timm network, say --backbone NAME --bundle DIR"
        )
    if trunk_of(found) is not None:
        raise InputError(f"{file}: holds a task head beside its trunk; fishnet train --weights takes it as it is")
    if it.variant is None:
        raise InputError(f"{file}: not whole, or no registered network: it seems to be {it}")
    with torch.device("meta"):
        model = create_model(it.variant, num_classes=it.num_classes, in_chans=it.in_chans or 3, **_end(found))
    try:
        with identify_misfits():
            state, _ = fit(model, found)
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
    """Makes a classifier's bundle of a checkpoint.

    Args:
        file: see :func:`~fishnet.backbone.weights.read_checkpoint`.
        folder: the bundle's.
        backbone: the timm network that the weights belong to; for a FishNet it is told from the file.
        by_order: see :func:`~fishnet.backbone.weights.match_by_order`.
        classes: names, in the order of the outputs; by default ImageNet's where there are 1000 outputs.
        mean, std: per channel or one for all, of pixel values from 0 to 1; by default the network's.
        size: side of the input, px; by default the network's.
        crop_pct: share of the shorter side that the centre crop keeps, 0..1; by default the network's.
        interpolation: as in :class:`~fishnet.images.preprocess.Preprocess`; by default the network's.

    Returns:
        The bundle as written.

    Raises:
        InputError: a bundle's own weights, weights of another network, classes that are not known or not as many as
            outputs, or preprocessing that the network cannot have.
    """
    if Path(file).name == WEIGHTS and is_bundle(Path(file).parent):
        raise InputError(f"{Path(file).parent}: is a bundle already, with classes and preprocessing: copy the folder")
    if by_order:
        check_ordered(file)
    found, it = read_and_describe(file)
    name = backbone or it.variant
    if name is None:
        raise InputError(f"{file}: seems to be {it}: say which timm network it is with --backbone NAME")
    args = _end(found) if it.layout != "unknown" and it.variant == name else {}
    model = create_model(name, **args)
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    try:
        state = _by_position(model, found) if by_order else to_native(found)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    classifier, first = (_first_of(state, config.get(key)) for key in ("classifier", "first_conv"))
    if classifier is None:
        raise InputError(f"{file}: no classifier of {name} inside: nothing that a bundle could predict with")
    channels = first.shape[1] if first is not None and first.ndim == 4 else 3
    bundle = Bundle.single(
        "classify",
        name,
        _class_table(classes, classifier.shape[0], str(file)),
        _preprocess(model, config, channels, mean, std, size, crop_pct, interpolation),
        backbone_args=args,
        versions=versions(),
    )
    whole = build_from(bundle)
    with identify_misfits():
        load_weights(whole.trunk.backbone, file, by_order=by_order)
    return write_bundle(folder, bundle, lambda path: save_weights(whole, path))


def _end(state: dict[str, Tensor]) -> dict[str, Any]:
    """The option of a FishNet that ends with the body; none for a whole fish."""
    return {} if any(key.startswith("head.") for key in to_native(state)) else {"end": "body"}


def _by_position(model: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: found[key] for name, key in pair_by_order(model, found).items()}


def _first_of(state: dict[str, Tensor], layers: str | Iterable[str] | None) -> Tensor | None:
    """The weight of a layer that timm's config names, of the first one where it names several."""
    name = layers if isinstance(layers, str) else next(iter(layers or ()), "")
    return state.get(f"{name}.weight")


def _class_table(names: Sequence[str] | None, outputs: int, file: str) -> Classes:
    if names is None:
        if outputs != 1000:
            raise InputError(f"{file}: {outputs} outputs have no known names: give --classes FILE, one name a line")
        names = imagenet_names()
    if len(names) != outputs:
        raise InputError(f"{file}: {outputs} outputs but {len(names)} class names")
    return Classes.of(names)


def imagenet_names() -> list[str]:
    """ImageNet-1k's names in the order of the usual outputs, from timm; the WordNet id tells doubles apart."""
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
    """The network's own preprocessing, as timm has it, with what the user wants otherwise."""
    from timm.data import resolve_model_data_config

    mode_of(channels)  # raises where images cannot be its input
    own: dict[str, Any] = resolve_model_data_config(model)
    height, width = own["input_size"][1:]
    if size is not None and size != height and config.get("fixed_input_size"):
        raise InputError(f"size={size}: this network takes {height} px only")
    if size is not None and size < 32:
        raise InputError(f"size={size}: must be from 32")
    means = _per_channel(own["mean"] if mean is None else mean, channels, "mean")
    stds = _per_channel(own["std"] if std is None else std, channels, "std")
    if min(stds) <= 0:
        raise InputError(f"std={min(stds):g}: must be more than 0")
    crop_pct = own["crop_pct"] if crop_pct is None else crop_pct
    interpolation = interpolation or own["interpolation"].replace("random", "bilinear")
    return Preprocess((size or height, size or width), crop_pct, interpolation, means, stds)


def _per_channel(values: Sequence[float], channels: int, what: str) -> tuple[float, ...]:
    if len(values) == channels:
        return tuple(values)
    if len(values) == 1:
        return tuple(values) * channels
    if channels == 1 and values:
        return (sum(values) / len(values),)
    raise InputError(f"{what}: {len(values)} values for {channels} channels")
