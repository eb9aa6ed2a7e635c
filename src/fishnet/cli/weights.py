"""``fishnet weights inspect|convert``."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from fishnet.errors import InputError

app = App(name="weights", help="Inspect and convert checkpoint files.")


@app.command
def inspect(file: Path, /, *, as_json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """Describe a checkpoint file: layout, network, classes, parameters.

    Parameters
    ----------
    file
        A .safetensors, .pth, .pt, .tar or .ckpt file, a bundle, or a network with weights in this package.
    as_json
        Print one JSON object.
    """
    from fishnet.backbone.identify import read_and_describe
    from fishnet.bundle.bundle import WEIGHTS, is_bundle
    from fishnet.bundle.hub import bundle_path

    if is_bundle(path := bundle_path(file)):
        file = path / WEIGHTS
    _, checkpoint = read_and_describe(file)
    if as_json:
        print(json.dumps({"file": str(file), **dataclasses.asdict(checkpoint)}, allow_nan=False))
        return
    classes = "none: it has no classifier" if checkpoint.num_classes == 0 else checkpoint.num_classes
    rows = {
        "file": f"{file} ({file.stat().st_size:,} bytes)",
        "layout": checkpoint.layout,
        "network": checkpoint.network,
        "classes": "unknown" if classes is None else classes,
        "channels": "unknown" if checkpoint.in_chans is None else checkpoint.in_chans,
        "parameters": f"{checkpoint.parameters:,}",
        "tensors": f"{checkpoint.tensors:,}",
        **({"not finite": f"{checkpoint.not_finite:,} tensors: broken weights"} if checkpoint.not_finite else {}),
    }
    for key, value in rows.items():
        print(f"{key:<12}{value}")


@app.command
def convert(
    file: Path,
    out: Path | None = None,
    /,
    *,
    backbone: str | None = None,
    bundle: Path | None = None,
    by_order: Annotated[bool, Parameter(negative=())] = False,
    classes: Path | None = None,
    mean: Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True, negative=())] = None,
    std: Annotated[tuple[float, ...] | None, Parameter(consume_multiple=True, negative=())] = None,
    size: int | None = None,
    crop_pct: float | None = None,
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None,
    force: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Convert a checkpoint to safetensors, or to a bundle that predicts.

    `convert FILE OUT.safetensors` converts a FishNet checkpoint of any known layout to this project's tensor names.
    `convert FILE --backbone NAME --bundle DIR` makes a bundle from a classifier of any timm network.

    Parameters
    ----------
    file
        The checkpoint.
    out
        The .safetensors file to write.
    backbone
        Network of the weights. A FishNet is recognized from the file.
    bundle
        Folder of the bundle to write.
    by_order
        Match tensors by order instead of by name, for the same network with other tensor names.
    classes
        Text file with one class name per line, in the order of the outputs. Default for 1000 outputs: ImageNet's.
    mean
        Mean per channel, for pixel values from 0 to 1; one number applies to all channels. Default: the network's.
    std
        Standard deviation per channel; one number applies to all channels. Default: the network's.
    size
        Side of the input, px. Default: the network's.
    crop_pct
        Fraction of the shorter side that the centre crop keeps, 0 to 1. Default: the network's.
    interpolation
        Interpolation in resizing. Default: the network's.
    force
        Overwrite existing files.
    """
    from fishnet.tasks.convert import bundle_from_checkpoint, native_from_checkpoint

    if (out is None) == (bundle is None):
        raise InputError("give either OUT.safetensors or --bundle DIR")
    if out is not None:
        bundle_only = {
            "--backbone": backbone,
            "--by-order": by_order,
            "--classes": classes,
            "--mean": mean,
            "--std": std,
            "--size": size,
            "--crop-pct": crop_pct,
            "--interpolation": interpolation,
        }
        for name in (name for name, value in bundle_only.items() if value):
            raise InputError(f"{name} is only for --bundle DIR")
        if out.suffix != ".safetensors":
            raise InputError(f"{out}: the name must end in .safetensors")
        _check_free(out, force)
        checkpoint = native_from_checkpoint(file, out)
        print(f"{out}: {checkpoint}, {checkpoint.parameters:,} parameters")
        return
    assert bundle is not None
    _check_free(bundle / "config.json", force)
    written = bundle_from_checkpoint(
        file, bundle, backbone, by_order=by_order, classes=_names(classes), mean=mean, std=std, size=size,
        crop_pct=crop_pct, interpolation=interpolation,
    )  # fmt: skip
    height, width = written.preprocess.size
    print(
        f"bundle: {bundle} ({written.backbone} at {height}x{width} px, {len(written.classes)} classes, first "
        f"{written.classes.names[0]!r})"
    )


def _check_free(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise InputError(f"{path}: already exists: choose another name, or --force")


def _names(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read these class names ({error})") from error
    if not names:
        raise InputError(f"{file}: no class names in this file: give one per line")
    return names
