"""What a training logs: a line for each epoch, a bar on a terminal, and an estimate of its time."""

import os
import pty
import re
import sys
from pathlib import Path
from subprocess import Popen

import pytest
import yaml

from fishnet.recipes.loading import load_recipe
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.training.estimate import Estimate
from tests.conftest import Run, fast
from tests.training.runs import ROOT, python

SPEAKING = [flag for flag in fast("--epochs", 2) if flag != "--quiet"]
LINE = re.compile(r"epoch (\d)/2  loss \d+\.\d{4}  val loss \d+\.\d{4}  acc@1 \d+\.\d\d  [\d,]+ images/s(  best)?")


def test_a_line_for_each_epoch(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, err = run("train", "classify", folder, "--out", tmp_path / "run", *SPEAKING)
    assert (code, err) == (0, "")
    found = [LINE.fullmatch(line) for line in out.splitlines() if line.startswith("epoch ")]
    assert [match and match[1] for match in found] == ["1", "2"]
    assert found[0] is not None
    assert found[0][2], "the first epoch is the best so far"


def test_quiet_leaves_them_out(folder: Path, tmp_path: Path, run: Run) -> None:
    out = run("train", "classify", folder, "--out", tmp_path / "run", *SPEAKING, "--quiet")[1]
    assert not [line for line in out.splitlines() if line.startswith("epoch ")]


@pytest.mark.slow
def test_a_pipe_gets_no_control_characters(folder: Path, tmp_path: Path) -> None:
    done = python("fishnet", "train", "classify", folder, "--out", tmp_path / "run", *SPEAKING)
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)
    assert [line[:9] for line in done.stdout.splitlines()] == [
        "classify:", "epoch 1/2", "epoch 2/2", "best epoc", "curves: /", "bundle: /"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_terminal_gets_a_bar(folder: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "fishnet", "train", "classify", folder, "--out", tmp_path / "run", *SPEAKING]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    with Popen(list(map(str, words)), cwd=ROOT, env=environment, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        found = b""
        try:
            while part := os.read(ours, 65536):
                found += part
        except OSError:  # how Linux says that the other side has closed
            pass
    os.close(ours)
    text = found.decode()
    assert process.returncode == 0, text
    assert "\x1b[" in text
    assert re.search(r"epoch \d/2.*━.*\d/4.*images/s.*loss", text)
    assert len(LINE.findall(text)) == 2


# dry runs


def test_a_dry_run_prints_a_recipe_that_can_be_used(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = fast(
        "--dry-run",
        "--batch-size",
        4,
        "--lr",
        0.03,
        "--accumulate",
        2,
        "--epochs",
        3,
        "--mixup",
        0.2,
        "--precision",
        "bf16",
    )
    code, out, err = run("train", "classify", folder, *flags)
    assert code == 0, err
    assert list(tmp_path.iterdir()) == [], "nothing was written"
    emulated, first, text = out.split("\n", 2)
    assert emulated.startswith("# precision: bf16")
    assert first.startswith("# ")
    assert "2.4 MMACs" in first
    mine = tmp_path / "mine.yaml"
    mine.write_text(out)
    recipe = load_recipe("classify", str(mine))
    assert (recipe.lr, recipe.accumulate, recipe.mixup, recipe.precision) == (0.03, 2, 0.2, "bf16")
    assert list(yaml.safe_load(text)) == keys_of("classify")
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert re.match("# steps: 5 per epoch.*, 9 updates in total", comments[0]), (
        "the fifth batch is an update of its own"
    )
    assert re.match(
        r"# timed on cpu with 4 images per step: [\d.]+ ms per image to train, [\d.]+ to validate", comments[1]
    )
    assert re.match(r"# estimated time: [\d.]+ (seconds|minutes)", comments[2])
    assert comments[3] == "# dry run: nothing was written"


@pytest.mark.slow
def test_a_dry_run_of_a_training_at_full_size(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, err = run(
        "train", "classify", folder, "--recipe", "imagenet-2018", "--backbone", "fishnet150", "--size", 224,
        "--batch-size", 256, "--device", "cpu", "--workers", 0, "--dry-run", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    assert "fishnet150" in out
    assert re.search(r"# estimated time: [\d.]+ (minutes|hours)", out)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("workers", "seconds"), [(0, 2 * (100 * 0.05 + 10 * 0.03)), (1, 2 * (100 * 0.04 + 10 * 0.02))])
def test_reading_and_computing_overlap_where_others_read(workers: int, seconds: float) -> None:
    estimate = Estimate(images=4, train=0.04, val=0.02, read=0.01)
    recipe = Recipe(epochs=2, workers=workers)
    assert estimate.seconds(recipe, 100, 10, 1) == pytest.approx(seconds)
    assert estimate.seconds(recipe, 100, 10, 4) == pytest.approx(seconds / 4)
    slow = Estimate(images=4, train=0.04, val=0.02, read=0.3)
    assert slow.seconds(Recipe(epochs=1, workers=3), 100, 0, 1) == pytest.approx(10.0), "three readers are not enough"
