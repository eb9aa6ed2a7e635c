"""What a bad or odd input is: files in a folder, a command line, and what the command line must say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One bad or odd input, run through the command line.

    Attributes:
        name: unique within its module; kebab-case.
        write: writes the files into an empty folder and returns the arguments after ``fishnet``.
        code: the exit code that is expected.
        words: texts that the output must contain.
    """

    name: str
    write: Callable[[Path], Sequence[str]]
    code: int
    words: tuple[str, ...] = ()
