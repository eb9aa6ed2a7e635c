"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fishnet.errors import WorkError


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
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        if error.filename not in (None, str(partial), str(target), str(target.parent)) and error.errno is None:
            raise
        raise WorkError(f"{target}: not written ({error.strerror or error}): make room or make it writable") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


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
