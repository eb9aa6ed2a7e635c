"""What is wrong with a dataset: findings, each of a rule. Torch-free."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fishnet.data.rules import RULES, SEVERITIES, Rule, Severity
from fishnet.errors import InputError, nearest


@dataclass(frozen=True)
class Finding:
    """One place where a rule applies.

    Attributes:
        code: of the rule.
        message: what and where, one line.
        split: train, val, test or all; empty where it concerns the whole dataset.
        file: the file concerned; empty where there is none.
        line: in that file, from 1.
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
        """Of its code."""
        return RULES[self.code]

    @property
    def severity(self) -> Severity:
        """Of the rule."""
        return self.rule.severity

    @property
    def action(self) -> str:
        """Of the rule."""
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


def parse_codes(words: Iterable[str], flag: str) -> tuple[str, ...]:
    """The codes in what a user gave, with commas or blanks between them.

    Args:
        words: as given.
        flag: that gave them, for the message.

    Raises:
        InputError: a code that no rule has; the nearest are offered.
    """
    codes = tuple(code for word in words for code in word.replace(",", " ").split())
    for code in codes:
        if code not in RULES:
            raise InputError(f"{flag} {code}: no finding has this code: {nearest(code, RULES)} (see docs/findings.md)")
    return codes


def selected(findings: Iterable[Finding], only: Sequence[str] = (), skip: Sequence[str] = ()) -> list[Finding]:
    """The findings of some rules: all, or those of ``only``, without those of ``skip``."""
    return [one for one in findings if (not only or one.code in only) and one.code not in skip]


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; those of one code together, otherwise as they came."""
    rank = {code: (SEVERITIES.index(rule.severity), i) for i, (code, rule) in enumerate(RULES.items())}
    return sorted(findings, key=lambda finding: rank[finding.code])


def count_by_severity(findings: Iterable[Finding]) -> dict[str, int]:
    """How many images, objects or files the errors, the warnings and the notes concern."""
    counts: dict[str, int] = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        counts[finding.severity] += finding.count
    return counts


def located(place: str) -> tuple[str, int | None]:
    """File and line of a place as messages spell it: ``a.xml line 50``, ``a.json line 9: annotations[0]``."""
    match = re.fullmatch(r"(?P<file>.+?) line (?P<line>\d+)(: \w+\[\d+\])?", place)
    return (match["file"], int(match["line"])) if match else (place, None)


def catalogue() -> str:
    """All rules as a page of Markdown."""
    rows = ""
    for rule in sorted(RULES.values(), key=lambda rule: (SEVERITIES.index(rule.severity), rule.code)):
        training = rule.training or _DEFAULT[rule.severity]
        rows += f"| `{rule.code}` | {rule.severity} | {rule.meaning} | {rule.action} | {training} |\n"
    return _HEAD + rows


_DEFAULT = {"error": "Stops before the first step.", "warning": "Says it once.", "note": "Says nothing."}
_HEAD = """# Findings

<!-- Generated: python -m fishnet.data.findings > docs/findings.md -->

`fishnet data check DATA` lists what it finds in a dataset, each kind under a code. Before its first step, a training
looks for the kinds that can be found without decoding an image.

- **error**: something is wrong. The check exits with 2.
- **warning**: something is probably wrong. The check exits with 2 with `--strict` only.
- **note**: worth knowing.

`--only CODE,CODE` reports these alone, `--skip CODE,CODE` all others; `--json` gives every finding with code, severity,
message, split, file, line, count and action. A training takes `--skip-findings CODE,CODE`: it goes on in spite of these
errors.

| code | severity | meaning | what to do | in training |
|---|---|---|---|---|
"""

if __name__ == "__main__":
    print(catalogue(), end="")
