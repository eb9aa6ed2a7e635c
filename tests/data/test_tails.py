"""Files by the ends of their paths."""

import unicodedata
from pathlib import Path

import pytest

from fishnet.data.tails import Tails
from fishnet.errors import InputError

FILES = [
    Path(f"/d/{name}") for name in ("a/1.png", "b/1.png", "a/2.png", "c d/3.png", unicodedata.normalize("NFD", "ö.png"))
]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("2.png", "a/2.png"),
        ("/home/x/data/images/2.png", "a/2.png"),
        ("C:\\data\\a\\1.png", "a/1.png"),
        ("somewhere/b/1.png", "b/1.png"),
        ("c%20d/3.png", "c d/3.png"),
        ("file:///x/c%20d/3.png", "c d/3.png"),
        ("../2.png", "a/2.png"),
        ("4.png", None),
        ("", None),
        ("a/", None),
    ],
)
def test_names_of_other_machines(name: str, place: str | None) -> None:
    assert Tails(FILES).find(name) == (None if place is None else Path("/d") / place)


def test_either_unicode_form() -> None:
    assert Tails(FILES).find("x/" + unicodedata.normalize("NFC", "ö.png")) == FILES[-1]


def test_two_candidates_are_named() -> None:
    with pytest.raises(InputError, match=r"x/1\.png may be /d/a/1\.png or /d/b/1\.png"):
        Tails(FILES).find("x/1.png")
    assert Tails(FILES).find("x/1.png", Path("/d/b")) == Path("/d/b/1.png")
