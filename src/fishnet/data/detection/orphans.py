"""What pairs with nothing: images without an annotation, annotations without an image. Torch-free."""

from collections.abc import Sequence

from fishnet.data.findings import Finding
from fishnet.errors import InputError

SHARE = 0.01
"""Share of a split from which a training is refused."""
_NAMED = 3


def report_orphans(
    alone: Sequence[str],
    total: int,
    what: str,
    action: str,
    code: str,
    problems: list[Finding] | None,
    notes: list[Finding],
    split: str = "",
) -> None:
    """Reports what pairs with nothing, in one finding.

    Args:
        alone: the files that pair with nothing.
        total: files of their kind, with these.
        what: is said of them, such as ``label files have no image``.
        action: what to do.
        code: of the rule.
        problems: of a check, which gets the finding.
        notes: of the dataset, which get the finding in a training.
        split: of the finding.

    Raises:
        InputError: without ``problems``, where more than 1 % pair with nothing.
    """
    if not alone:
        return
    some = ", ".join(alone[:_NAMED]) + (", ..." if len(alone) > _NAMED else "")
    message = f"{len(alone):,} of {total:,} {what}: {some}"
    if problems is None and len(alone) > SHARE * total:
        raise InputError(f"{message}: {action}")
    finding = Finding(code, message, split=split, file=alone[0], count=len(alone))
    known = notes if problems is None else problems
    if finding.message not in (one.message for one in known if one.code == code):
        known.append(finding)
