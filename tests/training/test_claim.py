"""A folder belongs to one training at a time, for as long as it runs and no longer."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fishnet.errors import InputError
from fishnet.training import claim
from fishnet.training.claim import LOCK, claimed
from fishnet.training.train import _new_folder
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast

HOLDS = """
import sys, time
from pathlib import Path
from fishnet.training.claim import claimed
with claimed(Path(sys.argv[1]), print):
    if len(sys.argv) > 2:
        (Path(sys.argv[1]) / "kept").touch()
    print("holds", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(out: Path, *more: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDS, str(out), *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "holds\n"
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_a_second_training_is_refused_and_told_by_whom(folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    with held(out) as process:
        words = (f"process {process.pid} is training in this folder", "choose another folder as out")
        says(run("train", "classify", folder, "--out", out, *fast()), 2, *words)
        (out / "recipe.yaml").touch()
        says(run("train", "classify", folder, "--resume", out), 2, *words)
        (out / "recipe.yaml").unlink()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (out / LOCK).is_file(), "what SIGKILL leaves is no claim"
    code, _, err = run("train", "classify", folder, "--out", out, *fast())
    assert code == 0, err
    assert not (out / LOCK).exists()


def test_a_claim_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "some" / "run"
    with claimed(out, print):
        assert (out / LOCK).read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "own").mkdir()
    with claimed(tmp_path / "own", print):
        pass
    assert list((tmp_path / "own").iterdir()) == [], "the user's own empty folder stays"
    with claimed(out, print):
        (out / "kept").touch()
    assert [path.name for path in out.iterdir()] == ["kept"]


def test_a_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(InputError, match="is a file: out must be a folder"), claimed(out, print):
            pass


def test_a_lock_file_that_was_removed_in_between_is_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another training ends after its file was opened here: the lock is taken again, on the file that has the name."""
    lock, calls = claim._lock, list[bool]()

    def late(*arguments: object) -> bool:
        if not calls:
            (tmp_path / LOCK).unlink()
        calls.append(True)
        return lock(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(claim, "_lock", late)
    with claimed(tmp_path, print):
        assert len(calls) == 2
        assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said(error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.lockf", refuse)
    lines = list[str]()
    with claimed(tmp_path / "run", lines.append):
        assert (tmp_path / "run").is_dir()
    assert len(lines) == 1
    assert "a second training in this folder would go unnoticed" in lines[0]


def test_default_folders_are_taken_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by trainings that start in the same moment."""
    monkeypatch.chdir(tmp_path)
    start, taken = threading.Barrier(8), list[str]()

    def take() -> None:
        start.wait()
        with _new_folder("classify") as folder:
            taken.append(folder.name)
            start.wait()
            (folder / "kept").touch()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == ["classify", *(f"classify-{n}" for n in range(2, 9))]


def test_a_default_folder_goes_where_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    says(run("train", "classify", tmp_path / "missing", *fast()), 2, "missing")
    assert list(tmp_path.iterdir()) == []
