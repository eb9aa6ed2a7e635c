"""A process that has imported everything once and runs each case in a fork of itself.

Importing torch takes seconds, so an interpreter of its own for each case would take minutes. A fork shares the imports
and nothing else: its memory, time and death are its own.

What is measured, by the child itself: the seconds from the command's first line to its exit code, and the peak of its
resident memory (``VmHWM``, reset by writing 5 to ``/proc/self/clear_refs`` just before). That includes what the imports
occupy and what the child shares with the server, as a user's process would; ``base`` is what there was before.
"""

import contextlib
import importlib
import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

KILLED_AFTER = 60  # seconds: far beyond what any case takes; a guard against hangs and no verdict on speed
PRELOADED = (
    "torch", "torchvision", "timm", "pytorch_lightning", "torchmetrics", "faster_coco_eval", "PIL.Image", "yaml",
    "fishnet.cli.app", "fishnet.cli.data", "fishnet.cli.train", "fishnet.cli.val", "fishnet.cli.predict",
    "fishnet.training.fit", "fishnet.evaluation.evaluate", "fishnet.prediction.predictor",
    "fishnet.data.classification.open",
    "fishnet.data.detection.open", "fishnet.data.segmentation.open", "tests.makers", "tests.detection_makers",
    "tests.segmentation_makers",
)  # fmt: skip
_MAY_LACK = ("pyarrow", "tifffile", "onnx", "onnxruntime")
_MORE = 3 << 30  # bytes of address space that a command may add: what asks for more fails alone, not the machine


@dataclass(frozen=True)
class Outcome:
    """What a case did.

    Attributes:
        code: the exit code; None where the case was killed.
        out, err: standard output and standard error.
        seconds: of the command.
        peak, base: resident memory in MiB, at the most and before the command.
        arguments: of the command.
    """

    code: int | None
    out: str
    err: str
    seconds: float
    peak: float
    base: float
    arguments: tuple[str, ...]


class Server:
    """Starts the process and talks to it; a context manager."""

    def __enter__(self) -> "Server":
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.server"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(KILLED_AFTER)

    def run(self, module: str, name: str, folder: Path) -> Outcome:
        """Writes a case's files into an empty folder and runs its command there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([module, name, str(folder)]).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the server of cases has died"
        content = json.loads(answer)
        assert isinstance(content, dict), f"the case could not be written:\n{content}"
        return Outcome(**{**content, "arguments": tuple(content["arguments"])})


def serve() -> None:
    """Answers each line of standard input, a JSON list of module, case and folder, with a line of JSON."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever an import prints is no answer
    for name in PRELOADED:
        importlib.import_module(name)
    for name in _MAY_LACK:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(*json.loads(line))).encode() + b"\n")
        answers.flush()


def _answer(module: str, name: str, folder: str) -> dict[str, Any] | str:
    place = Path(folder)
    code, written, _ = _forked(lambda: _write(module, name, place), place)
    if not isinstance(written, list):
        return str(written or f"code {code}")
    output = place.with_name(f"{place.name}.output")
    output.mkdir()
    code, measured, seconds = _forked(lambda: _run(written, output), place)
    texts = {
        stream: (output / stream).read_text(errors="backslashreplace") if (output / stream).is_file() else ""
        for stream in ("out", "err")
    }
    rest = measured if isinstance(measured, dict) else {"seconds": seconds, "peak": 0.0, "base": 0.0}
    return {"code": code, "arguments": written, **texts, **rest}


def _write(module: str, name: str, folder: Path) -> list[str] | str:
    try:
        case = next(case for case in importlib.import_module(module).CASES if case.name == name)
        return [str(word) for word in case.write(folder)]
    except BaseException:
        return traceback.format_exc()


def _run(arguments: Sequence[str], output: Path) -> dict[str, float]:
    """In a child: runs the command line with its streams in files; the exit code is the child's own."""
    from fishnet.cli import main

    for number, (stream, mode) in enumerate((("in", 0), ("out", 1), ("err", 1))):
        path = output / stream if mode else Path(os.devnull)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.dup2(handle, number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, "r" if not number else "w") for number in range(3))
    limit = int(_memory("VmSize") * (1 << 20)) + _MORE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    base, began = _memory("VmRSS"), time.monotonic()
    code = 1
    try:
        code = main(list(arguments))
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    return {"code": code, "seconds": time.monotonic() - began, "peak": _memory("VmHWM"), "base": base}


def _memory(key: str) -> float:
    """A line of this process's status, in MiB; 0 where the system has no such file."""
    try:
        rows = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith(f"{key}:")), 0.0)


def _forked(work: Callable[[], Any], folder: Path) -> tuple[int | None, Any, float]:
    """Runs work in a child, in a folder, and kills it with all that it started when it takes too long.

    Returns:
        (its exit code, None where it was killed, what the work returned or None, seconds).
    """
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if not child:
        os.close(reading)
        os.setsid()
        os.chdir(folder)
        with os.fdopen(writing, "wb") as answer:
            answer.write(pickle.dumps(work()))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = _read_within(answer, KILLED_AFTER)
    if content is None:
        os.killpg(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it left running
    result = pickle.loads(content) if content else None  # our own child's words
    if isinstance(result, dict) and "code" in result:
        code = result.pop("code")
    return (None if content is None else code), result, time.monotonic() - began


def _read_within(stream: IO[bytes], seconds: float) -> bytes | None:
    """All that a stream gives until it ends; None where it does not end in time."""
    content, until = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([stream], [], [], max(0, until - time.monotonic()))
        if not ready:
            return None
        some = os.read(stream.fileno(), 1 << 16)
        if not some:
            return content
        content += some


if __name__ == "__main__":
    serve()
    os._exit(0)  # taking down what was imported would take seconds
