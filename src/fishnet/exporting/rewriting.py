"""Rewrites ONNX graphs for speed, with the same outputs. benchmarks/inference.md has the gain of each rewriting."""

from typing import Any

from fishnet.exporting.layout import stay_blocked
from fishnet.exporting.splitting import split_concatenations


def optimise(model: Any) -> Any:
    """Returns a model with the same function that onnxruntime computes faster.

    Args:
        model: an ``onnx.ModelProto``, in float32, of any network; it is not changed.

    Returns:
        A model with the same inputs, outputs and metadata, whose outputs are the same to rounding.
    """
    return stay_blocked(split_concatenations(model))
