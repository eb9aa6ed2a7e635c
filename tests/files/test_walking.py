"""Walks stay inside their root, in order, and end."""

from pathlib import Path

import pytest

from fishnet.errors import InputError
from fishnet.files.walking import inside, walk


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def names(root: Path, **options: object) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root, **options)]  # type: ignore[arg-type]


def test_sorted_and_without_what_systems_leave(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.png", "a/2.png", "a/1.png", "a/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/b.png", ".git/c.png",
        "a/Thumbs.db", "a/.DS_Store", "c/desktop.ini", "c/3.png",
    )  # fmt: skip
    assert names(tmp_path) == ["b.png", "a/1.png", "a/2.png", "c/3.png"]


def test_links_to_folders_are_followed_inside_only(tmp_path: Path) -> None:
    root, beside = tmp_path / "root", tmp_path / "beside"
    touch(root, "a/1.png")
    touch(beside, "2.png")
    (root / "within").symlink_to("a")
    (root / "outside").symlink_to(beside)
    (root / "a" / "up").symlink_to("..")
    (root / "a" / "self").symlink_to(".")
    (root / "file.png").symlink_to(beside / "2.png")
    skipped: list[Path] = []
    assert names(root, skipped=skipped) == ["file.png", "a/1.png", "within/1.png"]
    assert sorted(path.name for path in skipped) == ["outside", "self", "self", "up", "up"]


def test_a_root_that_is_a_link_is_walked(tmp_path: Path) -> None:
    touch(tmp_path / "data", "a.png")
    (tmp_path / "link").symlink_to("data")
    assert names(tmp_path / "link") == ["a.png"]


@pytest.mark.parametrize("place", ["/proc/self", "/proc", "/sys", "/dev", "/"])
def test_places_of_the_system_are_refused(place: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder of the system"):
        list(walk(Path(place)))
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(InputError, match="folder of the system"):
        list(walk(tmp_path / "link"))


def test_bounds(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(5)))
    with pytest.raises(InputError, match="more than 4 files"):
        list(walk(tmp_path, max_entries=4))
    touch(tmp_path, "/".join(["d"] * 70) + "/x.png")
    with pytest.raises(InputError, match="inside each other"):
        list(walk(tmp_path))


def test_inside(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.png", "ab/c.png")
    assert inside(tmp_path / "a", tmp_path / "a" / "b.png")
    assert not inside(tmp_path / "a", tmp_path / "ab" / "c.png")
    assert not inside(tmp_path / "a", tmp_path / "a" / ".." / "ab")
