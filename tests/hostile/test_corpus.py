"""Every bad and odd input of this folder, through the command line: exit code, one line, no hang, little memory.

Each module here exports ``CASES``. ``HOSTILE_TABLE=FILE pytest tests/hostile`` appends a row for each case to a file:
module, name, exit code (expected), seconds, peak of memory in MiB and what the process had before, the line.
"""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.case import Case
from tests.hostile.server import Outcome, Server

PEAK = 1024  # MiB that no case may reach
CORPUS = [
    (path.stem, case)
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if path.stem not in ("__init__", "case", "server") and not path.stem.startswith("test_")
    for case in getattr(importlib.import_module(f"tests.hostile.{path.stem}"), "CASES", ())
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forks")
@pytest.mark.parametrize(("module", "case"), CORPUS, ids=[f"{module}-{case.name}" for module, case in CORPUS])
def test_case(module: str, case: Case, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    folder.mkdir()
    outcome = server.run(f"tests.hostile.{module}", case.name, folder)
    line = report(outcome)
    note(module, case, outcome, line)
    assert outcome.code is not None, f"killed: {outcome.arguments} did not end: {outcome.err}"
    assert outcome.code == case.code, f"{outcome.arguments}: {outcome.err or outcome.out}"
    assert "Traceback" not in outcome.err
    for word in case.words:
        assert word in line, f"{word!r} is not in: {line}"
    assert outcome.peak < PEAK, f"{outcome.arguments}: {outcome.peak:.0f} MiB ({outcome.base:.0f} before)"


def test_names_are_unique() -> None:
    names = [(module, case.name) for module, case in CORPUS]
    assert len(names) == len(set(names))


def report(outcome: Outcome) -> str:
    """What the case's words are looked for in: the one error line.

    Everything printed where nothing failed, or where ``data check`` lists what is wrong and exits with 2.
    """
    lines = outcome.err.splitlines()
    if outcome.code in (0, None) or (outcome.arguments[:2] == ("data", "check") and not lines):
        return outcome.out + outcome.err
    assert len(lines) == 1, f"{outcome.arguments}: not one line: {outcome.err!r}"
    return lines[0]


def note(module: str, case: Case, outcome: Outcome, line: str) -> None:
    """Appends a row to the table, where one is wanted."""
    place = os.environ.get("HOSTILE_TABLE")
    if not place:
        return
    code = "killed" if outcome.code is None else str(outcome.code)
    shown = line.strip().splitlines()[-1] if line.strip() else ""
    row = (module, case.name, f"{code} ({case.code})", f"{outcome.seconds:.2f}", f"{outcome.peak:.0f}",
           f"{outcome.base:.0f}", shown)  # fmt: skip
    with Path(place).open("a", encoding="utf-8") as table:
        table.write("\t".join(row) + "\n")
