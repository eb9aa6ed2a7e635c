"""Faults in annotations: the first one ends a training's start, all are collected for a check."""

from fishnet.data.findings import Finding
from fishnet.errors import InputError

COLLECTED = 10_000  # no more are kept


def because(problems: list[Finding] | None) -> str:
    """The first problem in brackets, for an error that may be its consequence; empty where there is none."""
    return f" ({problems[0].message})" if problems else ""


def complain(
    message: str,
    problems: list[Finding] | None,
    code: str = "annotation-unreadable",
    *,
    split: str = "",
    file: str = "",
    line: int | None = None,
) -> None:
    """Raises InputError; with a list of problems, which a check gives, adds a :class:`Finding` to it instead.

    Args:
        message: what is wrong, where, and what to do.
        problems: collects findings; None raises.
        code: of the rule, see :mod:`fishnet.data.findings`.
        split, file, line: of the finding.
    """
    if problems is None:
        raise InputError(message)
    if len(problems) < COLLECTED:
        problems.append(Finding(code, message, split, file, line))
