"""``fishnet data check`` and ``fishnet data show``."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.data.rules import RULES
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.makers import image_folder, split_folder

SHOW = ("--size", 32, "--recipe", "small-data")


def test_clean_data(folder: Path, run: Run) -> None:
    code, out, err = run("data", "check", folder, "--workers", 1)
    assert (code, err) == (0, "")
    assert "24 images" in out
    assert "nothing wrong" in out
    assert any(line.split() == ["green", "8"] for line in out.splitlines())
    assert "40x36" in out
    assert "PNG RGB 18, JPEG RGB 6" in out


def test_what_is_wrong_is_named(tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=3, val=1)
    (data / "train" / "red" / "1.png").write_text("no image")
    (data / "val" / "blue" / "red.png").write_bytes((data / "val" / "red" / "0.png").read_bytes())
    code, out, err = run("data", "check", data)
    assert (code, err) == (2, "")
    leaked = f"{data / 'train' / 'green' / '0.png'} (train, green) = {data / 'val' / 'green' / '0.png'} (val, green)"
    for words in (
        "error image-unreadable (1):",
        "red/1.png: not an image",
        "error image-in-two-splits (4):",
        leaked,
        "error image-in-two-classes (1):",
        "  -> Remove it from one of the two.",
        "errors: 6, ",
    ):
        assert words in out
    code, out, _ = run("data", "check", data, "--json")
    found = json.loads(out)
    assert code == 2
    codes = [one["code"] for one in found["findings"]]
    assert (found["ok"], codes.count("image-in-two-splits"), codes.count("image-in-two-classes")) == (False, 4, 1)
    assert found["counts"]["error"] == 6
    unreadable = next(one for one in found["findings"] if one["code"] == "image-unreadable")
    assert unreadable.pop("message").startswith(unreadable["file"])
    assert unreadable == {
        "code": "image-unreadable", "severity": "error", "split": "train", "line": None, "count": 1,
        "file": str(data / "train" / "red" / "1.png"), "action": RULES["image-unreadable"].action,
    }  # fmt: skip
    assert found["splits"]["val"]["per_class"] == {"blue": 2, "green": 1, "red": 1}


def test_long_lists_are_cut(tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=9, val=9)
    _, out, _ = run("data", "check", data)
    assert "error image-in-two-splits (27):" in out
    assert "... and 7 more (--json prints all)" in out
    many = image_folder(tmp_path / "many", 1)
    for i in range(40):
        (many / f"c{i:02d}").mkdir()
        for n in range(2):
            Image.new("RGB", (3, 3), (i, n, 9)).save(many / f"c{i:02d}" / f"{n}.png")
    _, out, _ = run("data", "check", many)
    assert "the 20 smallest of 43 classes:" in out
    lines = out.splitlines()
    start = lines.index("the 20 smallest of 43 classes:")
    assert [line.split() for line in lines[start + 2 : start + 5]] == [["blue", "1"], ["green", "1"], ["red", "1"]]


def test_codes_and_severities_are_chosen(tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=5, val=1)
    for name in ("a", "b"):
        (data / "val" / "red" / f"{name}.png").write_bytes((data / "val" / "red" / "0.png").read_bytes())

    def codes(*flags: str) -> tuple[int, set[str]]:
        code, out, _ = run("data", "check", data, "--json", *flags)
        return code, {one["code"] for one in json.loads(out)["findings"]}

    leaked, repeated = "image-in-two-splits", "image-duplicate"
    assert codes() == (2, {leaked, repeated})
    assert codes("--only", leaked) == (2, {leaked})
    assert codes("--only", repeated) == (0, {repeated})
    assert codes("--skip", leaked) == codes("--skip", leaked, "--strict") == (0, {repeated})
    assert codes("--skip", f"{leaked},{repeated}") == codes("--skip", leaked, repeated) == (0, set())
    code, out, _ = run("data", "check", data, "--skip", leaked)
    assert (code, "nothing wrong" in out, "note image-duplicate (2):" in out) == (0, True, True)


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--strict",), 2)])
def test_warnings_fail_where_the_check_is_strict(flags: tuple[str, ...], code: int, tmp_path: Path, run: Run) -> None:
    data = image_folder(tmp_path / "data", 5)
    rows = [
        f"{data}/{name}/{i}.{'jpg' if i == 2 else 'png'},{name}"
        for name in ("red", "green")
        for i in (0, 1, 1, 2, 3, 4)
    ]
    (tmp_path / "all.csv").write_text("\n".join(["path,label", *rows]))
    result, out, _ = run("data", "check", tmp_path / "all.csv", *flags)
    assert result == code
    assert "warning image-listed-twice (2):" in out
    assert "errors: 0, warnings: 2, notes: 0" in out


def test_control_characters_do_not_reach_the_terminal(tmp_path: Path, run: Run) -> None:
    data = image_folder(tmp_path / "data", 2)
    (data / "red").rename(data / "red\x1b[31m")
    (data / "red\x1b[31m" / "0.png").write_bytes(b"no image")
    code, out, _ = run("data", "check", data)
    assert code == 2
    assert "\x1b" not in out
    assert "red\\x1b[31m" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--only", "box-emtpy"], ("--only box-emtpy", "did you mean box-empty")),
        (["nowhere", "--skip", "image-duplicate,box"], ("--skip box:", "box-empty")),
        (["nowhere"], ("nowhere", "no such folder")),
        (["nowhere", "--channels", "0"], ("--channels",)),
        (["nowhere", "--workers", "-1"], ("--workers",)),
    ],
)
def test_bad_input_to_check(arguments: list[str], words: tuple[str, ...], run: Run) -> None:
    says(run("data", "check", *arguments), 2, *words)


def test_the_sheet_of_what_is_trained_on(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, err = run("data", "show", folder, *SHOW, "--count", 8, "--out", tmp_path / "new" / "sheet.png")
    assert (code, err) == (0, "")
    assert f"8 images of {folder} (train)" in out
    with Image.open(tmp_path / "new" / "sheet.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[0] > 2 * 240
    assert pixels.shape[1] > 6 * 240

    def made(name: str, *flags: object) -> bytes:
        assert run("data", "show", folder, *SHOW, "--count", 6, "--out", tmp_path / name, *flags)[0] == 0
        return (tmp_path / name).read_bytes()

    first = made("a.png", "--seed", 1)
    assert made("b.png", "--seed", 1) == first, "the same seed, the same sheet"
    assert made("c.png", "--seed", 2) != first
    assert made("d.png", "--seed", 1, "--mixup", 0.8) != first
    assert made("e.png", "--seed", 1, "--flip", 0, "--crop-scale", 1, 1, "--crop-ratio", 1, 1) != first


def test_the_sheet_of_a_held_out_split(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run("data", "show", folder, *SHOW, "--split", "val", "--out", tmp_path / "s.png")
    assert code == 0
    assert "(val)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], ("--count 0", "1 or more")),
        (["--out", "sheet.txt"], ("sheet.txt", "must end in .png")),
        (["--split", "vall"], ("no split 'vall'", "val")),
        (["--recipe", "small"], ("unknown recipe 'small'", "small-data")),
        (["--flip", "2"], ("flip=2",)),
        (["--flop", "1"], ("--flop",)),
    ],
)
def test_bad_input_to_show(
    arguments: list[str],
    words: tuple[str, ...],
    folder: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    says(run("data", "show", folder, *arguments), 2, *words)
    assert list(tmp_path.iterdir()) == []
