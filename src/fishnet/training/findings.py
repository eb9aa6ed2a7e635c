"""What is wrong with the data, said before the first step: each kind in one line."""

import shlex
from collections.abc import Callable, Collection, Mapping
from itertools import groupby

from fishnet.data.base import PictureSet
from fishnet.data.findings import Finding, in_order
from fishnet.data.quick import training_findings
from fishnet.errors import InputError


def report_findings(
    task: str,
    data: str,
    sets: Mapping[str, PictureSet],
    tell: Callable[[str], None],
    *,
    skip: Collection[str] = (),
    stop: bool = True,
) -> None:
    """Tells errors and warnings that can be found without decoding an image.

    Args:
        task: ``classify`` ...
        data: its name.
        sets: the splits by name.
        tell: receives a line for each code.
        skip: codes that are neither told nor stop the training.
        stop: whether an error that the training does not cope with stops it.

    Raises:
        InputError: such an error.
    """
    findings = [one for one in training_findings(sets) if one.severity != "note"]
    groups = [
        list(group) for code, group in groupby(in_order(findings), key=lambda finding: finding.code) if code not in skip
    ]
    fatal = [group for group in groups if stop and group[0].severity == "error" and not group[0].rule.goes_on]
    for group in groups:
        if not fatal or group is not fatal[0]:
            tell(_line(group))
    if fatal:
        more = len(fatal) - 1
        rest = f" (and {more} more such error{'s' if more > 1 else ''})" if more else ""
        codes = ",".join(group[0].code for group in fatal)
        raise InputError(
            f"{data}: {_line(fatal[0])}{rest} See fishnet data check {shlex.quote(data)} --task {task}; to train all "
            f"the same: --skip-findings {codes}"
        )


def _line(group: list[Finding]) -> str:
    """One line for the findings of one code."""
    rule, count = group[0].rule, sum(finding.count for finding in group)
    first = "" if len(group) == 1 else "First: "
    return f"{rule.severity} {rule.code} ({count:,}): {rule.meaning} {first}{group[0].message}. {rule.action}"
