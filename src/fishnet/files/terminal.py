"""Standard output and error with control characters from data escaped."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from fishnet.files.text import printable_lines


class EscapedStream:
    """A text stream that escapes control characters, except newlines and tabs. Other attributes are the inner stream's.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes text, see :func:`~fishnet.files.text.printable_lines`."""
        self.stream.write(printable_lines(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def unescaped(stream: TextIO) -> TextIO:
    """The stream inside an :class:`EscapedStream`, for progress bars, which use control characters themselves."""
    return stream.stream if isinstance(stream, EscapedStream) else stream


@contextmanager
def escaped_output() -> Iterator[None]:
    """Escapes control characters in everything printed inside the context.

    A standard stream that the caller has closed is replaced by the null device, so that no file opened later gets its
    number.
    """
    reserve_standard_streams()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", EscapedStream(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def reserve_standard_streams() -> None:
    """Opens the null device in place of each closed standard stream."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def discard_output() -> None:
    """Sends all further standard output to the null device, after a write to it has failed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
