"""Text for terminals and spreadsheets: escapes text that comes from data, and formats percentages."""

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, format (with bidi marks), surrogates, private, separators
_JOINERS = {"\u200c", "\u200d"}  # format characters that scripts and emoji need, and that are harmless
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    r"""Escapes control characters, bidirectional marks and the like, as in ``\x1b``.

    Class names and file names come from data: an escape sequence in one would otherwise control the terminal. Newlines
    and tabs are escaped too, since the result is part of one line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def printable_lines(text: str) -> str:
    """Escapes text of several lines like :func:`printable`, except newlines and tabs."""
    return "\n".join("\t".join(printable(field) for field in line.split("\t")) for line in text.split("\n"))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def percent(share: float, digits: int = 1) -> str:
    """A share, 0..1, as a percentage with that many digits after the point."""
    smallest = 10**-digits
    return f"<{smallest:.{digits}f} %" if 0 < 100 * share < smallest / 2 else f"{100 * share:.{digits}f} %"


def cell(text: str) -> str:
    """Text as a CSV cell that no spreadsheet runs as a formula.

    Cells that begin with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return get a leading apostrophe, as OWASP's
    page on CSV injection advises. Numbers are unchanged.
    """
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def short_path(path: str, max_length: int = 32) -> str:
    """A path or name, or the end of a long one after an ellipsis."""
    return path if len(path) <= max_length else f"…{path[-max_length + 1 :]}"
