"""One bad or odd input, run through the command line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A command that meets a bad input.

    Attributes:
        name: unique within its module.
        write: writes the input into a folder and returns the arguments after ``fishnet``.
        code: the exit code that must come.
        words: texts that the error line must contain.
    """

    name: str
    write: Callable[[Path], list[str]]
    code: int
    words: tuple[str, ...] = ()
