"""Checks the types and bounds of values from untrusted files. Every error is one line."""

import reprlib
from typing import Any

from fishnet.errors import InputError

HUGE = 1e30
_MAX_DEPTH, _MAX_ITEMS, _MAX_LENGTH = 8, 100_000, 100_000


def _error(name: str, words: str) -> InputError:
    """An error about a value, in one line: parts of its name may come from the file."""
    return InputError(f"{''.join(char if char.isprintable() else repr(char)[1:-1] for char in name)}: {words}")


def real(value: Any, name: str, minimum: float = -HUGE, maximum: float = HUGE) -> float:
    """Checks a finite number. Raises InputError with its name."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
        raise _error(name, f"must be a finite number from {minimum:g} to {maximum:g}, not {shown(value)}")
    return float(value)


def integer(value: Any, name: str, minimum: int, maximum: int) -> int:
    """Checks a whole number. Raises InputError with its name."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise _error(name, f"must be a whole number from {minimum:,} to {maximum:,}, not {shown(value)}")
    return value


def text(value: Any, name: str, max_length: int = _MAX_LENGTH) -> str:
    """Checks a string of bounded length. Raises InputError with its name."""
    if not isinstance(value, str):
        raise _error(name, f"must be a string, not {shown(value)}")
    if len(value) > max_length:
        raise _error(name, f"a string of {len(value):,} characters is too long (at most {max_length:,})")
    return value


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Checks an object whose keys are strings. Raises InputError with its name."""
    if not isinstance(value, dict):
        raise _error(name, f"must be an object, not {shown(value)}")
    for key in value:
        text(key, f"{name}: a key")
    return value


def plain(value: Any, name: str, maximum: float = HUGE, max_items: int = _MAX_ITEMS) -> None:
    """Checks bounded nested lists and objects of strings, finite numbers up to ``maximum``, booleans and None.

    Raises:
        InputError: anything else.
    """
    items = 0

    def check(item: Any, place: str, depth: int) -> None:
        nonlocal items
        items += 1
        if items > max_items + 1:
            raise _error(name, f"more than {max_items:,} values")
        if depth > _MAX_DEPTH:
            raise _error(name, f"nested more than {_MAX_DEPTH} levels deep")
        if isinstance(item, dict):
            for key, inner in mapping(item, place).items():
                check(inner, f"{place}.{_escaped(key)}"[:200], depth + 1)
        elif isinstance(item, list | tuple):
            for inner in item:
                check(inner, place, depth + 1)
        elif isinstance(item, str):
            text(item, place)
        elif item is not None and not isinstance(item, bool):
            real(item, place, -maximum, maximum)

    check(value, name, 0)


def _escaped(key: Any) -> str:
    """A key for a message of one line."""
    return repr(str(key))[1:-1]


def shown(value: Any) -> str:
    """A value as shortened text for a message."""
    return reprlib.repr(value)
