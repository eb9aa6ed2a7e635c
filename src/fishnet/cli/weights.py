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
    """What a checkpoint file is: layout, network, classes, parameters.

    Parameters
    ----------
    file
        A .safetensors, .pth, .pt, .tar or .ckpt file.
    as_json
        Print one JSON object.
    """
    from fishnet.backbone.identify import read_described

    _, it = read_described(file)
    if as_json:
        print(json.dumps({"file": str(file), **dataclasses.asdict(it)}, allow_nan=False))
        return
    classes = "none: no classifier inside" if it.num_classes == 0 else it.num_classes
    rows = {
        "file": f"{file} ({file.stat().st_size:,} bytes)",
        "layout": it.layout,
        "network": it.network,
        "classes": "not told" if classes is None else classes,
        "channels": "not told" if it.in_chans is None else it.in_chans,
        "parameters": f"{it.parameters:,}",
        "tensors": f"{it.tensors:,}",
        **({"not finite": f"{it.not_finite:,} tensors: broken weights"} if it.not_finite else {}),
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

    `convert FILE OUT.safetensors` gives a FishNet of any known layout this project's names. `convert FILE --backbone
    NAME --bundle DIR` makes a bundle of any timm network's classifier.

    Parameters
    ----------
    file
        The checkpoint.
    out
        The .safetensors file to write.
    backbone
        The network that the weights belong to; for a FishNet it is told from the file.
    bundle
        The bundle's folder to write.
    by_order
        Match tensors by their order instead of by name: the same network under other names.
    classes
        A text file with one class name a line, in the order of the outputs. 1000 outputs are taken for ImageNet's.
    mean
        Per channel, of pixel values from 0 to 1; one number counts for all channels. Default: the network's.
    std
        The same for the standard deviation.
    size
        Side of the input, px. Default: the network's.
    crop_pct
        Share of the shorter side that the centre crop keeps, 0 to 1. Default: the network's.
    interpolation
        How images are resized. Default: the network's.
    force
        Overwrite.
    """
    from fishnet.tasks.convert import bundle_from_checkpoint, native_from_checkpoint

    if (out is None) == (bundle is None):
        raise InputError("say where to: either OUT.safetensors or --bundle DIR")
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
            raise InputError(f"{name} belongs to --bundle DIR")
        if out.suffix != ".safetensors":
            raise InputError(f"{out}: the name must end in .safetensors")
        _check_free(out, force)
        it = native_from_checkpoint(file, out)
        print(f"{out}: {it}, {it.parameters:,} parameters")
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
        raise InputError(f"{path}: exists already: choose another name, or --force")


def _names(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read these class names ({error})") from error
    if not names:
        raise InputError(f"{file}: no class names inside: one a line")
    return names
