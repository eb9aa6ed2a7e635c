"""File names with ranges in braces, such as ``train-{0000..0099}.tar``. Torch-free."""

import itertools
import re

from fishnet.errors import InputError

MAX_NAMES = 100_000  # names that one pattern may stand for
_RANGE = re.compile(r"\{([0-9]{1,12})\.\.([0-9]{1,12})\}")
_BRACES = re.compile(r"(\{[^{}]*\})")


def expand_braces(pattern: str) -> list[str]:
    """The names that a pattern stands for, in order; a name without braces stands for itself.

    ``{08..11}`` is a range, padded to as many digits as its first number has; ``{a,b}`` is a list. Braces cannot be
    nested. The package braceexpand has no limit: it expands ``{0..999999999}`` until the memory is full.

    Raises:
        InputError: an invalid pattern, or one that stands for too many names.
    """
    choices: list[list[str] | range] = []
    total = 1
    widths: list[int] = []
    for piece in _BRACES.split(pattern):
        options, width = _options(piece, pattern)
        total *= len(options)
        if total > MAX_NAMES:
            raise InputError(f"{pattern}: stands for more than {MAX_NAMES:,} names")
        choices.append(options)
        widths.append(width)
    columns = [
        [f"{value:0{width}d}" for value in options] if isinstance(options, range) else options
        for options, width in zip(choices, widths, strict=True)
    ]
    return ["".join(pieces) for pieces in itertools.product(*columns)]


def _options(piece: str, pattern: str) -> tuple[list[str] | range, int]:
    """What a piece of a pattern stands for: texts, or a range; and the number of digits, 0 for texts."""
    if match := _RANGE.fullmatch(piece):
        first, last = int(match[1]), int(match[2])
        if last >= first:
            return range(first, last + 1), len(match[1])
    elif piece.startswith("{") and "," in piece:
        return piece[1:-1].split(","), 0
    elif "{" not in piece and "}" not in piece:
        return [piece], 0
    raise InputError(f"{pattern}: not a pattern such as train-{{0000..0003}}.tar")
