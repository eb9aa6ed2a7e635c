"""Resuming: whatever ends a training, it goes on as if nothing had been."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from fishnet.bundle.bundle import CONFIG, WEIGHTS, read_bundle
from fishnet.cli import main
from fishnet.tasks import engine
from fishnet.tasks.store import load_model
from fishnet.training.checkpoints import read_resumed
from fishnet.training.history import read_history
from fishnet.training.module import Position, TrainingModule
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import label_table
from tests.training.runs import (
    EPOCHS,
    STEPS,
    Ended,
    always_best,
    die_at_step,
    die_before_renaming,
    die_in_checkpoint,
    die_in_validation,
    drawn_steps,
    ended,
    events,
    last,
    same_training,
)


def settings(epochs: int = EPOCHS, workers: int = 0, seed: int = 0) -> list[str]:
    """Dropout and stochastic depth draw random numbers in every step; momentum and running statistics carry over."""
    return fast(
        "--epochs", epochs, "--workers", workers, "--seed", seed, "--drop-rate", 0.2, "--drop-path-rate", 0.1,
        "--lr", 0.05,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without interruption. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "classify", str(folder), "--out", str(out), *settings()]) == 0
    return out


# what a user does


def at_step(step: int, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Lets something happen within a training step."""
    training_step = TrainingModule.training_step

    def call(self: TrainingModule, batch: Any, batch_idx: int) -> Tensor | None:
        if self.global_step == step:
            do()
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", call)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: what a shell starts in the background ignores it from birth."""
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, own)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)  # the interrupt arrives within


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_training_goes_on_as_if_nothing_had_been(
    whole: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        at_step(2 * STEPS + 1, patch, interrupt)
        says(run("train", "classify", folder, "--out", out, *settings()), 130, "interrupted", f"--resume {out}")
    assert signal.getsignal(signal.SIGINT) == handler, "the next interrupt must work as well"
    assert last(out)["global_step"] == 2 * STEPS
    assert read_history(out / "history.csv")[-1]["step"] == str(2 * STEPS + 1), "beyond the checkpoint"
    read_bundle(out)
    code, _, err = run("train", "classify", folder, "--resume", out, "--quiet")
    assert code == 0, err
    same_training(whole, out)


@pytest.mark.usefixtures("_interruptible")
def test_interrupted_within_the_first_epoch_there_is_nothing_to_resume_and_nothing_in_the_way(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(1, patch, interrupt)
        says(run("train", "classify", folder, "--out", out, *fast()), 130, "interrupted", "nothing is kept")
    says(run("train", "classify", folder, "--resume", out, "--quiet"), 2, "nothing to resume", "last.ckpt")
    assert run("train", "classify", folder, "--out", out, *fast())[0] == 0
    assert [row["step"] for row in read_history(out / "history.csv")] == ["1", "2", "2"]


@pytest.mark.usefixtures("_interruptible")
def test_a_training_keeps_its_precision(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun with `auto` on a machine with AMX, interrupted, resumed on one without it: bit for bit as if in one go."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_has_bf16", lambda device: True)
        patch.setattr(engine, "_has_amx", lambda: True)
        code, text, err = run("train", "classify", folder, "--out", whole, *settings(epochs=2))
        assert code == 0, err
        assert "precision: bf16" in text
        at_step(STEPS + 1, patch, interrupt)
        assert run("train", "classify", folder, "--out", out, *settings(epochs=2))[0] == 130
    assert yaml.safe_load((out / "recipe.yaml").read_text())["precision"] == "bf16"
    code, text, err = run("train", "classify", folder, "--resume", out, "--quiet")
    assert code == 0, err
    assert "only emulates" in text
    same_training(whole, out)


def test_a_training_can_be_prolonged(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    assert run("train", "classify", folder, "--out", out, *settings(epochs=2))[0] == 0
    code, _, err = run("train", "classify", folder, "--resume", out, "--epochs", EPOCHS, "--quiet")
    assert code == 0, err
    rates = [row["lr"] for row in read_history(out / "history.csv")]
    expected = [row["lr"] for row in read_history(whole / "history.csv")]
    second_half = len(expected) // 2
    assert rates[second_half:] == expected[second_half:], "the schedule of the longer training"
    assert yaml.safe_load((out / "recipe.yaml").read_text())["epochs"] == EPOCHS


def test_resuming_a_finished_training_changes_nothing(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    assert run("train", "classify", folder, "--out", out, *fast())[0] == 0
    before = (out / "history.csv").read_text(), last(out)["state_dict"], read_bundle(out)
    code, text, err = run("train", "classify", folder, "--resume", out, "--quiet")
    assert code == 0, err
    assert f"acc@1 {before[2].metrics['acc@1']:.2f}" in text
    assert (out / "history.csv").read_text() == before[0]
    assert all(torch.equal(value, before[1][key]) for key, value in last(out)["state_dict"].items())
    assert read_bundle(out) == before[2]


def test_a_classifier_of_several_labels_goes_on_with_the_same_thresholds(tmp_path: Path) -> None:
    """Some labels are unknown; the bundle has the thresholds of its best epoch."""
    data = label_table(tmp_path / "data", name="labels.csv").with_name("columns.csv")
    rows = [f"images/{i:02}.png,{i & 1},{i >> 1 & 1},{'' if i % 5 == 0 else i >> 2 & 1}" for i in range(24)]
    data.write_text("\n".join(["path,red,green,blue", *rows]) + "\n")
    whole, out = tmp_path / "whole", tmp_path / "run"
    words = ["train", "classify", data, "--multi-label", *settings()]
    assert ended([*words, "--out", whole]).code == 0
    assert ended([*words, "--out", out], die_at_step, 2 * STEPS + 1).code == -signal.SIGKILL
    done = ended(["train", "classify", data, "--resume", out, "--quiet"])
    assert done.code == 0, done.text
    same_training(whole, out)
    head = read_bundle(out).only_head
    assert head == read_bundle(whole).only_head
    assert set(head.thresholds) == {"class:red", "class:green", "class:blue"}
    assert set(read_bundle(out).metrics) == {"loss", "mAP", "F1"}


def test_workers_change_nothing(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    code, _, err = run("train", "classify", folder, "--out", out, *settings(workers=1))
    assert code == 0, err
    assert read_bundle(out).recipe["workers"] == 1
    same_training(whole, out)


def test_another_seed_is_another_training(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    assert run("train", "classify", folder, "--out", out, *settings(seed=1))[0] == 0
    assert read_history(out / "history.csv")[0]["train/loss"] != read_history(whole / "history.csv")[0]["train/loss"]


# SIGKILL, with everything on that draws a random number or carries something over

EVERY = 3  # steps between checkpoints
BATCHES = 10  # an epoch: 21 training images, 2 a batch


def everything(accumulate: int, workers: int) -> list[str]:
    return fast(
        "--epochs", 3, "--batch-size", 2, "--accumulate", accumulate, "--workers", workers, "--size", 48,
        "--rand-augment-ops", 2, "--erase", 0.3, "--color-jitter", 0.4, "--lighting", 0.1, "--mixup", 0.2,
        "--cutmix", 1, "--drop-rate", 0.2, "--drop-path-rate", 0.2, "--ema", 0.9, "--schedule", "cosine",
        "--warmup-epochs", 1, "--optimizer", "adamw", "--lr", 0.002, "--checkpoint-steps", EVERY, "--log-steps", 1,
        "--clip-grad", 1, "--label-smoothing", 0.1,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[1, 2], ids=["each_batch", "accumulated"])
def uninterrupted(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, int]:
    """A training of everything in one go, and its accumulation. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("everything") / "run"
    done = ended(["train", "classify", folder, "--out", out, *everything(request.param, 0)])
    assert done.code == 0, done.text
    return out, request.param


def die_in_second_bundle(name: str) -> None:
    always_best()
    die_before_renaming(name, 2)


def goes_on(out: Path, folder: Path, prepare: Callable[..., None] | None, *where: object, workers: int) -> Ended:
    """Resumes, and checks where it says that it goes on; perhaps to be killed again."""
    there = read_resumed(out / "checkpoints" / "last.ckpt").position
    words: list[object] = ["train", "classify", folder, "--resume", out, "--quiet", "--workers", workers]
    done = ended(words, prepare, *where)
    within = f" and {there.batches} batches" if there.batches else ""
    assert f"continuing after epoch {there.epoch}{within} (step {there.step})" in done.text
    return done


def unkept(out: Path, killed_at: int) -> int:
    """Steps that were done and will be repeated."""
    position = read_resumed(out / "checkpoints" / "last.ckpt").position
    saved = last(out)
    assert saved["global_step"] == position.step
    return killed_at - position.step


@pytest.mark.slow
def test_killed_five_times(uninterrupted: tuple[Path, int], folder: Path, tmp_path: Path) -> None:
    whole, accumulate = uninterrupted
    workers, out = 2, tmp_path / "run"
    total = last(whole)["global_step"]
    assert total == 3 * BATCHES // accumulate
    steps = [EVERY + 1, *drawn_steps(4, EVERY + 2, total, seed=accumulate)]  # the first: within the first epoch
    words = ["train", "classify", folder, "--out", out, *everything(accumulate, workers)]
    done = ended(words, die_at_step, steps[0])
    assert done.code == -signal.SIGKILL, done.text
    assert unkept(out, steps[0]) == 1
    for step in steps[1:]:
        done = goes_on(out, folder, die_at_step, step, workers=workers)
        assert done.code == -signal.SIGKILL, done.text
        assert 0 <= unkept(out, step) <= EVERY
    done = goes_on(out, folder, None, workers=workers)
    assert done.code == 0, done.text
    same_training(whole, out)
    log = events(out)
    assert log == events(whole), "TensorBoard's curves are the same, no step twice"
    for name in ("train/loss", "val/loss", "val/acc@1"):
        steps = [step for step, _ in log[name]]
        assert len(set(steps)) == len(steps), name


@pytest.mark.slow
def test_killed_while_it_validates_and_writes(whole: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "classify", folder, "--out", out, *settings(), "--checkpoint-steps", 1, "--log-steps", 1]
    done = ended(words, die_in_validation, 0)
    assert done.code == -signal.SIGKILL, done.text
    assert read_resumed(out / "checkpoints" / "last.ckpt").position == Position(epoch=0, batches=1, step=1)
    for kill, arguments, step in (
        (die_before_renaming, (WEIGHTS, 1), 1),
        (die_before_renaming, (CONFIG, 1), 1),
        (die_in_checkpoint, (1,), 1),
        (die_before_renaming, ("best.ckpt", 1), 1),
        (die_before_renaming, ("last.ckpt", 1), 1),
        (die_before_renaming, ("last.ckpt", 2), 2),
        (die_in_validation, (2,), 5),
    ):
        done = goes_on(out, folder, kill, *arguments, workers=0)
        assert done.code == -signal.SIGKILL, done.text
        assert read_resumed(out / "checkpoints" / "last.ckpt").position.step == step, (kill, arguments)
    done = goes_on(out, folder, None, workers=2)
    assert done.code == 0, done.text
    same_training(whole, out)
    assert events(out) == events(whole)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert not [path.name for path in out.iterdir() if "partial" in path.name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_killed_while_it_replaces_a_bundle(name: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "classify", folder, "--out", out, *settings()]
    done = ended(words, die_in_second_bundle, name)
    assert done.code == -signal.SIGKILL, done.text
    bundle, _ = load_model(out)
    assert bundle.metrics["acc@1"] >= 0
    assert goes_on(out, folder, always_best, workers=0).code == 0
    assert load_model(out)[0].sha256 == read_bundle(out).sha256
