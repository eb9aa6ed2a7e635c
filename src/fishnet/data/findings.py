"""Findings: places in a dataset that break a rule. Torch-free."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fishnet.data.rule import SEVERITIES, Rule, Severity
from fishnet.data.rules import RULES
from fishnet.errors import InputError, nearest

TRAINED = ("train", "all")  # the splits that are trained on


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        code: the code of the rule.
        message: what is wrong and where, one line.
        split: train, val, test or all; empty if it concerns the whole dataset.
        file: the file concerned; empty if there is none.
        line: the line in the file, from 1; None if there is none.
        count: how many images, objects or pixels it concerns.
    """

    code: str
    message: str
    split: str = ""
    file: str = ""
    line: int | None = None
    count: int = 1

    @property
    def rule(self) -> Rule:
        """The rule with this code."""
        return RULES[self.code]

    @property
    def severity(self) -> Severity:
        """The severity of the rule."""
        return self.rule.severity

    @property
    def action(self) -> str:
        """What the rule says to do."""
        return self.rule.action

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "split": self.split,
            "file": self.file,
            "line": self.line,
            "count": self.count,
            "action": self.action,
        }


def shared_code(split: str, other: str) -> str:
    """The code for an image in two splits: an error if one of them is trained on."""
    return "image-in-two-splits" if {split, other} & set(TRAINED) else "image-in-val-and-test"


def parse_codes(words: Iterable[str], flag: str) -> tuple[str, ...]:
    """Splits the arguments of a flag into codes, at commas and spaces.

    Args:
        words: the arguments.
        flag: the flag, for the message.

    Raises:
        InputError: a code that no rule has; the message offers the nearest ones.
    """
    codes = tuple(_OLD_CODES.get(code, code) for word in words for code in word.replace(",", " ").split())
    for code in codes:
        if code not in RULES:
            raise InputError(f"{flag} {code}: no finding has this code: {nearest(code, RULES)} (see docs/findings.md)")
    return codes


def selected(findings: Iterable[Finding], only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Finding]:
    """The findings with the codes in ``only`` (empty: all), without those in ``skip``."""
    return [finding for finding in findings if (not only or finding.code in only) and finding.code not in skip]


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Sorts findings: errors, then warnings, then notes; by code within each, otherwise in the given order."""
    rank = {code: (SEVERITIES.index(rule.severity), i) for i, (code, rule) in enumerate(RULES.items())}
    return sorted(findings, key=lambda finding: rank[finding.code])


def count_by_severity(findings: Iterable[Finding]) -> dict[str, int]:
    """The number of images, objects or files that errors, warnings and notes concern."""
    counts: dict[str, int] = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        counts[finding.severity] += finding.count
    return counts


def located(location: str) -> tuple[str, int | None]:
    """File and line of a location as messages write it: ``a.xml line 50``, ``a.json line 9: annotations[0]``."""
    match = re.fullmatch(r"(?P<file>.+?) line (?P<line>\d+)(: \w+\[\d+\])?", location)
    return (match["file"], int(match["line"])) if match else (location, None)


def catalogue() -> str:
    """All rules as a Markdown page."""
    rows = ""
    for rule in sorted(RULES.values(), key=lambda rule: (SEVERITIES.index(rule.severity), rule.code)):
        training = rule.training or _DEFAULT[rule.severity]
        rows += f"| `{rule.code}` | {rule.severity} | {rule.meaning} | {rule.action} | {training} |\n"
    return _HEAD + rows


_OLD_CODES = {
    "box-normalised": "box-normalized",
    "class-unvalidated": "class-without-val-images",
    "class-not-validated": "class-without-val-pixels",
}
_DEFAULT = {"error": "Stops before the first step.", "warning": "Logs it once.", "note": "Logs nothing."}
_HEAD = """# Findings

<!-- Generated: python -m fishnet.data.findings > docs/findings.md -->

`fishnet data check DATA` lists the faults of a dataset, each kind under a code. Before its first step, training looks
for the kinds that can be found without decoding an image.

- **error**: something is wrong. The check exits with 2.
- **warning**: something is probably wrong. The check exits with 2 with `--strict` only.
- **note**: worth knowing.

`--only CODE,CODE` reports only these codes. `--skip CODE,CODE` ignores these codes. `--json` prints every finding with
code, severity, message, split, file, line, count and action. With `--skip-findings CODE,CODE`, training continues
despite these errors.

| code | severity | meaning | what to do | in training |
|---|---|---|---|---|
"""

if __name__ == "__main__":
    print(catalogue(), end="")
