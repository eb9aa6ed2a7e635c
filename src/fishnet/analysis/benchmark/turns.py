"""Processes that take turns: in each round, every process computes once while the others wait."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from fishnet.analysis.benchmark.engines import environment
from fishnet.analysis.benchmark.plan import Subject, label, to_values
from fishnet.errors import InputError, WorkError

TURN = 0.1  # s, minimum length of a turn: fast models run several times in a turn
_PAUSE = 0.01  # s between turns, so that the threads of the last process fall asleep


@dataclass
class Child:
    """An engine with a model in its own process.

    Attributes:
        name: for messages.
        process: the process.
        log: its standard error.
        seconds: time of a pass, for each measured round.
        starts: start of these turns, in seconds since the first turn of all.
        passes: in each turn.
        peak: the process's largest resident set in bytes; None if unknown.
    """

    name: str
    process: "subprocess.Popen[str]"
    log: TextIO
    seconds: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    passes: int = 1
    peak: int | None = None

    @classmethod
    def start(
        cls, engine: str, subject: Subject | None, threads: int, file: Path | None, log: Path, precision: str = "fp32"
    ) -> "Child":
        """Starts a process and waits until it has built its model and run it once.

        Raises:
            InputError: the engine cannot run this model here; the message says why.
        """
        output = log.open("w+", encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-m", "fishnet.analysis.benchmark.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, env=environment(threads), text=True,
            encoding="utf-8",
        )  # fmt: skip
        child = cls(engine if subject is None else f"{subject.model} {label(engine, precision)}", process, output)
        job = {
            "engine": engine,
            "subject": None if subject is None else to_values(subject),
            "threads": threads,
            "file": None if file is None else str(file),
            "precision": precision,
        }
        try:
            answer = child.ask(json.dumps(job))
            if "error" in answer:
                raise InputError(answer["error"])
        except BaseException as error:
            child.close()
            if isinstance(error, WorkError):
                raise InputError(str(error)) from None
            raise
        return child

    def ask(self, line: str) -> dict[str, Any]:
        """Sends a line and returns the answer. Raises WorkError if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        answer = ""
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer:
            raise WorkError(f"its process ended ({self._last_words()})")
        values: dict[str, Any] = json.loads(answer)
        return values

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        lines = [line.strip() for line in self.log if line.strip()]
        return f"code {code}: {lines[-1][:200]}" if lines else f"code {code}; -9: too little memory"

    def turn(self, first: float, *, measured: bool) -> None:
        """Lets the process compute.

        Args:
            first: when the first turn of all started.
            measured: whether to measure the turn; if not, it sets the number of passes.

        Raises:
            WorkError: the process has ended.
        """
        start = time.perf_counter()
        answer = self.ask(str(self.passes))
        self.peak = answer["peak"]
        if measured:
            self.seconds.append(answer["seconds"])
            self.starts.append(start - first)
        else:
            self.passes = max(1, math.ceil(TURN / answer["seconds"]))

    def close(self) -> None:
        """Ends the process."""
        try:
            self.process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.communicate()
        self.log.close()


def take_turns(
    children: Sequence[Child], rounds: int, warm_up: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Runs rounds in which each process computes once, in the same order.

    Args:
        children: at least one; they keep their times.
        rounds: number of measured rounds.
        warm_up: number of rounds before these; the last one decides how often a model runs in each turn.
        progress: is called with the rounds done and their total.

    Raises:
        WorkError: a process has ended; the message says which.
    """
    first = time.perf_counter()
    for number in range(warm_up + rounds):
        for child in children:
            time.sleep(_PAUSE)
            try:
                child.turn(first, measured=number >= warm_up)
            except WorkError as error:
                raise WorkError(f"{child.name}: {error}") from None
        if progress:
            progress(number + 1, warm_up + rounds)
