"""Recipe keys as flags, for all verbs that take a recipe."""

import dataclasses
import typing
from collections.abc import Collection
from typing import Annotated, Any

from cyclopts import Group, Parameter

from fishnet.recipes.recipe import Recipe

Codes = Annotated[tuple[str, ...], Parameter(negative_iterable=(), consume_multiple=True, show_default=False)]
"""Codes of findings, separated by commas or spaces: :func:`~fishnet.data.findings.parse_codes` reads them."""
_ORDER = ("Model", "Input", "Augmentation", "Training", "Machine")
_GROUPS = {name: Group(name, sort_key=place) for place, name in enumerate(_ORDER)}


def flags_of(keys: Collection[str] | None = None) -> Any:
    """Returns a dataclass with some recipe keys (default: all). Keys that are not given are None."""
    hints = typing.get_type_hints(Recipe)
    known = Recipe.__dataclass_fields__
    fields = []
    for name in known if keys is None else keys:
        metadata = known[name].metadata
        many = ... in typing.get_args(hints[name])  # a list of any length
        parameter = Parameter(
            help=metadata["help"], group=_GROUPS[metadata["group"]], negative_iterable=(), consume_multiple=many or None
        )
        fields.append((name, Annotated[hints[name] | None, parameter], None))
    flags = dataclasses.make_dataclass("Flags", fields, frozen=True)
    flags.__module__ = __name__
    return flags


def given_of(flags: Any) -> dict[str, Any]:
    """Returns the recipe keys that were given."""
    return {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}
