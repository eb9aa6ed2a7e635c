"""A rule: one kind of fault that a dataset may have. Torch-free."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Rule:
    """One kind of fault.

    Attributes:
        code: ``<subject>-<fault>``, such as ``image-unreadable``.
        severity: an error is wrong, a warning probably is, a note is worth knowing.
        meaning: what is wrong with the data, one sentence.
        action: what to do about it, one sentence.
        training: what training does about it, one sentence. By default training stops for an error that it finds before
            its first step, and logs a warning.
        tolerated: whether training does not stop for such an error, because it copes with it.
        skippable: whether `--on-error skip` copes with it, by leaving out the images concerned.
    """

    code: str
    severity: Severity
    meaning: str
    action: str
    training: str = ""
    tolerated: bool = False
    skippable: bool = False
