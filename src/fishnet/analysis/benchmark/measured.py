"""The results of a benchmark: numbers, a table, and files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fishnet.analysis.benchmark.drawing import draw
from fishnet.analysis.benchmark.plan import Plan, Subject, label
from fishnet.files.text import short_path

RESULTS, IMAGE = "results.json", "benchmark.png"
_HEADS = ("model", "engine", "ms", "quartiles", "images/s", "ratio", "memory", "GMACs", "of peak")


@dataclass(frozen=True)
class Row:
    """The result of one model with one engine.

    Attributes:
        subject: the model and its input.
        engine: the engine.
        seconds: time of one pass, for each round.
        starts: start of each turn, in seconds since the first turn of all.
        passes: number of passes in each turn; ``seconds`` are their mean.
        peak: largest resident set of its process in bytes; None if the system does not report it.
        macs: multiply-accumulates of one image.
        ratio: images per second relative to the baseline's row, by medians.
        share: 2 MACs per second over the machine's sgemm peak, from 0; above 1 it is faster than float32 can be.
        precision: what the engine computed in.
    """

    subject: Subject
    engine: str
    seconds: tuple[float, ...]
    starts: tuple[float, ...]
    passes: int
    peak: int | None
    macs: int
    ratio: float = 1.0
    share: float = 0.0
    precision: str = "fp32"

    @property
    def label(self) -> str:
        """The engine, and the precision if it is not float32."""
        return label(self.engine, self.precision)

    @property
    def seconds_each(self) -> float:
        """The median time of a pass."""
        return median(self.seconds)

    @property
    def flops(self) -> float:
        """Floating-point operations per second, at the median time."""
        return 2 * self.macs * self.subject.batch / self.seconds_each

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON; times in milliseconds."""
        low, middle, high = (1e3 * float(value) for value in np.quantile(self.seconds, (0.25, 0.5, 0.75)))
        return {
            "model": self.subject.model,
            "task": self.subject.task,
            "head": self.subject.head,
            "engine": self.engine,
            "precision": self.precision,
            "input": [self.subject.batch, self.subject.channels, self.subject.height, self.subject.width],
            "ms": {
                "median": middle,
                "lower_quartile": low,
                "upper_quartile": high,
                "min": 1e3 * min(self.seconds),
                "max": 1e3 * max(self.seconds),
            },
            "images_per_second": self.subject.batch / self.seconds_each,
            "ratio": self.ratio,
            "peak_memory_bytes": self.peak,
            "macs": self.macs,
            "sgemm_share": self.share,
            "passes_a_turn": self.passes,
            "rounds_ms": [1e3 * value for value in self.seconds],
            "starts_s": list(self.starts),
        }


@dataclass(frozen=True)
class Benchmark:
    """All results of one run.

    Attributes:
        plan: the settings.
        rows: the results, in the order of the plan.
        left_out: a line for each model that an engine could not run, with the reason.
        peaks: floating-point operations per second of large float32 matrix products, by library, at the median.
        machine: processor, threads, load averages, versions.
    """

    plan: Plan
    rows: tuple[Row, ...]
    left_out: tuple[str, ...]
    peaks: Mapping[str, float]
    machine: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "left_out": list(self.left_out),
            "sgemm_flops": dict(self.peaks),
            "rounds": self.plan.rounds,
            "warm_up": self.plan.warm_up,
            "machine": dict(self.machine),
        }

    def lines(self) -> list[str]:
        """Returns a table, and below it the input and the machine."""
        cells = [list(_HEADS), *(_cells(row) for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADS))]
        table = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        return [*table, "", *self.footer()]

    def footer(self) -> list[str]:
        """Returns lines on the input and the machine."""
        subject, machine = self.rows[0].subject, self.machine
        peak = max(self.peaks.values(), default=0.0)
        versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
        load = " before, ".join(f"{value:.2f}" for value in machine["load_average"])
        return [
            f"{subject.task}, {subject.batch} x {subject.channels} x {subject.height} x {subject.width}, "
            f"{', '.join(self.plan.precisions)}, "
            f"{self.plan.threads} thread(s); {self.plan.rounds} interleaved rounds after "
            f"{self.plan.warm_up} not counted; MB = 10**6 bytes",
            f"peak: {peak / 1e9:.1f} GFLOP/s in float32 matrix products, in the same rounds",
            f"{machine['cpu']}, {machine['cores']} cores ({machine['vectors']}); load average {load} after",
            versions,
        ]

    def write(self, folder: Path) -> list[Path]:
        """Writes results.json and benchmark.png into a folder, which is created if missing. Returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        results = folder / RESULTS
        results.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        return [results, draw(self, folder / IMAGE)]


def _cells(row: Row) -> Sequence[str]:
    low, high = (1e3 * float(value) for value in np.quantile(row.seconds, (0.25, 0.75)))
    return [
        short_path(row.subject.model),
        row.label,
        f"{1e3 * row.seconds_each:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{row.subject.batch / row.seconds_each:.2f}",
        f"{row.ratio:.2f}",
        "-" if row.peak is None else f"{row.peak / 1e6:.0f} MB",
        f"{row.macs / 1e9:.3f}",
        f"{100 * row.share:.1f} %",
    ]
