"""Training: resuming is exact, the schedule is the recipe's, and what is saved stays whole."""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from fishnet.bundle import WEIGHTS, read_bundle
from fishnet.cli import main
from fishnet.data.labels import Classes
from fishnet.errors import InputError
from fishnet.preprocess import Preprocess
from fishnet.tasks import get_task
from fishnet.tasks.base import TaskModel
from fishnet.training import fit as fitting
from fishnet.training.history import read_history
from fishnet.training.module import Training
from fishnet.training.recipe import Recipe
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast

EPOCHS, STEPS = 4, 2  # 21 training pictures in whole batches of 8


def settings(epochs: int = EPOCHS, workers: int = 0, seed: int = 0) -> list[str]:
    """Dropout and stochastic depth draw random numbers in every step; momentum and running statistics carry over."""
    return fast(
        "--epochs", epochs, "--workers", workers, "--seed", seed, "--drop-rate", 0.2, "--drop-path-rate", 0.1,
        "--lr", 0.05,
    )  # fmt: skip


def last(out: Path) -> dict[str, Any]:
    """The last checkpoint; loading it shows that it is whole."""
    found: dict[str, Any] = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def same_training(one: Path, other: Path) -> None:
    """Weights, optimiser state, history and bundle agree bit for bit: one machine, one thread, float32 on the CPU."""
    a, b = last(one), last(other)
    assert a["global_step"] == b["global_step"]
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key
    for (key, state), other_state in zip(
        a["optimizer_states"][0]["state"].items(), b["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert torch.equal(state["momentum_buffer"], other_state["momentum_buffer"]), key
    assert read_history(one / "history.csv") == read_history(other / "history.csv")
    assert read_bundle(one).sha256 == read_bundle(other).sha256
    assert read_bundle(one).metrics == read_bundle(other).metrics


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without interruption. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "classify", str(folder), "--out", str(out), *settings()]) == 0
    return out


def at_step(step: int, monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Lets something happen within a training step."""
    training_step = Training.training_step

    def call(self: Training, batch: Any, batch_idx: int) -> Tensor | None:
        if self.global_step == step:
            do()
        return training_step(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", call)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Ctrl-C as in a terminal: what a shell starts in the background ignores it from birth."""
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, own)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)  # the interrupt arrives within


