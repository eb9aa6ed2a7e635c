"""What is printed cannot command the terminal, and closed or full outputs are no fault of the work."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.cli import main

EVIL = "cat\x1b]0;owned\x07\x1b[2J"


def test_errors_escape_what_the_data_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", EVIL]) == 2
    err = capsys.readouterr().err
    assert "\\x1b]0;owned\\x07" in err
    assert "\x1b" not in err


def test_tables_escape_class_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (EVIL, "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / f"{len(name)}.png")
    main(["data", "check", str(tmp_path)])
    out = capsys.readouterr().out
    assert "\\x1b]0;owned" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("closing", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_change_nothing(closing: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m fishnet --version {closing}', sys.executable],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_full_output_is_one_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    done = subprocess.run(
        ["bash", "-c", '"$0" -m fishnet --help > /dev/full', sys.executable],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "fishnet: input or output: No space left on device\n")
