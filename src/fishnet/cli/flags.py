"""Recipe keys as flags, the same for every verb that takes a recipe."""

import dataclasses
import typing
from typing import Annotated, Any

from cyclopts import Parameter

from fishnet.training.recipe import Recipe


def _flags() -> type:
    """A dataclass of all recipe keys, each optional: what is not given stays as the recipe has it."""
    hints = typing.get_type_hints(Recipe)
    fields = [
        (name, Annotated[hints[name] | None, Parameter(help=field.metadata["help"], negative_iterable=())], None)
        for name, field in Recipe.__dataclass_fields__.items()
    ]
    made = dataclasses.make_dataclass("Flags", fields, frozen=True)
    made.__module__ = __name__
    return made


Flags: Any = _flags()


def given_of(flags: Any) -> dict[str, Any]:
    """The recipe keys that were given."""
    return {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}
