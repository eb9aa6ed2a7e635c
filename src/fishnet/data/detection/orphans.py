"""Reports orphans: images without an annotation, and annotations without an image."""

from collections.abc import Sequence

from fishnet.data.collector import current_collector
from fishnet.data.detection.files import listed
from fishnet.data.findings import Finding
from fishnet.errors import InputError

MAX_SHARE = 0.01
"""Largest share of orphans in a split that may be trained on."""


def report_orphans(
    orphans: Sequence[str],
    total: int,
    what: str,
    action: str,
    code: str,
    notes: list[Finding],
    split: str = "",
) -> None:
    """Reports files that have no counterpart, in one finding and only once.

    Args:
        orphans: the files without a counterpart.
        total: number of all files of their kind.
        what: the fault, such as ``label files have no image``.
        action: what to do.
        code: the code of the rule.
        notes: the dataset's notes, to which the finding is added if problems are not collected.
        split: the split of the finding.

    Raises:
        InputError: more than 1 % are orphans, and problems are not collected (:mod:`fishnet.data.collector`).
    """
    if not orphans:
        return
    message = f"{len(orphans):,} of {total:,} {what}: {listed(orphans, 3)}"
    collector = current_collector()
    if collector.strict and len(orphans) > MAX_SHARE * total:
        raise InputError(f"{message}: {action}")
    finding = Finding(code, message, split=split, file=orphans[0], count=len(orphans))
    known = notes if collector.strict else collector.findings
    if (code, message) not in ((other.code, other.message) for other in known):
        known.append(finding)
