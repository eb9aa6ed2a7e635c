"""Models in processes of their own that take turns, so that whatever slows the machine for a while slows them all."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any


def serve(step: Callable[[], object]) -> None:
    """Makes a step for every line of standard input, and prints its seconds (by the clock, of the processor) and the
    process's largest resident set in bytes.
    """
    import torch

    for _ in sys.stdin:
        start, own = time.perf_counter(), time.process_time()
        step()
        seconds = [time.perf_counter() - start, time.process_time() - own]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({"seconds": seconds, "peak": peak, "torch": torch.__version__}), flush=True)


class Child:
    """A model in a process of its own: the same script, told which one it is.

    Args:
        script: the benchmark's file, which calls :func:`serve` when it is given ``words``.
        words: of its command line.
        threads: for the child.
        name: for messages.
        environment: variables that this child has beside those of its parent.
    """

    def __init__(
        self,
        script: str,
        words: Sequence[object],
        threads: int,
        name: str,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.seconds: list[tuple[float, float]] = []
        self.process = subprocess.Popen(
            [sys.executable, script, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **environment},
            text=True,
        )

    def step(self) -> dict[str, Any]:
        """One step of it, while the others wait."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: its process ended (code {self.process.wait()}; -9: too little memory)")
        found: dict[str, Any] = json.loads(line)
        self.seconds.append((found["seconds"][0], found["seconds"][1]))
        return found
