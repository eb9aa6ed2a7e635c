"""``fishnet info NAME|BUNDLE|FILE``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from fishnet.bundle.bundle import Bundle


def info(what: str, /, *, as_json: Annotated[bool, Parameter(name="--json", negative=())] = False) -> None:
    """Describe a network, a bundle or an exported file.

    Parameters
    ----------
    what
        The name of a network, the folder of a bundle, an exported file (.onnx, .xml, .pt2), or hf-hub:user/name for a
        bundle on the Hugging Face Hub.
    as_json
        Print one JSON object.
    """
    from fishnet.bundle.bundle import is_bundle
    from fishnet.bundle.hub import local_path
    from fishnet.runtime.exported import is_exported

    path = local_path(what)
    if is_exported(path) and not path.is_dir():
        facts = _exported(path)
    else:
        facts = _bundle(path) if path.exists() or is_bundle(path) else _network(what)
    if as_json:
        print(json.dumps(facts, allow_nan=False))
        return
    lines = dict(_lines(facts))
    width = max(map(len, lines)) + 2
    for key, text in lines.items():
        print(f"{key:<{width}}{text}")


def _bundle(path: Path) -> dict[str, Any]:
    from fishnet.bundle.bundle import read_bundle

    bundle = read_bundle(path)
    return {"bundle": str(path), **_config(bundle)}


def _config(bundle: "Bundle") -> dict[str, Any]:
    """Returns a bundle's config with the names of the classes only. The values of a single head are at top level."""
    facts = bundle.to_dict()
    heads = {name: {**head.to_dict(), "classes": list(head.classes.names)} for name, head in bundle.heads.items()}
    if len(heads) > 1:
        return {**facts, "heads": heads}
    del facts["heads"]
    return {**facts, **next(iter(heads.values()))}


def _exported(path: Path) -> dict[str, Any]:
    from fishnet.runtime.exported import format_of

    file_format = format_of(path)
    if file_format == "pt2":
        from fishnet.runtime.pt2 import read_pt2 as read
    else:
        from fishnet.runtime.engines import read_exported as read
    exported = read(path)
    batch = "any number of images" if exported.dynamic_batch else "one image at a time"
    weights = path.with_suffix(".bin") if file_format == "openvino" else path
    step = ", in multiples of 32" if exported.any_size else ""
    size = f"any size from {exported.min_side} px{step}"
    if exported.size is not None:
        size = f"{exported.size[0]} x {exported.size[1]} px"
    facts: dict[str, Any] = {
        "file": str(path),
        "format": file_format,
        **({"runs": "only with --trust: a .pt2 file can run any code of its author"} if file_format == "pt2" else {}),
        "precision": exported.precision,
        "bytes": weights.stat().st_size,
        "takes": f"{batch}, {size}",
        "size": None if exported.size is None else list(exported.size),
        "dynamic_batch": exported.dynamic_batch,
        "outputs": list(exported.outputs),
        **({} if exported.metrics is None else {"measured": exported.metrics}),
        **_config(exported.bundle),
    }
    return facts


def _network(name: str) -> dict[str, Any]:
    import torch

    from fishnet.analysis.profile import cost
    from fishnet.backbone import FishNet
    from fishnet.backbone.registry import create_model
    from fishnet.weights import weight_names

    with torch.device("meta"):
        model: Any = create_model(name)
    config = model.default_cfg
    size = tuple(config["input_size"])
    model_cost = cost(model, size)
    published = config.get("url") or config.get("hf_hub_id") or "none published"
    if name in weight_names():
        published = "in this package"
    facts: dict[str, Any] = {
        "network": name,
        "parameters": model_cost.parameters,
        "macs": model_cost.macs,
        "input": list(size),
        "crop_pct": config["crop_pct"],
        "mean": list(config["mean"]),
        "std": list(config["std"]),
        "pretrained": published,
        "features": [f"{row['num_chs']} at stride {row['reduction']}" for row in getattr(model, "feature_info", [])],
    }
    if isinstance(model, FishNet):
        facts["spec"] = {key: getattr(model.spec, key) for key in model.spec.__dataclass_fields__}
    return facts


def _lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields a name and a text for each fact, and for each head of several."""
    for key, value in facts.items():
        if key == "heads":
            yield from ((f"head {name}", _head(head)) for name, head in value.items())
        elif key == "panoptic":
            yield key, _panoptic(value)
        else:
            yield key, _text(value)


def _head(head: dict[str, Any]) -> str:
    kind = f"{head['task']}, head {head['head']}" + (f" ({_text(head['head_args'])})" if head["head_args"] else "")
    thresholds = f"; thresholds: {_text(head['thresholds'])}" if head["thresholds"] else ""
    return f"{kind}; {len(head['classes']):,} classes: {_text(head['classes'])}{thresholds}"


def _panoptic(config: dict[str, Any]) -> str:
    names = {kind: [row["name"] for row in config["segments"] if row["is_thing"] == kind] for kind in (True, False)}
    thresholds = {key: value for key, value in config.items() if key != "segments"}
    return (
        f"{len(names[True]):,} things: {_text(names[True])}; {len(names[False]):,} stuff: {_text(names[False])}; "
        f"{_text(thresholds)}"
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value[:12])) + (f", ... ({len(value)})" if len(value) > 12 else "")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
