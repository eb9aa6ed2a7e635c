"""Draws the gradients of one or several models."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fishnet.analysis.inspection.gradients import Flow
from fishnet.files.text import short_path
from fishnet.files.writing import atomic_path


def draw_gradients(flows: Mapping[str, Flow], path: Path) -> Path:
    """Draws the gradients at stages and weights, from the input on the left to the score layers on the right.

    Args:
        flows: by the model's name.
        path: a PNG.

    Returns:
        The path.

    Raises:
        WorkError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, flow in flows.items():
        left.plot(
            _depths(flow.stages),
            list(flow.stages.values()),
            marker="o",
            markersize=4,
            linewidth=1,
            label=short_path(name),
        )
        ratios = [value if value > 0 else np.nan for value in flow.weights.values()]
        zeros = sum(value == 0 for value in flow.weights.values())
        label = f"{short_path(name)} ({zeros} of {len(ratios)} are 0)" if zeros else short_path(name)
        right.plot(_depths(flow.weights), ratios, marker=".", linestyle="none", label=label)
    if len(flows) == 1:
        stages = next(iter(flows.values())).stages
        left.set_xticks(_depths(stages), list(stages), rotation=45, ha="right")
    left.set(title="gradient of the loss at each stage's output", ylabel="L2 norm")
    right.set(title="gradient of each weight", ylabel="L2 norm / norm of the weight")
    for axis in (left, right):
        axis.set_yscale("log")
        axis.set_xlabel("from the input to the score layers")
        axis.grid(alpha=0.3)
        axis.legend()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
    return path


def _depths(values: Mapping[str, float]) -> NDArray[np.float64]:
    """Positions between 0 and 1, evenly spaced."""
    positions: NDArray[np.float64] = (np.arange(len(values)) + 0.5) / max(1, len(values))
    return positions
