"""What a training leaves on the disk: each file whole or not at all, whatever becomes of the disk."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fishnet.bundle.bundle import WEIGHTS, read_bundle
from fishnet.cli import main
from fishnet.tasks.store import load_model
from fishnet.training.checkpoints import read_resumed
from fishnet.training.history import read_history
from tests.conftest import fast
from tests.training.runs import (
    EPOCHS,
    STEPS,
    Ended,
    always_best,
    die_at_step,
    ended,
    last,
    limit_files,
    same_training,
)

SETTINGS = fast("--epochs", EPOCHS, "--lr", 0.05)
CHECKPOINT = 1_800_000  # bytes: less than a checkpoint of these trainings, more than their weights alone
BUNDLE = 900_000  # bytes: less than their weights


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without interruption. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "classify", str(folder), "--out", str(out), *SETTINGS]) == 0
    return out


@pytest.fixture
def _sizes(whole: Path) -> None:
    """The bounds lie where they should."""
    weights, checkpoint = (whole / WEIGHTS).stat().st_size, (whole / "checkpoints" / "last.ckpt").stat().st_size
    assert BUNDLE < weights < CHECKPOINT < checkpoint


def says(done: Ended, *words: str) -> None:
    """One line after what the training tells at its start, and exit code 1."""
    assert done.code == 1, done.text
    lines = [line for line in done.text.splitlines() if line.startswith("fishnet: ")]
    told = [line for line in done.text.splitlines() if line.startswith(("classify: ", "continuing after "))]
    assert len(lines) == 1, done.text
    assert len(done.text.splitlines()) == len(told) + 1, done.text
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"


def stopped(out: Path, folder: Path) -> None:
    """Kills a training in its third epoch: two are kept."""
    words = ["train", "classify", folder, "--out", out, *SETTINGS]
    assert ended(words, die_at_step, 2 * STEPS + 1).code == -signal.SIGKILL
    assert read_resumed(out / "checkpoints" / "last.ckpt").position.epoch == 2


def test_best_and_last_are_kept(whole: Path) -> None:
    assert sorted(path.name for path in (whole / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    rows = [row for row in read_history(whole / "history.csv") if row["val/acc@1"]]
    best = max(rows, key=lambda row: (float(row["val/acc@1"]), -float(row["val/loss"])))
    assert last(whole, "best")["position"]["epoch"] == float(best["epoch"])
    assert last(whole, "best")["global_step"] == int(best["step"])
    assert last(whole)["position"] == {"epoch": EPOCHS, "batches": 0, "step": EPOCHS * STEPS}
    assert read_bundle(whole).metrics["acc@1"] == pytest.approx(float(best["val/acc@1"]), abs=1e-3)


def resumed(out: Path, folder: Path, *limit: int) -> Ended:
    words = ["train", "classify", folder, "--resume", out, "--quiet"]
    return ended(words, limit_files if limit else None, *limit)


@pytest.mark.slow
@pytest.mark.usefixtures("_sizes")
def test_a_checkpoint_that_does_not_fit(whole: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(out, folder)
    says(
        resumed(out, folder, CHECKPOINT),
        "checkpoints/",
        ".ckpt: not saved (File too large)",
        "free some space",
        "resume continues",
    )
    assert last(out)["global_step"] == 2 * STEPS
    load_model(out)
    assert not list(out.rglob("*partial*"))
    done = resumed(out, folder)
    assert done.code == 0, done.text
    same_training(whole, out)


def _tight_and_always_best(size: int) -> None:
    always_best()
    limit_files(size)


@pytest.mark.slow
@pytest.mark.usefixtures("_sizes")
def test_a_bundle_that_does_not_fit(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped(out, folder)
    before = read_bundle(out)
    words = ["train", "classify", folder, "--resume", out, "--quiet"]
    says(ended(words, _tight_and_always_best, BUNDLE), f"{out}: not saved (File too large)")
    assert load_model(out)[0] == before
    assert not list(out.rglob("*partial*"))
    assert resumed(out, folder).code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], check=False, capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no small file system can be made here: {made.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 1_000_000])
def test_a_full_disk_leaves_the_last_checkpoint_and_the_bundle(
    room: int, small_disk: Path, whole: Path, folder: Path
) -> None:
    out = small_disk / "run"
    stopped(out, folder)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    says(resumed(out, folder), "No space left on device", str(out))
    assert last(out)["global_step"] == 2 * STEPS
    load_model(out)
    filler.unlink()
    done = resumed(out, folder)
    assert done.code == 0, done.text
    same_training(whole, out)
