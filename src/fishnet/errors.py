"""The errors that end a command with one line, and helpers for their messages."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Wrong usage or bad input. The message says what, where and what to do. The command line exits with 2."""


class WorkError(RuntimeError):
    """The input was fine but the work failed. The command line exits with 1."""


class NotFiniteError(WorkError):
    """The network's outputs for an image are NaN or infinite.

    Args:
        heads: names of the heads with such outputs, if the network has several heads.
    """

    def __init__(self, *heads: str) -> None:
        of = f" of {' and '.join(heads)}" if heads else ""
        super().__init__(
            f"the network's outputs{of} are not finite numbers: broken weights, or an image of extreme values"
        )


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """A phrase with the nearest valid names, ``did you mean a, b?``, or if none is near, up to 40 of all names."""
    choices = sorted(known)
    matches = difflib.get_close_matches(name, choices, n=limit, cutoff=0.6)
    if matches:
        return f"did you mean {', '.join(matches)}?"
    return f"choose from {', '.join(choices[:40])}{', ...' if len(choices) > 40 else ''}"


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
