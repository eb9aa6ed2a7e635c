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
        severity: an error is certainly wrong, a warning probably; a note is only worth knowing.
        meaning: what is wrong with the data, one sentence.
        action: what to do about it, one sentence.
        training: what training does about it, one sentence. By default training stops for an error that it finds before
            its first step, and logs a warning.
        tolerated: whether training continues despite such an error, because it can handle it.
        skippable: whether `--on-error skip` handles it by leaving out the images concerned.
    """

    code: str
    severity: Severity
    meaning: str
    action: str
    training: str = ""
    tolerated: bool = False
    skippable: bool = False
