"""Processes that take turns: in each round, every one computes once, while the others wait."""

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
from fishnet.analysis.benchmark.plan import Subject, to_values
from fishnet.errors import InputError, WorkError

TURN = 0.1  # s that a turn takes at least: a model that is faster runs several times in it
_PAUSE = 0.01  # s between turns, in which the threads of the last one fall asleep


@dataclass
class Child:
    """An engine with a model in a process of its own.

    Attributes:
        name: for messages.
        process: it.
        log: what it and its libraries print.
        seconds: of a pass, for each round that counts.
        starts: of these turns, in seconds since the first one of all.
        passes: in each turn.
        peak: the process's largest resident set, bytes, as far as known.
    """

    name: str
    process: "subprocess.Popen[str]"
    log: TextIO
    seconds: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    passes: int = 1
    peak: int | None = None

    @classmethod
    def start(cls, engine: str, it: Subject | None, threads: int, file: Path | None, log: Path) -> "Child":
        """Starts a process and waits until it has built its model and run it once.

        Raises:
            InputError: the engine cannot run this model here; the message says why.
        """
        out = log.open("w+", encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-m", "fishnet.analysis.benchmark.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, env=environment(threads), text=True,
            encoding="utf-8",
        )  # fmt: skip
        child = cls(engine if it is None else f"{it.model} {engine}", process, out)
        job = {
            "engine": engine,
            "subject": None if it is None else to_values(it),
            "threads": threads,
            "file": None if file is None else str(file),
        }
        try:
            answer = child.ask(json.dumps(job))
            if "lacking" in answer:
                raise InputError(answer["lacking"])
        except BaseException as error:
            child.close()
            if isinstance(error, WorkError):
                raise InputError(str(error)) from None
            raise
        return child

    def ask(self, line: str) -> dict[str, Any]:
        """Its answer to a line. Raises WorkError where it has ended."""
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
        found: dict[str, Any] = json.loads(answer)
        return found

    def _last_words(self) -> str:
        code = self.process.wait()
        self.log.seek(0)
        said = [line.strip() for line in self.log if line.strip()]
        return f"code {code}: {said[-1][:200]}" if said else f"code {code}; -9: too little memory"

    def turn(self, begun: float, *, counts: bool) -> None:
        """Has it compute. Raises WorkError where it has ended."""
        start = time.perf_counter()
        answer = self.ask(str(self.passes))
        self.peak = answer["peak"]
        if counts:
            self.seconds.append(answer["seconds"])
            self.starts.append(start - begun)
        else:
            self.passes = max(1, math.ceil(TURN / answer["seconds"]))

    def close(self) -> None:
        """Lets it end."""
        try:
            self.process.communicate(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.communicate()
        self.log.close()


def take_turns(
    children: Sequence[Child], rounds: int, warm_up: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Rounds in which each process computes once, in the same order.

    Args:
        children: at least one; what they took is kept in them.
        rounds: that count.
        warm_up: rounds before these; the last one decides how often a model runs in each turn.
        progress: is told the rounds that are done, and all.

    Raises:
        WorkError: a process has ended; the message says which.
    """
    begun = time.perf_counter()
    for number in range(warm_up + rounds):
        for child in children:
            time.sleep(_PAUSE)
            try:
                child.turn(begun, counts=number >= warm_up)
            except WorkError as error:
                raise WorkError(f"{child.name}: {error}") from None
        if progress:
            progress(number + 1, warm_up + rounds)
