"""Values from files that nobody vouches for: of the right type, within bounds, or refused in one line."""

import reprlib
from typing import Any

from fishnet.errors import InputError

HUGE = 1e30
_DEPTH, _ITEMS, _LETTERS = 8, 100_000, 100_000


def real(value: Any, name: str, least: float = -HUGE, most: float = HUGE) -> float:
    """A finite number within bounds. Raises InputError, naming it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InputError(f"{name}: must be a finite number from {least:g} to {most:g}, not {shown(value)}")
    return float(value)


def integer(value: Any, name: str, least: int, most: int) -> int:
    """A whole number within bounds. Raises InputError, naming it."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{name}: must be a whole number from {least:,} to {most:,}, not {shown(value)}")
    return value


def text(value: Any, name: str, most: int = _LETTERS) -> str:
    """A text of bounded length. Raises InputError, naming it."""
    if not isinstance(value, str):
        raise InputError(f"{name}: must be a text, not {shown(value)}")
    if len(value) > most:
        raise InputError(f"{name}: a text of {len(value):,} letters is too long (at most {most:,})")
    return value


def mapping(value: Any, name: str) -> dict[str, Any]:
    """An object with texts as keys. Raises InputError, naming it."""
    if not isinstance(value, dict):
        raise InputError(f"{name}: must be an object, not {shown(value)}")
    for key in value:
        text(key, f"{name}: a key")
    return value


def plain(value: Any, name: str, most: float = HUGE, items: int = _ITEMS) -> None:
    """Raises InputError for anything but bounded nests of texts, finite numbers up to ``most``, booleans and None."""
    left = [items + 1]

    def look(item: Any, place: str, depth: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise InputError(f"{name}: more than {items:,} values")
        if depth > _DEPTH:
            raise InputError(f"{name}: nested more than {_DEPTH} levels deep")
        if isinstance(item, dict):
            for key, inner in mapping(item, place).items():
                look(inner, f"{place}.{key}"[:200], depth + 1)
        elif isinstance(item, list | tuple):
            for inner in item:
                look(inner, place, depth + 1)
        elif isinstance(item, str):
            text(item, place)
        elif item is not None and not isinstance(item, bool):
            real(item, place, -most, most)

    look(value, name, 0)


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    return reprlib.repr(value)
