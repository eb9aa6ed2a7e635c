"""A lock that lets one training at a time write into a folder."""

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
    """Locks a folder for this process's training; creates it if missing, and removes it again if it stays empty.

    The lock is a POSIX record lock on a file in the folder. The system releases it when the process ends, however it
    ends, and worker processes do not inherit it. NFS shares such locks between machines.

    Args:
        out: the training's folder.
        log: is called with a line if the file system has no locks: a second training would then go unnoticed.

    Raises:
        InputError: another process has locked the folder, or it is a file.
        WorkError: the folder cannot be created or written to.
    """
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    lock = _locked(out, log)
    try:
        yield
    finally:
        with suppress(OSError):
            (out / LOCK).unlink()  # before the lock is released: whoever opens the path afterwards creates a new file
        lock.close()
        with suppress(OSError):  # not empty
            for folder in missing:
                folder.rmdir()


def _locked(out: Path, log: Callable[[str], None]) -> IO[str]:
    """Returns the folder's open lock file, which holds this process's number."""
    path = out / LOCK
    while True:
        with saving(out):
            try:
                out.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise InputError(f"{out}: is a file: out must be a folder") from None
            try:
                lock = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="ascii", errors="replace")  # noqa: SIM115, PTH123
            except FileNotFoundError:  # another training has just ended and removed its empty folder
                continue
        if not _lock(lock, out, log):
            holder = lock.read(20).strip()
            lock.close()
            raise InputError(
                f"{out}: {f'process {holder}' if holder.isdigit() else 'another process'} is training in this folder: "
                "wait until it ends, or choose another folder as out"
            )
        if _is_same_file(lock, path):
            with suppress(OSError):  # the lock holds even if a full disk cannot store the number
                lock.truncate()
                lock.write(f"{os.getpid()}\n")
                lock.flush()
            return lock
        lock.close()  # another training has ended in between and removed the file


def _lock(lock: IO[str], out: Path, log: Callable[[str], None]) -> bool:
    """Takes the lock. Returns False if another process has it."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        log(f"{out}: no file locks there ({error.strerror}): a second training in this folder would go unnoticed")
    return True


def _is_same_file(lock: IO[str], path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False
