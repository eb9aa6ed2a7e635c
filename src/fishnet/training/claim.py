"""One training at a time writes into a folder."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fishnet.errors import InputError
from fishnet.training.checkpoints import saving

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".training.lock"
_TAKEN = (errno.EACCES, errno.EAGAIN)


@contextmanager
def claimed(out: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Holds a folder for this process's training; makes it if missing, and removes it again if nothing was written.

    The claim is a POSIX record lock on a file in the folder. The system drops it with the process, however that ends,
    and worker processes do not inherit it. NFS passes such locks on to other machines.

    Args:
        out: the training's folder.
        tell: receives a line where the file system has no locks, so that a second training would not be noticed.

    Raises:
        InputError: another process holds the folder; or its place is a file.
        WorkError: the folder cannot be made or written to.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    lock = _locked(out, log)
    try:
        yield
    finally:
        with suppress(OSError):
            (out / LOCK).unlink()  # before the lock goes: whoever opens the name afterwards makes a file of its own
        lock.close()
        with suppress(OSError):  # not empty: something was kept
            for folder in missing:
                folder.rmdir()


def _locked(out: Path, log: Callable[[str], None]) -> IO[str]:
    """The open lock file of a folder, with this process's number in it."""
    path = out / LOCK
    while True:
        with saving(out):
            try:
                out.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise InputError(f"{out}: is a file: --out must be a folder") from None
            try:
                lock = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="ascii", errors="replace")  # noqa: SIM115, PTH123
            except FileNotFoundError:  # another training has just ended and removed its empty folder
                continue
        if not _lock(lock, out, log):
            holder = lock.read(20).strip()
            lock.close()
            raise InputError(
                f"{out}: {f'process {holder}' if holder.isdigit() else 'another process'} is training in this folder: "
                "wait until it ends, or choose another --out"
            )
        if _is(lock, path):
            with suppress(OSError):  # a full disk: the claim holds all the same
                lock.truncate()
                lock.write(f"{os.getpid()}\n")
                lock.flush()
            return lock
        lock.close()  # the training that had it has ended in between, and removed the file


def _lock(lock: IO[str], out: Path, log: Callable[[str], None]) -> bool:
    """Takes the lock; False where another process has it."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        log(f"{out}: no file locks there ({error.strerror}): a second training in this folder would not be noticed")
    return True


def _is(lock: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
