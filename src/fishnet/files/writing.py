"""Writing files atomically: complete, or not at all."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fishnet.errors import WorkError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside a file, which is renamed to the file at the end, and removed after any failure.

    The temporary name keeps the file's extension, because writers choose the format by it. A missing folder is
    created. An older file stays until the new one is complete.

    Raises:
        WorkError: a full disk, or a path that cannot be written to.
    """
    target = Path(path)
    partial = target.with_name(f".partial-{target.name}")
    try:
        with write_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def write_errors(path: str | Path) -> Iterator[None]:
    """Turns the operating system's errors on writing a file into one line that names the file.

    Raises:
        WorkError: a full disk, or a path that cannot be written to.
    """
    try:
        yield
    except OSError as error:
        advice = "make room" if error.errno in FULL else "make it writable"
        raise WorkError(f"{path}: not written ({error.strerror or error}): {advice}") from error


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically, in UTF-8, with newlines unchanged.

    Raises:
        WorkError: a full disk, or a path that cannot be written to.
    """
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file atomically.

    Raises:
        WorkError: a full disk, or a path that cannot be written to.
    """
    with atomic_path(path) as partial:
        partial.write_bytes(content)


class GrowingText:
    """A text file that is written step by step and gets its name once it is complete.

    Until then, and if the work is interrupted, its content lies beside it as ``NAME.partial``: no incomplete file looks
    complete, and nothing that was written is lost.

    Args:
        path: the file; its folder is created. An older file stays until the new one is complete.

    Raises:
        WorkError: here and in each method: a full disk, or a path that cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        with write_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.partial.open("w", newline="", encoding="utf-8", errors="backslashreplace")

    def write(self, text: str) -> int:
        """Appends text unchanged."""
        with write_errors(self.path):
            return self.file.write(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes the file; after an exception it stays partial, or goes if nothing was written."""
        try:
            with write_errors(self.path):
                self.file.close()
                if kind is None:
                    self.partial.replace(self.path)
                elif not self.partial.stat().st_size:
                    self.partial.unlink()
        except WorkError:
            if kind is None:
                raise
