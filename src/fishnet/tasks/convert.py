"""Checkpoint files of others, converted: to this project's names, or to a bundle that predicts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fishnet.backbone.registry import create_model
from fishnet.backbone.weights import Description, describe, load_weights, read_checkpoint, to_native
from fishnet.bundle import Bundle, write_bundle
from fishnet.data.labels import Classes
from fishnet.errors import InputError
from fishnet.preprocess import Preprocess
from fishnet.tasks.store import build_from, save_state, save_weights, versions


def native_from_checkpoint(file: str | Path, out: Path) -> Description:
    """Writes a FishNet checkpoint of any known layout as safetensors with this project's names.

    Where the file is of a registered network, every tensor is checked to have its place in it.

    Returns:
        What was written.

    Raises:
        InputError: no checkpoint, no FishNet, or not all of one.
    """
    found = read_checkpoint(file)
    it = describe(found)
    if it.layout == "unknown":
        raise InputError(
            f"{file}: no FishNet of a known layout: for another timm network, say --backbone NAME --bundle DIR"
        )
    if it.variant is not None:
        end = "head" if any(key.startswith("head.") for key in to_native(found)) else "body"
        load_weights(create_model(it.variant, num_classes=it.num_classes, in_chans=it.in_chans, end=end), file)
    native = to_native(found)
    partial = out.with_name(f".{out.name}.partial")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_state(native, partial)
    partial.replace(out)
    return describe(native)


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

    Returns:
        The bundle as written.

    Raises:
        InputError: weights of another network, or classes that are not known or not as many as outputs.
    """
    state = read_checkpoint(file)
    it = describe(state)
    backbone = backbone or it.variant
    if backbone is None:
        raise InputError(f"{file}: no FishNet of a known layout: say which timm network it is with --backbone NAME")
    config: dict[str, Any] = create_model(backbone).default_cfg  # type: ignore[assignment]
    outputs = _outputs(to_native(state), config, by_order)
    if not outputs:
        raise InputError(f"{file}: no classifier of {backbone} inside: nothing that a bundle could predict with")
    table = _class_table(classes, outputs, str(file))
    channels = it.in_chans or config["input_size"][0]
    trunk_size = (size, size) if size else tuple(config["input_size"][1:])
    preprocess = Preprocess(
        trunk_size,
        config["crop_pct"],
        config["interpolation"] if config["interpolation"] != "random" else "bilinear",
        _per_channel(mean or config["mean"], channels, "mean"),
        _per_channel(std or config["std"], channels, "std"),
    )
    bundle = Bundle(
        task="classify", backbone=backbone, classes=table, preprocess=preprocess, versions=versions(),
    )  # fmt: skip
    model = build_from(bundle)
    load_weights(model.trunk, file, by_order=by_order)
    return write_bundle(folder, bundle, lambda path: save_weights(model, path))


def _outputs(state: dict[str, Tensor], config: dict[str, Any], by_order: bool) -> int:
    """Number of a checkpoint's classes: of the network's classifier by name, or, by order, of the last tensor."""
    name = config["classifier"]
    weight = next(reversed(state.values())) if by_order else state.get(f"{name}.weight")
    return 0 if weight is None else weight.shape[0]


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


def _per_channel(values: Sequence[float], channels: int, what: str) -> tuple[float, ...]:
    if len(values) == channels:
        return tuple(values)
    if len(values) == 1:
        return tuple(values) * channels
    if channels == 1:
        return (sum(values) / len(values),)
    raise InputError(f"{what}: {len(values)} values for {channels} channels")
