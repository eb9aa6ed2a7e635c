"""The rules of findings, and their page."""

from pathlib import Path

import pytest

from fishnet.data.findings import (
    Finding,
    catalogue,
    count_by_severity,
    in_order,
    located,
    parse_codes,
    selected,
)
from fishnet.data.rule import SEVERITIES
from fishnet.data.rules import RULES
from fishnet.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "findings.md"


def test_the_page_is_what_the_code_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalogue(), "python -m fishnet.data.findings > docs/findings.md"


@pytest.mark.parametrize("code", RULES)
def test_rules_are_complete(code: str) -> None:
    rule = RULES[code]
    assert rule.code == code
    assert code == code.lower()
    assert "-" in code
    assert rule.severity in SEVERITIES
    for sentence in (rule.meaning, rule.action):
        assert sentence[0].isupper()
        assert sentence.endswith(".")
        assert "\n" not in sentence
        assert "|" not in sentence


def test_order_counts_and_choice() -> None:
    findings = [
        Finding("image-duplicate", "a"),
        Finding("box-empty", "b", count=3),
        Finding("image-listed-twice", "c"),
        Finding("image-unreadable", "d"),
        Finding("box-empty", "e"),
    ]
    assert "".join(one.message for one in in_order(findings)) == "dbeca"
    assert count_by_severity(findings) == {"error": 5, "warning": 1, "note": 1}
    assert [one.message for one in selected(findings, only=("box-empty", "image-duplicate"))] == ["a", "b", "e"]
    assert [one.message for one in selected(findings, skip=("box-empty", "image-duplicate"))] == ["c", "d"]
    assert [one.message for one in selected(findings, ("box-empty",), ("box-empty",))] == []


def test_codes_under_old_names() -> None:
    assert parse_codes(("box-normalised,box-empty",), "--skip") == ("box-normalized", "box-empty")


def test_codes() -> None:
    assert parse_codes(("box-empty,image-duplicate", "box-outside"), "--only") == (
        "box-empty", "image-duplicate", "box-outside",
    )  # fmt: skip
    with pytest.raises(InputError, match=r"--only box-emty: no finding has this code: did you mean box-empty"):
        parse_codes(("box-emty",), "--only")


@pytest.mark.parametrize(
    ("place", "file", "line"),
    [
        ("a/b.xml line 50", "a/b.xml", 50),
        ("a.json line 9: annotations[0]", "a.json", 9),
        ("a line 3.txt line 7", "a line 3.txt", 7),
        ("mask.png: object 3", "mask.png: object 3", None),
        ("a.png", "a.png", None),
    ],
)
def test_places(place: str, file: str, line: int | None) -> None:
    assert located(place) == (file, line)
