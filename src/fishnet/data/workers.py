"""Errors of the processes that read images for a loader: one line instead of a traceback or a hang."""

import multiprocessing.queues
import os
import re
import shutil
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fishnet.errors import WorkError

_NO_SHARED_MEMORY, _NOT_SENT = 75, 76  # exit codes
_SIGNALS = {
    "Killed": "was killed, most likely by the system for lack of memory",
    "Segmentation fault": "crashed with a segmentation fault",
}


class WorkerDiedError(WorkError):
    """A process that reads images for a loader ended early."""


def prepare_worker(_number: int) -> None:
    """For ``DataLoader(worker_init_fn=...)``: makes a worker that cannot send its images exit instead of hang.

    A thread of the queue sends batches through shared memory. If that fails, Python prints the error and drops the
    batch, for which the loader would then wait forever.
    """
    queue: Any = multiprocessing.queues.Queue
    queue._on_queue_feeder_error = staticmethod(_exit)
    for name in ("SIGBUS", "SIGSEGV", "SIGFPE"):  # torch's handlers would each print a line
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def _exit(error: Exception, _batch: Any) -> None:
    """Ends the worker with an exit code that says whether shared memory was full."""
    full = "No space left" in str(error) or "shared memory" in str(error)
    os._exit(_NO_SHARED_MEMORY if full else _NOT_SENT)


@contextmanager
def watched_workers() -> Iterator[None]:
    """Surrounds code that reads from a loader, as a context manager or a decorator.

    torch notices a dead worker in a signal handler, so its error may be raised anywhere in the main thread.

    Raises:
        WorkerDiedError: a worker ended early; the message says why and what to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        cause = _cause(error)
        if cause is None:
            raise
        raise WorkerDiedError(
            f"a process that reads images {cause}: workers=0 reads images without further processes"
        ) from error


def _cause(error: BaseException) -> str | None:
    """Why a worker died, from torch's error and its causes; None for other errors."""
    errors = [error]
    while (cause := errors[-1].__cause__ or errors[-1].__context__) is not None:
        errors.append(cause)
    text = "\n".join(map(str, errors))
    if re.search(r"Caught MemoryError in DataLoader worker", text):
        return "ran out of memory"
    if not re.search(r"DataLoader worker \(pid", text):
        return None
    ended_by = re.search(r"killed by signal: ([^.\n]*)", text)
    name = ended_by[1].strip() if ended_by else None
    said = re.search(r"exit code (\d+)", text)
    code = int(said[1]) if said else None
    if name is None and code is None:
        code = next(filter(None, map(_exit_code, errors)), None)
        if code is not None and code < 0:
            name = signal.strsignal(-code)
    if name == "Bus error" or code == _NO_SHARED_MEMORY:
        return f"found no room in shared memory ({_shared_memory()})"
    if name:
        return _SIGNALS.get(name, f"was ended by a signal ({name})")
    if code == _NOT_SENT:
        return "could not send its images (too many open files?)"
    return f"ended unexpectedly{f' with exit code {code}' if code else ''}"


def _exit_code(error: BaseException) -> int | None:
    """The exit code of a dead worker of the iterator that raised an error; that of a signal is negative.

    torch's text has no cause where the loader itself finds the worker dead before its signal handler does.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for worker in getattr(frame.f_locals.get("self"), "_workers", ()):
            if code := getattr(worker, "exitcode", None):
                return int(code)
    return None


def _shared_memory() -> str:
    try:
        return f"/dev/shm holds {shutil.disk_usage('/dev/shm').total / 2**20:,.0f} MB; docker: --shm-size 2g"
    except OSError:
        return "/dev/shm"
