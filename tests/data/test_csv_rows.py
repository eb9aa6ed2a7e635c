"""Rows of text tables, where the disk fails."""

import errno
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from fishnet.data.csv_rows import csv_rows
from fishnet.errors import InputError

TEXT = b"path,label\na.png,moss\nb.png,fern\n"


class Failing(io.BytesIO):
    """A file of which only some lines can be read."""

    def __init__(self, lines: int) -> None:
        super().__init__(TEXT)
        self.lines = lines

    def readline(self, size: int | None = -1, /) -> bytes:
        if self.lines == 0:
            raise OSError(errno.EIO, "Input/output error")
        self.lines -= 1
        return super().readline(size)


def rows(stream: io.BytesIO) -> Iterator[tuple[int, list[str]]]:
    return csv_rows(stream, Path("a.csv"))


def test_rows_and_their_lines() -> None:
    assert list(rows(io.BytesIO(TEXT))) == [(1, ["path", "label"]), (2, ["a.png", "moss"]), (3, ["b.png", "fern"])]


@pytest.mark.parametrize("lines", [0, 1, 3])
def test_a_failing_disk_is_one_line(lines: int) -> None:
    with pytest.raises(InputError, match=r"^a\.csv: cannot be read \(Input/output error\)$"):
        list(rows(Failing(lines)))