def test_threads_are_the_recipe_s(folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert run("train", "classify", folder, "--dry-run", "--out", tmp_path / "run", *fast("--threads", 1))[0] == 0
    assert run("train", "classify", folder, "--dry-run", "--out", tmp_path / "run", *fast())[0] == 0
    assert asked == [1]


# resuming


def test_the_history_of_a_training(whole: Path) -> None:
    rows = read_history(whole / "history.csv")
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == list(range(1, EPOCHS * STEPS + 1))
    assert [float(row["epoch"]) for row in rows if row["val/acc@1"]] == [1, 2, 3, 4]
    assert [float(row["epoch"]) for row in rows] == [int(row["step"]) / STEPS for row in rows]


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


@pytest.mark.slow
def test_a_killed_training_goes_on_as_if_nothing_had_been(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "run"
    code = (
        "import os, signal, sys, torch; torch.set_num_threads(1)\n"
        "from fishnet.cli import main\nfrom fishnet.training.module import Training\n"
        "step = Training.training_step\n"
        "def call(self, batch, i):\n"
        f"    if self.global_step == {2 * STEPS + 1}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch, i)\n"
        "Training.training_step = call\nmain(sys.argv[1:])\n"
    )
    words = ["train", "classify", str(folder), "--out", str(out), *settings()]
    done = subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert last(out)["global_step"] == 2 * STEPS
    code_, _, err = run("train", "classify", folder, "--resume", out, "--quiet")
    assert code_ == 0, err
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


# saving


def full_disk(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Lets the call-th checkpoint fail as a full disk does, with half of it written."""
    count = 0
    save = TorchCheckpointIO.save_checkpoint

    def failing(self: TorchCheckpointIO, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        nonlocal count
        count += 1
        if count == call:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", failing)


def test_a_full_disk_leaves_the_last_checkpoint_and_the_bundle(
    whole: Path, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        full_disk(patch, 3)
        result = run("train", "classify", folder, "--out", out, *settings())
    says(result, 1, "last.ckpt: not saved (No space left on device)", "make room", "--resume")
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["last.ckpt"], "no partial file stays"
    assert last(out)["global_step"] == 2 * STEPS
    read_bundle(out)
    code, _, err = run("train", "classify", folder, "--resume", out, "--quiet")
    assert code == 0, err
    same_training(whole, out)


def test_a_full_disk_leaves_the_old_bundle(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    saved: list[Path] = []
    save = fitting.save_weights
    forgetful = property(lambda self: None, lambda self, value: None)  # so that every epoch is the best

    def once(model: TaskModel, path: Path) -> None:
        if saved:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(path)
        save(model, path)

    monkeypatch.setattr(fitting, "save_weights", once)
    monkeypatch.setattr(fitting.BundleWriter, "best", forgetful, raising=False)
    result = run("train", "classify", folder, "--out", out, *fast("--epochs", 2))
    says(result, 1, f"{out}: not saved", "No space left on device", "make room")
    read_bundle(out)
    assert sorted(path.name for path in out.iterdir() if WEIGHTS in path.name) == [WEIGHTS]
    assert last(out)["global_step"] == STEPS


def test_the_bundle_is_the_best_epoch(whole: Path) -> None:
    accuracies = [float(row["val/acc@1"]) for row in read_history(whole / "history.csv") if row["val/acc@1"]]
    assert read_bundle(whole).metrics["acc@1"] == pytest.approx(max(accuracies), abs=1e-3)


# learning rates


class Line(TaskModel):
    """The smallest model there is."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(2, 2))

    def decode(self, features: Any) -> Any:
        return features


def rates(recipe: Recipe, steps_per_epoch: int = 10) -> list[float]:
    """The learning rate before each step, and after the last."""
    classes = Classes.of(["a", "b"])
    module = Training(get_task("classify"), Line(), classes, Preprocess(), recipe, steps_per_epoch)
    made = module.configure_optimizers()
    found = []
    for step in range(recipe.epochs * steps_per_epoch + 1):
        made["lr_scheduler"]["scheduler"].step_update(num_updates=step)
        groups = {group["lr"] for group in made["optimizer"].param_groups}
        assert len(groups) == 1
        found += groups
    return found


def test_the_warm_up_is_a_line_from_a_twenty_fifth() -> None:
    found = rates(Recipe(lr=1.0, epochs=10, warmup_epochs=2.0))
    assert found[:20] == pytest.approx([0.04 + 0.96 * step / 20 for step in range(20)])
    assert found[20] == pytest.approx(1.0)


def test_the_warm_up_may_be_a_fraction_and_is_at_most_half() -> None:
    assert rates(Recipe(lr=1.0, epochs=4, warmup_epochs=0.5))[:6] == pytest.approx(
        [0.04 + 0.96 * step / 5 for step in range(5)] + [1.0]
    )
    assert rates(Recipe(lr=1.0, epochs=4, warmup_epochs=99.0))[20] == pytest.approx(1.0)
    assert rates(Recipe(lr=1.0, epochs=4, warmup_epochs=0.0))[0] == pytest.approx(1.0)


@pytest.mark.parametrize("warmup", [0.0, 2.0])
def test_cosine(warmup: float) -> None:
    found = rates(Recipe(lr=0.8, epochs=10, warmup_epochs=warmup))
    start = round(10 * warmup)
    rest = 100 - start
    assert found[start:] == pytest.approx(
        [0.4 * (1 + math.cos(math.pi * step / rest)) for step in range(rest + 1)], abs=1e-12
    )
    assert found[-1] == pytest.approx(0.0, abs=1e-12)


def test_steps() -> None:
    found = rates(Recipe(lr=1.0, epochs=10, warmup_epochs=1.0, schedule="step", step_epochs=3))
    for first, after, rate in ((10, 40, 1.0), (40, 70, 0.1), (70, 100, 0.01)):
        assert found[first:after] == pytest.approx([rate] * (after - first))


def test_constant() -> None:
    found = rates(Recipe(lr=0.3, epochs=10, warmup_epochs=1.0, schedule="constant"))
    assert found[10:] == pytest.approx([0.3] * 91)


def test_the_training_follows_the_schedule(whole: Path) -> None:
    # a row stands after its step: with the rate of the next
    found = [float(row["lr"]) for row in read_history(whole / "history.csv") if row["train/loss"]]
    recipe = Recipe().replace(yaml.safe_load((whole / "recipe.yaml").read_text()))
    assert found == pytest.approx(rates(recipe, STEPS)[1:], abs=1e-12)


def test_settings_that_an_optimiser_refuses(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--momentum", 0))
    says(result, 2, "optimizer sgd", "momentum")


# gradients


@pytest.mark.parametrize("clip", [0.01, 0.0])
def test_gradients_are_clipped(
    clip: float, folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before: dict[str, Tensor] = {}
    start = Training.on_train_start

    def remember(self: Training) -> None:
        start(self)
        before.update({name: value.detach().clone() for name, value in self.model.named_parameters()})

    monkeypatch.setattr(Training, "on_train_start", remember)
    out = tmp_path / "run"
    one_step = fast(
        "--batch-size", 64, "--lr", 1, "--momentum", 0.5, "--weight-decay", 0, "--warmup-epochs", 0,
        "--schedule", "constant", "--clip-grad", clip,
    )  # fmt: skip
    code, _, err = run("train", "classify", folder, "--out", out, *one_step)
    assert code == 0, err
    after = last(out)
    assert after["global_step"] == 1
    change = torch.stack(
        [(after["state_dict"][f"model.{name}"] - value).norm() for name, value in before.items()]
    ).norm()
    if clip:
        # The first step of SGD with Nesterov momentum m is lr * (1 + m) * gradient. 1%: a change of 1e-2 in weights of
        # about 1 keeps some five of float32's seven digits.
        assert float(change) == pytest.approx(1.5 * clip, rel=0.01)
    else:
        assert float(change) > 0.1, "the bound above is one that matters"


# what fit refuses


def test_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown task 'clasify': did you mean classify"):
        fitting.fit("clasify", "data", Recipe(), tmp_path / "run")


def test_resuming_is_only_offered_where_it_works(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    says(run("train", "classify", folder, "--out", whole, *fast()), 2, "holds a training", f"--resume {whole}")
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast())
    says(result, 2, "holds a training already: choose another --out")
    assert "--resume" not in result[2]


def test_out_is_a_file(folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run").touch()
    says(run("train", "classify", folder, "--out", tmp_path / "run", *fast()), 2, "is a file: --out must be a folder")
