"""Runs a benchmark."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import median

from fishnet.analysis.benchmark import machine
from fishnet.analysis.benchmark.engines import PEAKS, SIDE, pytorchcv_model
from fishnet.analysis.benchmark.measured import Benchmark, Row
from fishnet.analysis.benchmark.plan import EXPORTED, Plan, Subject, label
from fishnet.analysis.benchmark.turns import Child, take_turns
from fishnet.analysis.profile import cost
from fishnet.errors import InputError, WorkError
from fishnet.runtime.exported import SUFFIXES

Progress = Callable[[int, int], None]


def benchmark(plan: Plan, progress: Progress | None = None) -> Benchmark:
    """Measures every model with every engine, each in its own process, in rounds.

    Args:
        plan: the settings.
        progress: is called with the rounds done and their total.

    Raises:
        InputError: a model is unknown, or no engine can run any of the models here; the message says why.
        WorkError: a process ended while it was measured.
    """
    subjects, before = plan.subjects(), machine.load()
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fishnet-benchmark-") as folder, ExitStack() as stack:
        started: list[tuple[Subject, str, str, Child]] = []
        for number, subject in enumerate(subjects):
            files = _Files(subject, Path(folder) / str(number))
            for engine, precision in product(plan.engines, plan.precisions):
                log = Path(folder) / f"{number}-{engine}-{precision}.log"
                try:
                    child = Child.start(engine, subject, plan.threads, files.of(engine, precision), log, precision)
                except (InputError, WorkError, ModuleNotFoundError) as error:
                    left_out.append(f"{subject.model} {label(engine, precision)}: {_reason(error)}")
                    continue
                stack.callback(child.close)
                started.append((subject, engine, precision, child))
        if not started:
            raise InputError(f"no engine can run: {'; '.join(left_out)}")
        matrices = [Child.start(name, None, plan.threads, None, Path(folder) / f"{name}.log") for name in PEAKS]
        for child in matrices:
            stack.callback(child.close)
        take_turns([*matrices, *(child for *_, child in started)], plan.rounds, plan.warm_up, progress)
    peaks = {child.name: 2 * SIDE**3 / median(child.seconds) for child in matrices}
    rows, macs = list[Row](), dict[tuple[str, bool], int]()
    for subject, engine, precision, child in started:
        key = subject.model, engine == "pytorchcv"
        if key not in macs:
            macs[key] = _macs(subject, engine)
        seconds, starts = tuple(child.seconds), tuple(child.starts)
        rows.append(Row(subject, engine, seconds, starts, child.passes, child.peak, macs[key], precision=precision))
    return Benchmark(plan, compared(rows, plan, max(peaks.values())), tuple(left_out), peaks, machine.facts(before))


def compared(rows: list[Row], plan: Plan, peak: float) -> tuple[Row, ...]:
    """Returns rows with their ratios to the plan's baseline and their shares of the peak (FLOP/s)."""
    first = next((row for row in rows if row.engine == plan.baseline), rows[0])
    rate = first.subject.batch / first.seconds_each
    return tuple(
        replace(row, ratio=row.subject.batch / row.seconds_each / rate, share=row.flops / peak) for row in rows
    )


def _reason(error: Exception) -> str:
    return f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)


@dataclass(frozen=True)
class _Files:
    """A model's exported files, each written when it is first needed.

    Attributes:
        subject: the model.
        folder: where the files go.
    """

    subject: Subject
    folder: Path

    def of(self, engine: str, precision: str) -> Path | None:
        """Returns the file that an engine runs; None for an engine that runs the module.

        Raises:
            InputError, WorkError: the model cannot be exported.
            ModuleNotFoundError: a package is missing.
        """
        if engine not in EXPORTED:
            return None
        is_int8 = precision == "int8"
        file = self.folder / f"model{'-int8' if is_int8 else ''}{SUFFIXES['onnx' if engine == 'onnx' else 'openvino']}"
        if not file.exists():
            self.folder.mkdir(exist_ok=True)
            if is_int8:
                self._quantize(engine, file)
            else:
                self._write(engine, file, plain=engine == "openvino")
        return file

    def _write(self, engine: str, file: Path, plain: bool) -> None:
        from fishnet.exporting.graphs import write_onnx, write_openvino

        bundle, model = self.subject.build()
        onnx = file if engine == "onnx" else file.with_suffix(".onnx").with_stem(f"{file.stem}-plain")
        exported = write_onnx(model, bundle, onnx, plain=plain)
        if engine == "openvino":
            write_openvino(onnx, file, exported)

    def _quantize(self, engine: str, file: Path) -> None:
        from fishnet.exporting.quantize import quantize_onnx, quantize_openvino

        plain = file.with_stem(f"{file.stem}-fp32")
        self._write(engine, plain, plain=True)
        quantize = quantize_onnx if engine == "onnx" else quantize_openvino
        quantize(plain, file, [image[None] for image in self.subject.images()])


def _macs(subject: Subject, engine: str) -> int:
    model = pytorchcv_model(subject) if engine == "pytorchcv" else subject.build()[1]
    return cost(model, (subject.channels, subject.height, subject.width)).macs
