"""What can be wrong with a dataset: named rules, and the findings of a check. Torch-free."""

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Rule:
    """One kind of fault.

    Attributes:
        code: ``<subject>-<what>``, such as ``image-unreadable``.
        severity: an error is wrong, a warning probably is, a note is worth knowing.
        meaning: what it says of the data, one sentence.
        action: what to do about it, one sentence.
    """

    code: str
    severity: Severity
    meaning: str
    action: str


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
    def severity(self) -> Severity:
        """Of the rule."""
        return RULES[self.code].severity

    @property
    def action(self) -> str:
        """Of the rule."""
        return RULES[self.code].action

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


_ALL = (
    # every level
    Rule(
        "annotation-unreadable",
        "error",
        "An annotation cannot be used as it stands.",
        "Correct or remove the annotation.",
    ),
    Rule("image-unreadable", "error", "An image file is missing or broken.", "Replace the file or remove its entry."),
    # classification
    # detection and instance segmentation
    Rule(
        "shape-ignored",
        "warning",
        "Points, lines and other shapes without area are no objects and are left out.",
        "Draw boxes or outlines where these shapes mean objects.",
    ),
    # semantic segmentation
)
RULES: dict[str, Rule] = {rule.code: rule for rule in _ALL}
