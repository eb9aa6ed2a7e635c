"""Values of recipe keys, checked against the types of the fields. Torch-free."""

import types
import typing
from typing import Any, Literal

from fishnet.errors import InputError, nearest


def convert(where: str, name: str, value: Any, hint: Any) -> Any:
    """Checks a value against a field's type. Floats may be given as ints or as numeric strings such as 1e-4."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if str(value) in arguments:
            return str(value)
        raise InputError(f"{where}: {name}={value!r}: {nearest(str(value), arguments)}")
    if origin is tuple and arguments[-1] is Ellipsis:
        if isinstance(value, list | tuple):
            return tuple(convert(where, name, v, arguments[0]) for v in value)
        kind = "strings" if arguments[0] is str else "numbers"
        raise InputError(f"{where}: {name}={value!r}: must be a list of {kind}")
    if origin is tuple:
        if isinstance(value, list | tuple) and len(value) == len(arguments):
            return tuple(convert(where, name, v, a) for v, a in zip(value, arguments, strict=True))
        raise InputError(f"{where}: {name}={value!r}: must be a list of {len(arguments)} numbers")
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _one_of(where, name, value, arguments)
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where}: {name}={value!r}: must be {_kind(hint.__name__)}")


def _one_of(where: str, name: str, value: Any, hints: tuple[Any, ...]) -> Any:
    """Converts a value to the first of several types that fits. Raises the first type's InputError if none fits."""
    first: InputError | None = None
    for hint in (hint for hint in hints if hint is not type(None)):
        try:
            return convert(where, name, value, hint)
        except InputError as error:
            first = first or error
    raise first or InputError(f"{where}: {name}={value!r}: is not a known value")


def _kind(name: str) -> str:
    return {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a string"}[name]
