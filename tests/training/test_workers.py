"""A process that reads images and dies: one line with the cause and what to do, and never a hang."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import get_worker_info

from fishnet.data.check import ReadDataset
from fishnet.data.loading import SeededDataset
from fishnet.data.workers import WorkerDiedError, _cause, watched_workers
from fishnet.errors import WorkError
from tests.conftest import fast
from tests.training.runs import Ended, ended, torchrun

KILLED = "a process that reads images was killed, most likely by the system for lack of memory"


def signal_workers(number: int, epoch: int = 0) -> None:
    """Lets each worker of this process die by a signal when it reads in that epoch, or checks."""
    for kind in (SeededDataset, ReadDataset):
        plain: Any = kind.__getitem__

        def read(self: Any, key: Any, plain: Any = plain) -> Any:
            if get_worker_info() is not None and (not isinstance(key, tuple) or key[0] == epoch):
                os.kill(os.getpid(), number)
            return plain(self, key)

        kind.__getitem__ = read  # type: ignore[method-assign]


def fill_shared_memory() -> None:
    """Lets each worker meet what torch says where /dev/shm is full."""
    from torch import UntypedStorage

    def full(self: Any, *_: Any) -> None:
        raise RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)")

    UntypedStorage._share_fd_cpu_ = full  # type: ignore[method-assign,assignment]


def one_line(done: Ended, *words: str) -> None:
    assert done.code == 1, done.text
    lines = [line for line in done.text.splitlines() if line.startswith("fishnet: ")]
    assert len(lines) == 1, done.text
    assert "Traceback" not in done.text
    for word in (*words, "workers=0"):
        assert word in lines[0], done.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        (signal_workers, (signal.SIGKILL,), (KILLED, "no checkpoint yet, so nothing is kept")),
        (signal_workers, (signal.SIGKILL, 1), (KILLED, "continue with: fishnet train classify ", " --resume ")),
        (signal_workers, (signal.SIGSEGV,), ("crashed with a segmentation fault",)),
        (signal_workers, (signal.SIGBUS,), ("found no room in shared memory (/dev/shm holds", "--shm-size")),
        (fill_shared_memory, (), ("found no room in shared memory (/dev/shm holds", "--shm-size")),
    ],
    ids=["killed", "killed-later", "crashed", "bus-error", "shared-memory"],
)
def test_a_training_ends(
    prepare: Any, arguments: tuple[int, ...], words: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    command = ["train", "classify", folder, "--out", tmp_path / "run", *fast("--workers", 2, "--epochs", 2)]
    one_line(ended(command, prepare, *arguments), *words)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["val", "check"])
def test_val_and_check_end(verb: str, bundle: Path, folder: Path, tmp_path: Path) -> None:
    command = (
        ["val", bundle, folder, "--out", tmp_path, "--device", "cpu"] if verb == "val" else ["data", "check", folder]
    )
    one_line(ended([*command, "--workers", 2], signal_workers, signal.SIGKILL), KILLED)


@pytest.mark.slow
def test_several_processes_end(folder: Path, tmp_path: Path) -> None:
    """The worker of one of two processes dies: both end, and that one says why."""
    flags = fast("--workers", 1, "--threads", 1, "--batch-size", 4)
    done = torchrun("train", "classify", folder, "--out", tmp_path / "run", *flags, module="tests.training.dying")
    assert done.returncode != 0
    assert KILLED in done.stderr


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", "was killed"),
        ("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that", "no room in shared memory"),
        ("DataLoader worker (pid 12) is killed by signal: Hangup. ", "was ended by a signal (Hangup)"),
        ("DataLoader worker (pid 12) exited unexpectedly with exit code 75. Details", "no room in shared memory"),
        ("DataLoader worker (pid 12) exited unexpectedly with exit code 76. Details", "too many open files?"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "ended unexpectedly:"),
        ("Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback", "ran out of memory"),
    ],
)
def test_causes(text: str, cause: str) -> None:
    error = RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")
    error.__cause__ = RuntimeError(text)
    with pytest.raises(WorkerDiedError) as caught, watched_workers():
        raise error
    assert cause in str(caught.value)
    assert "workers=0" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (-signal.SIGKILL, "was killed"),
        (-signal.SIGBUS, "no room in shared memory"),
        (76, "too many open files?"),
        (1, "ended unexpectedly with exit code 1:"),
    ],
)
def test_causes_that_torch_does_not_say(code: int, cause: str) -> None:
    """The loader finds the worker dead before torch's signal handler does: its text names no cause."""

    class Iterator:
        _workers = (SimpleNamespace(exitcode=None), SimpleNamespace(exitcode=code))

        def next(self) -> None:
            raise RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")

    with pytest.raises(WorkerDiedError) as caught, watched_workers():
        Iterator().next()
    assert cause in str(caught.value)


def test_other_errors_pass() -> None:
    for error in (RuntimeError("CUDA out of memory"), WorkError("no"), KeyError("x")):
        with pytest.raises(type(error)) as caught, watched_workers():
            raise error
        assert caught.value is error
    assert _cause(RuntimeError("shape mismatch")) is None
