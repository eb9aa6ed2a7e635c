"""Reading regular files in full, under a size limit."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from fishnet.errors import InputError

MIB = 1 << 20
GIB = 1 << 30
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: str | Path, what: str = "file") -> BinaryIO:
    """Opens a regular file for reading. Never blocks, whatever lies at the path.

    Args:
        path: the file; links are followed.
        what: the file's role for messages, such as ``image``.

    Raises:
        InputError: no such file, a folder, a pipe, a device or a socket, or one that cannot be read.
    """
    name = os.fspath(path)
    try:
        handle = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, not {_a(what)}") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        kind = _special(name)
        reason = (
            f"is {kind}, not {_a(what)}" if kind else f"cannot be read ({getattr(error, 'strerror', None) or error})"
        )
        raise InputError(f"{name}: {reason}") from None
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise InputError(f"{name}: is {_kind(mode)}, not {_a(what)}")
    return os.fdopen(handle, "rb")


def read_bytes(path: str | Path, limit: int = GIB, what: str = "file") -> bytes:
    """Reads a regular file's content.

    Args:
        path: the file.
        limit: maximum bytes.
        what: the file's role for messages.

    Raises:
        InputError: as :func:`open_regular`, or a file larger than the limit.
    """
    with open_regular(path, what) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise InputError(f"{path}: {size:,} bytes are too many for {_a(what)} (at most {limit:,})")
            content: bytes | None = file.read(limit + 1)  # files in /proc state a size of 0
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if content is None:  # some files in /proc would block
        raise InputError(f"{path}: cannot be read (it has no data ready, unlike {_a(what)})")
    if len(content) > limit:
        raise InputError(f"{path}: too large for {_a(what)} (at most {limit:,} bytes)")
    return content


def read_text(path: str | Path, limit: int = 256 * MIB, what: str = "text file") -> str:
    """Reads a regular file's text, UTF-8 with or without a byte order mark.

    Raises:
        InputError: as :func:`read_bytes`, or text that is not UTF-8; the message names the line.
    """
    return decoded(read_bytes(path, limit, what), str(path))


def decoded(content: bytes, source: str) -> str:
    """Decodes UTF-8 text, with or without a byte order mark.

    Raises:
        InputError: not UTF-8; the message names the source and the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{source} line {line}: not UTF-8: save the file as UTF-8") from None


def is_regular(path: str | Path) -> bool:
    """Whether a regular file, or a link to one, lies at the path."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _special(name: str) -> str:
    """The kind of file at a path that could not be opened; empty for a regular file, a folder or nothing."""
    try:
        mode = os.stat(name).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return ""
    return "" if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else _kind(mode)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return next((name for matches, name in _KINDS if matches(mode)), "a special file")


def _a(what: str) -> str:
    """A noun with its article."""
    return f"{'an' if what[:1] in 'aeiou' else 'a'} {what}"
