"""Faults in annotations: the first one ends a training's start, all are collected for a check."""

from fishnet.errors import InputError

COLLECTED = 10_000  # no more are kept


def complain(message: str, problems: list[str] | None) -> None:
    """Raises InputError; with a list of problems, which a check gives, adds to it instead."""
    if problems is None:
        raise InputError(message)
    if len(problems) < COLLECTED:
        problems.append(message)
