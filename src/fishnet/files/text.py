"""Text from data on its way to a terminal or a spreadsheet."""

import unicodedata

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, format (with bidi marks), surrogates, private, separators
_JOINERS = {"\u200c", "\u200d"}  # format characters that scripts and emoji need and that move nothing
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str) -> str:
    r"""Text with its control characters, bidirectional marks and the like written as escapes, such as ``\x1b``.

    Class names and file names come from data: an escape sequence in one would otherwise command the terminal. Newlines
    and tabs are escaped too, since the result is meant to be part of one line.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def printable_lines(text: str) -> str:
    """The same for text of several lines: newlines and tabs stay."""
    return "\n".join("\t".join(printable(part) for part in line.split("\t")) for line in text.split("\n"))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def cell(text: str) -> str:
    """A text as a CSV cell that a spreadsheet shows and does not run as a formula.

    Cells that begin with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return get a leading apostrophe, as OWASP's
    page on CSV injection advises. Numbers stay as they are.
    """
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
