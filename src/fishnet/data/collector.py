"""What happens to a problem in annotations: training stops at the first one, `data check` collects all of them.

:func:`report` raises unless it runs inside ``with collecting()``; the collector need not be passed to it. Only the
thread or asyncio task that opened the block sees its collector.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fishnet.data.findings import Finding
from fishnet.errors import InputError

MAX_COLLECTED = 10_000


class Collector:
    """Keeps the problems that :func:`report` is called for.

    Attributes:
        strict: whether the first problem raises instead.
        findings: the problems in the order of the reports, at most :data:`MAX_COLLECTED`.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Keeps a finding. Raises InputError instead if ``strict``."""
        if self.strict:
            raise InputError(finding.message)
        if len(self.findings) < MAX_COLLECTED:
            self.findings.append(finding)


_collector: ContextVar[Collector] = ContextVar("collector", default=Collector(strict=True))  # noqa: B039 (never filled)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Collects the problems of a block instead of raising at the first. Of nested blocks, the innermost collects."""
    token = _collector.set(Collector())
    try:
        yield _collector.get()
    finally:
        _collector.reset(token)


def current_collector() -> Collector:
    """The collector of the innermost :func:`collecting` block; a strict one outside of such blocks."""
    return _collector.get()


def is_strict() -> bool:
    """Whether the first problem raises, as it does outside of :func:`collecting`."""
    return current_collector().strict


def report(
    message: str, code: str = "annotation-unreadable", *, split: str = "", file: str = "", line: int | None = None
) -> None:
    """Reports a problem: raises InputError, or inside of :func:`collecting` adds a :class:`Finding` to its collector.

    Args:
        message: what is wrong, where, and what to do.
        code: the code of the rule, see :mod:`fishnet.data.rules`.
        split, file, line: see :class:`~fishnet.data.findings.Finding`.
    """
    current_collector().add(Finding(code, message, split, file, line))


def first_problem() -> str:
    """The first collected problem in brackets, for an error that may be its consequence; empty if there is none."""
    findings = current_collector().findings
    return f" ({findings[0].message})" if findings else ""
