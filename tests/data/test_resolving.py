"""From names that other machines wrote to files of a dataset."""

import unicodedata
from pathlib import Path

import pytest

from fishnet.data import resolving
from fishnet.data.resolving import Resolver, TailIndex
from fishnet.errors import InputError

NFC, NFD = (unicodedata.normalize(form, "größe.png") for form in ("NFC", "NFD"))  # type: ignore[arg-type]
FILES = ("a.png", "images/b.png", "images/deep/c.png", "train/7.jpg", "val/7.jpg", "val/9.jpg", "my file.png", NFD)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "path", "by_tail"),
    [
        ("images/b.png", "images/b.png", 0),
        ("./images/../a.png", "images/../a.png", 0),
        ("images\\b.png", "images/b.png", 1),
        ("my%20file.png", "my file.png", 1),
        (NFC, NFD, 1),
        ("C:\\data\\set\\images\\b.png", "images/b.png", 1),
        ("/home/bob/images/b.png", "images/b.png", 1),
        ("s3://bucket/set/a.png", "a.png", 1),
        ("photos/b.png", "images/b.png", 1),
        ("images/c.png", "images/deep/c.png", 1),
        ("D:\\x\\train\\7.jpg", "train/7.jpg", 1),
        ("/x/my%20file.png", "my file.png", 1),
        ("b", "images/b.png", 1),
        ("9", "val/9.jpg", 1),
        ("train/7", "train/7.jpg", 1),
        (f"/x/{NFC}", NFD, 1),
    ],
)
def test_names_lead_to_files(name: str, path: str, by_tail: int, root: Path) -> None:
    resolver = Resolver(root)
    resolved = resolver.find(name)
    assert resolved.samefile(root / path)
    assert resolver.by_tail == by_tail
    assert resolver.example == (f"{name} -> {path}" if by_tail else "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("7", "may be any of 2 files"),
        ("/elsewhere/7.jpg", "may be any of 2 files"),
        ("train/9.jpg", "no such file"),  # a file of val is none of train
        ("images/9.jpg", "no such file"),  # there is a folder images, without it
        ("a.jpg", "no such file"),  # another extension is another file
        ("nowhere.png", "no such file"),
        ("", "empty file name"),
        ("x\0.png", "no such file"),
        ("x" * 5000, "no such file"),
    ],
)
def test_names_that_lead_nowhere(name: str, words: str, root: Path) -> None:
    resolver = Resolver(root)
    with pytest.raises(InputError, match=words):
        resolver.find(name)
    assert resolver.by_tail == 0


def test_a_root_that_is_too_large_is_not_searched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "SEARCHED", 3)
    assert Resolver(root).find("images\\b.png") == root / "images/b.png"
    with pytest.raises(InputError, match="no such file"):
        Resolver(root).find("b")


# TailIndex

PATHS = [
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
def test_tails_of_names_of_other_machines(name: str, place: str | None) -> None:
    assert TailIndex(PATHS).find(name) == (None if place is None else Path("/d") / place)


def test_tails_in_either_unicode_form() -> None:
    assert TailIndex(PATHS).find("x/" + unicodedata.normalize("NFC", "ö.png")) == PATHS[-1]


def test_two_files_with_equally_long_tails_are_named() -> None:
    with pytest.raises(InputError, match=r"x/1\.png may be /d/a/1\.png or /d/b/1\.png"):
        TailIndex(PATHS).find("x/1.png")
    assert TailIndex(PATHS).find("x/1.png", Path("/d/b")) == Path("/d/b/1.png")
