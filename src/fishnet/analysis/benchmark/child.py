"""A process that takes turns. It reads from standard input what to build and, for each turn, how often to run it."""

import json
import os
import sys
import time
from pathlib import Path

from fishnet.errors import InputError, WorkError, first_line


def main() -> None:
    """Answers each line with a line of JSON: first whether the model could be built, then the time of each turn."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print goes to standard error instead

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    try:
        from fishnet.analysis.benchmark.engines import step_of
        from fishnet.analysis.benchmark.plan import Subject
        from fishnet.runtime.memory import keep_memory

        keep_memory()
        subject = None if job["subject"] is None else Subject(**job["subject"])
        step = step_of(job["engine"], subject, job["threads"], job["file"], job["precision"])
        step()
    except (InputError, WorkError) as error:
        return answer(error=str(error))
    except ModuleNotFoundError as error:
        return answer(error=f"{error.name} is not installed")
    except Exception as error:  # the other engines are still measured
        return answer(error=f"failed ({type(error).__name__}: {first_line(error)})")
    answer(ready=True)
    for line in sys.stdin:
        passes = int(line)
        start = time.perf_counter()
        for _ in range(passes):
            step()
        answer(seconds=(time.perf_counter() - start) / passes, peak=peak_memory())


def peak_memory() -> int | None:
    """Returns the process's largest resident set in bytes; None if the system does not report it."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, whose getrusage includes the parent's memory before this program started
        lines = (line.split() for line in status.read_text(encoding="utf-8").splitlines())
        return next((1024 * int(words[1]) for words in lines if words[:1] == ["VmHWM:"]), None)
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
