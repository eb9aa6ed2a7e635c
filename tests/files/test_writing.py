"""Files are written atomically; text from data cannot control a terminal or a spreadsheet."""

import subprocess
import sys
from pathlib import Path

import pytest

from fishnet.errors import WorkError
from fishnet.files.text import cell, printable, printable_lines
from fishnet.files.writing import atomic_path, write_bytes, write_text


def test_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.csv", "grün\r\n")
    write_bytes(tmp_path / "c", b"123")
    assert (tmp_path / "a" / "b.csv").read_bytes() == "grün\r\n".encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]


def test_a_failure_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")

    def cut_off() -> None:
        with atomic_path(tmp_path / "a.json") as partial:
            partial.write_text("half")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        cut_off()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file sizes stands for the full disk: the write fails in its middle all the same."""
    code = (
        "import resource, signal, sys; from fishnet.files.writing import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(sys.argv[1], bytes(5000))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"WorkError {tmp_path / 'a'}: not written (File too large)")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="not written"):
        write_text(tmp_path / "file" / "a", "x")


def test_terminal() -> None:
    assert printable("grün 犬 👩\u200d🚀") == "grün 犬 👩\u200d🚀"
    assert printable("\x1b]0;owned\x07") == "\\x1b]0;owned\\x07"
    assert printable("a\nb\tc\u202e\x9b") == "a\\nb\\tc\\u202e\\x9b"
    assert printable_lines("a\n\tb\x1b") == "a\n\tb\\x1b"


@pytest.mark.parametrize("text", ["=1+1", "+SUM(A1)", "-2+3", "@x", "\tx", "\rx"])
def test_cells_that_a_spreadsheet_would_run(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["cat", "-1", "-0.5", "+3e4", "", "a=b"])
def test_plain_cells(text: str) -> None:
    assert cell(text) == text
