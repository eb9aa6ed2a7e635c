"""Reports errors and warnings in the data before the first step: one line for each kind."""

import shlex
from collections.abc import Callable, Collection, Mapping
from itertools import groupby

from fishnet.data.base import ImageDataset
from fishnet.data.findings import Finding, in_order
from fishnet.data.quick import training_findings
from fishnet.errors import InputError


def report_findings(
    task: str,
    data: str,
    splits: Mapping[str, ImageDataset],
    log: Callable[[str], None],
    *,
    skip: Collection[str] = (),
    stop: bool = True,
    skip_broken: bool = False,
) -> None:
    """Logs errors and warnings that can be found without decoding an image.

    Args:
        task: ``classify`` ...
        data: its name.
        splits: the dataset of each split.
        log: is called with a line for each code.
        skip: codes that are neither logged nor stop the training.
        stop: whether errors that the training cannot handle stop it.
        skip_broken: whether the training leaves out images that it cannot read.

    Raises:
        InputError: there is such an error, and ``stop`` is set.
    """
    findings = [finding for finding in training_findings(splits) if finding.severity != "note"]
    groups = [
        list(group) for code, group in groupby(in_order(findings), key=lambda finding: finding.code) if code not in skip
    ]
    fatal = [group for group in groups if stop and _is_fatal(group[0], skip_broken)]
    for group in groups:
        if not fatal or group is not fatal[0]:
            log(_line(group))
    if fatal:
        others = len(fatal) - 1
        rest = f" (and {others} more such error{'s' if others > 1 else ''})" if others else ""
        codes = ",".join(group[0].code for group in fatal)
        rest += " To leave out these images: on_error=skip." if fatal[0][0].rule.skippable else ""
        raise InputError(
            f"{data}: {_line(fatal[0])}{rest} See fishnet data check {shlex.quote(data)} --task {task}; to train "
            f"anyway: skip_findings={codes}"
        )


def _is_fatal(finding: Finding, skip_broken: bool) -> bool:
    """Whether an error stops a training."""
    rule = finding.rule
    return rule.severity == "error" and not rule.tolerated and not (skip_broken and rule.skippable)


def _line(group: list[Finding]) -> str:
    """Returns one line for the findings of one code."""
    rule, count = group[0].rule, sum(finding.count for finding in group)
    first = "" if len(group) == 1 else "First: "
    return f"{rule.severity} {rule.code} ({count:,}): {rule.meaning} {first}{group[0].message}. {rule.action}"
