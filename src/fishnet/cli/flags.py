"""Recipe keys as flags, the same for every verb that takes a recipe."""

import dataclasses
import typing
from typing import Annotated, Any

from cyclopts import Group, Parameter

from fishnet.recipes.recipe import Recipe, keys_of

Codes = Annotated[tuple[str, ...], Parameter(negative_iterable=(), consume_multiple=True)]
"""Codes of findings, with commas or blanks between: :func:`~fishnet.data.findings.parse_codes` reads them."""
_ORDER = ("Model", "Input", "Augmentation", "Training", "Machine")
_GROUPS = {name: Group(name, sort_key=place) for place, name in enumerate(_ORDER)}


def flags_of(task: str | None = None) -> Any:
    """A dataclass of the recipe keys that a task knows, of all where none is named; each optional: what is not given
    stays as the recipe has it.
    """
    hints = typing.get_type_hints(Recipe)
    known = Recipe.__dataclass_fields__
    fields = []
    for name in known if task is None else keys_of(task):
        facts = known[name].metadata
        many = ... in typing.get_args(hints[name])  # as many values as are given
        parameter = Parameter(
            help=facts["help"], group=_GROUPS[facts["group"]], negative_iterable=(), consume_multiple=many or None
        )
        fields.append((name, Annotated[hints[name] | None, parameter], None))
    made = dataclasses.make_dataclass("Flags", fields, frozen=True)
    made.__module__ = __name__
    return made


def given_of(flags: Any) -> dict[str, Any]:
    """The recipe keys that were given."""
    return {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}
