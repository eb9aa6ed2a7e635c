"""From a plan to a benchmark."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from fishnet.analysis.benchmark import machine
from fishnet.analysis.benchmark.engines import PEAKS, SIDE, theirs
from fishnet.analysis.benchmark.measured import Benchmark, Row
from fishnet.analysis.benchmark.plan import EXPORTED, Plan, Subject
from fishnet.analysis.benchmark.turns import Child, take_turns
from fishnet.analysis.profile import cost
from fishnet.errors import InputError, WorkError

Progress = Callable[[int, int], None]


def benchmark(plan: Plan, progress: Progress | None = None) -> Benchmark:
    """Measures every model by every engine, each in a process of its own, in rounds.

    Args:
        plan: what is measured.
        progress: is told the rounds that are done, and all.

    Raises:
        InputError: an unknown model, or none that any of the engines can run here; the message says why.
        WorkError: a process ended in the midst of measuring.
    """
    subjects, before = plan.subjects(), machine.load()
    left_out: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fishnet-benchmark-") as folder, ExitStack() as stack:
        started: list[tuple[Subject, str, Child]] = []
        for number, it in enumerate(subjects):
            files = _Files(it, Path(folder) / str(number))
            for engine in plan.engines:
                log = Path(folder) / f"{number}-{engine}.log"
                try:
                    child = Child.start(engine, it, plan.threads, files.of(engine), log)
                except (InputError, WorkError, ModuleNotFoundError) as error:
                    left_out.append(f"{it.model} {engine}: {_reason(error)}")
                    continue
                stack.callback(child.close)
                started.append((it, engine, child))
        if not started:
            raise InputError(f"no engine is left: {'; '.join(left_out)}")
        matrices = [Child.start(name, None, plan.threads, None, Path(folder) / f"{name}.log") for name in PEAKS]
        for child in matrices:
            stack.callback(child.close)
        take_turns([*matrices, *(child for _, _, child in started)], plan.rounds, plan.warm_up, progress)
    peaks = {child.name: 2 * SIDE**3 / median(child.seconds) for child in matrices}
    rows, counted = list[Row](), dict[tuple[str, bool], int]()
    for it, engine, child in started:
        key = it.model, engine == "pytorchcv"
        if key not in counted:
            counted[key] = _macs(it, engine)
        rows.append(Row(it, engine, tuple(child.seconds), tuple(child.starts), child.passes, child.peak, counted[key]))
    return Benchmark(plan, compared(rows, plan, max(peaks.values())), tuple(left_out), peaks, machine.facts(before))


def compared(rows: list[Row], plan: Plan, peak: float) -> tuple[Row, ...]:
    """Rows with their ratios to the plan's baseline and their shares of the peak, in FLOP/s."""
    first = next((row for row in rows if row.engine == plan.baseline), rows[0])
    rate = first.subject.batch / first.seconds_each
    return tuple(
        replace(row, ratio=row.subject.batch / row.seconds_each / rate, share=row.flops / peak) for row in rows
    )


def _reason(error: Exception) -> str:
    return f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)


@dataclass(frozen=True)
class _Files:
    """A model's exported files, each written when it is first asked for.

    Attributes:
        it: the model.
        folder: for the files.
    """

    it: Subject
    folder: Path

    def of(self, engine: str) -> Path | None:
        """The file that an engine runs; None for an engine that runs the module.

        Raises:
            InputError, WorkError: it cannot be exported.
            ModuleNotFoundError: a package is missing.
        """
        if engine not in EXPORTED:
            return None
        from fishnet.exporting.graphs import write_onnx, write_openvino

        file = self.folder / ("model.onnx" if engine == "onnx" else "model.xml")
        if not file.exists():
            self.folder.mkdir(exist_ok=True)
            bundle, model = self.it.build()
            if engine == "onnx":
                write_onnx(model, bundle, file)
            else:
                plain = self.folder / "plain.onnx"
                write_openvino(plain, file, write_onnx(model, bundle, plain, plain=True))
        return file


def _macs(it: Subject, engine: str) -> int:
    model = theirs(it) if engine == "pytorchcv" else it.build()[1]
    return cost(model, (it.channels, it.height, it.width)).macs
