"""The rows of text tables (CSV and TSV), read line by line with bounded memory. Torch-free."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from fishnet.errors import InputError
from fishnet.files.reading import MIB

MAX_LINE = MIB  # bytes


def delimiter_of(file: Path, first_line: str) -> str:
    """A tab for .tsv; otherwise whichever of comma, semicolon and tab is most frequent in the first line."""
    return "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first_line.count)


def csv_rows(stream: BinaryIO, file: Path) -> Iterator[tuple[int, list[str]]]:
    """The line number, from 1, and the values of each row that is not blank.

    Args:
        stream: the table, at its beginning.
        file: its path, for messages.

    Raises:
        InputError: not UTF-8, a line that is too long, a NUL character, or a quote that is left open; names the line.
    """
    first_line = next((line for line in _lines(stream, file) if line.strip()), "")
    stream.seek(0)
    reader = csv.reader(_lines(stream, file), delimiter=delimiter_of(file, first_line))
    while True:
        number = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{file} line {number}: cannot be read ({error})") from None
        if values is None:
            return
        if any(value.strip() for value in values):
            yield number, values


def _lines(stream: BinaryIO, file: Path) -> Iterator[str]:
    """The lines of a UTF-8 text, with their line ends."""
    number = 0
    while line := _read_line(stream, file):
        number += 1
        if len(line) > MAX_LINE:
            raise InputError(f"{file} line {number}: longer than {MAX_LINE:,} bytes: no table of images has such lines")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{file} line {number}: not UTF-8: save the table as UTF-8") from None
        if "\0" in text:
            raise InputError(f"{file} line {number}: holds a NUL character: not a text table")
        pieces = re.split(r"(?<=\r)(?!\n)", text) if "\r" in text else [text]
        number += len(pieces) - 1 - (pieces[-1] == "")
        yield from filter(None, pieces)


def _read_line(stream: BinaryIO, file: Path) -> bytes:
    try:
        return stream.readline(MAX_LINE + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from None
