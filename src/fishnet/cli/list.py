"""``fishnet list``."""

import json
from typing import Annotated

from cyclopts import Parameter


def list_(
    pattern: str = "fishne*",
    /,
    *,
    size: int = 224,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """List networks by name, with parameters and multiply-accumulates (MACs), and which have weights in this package.

    Parameters
    ----------
    pattern
        Shell pattern for the names; 'resnet*' lists timm's ResNets.
    size
        Side of the input to count MACs for, px.
    as_json
        Print one JSON array.
    """
    import torch

    from fishnet.analysis.profile import cost
    from fishnet.backbone.registry import create_model, list_models, size_args
    from fishnet.errors import InputError
    from fishnet.weights import weight_names

    if size < 32:
        raise InputError(f"--size {size}: must be 32 or more")
    names = list_models(pattern)
    if not names:
        raise InputError(f"no network matches {pattern!r}: try '*fish*' or 'resnet*'")
    rows = []
    for name in names:
        with torch.device("meta"):
            model_cost = cost(create_model(name, **size_args(name, size)), (3, size, size))
        parameters, macs = model_cost.parameters, model_cost.macs
        has_weights = name in weight_names()
        rows.append({"name": name, "parameters": parameters, "macs": macs, "weights_in_package": has_weights})
        if not as_json:
            more = "  weights in this package" if has_weights else ""
            print(f"{name:<28} {parameters / 1e6:8.2f} M parameters {macs / 1e9:8.3f} GMACs at {size} px{more}")
    if as_json:
        print(json.dumps(rows, allow_nan=False))
