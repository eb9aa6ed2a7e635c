"""Draws a benchmark: a bar for each row, with its spread."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fishnet.files.text import short_path

if TYPE_CHECKING:
    from fishnet.analysis.benchmark.measured import Benchmark

_BLUE = "#4895ef"


def draw(benchmark: "Benchmark", path: Path) -> Path:
    """Draws bars of milliseconds per pass, with quartiles as whiskers. Returns the path."""
    from matplotlib.figure import Figure

    many_models = len({row.subject.model for row in benchmark.rows}) > 1
    names = [f"{short_path(row.subject.model)}\n{row.label}" if many_models else row.label for row in benchmark.rows]
    spread = np.array([np.quantile(row.seconds, (0.25, 0.5, 0.75)) for row in benchmark.rows]) * 1e3
    low, middle, high = spread.T
    figure = Figure(figsize=(9, 1.9 + (0.62 if many_models else 0.5) * len(names)), layout="constrained")
    axis = figure.subplots()
    positions = np.arange(len(names))
    axis.barh(positions, middle, color=_BLUE, xerr=np.stack([middle - low, high - middle]), ecolor="#222222", capsize=4)
    for position, row, end in zip(positions, benchmark.rows, high, strict=True):
        rate = row.subject.batch / row.seconds_each
        axis.annotate(
            f"{1e3 * row.seconds_each:.1f} ms, {rate:.1f} images/s, {row.ratio:.2f}x, {100 * row.share:.1f} % of peak",
            (end, position), (8, 0), textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    axis.set_yticks(positions, names)
    axis.invert_yaxis()
    axis.set(xlim=(0, 1.8 * float(high.max())), xlabel="ms per pass: median and quartiles (lower is better)")
    first = benchmark.rows[0].subject
    axis.set_title(
        f"{'' if many_models else short_path(first.model) + ', '}{first.task}, batch {first.batch}, "
        f"{first.height} x {first.width} px, {benchmark.plan.threads} thread(s)\n{benchmark.machine['cpu']}",
        fontsize=10,
    )
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    figure.savefig(path, dpi=110)
    return path
