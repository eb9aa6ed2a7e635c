"""Reads COCO's JSON files one list entry at a time, in little memory for files of any size. Torch-free."""

import codecs
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fishnet.errors import InputError
from fishnet.files.reading import open_regular

CHUNK = 1 << 22  # bytes read at a time
MAX_ENTRY = 1 << 24  # characters of one entry
_BLANK = re.compile(r"[ \t\r\n]*")
_IN_TEXT, _IN_VALUE = re.compile(r'\\.|"', re.DOTALL), re.compile(r'["{}\[\],]')
_NEAR = 16  # errors in so many last characters of the window may come from a cut-off word or escape
_CUT_OFF = "the file ends too early: it was cut off"


class Entry(NamedTuple):
    """One entry of a list.

    Attributes:
        key: the key of the list.
        number: the entry's index in the list, from 0.
        line: where the entry begins, from 1.
        value: a JSON object.
        name: the entry's name if the list is an object of named entries; empty otherwise.
    """

    key: str
    number: int
    line: int
    value: dict[str, Any]
    name: str = ""


def read_entries(path: Path, keys: Collection[str], chunk: int = CHUNK) -> Iterator[Entry]:
    """Reads the entries of some lists of a file that holds one JSON object, in the file's order.

    A list may also be an object, ``{"1": {...}, "2": {...}}``: its entries then have names. Other keys are skipped
    unparsed. Memory: about three chunks, or a few times the longest entry.

    Args:
        path: the file, in UTF-8.
        keys: the keys of the lists.
        chunk: bytes read at a time.

    Raises:
        InputError: the file cannot be read, is not JSON, is cut off, or holds something else under these keys. The
            message gives the line.
    """
    try:
        with open_regular(path, "annotation file") as file:
            yield from _Window(path, file, chunk).entries(keys)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


class _Window:
    """A sliding window over a file's text.

    Attributes:
        text: the part of the file that is in memory.
        at: index in ``text`` of the next character.
        line: the line of this character, from 1.
    """

    def __init__(self, path: Path, file: BinaryIO, chunk: int) -> None:
        self.path, self.file, self.chunk = path, file, chunk
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.json = json.JSONDecoder()
        self.text, self.at, self.line, self.ended = "", 0, 1, False

    def entries(self, keys: Collection[str]) -> Iterator[Entry]:
        self._expect("{", "an object with images, annotations and categories")
        if self._peek() == "}":
            return
        while True:
            if self._peek() != '"':
                raise self._wrong("expected a key in quotes")
            key = self._key()
            if key in keys:
                yield from self._list(key)
            else:
                self._skip()
            if self._comma_or("}"):
                return

    def _list(self, key: str) -> Iterator[Entry]:
        named = self._peek() == "{"
        self._expect("{" if named else "[", f"a list as {key}")
        end = "}" if named else "]"
        if self._peek() == end:
            self._move(self.at + 1)
            return
        number = 0
        while True:
            if named and self._peek() != '"':
                raise self._wrong("expected a key in quotes")
            name = self._key() if named else ""
            if self._peek() != "{":
                what = f"{key}[{number}] is not an object in braces"
                raise self._wrong(f"{key} is an object, but its {name[:40]!r} is not an entry" if named else what)
            line = self.line
            yield Entry(key, number, line, self._value(), name)
            number += 1
            if self._comma_or(end):
                return

    def _key(self) -> str:
        """Reads the key that begins here, and its colon."""
        key: str = self._value()
        self._expect(":", "a colon after the key")
        return key

    def _value(self) -> Any:
        """Parses the object or text that begins here, reading on until it is complete."""
        while True:
            try:
                value, end = self.json.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _NEAR
                if not cut_off or self.ended:
                    self._move(min(error.pos, len(self.text)))
                    raise self._wrong(f"not JSON: {error.msg}" if self.at < len(self.text) else _CUT_OFF) from None
                if len(self.text) - self.at > MAX_ENTRY:
                    raise self._wrong(f"an entry of more than {MAX_ENTRY >> 20} MB") from None
                self._more()
            except RecursionError:
                raise self._wrong("nested too deeply") from None
            except ValueError:  # Python limits the number of digits
                raise self._wrong("holds a number of thousands of digits") from None
            else:
                self._move(end)
                return value

    def _skip(self) -> None:
        """Moves past the value that begins here, without keeping it."""
        self._peek()
        depth, quoted = 0, False
        while True:
            match = (_IN_TEXT if quoted else _IN_VALUE).search(self.text, self.at)
            if match is None:
                # A backslash at the end belongs to the next character.
                self._move(len(self.text) - (quoted and self.text.endswith("\\") and self.at < len(self.text)))
                if self.ended:
                    raise self._wrong(_CUT_OFF)
                self._more()
                continue
            mark = match.group()
            if not quoted and not depth and mark in ",}]":
                return self._move(match.start())
            self._move(match.end())
            if mark == '"':
                quoted = not quoted
            elif not quoted:
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(mark, 0)

    def _comma_or(self, end: str) -> bool:
        """Moves past a comma (returns False) or the end of the list or object (returns True)."""
        mark = self._peek()
        if mark not in (",", end):
            raise self._wrong(f"not JSON: expected , or {end}")
        self._move(self.at + 1)
        return mark == end

    def _expect(self, mark: str, what: str) -> None:
        if self._peek() != mark:
            raise self._wrong(f"expected {what}")
        self._move(self.at + 1)
        self._peek()

    def _peek(self) -> str:
        """The next character that is not blank."""
        while True:
            blank = _BLANK.match(self.text, self.at)
            self._move(blank.end() if blank else self.at)
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                raise self._wrong(_CUT_OFF)
            self._more()

    def _move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def _more(self) -> None:
        """Drops the parsed text and reads more, at least as much as is left, so that long entries take linear time."""
        rest = self.text[self.at :]
        content = self.file.read(max(self.chunk, len(rest)))
        self.ended = not content
        try:
            self.text, self.at = rest + self.decoder.decode(content, self.ended), 0
        except UnicodeDecodeError as error:
            self.line += rest.count("\n") + content.count(b"\n", 0, error.start)
            raise self._wrong("not UTF-8") from None

    def _wrong(self, what: str) -> InputError:
        return InputError(f"{self.path} line {self.line}: {what}")
