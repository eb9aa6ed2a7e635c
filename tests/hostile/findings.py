"""Data sets with something odd in them that only a look at the whole finds."""

from pathlib import Path

from tests.hostile.case import Case
from tests.makers import split_folder


def _nowhere(folder: Path) -> list[str]:
    return ["data", "check", "nowhere"]


def _clean(folder: Path) -> list[str]:
    split_folder(folder / "data", train=3)
    return ["data", "check", "data"]


CASES = [
    Case("no-such-folder", _nowhere, 2, ("nowhere", "no such folder")),
    Case("clean", _clean, 0, ("nothing wrong",)),
]
