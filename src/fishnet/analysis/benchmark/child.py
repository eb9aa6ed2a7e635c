"""A process that takes turns: told on standard input what to build, and then, a line a turn, how often to run it."""

import json
import os
import sys
import time
from pathlib import Path

from fishnet.errors import InputError, WorkError, first_line


def main() -> None:
    """Answers each line with one of JSON: first what it has built or why it cannot, then what a turn took."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print does not belong among the answers

    def tell(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    try:
        from fishnet.analysis.benchmark.engines import step_of
        from fishnet.analysis.benchmark.plan import Subject

        it = None if job["subject"] is None else Subject(**job["subject"])
        step = step_of(job["engine"], it, job["threads"], job["file"])
        step()
    except (InputError, WorkError) as error:
        return tell(lacking=str(error))
    except ModuleNotFoundError as error:
        return tell(lacking=f"{error.name} is not installed")
    except Exception as error:  # one engine that fails does not keep the others from being measured
        return tell(lacking=f"failed ({type(error).__name__}: {first_line(error)})")
    tell(ready=True)
    for line in sys.stdin:
        passes = int(line)
        start = time.perf_counter()
        for _ in range(passes):
            step()
        tell(seconds=(time.perf_counter() - start) / passes, peak=_peak())


def _peak() -> int | None:
    """The process's largest resident set, bytes; None on systems that do not tell."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: its getrusage counts what the parent had before this program began
        words = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
        return next((1024 * int(line[1]) for line in words if line[:1] == ["VmHWM:"]), None)
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
