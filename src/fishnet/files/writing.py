"""Files that appear whole or not at all."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fishnet.errors import WorkError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside a file; renames it to the file at the end, and removes it after any failure.

    The temporary name keeps the file's ending, since writers go by it. The folder is made if missing. An older file
    stays until the new one is complete.

    Raises:
        WorkError: a full disk, or a place that cannot be written to.
    """
    target = Path(path)
    partial = target.with_name(f".partial-{target.name}")
    try:
        with naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(target)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Around the writing of a file: what the operating system refuses becomes one line that names the file.

    Raises:
        WorkError: a full disk, or a place that cannot be written to.
    """
    try:
        yield
    except OSError as error:
        advice = "make room" if error.errno in FULL else "make it writable"
        raise WorkError(f"{path}: not written ({error.strerror or error}): {advice}") from error


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, UTF-8 with the newlines as they are, whole or not at all.

    Raises:
        WorkError: a full disk, or a place that cannot be written to.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        WorkError: a full disk, or a place that cannot be written to.
    """
    with whole(path) as partial:
        partial.write_bytes(content)


class GrowingText:
    """A text file that is written bit by bit, and that has its name only once it is complete.

    Until then, and for good when the work is broken off, its content lies beside it under ``NAME.partial``, so that
    nobody takes half a file for a whole one and nothing that was written is lost.

    Args:
        path: the file; its folder is made. An older file stays until the new one is complete.

    Raises:
        WorkError: here and in each method: a full disk, or a place that cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        with naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.partial.open("w", newline="", encoding="utf-8", errors="backslashreplace")

    def write(self, text: str) -> int:
        """Adds a text as it is."""
        with naming(self.path):
            return self.file.write(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes the file; after an exception it stays partial."""
        try:
            with naming(self.path):
                self.file.close()
                if kind is None:
                    self.partial.replace(self.path)
        except WorkError:
            if kind is None:
                raise
