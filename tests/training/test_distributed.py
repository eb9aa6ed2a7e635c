"""Several processes: the same training as in one, however its parameters are kept."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.errors import InputError
from fishnet.recipes.recipe import Recipe
from fishnet.training.history import read_history
from fishnet.training.processes import Processes, find_processes
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import label_table, split_folder
from tests.training.runs import ended, last, python, torchrun

VAL = 3 * 5  # odd, so that the two processes cannot share it equally
KILLED = 23
FLAGS = fast(
    "--backbone", "convnext_atto", "--batch-size", 4, "--epochs", 6, "--optimizer", "adamw", "--lr", 0.0005,
    "--clip-grad", 1, "--ema", 0.9, "--log-steps", 1, "--threads", 1,
)  # fmt: skip
FLAGS.remove("--quiet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 images to train with, 15 to validate. Not to be changed by a test."""
    return split_folder(tmp_path_factory.mktemp("data") / "colours", train=12, val=VAL // 3)


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training in one process."""
    out = tmp_path_factory.mktemp("one") / "run"
    done = ended(["train", "classify", data, "--out", out, *FLAGS])
    assert done.code == 0, done.text
    return out


Two = tuple[Path, str, list[list[int]]]
Train = Callable[..., Two]


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Trains in two processes: the folder, the output, and the images that each process measured in each epoch."""

    def train(*more: object, die_at: int = -1, out: Path | None = None, code: int = 0) -> Two:
        where = ["--resume", out, "--quiet"] if out else ["--out", tmp_path_factory.mktemp("two") / "run", *FLAGS]
        folder = Path(str(where[1]))
        done = torchrun(
            die_at, folder.parent, "train", "classify", data, *where, *more, module="tests.training.watched"
        )
        assert done.returncode == code, done.stderr
        counts = [[int(n) for n in (folder.parent / f"{rank}.txt").read_text().split()] for rank in (0, 1)]
        return folder, done.stdout, counts

    return train


@pytest.fixture(scope="module")
def ddp(two: Train) -> Two:
    return two()


@pytest.fixture(scope="module")
def sharded(two: Train) -> Two:
    return two("--strategy", "sharded")


EARLY = 10  # steps within which the rounding of another order of summation has not grown
GROWN = 0.02  # relative difference that rounding stays far below over these 54 steps


def furthest(one: Path, other: Path, steps: int | None = None) -> tuple[int, float]:
    """How many training steps two histories have, and the largest relative difference of their (first) losses."""
    losses = [
        [float(row["train/loss"]) for row in read_history(out / "history.csv") if row["train/loss"]]
        for out in (one, other)
    ]
    assert len(losses[0]) == len(losses[1])
    return len(losses[0]), max(abs(a - b) / abs(a) for a, b in zip(losses[0][:steps], losses[1][:steps], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_the_same_loss_curve_as_in_one_process(strategy: str, one: Path, request: pytest.FixtureRequest) -> None:
    other = request.getfixturevalue(strategy)[0]
    assert furthest(one, other, EARLY)[1] <= 1e-4
    steps, difference = furthest(one, other)
    assert steps >= 50
    assert difference <= GROWN
    losses = [float(row["train/loss"]) for row in read_history(one / "history.csv") if row["train/loss"]]
    assert losses[-1] < 0.8 * losses[0], "a curve that moves"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_each_image_is_measured_once(strategy: str, one: Path, request: pytest.FixtureRequest) -> None:
    out, _, counts = request.getfixturevalue(strategy)
    assert [sum(epoch) for epoch in zip(*counts, strict=True)] == [VAL] * 6
    for row, other in zip(read_history(one / "history.csv"), read_history(out / "history.csv"), strict=True):
        if row["val/acc@1"]:
            assert float(other["val/loss"]) == pytest.approx(float(row["val/loss"]), rel=GROWN)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
def test_the_bundle_of_two_processes_predicts_as_that_of_one(
    strategy: str, one: Path, data: Path, request: pytest.FixtureRequest
) -> None:
    out = request.getfixturevalue(strategy)[0]
    assert read_bundle(out).metrics["loss"] == pytest.approx(read_bundle(one).metrics["loss"], rel=GROWN)
    images = sorted((data / "val").rglob("*.*"))
    expected, found = (fishnet.load(folder).predict(images) for folder in (one, out))
    for a, b in zip(expected, found, strict=True):
        assert dict(zip(b.labels, b.scores, strict=True)) == pytest.approx(
            dict(zip(a.labels, a.scores, strict=True)), abs=GROWN
        )


@pytest.mark.slow
def test_several_labels_in_two_processes(tmp_path: Path) -> None:
    """Metrics and thresholds are those of all images, though no process has all and one has an image more."""
    data = label_table(tmp_path / "data", count=25)
    text = data.read_text().splitlines()
    rows = [f"{row},{'val' if i > 15 else 'train'}" for i, row in enumerate(text[1:])]
    data.write_text("\n".join([f"{text[0]},split", *rows]) + "\n")
    flags = ["train", "classify", data, "--multi-label", *FLAGS]
    one = ended([*flags, "--out", tmp_path / "one"])
    assert one.code == 0, one.text
    done = torchrun(*flags, "--out", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert furthest(tmp_path / "one", tmp_path / "two", EARLY)[1] <= 1e-4
    bundles = [read_bundle(tmp_path / name) for name in ("one", "two")]
    assert bundles[0].metrics == pytest.approx(bundles[1].metrics, rel=GROWN)
    assert bundles[0].thresholds == pytest.approx(bundles[1].thresholds, abs=GROWN)


@pytest.mark.slow
def test_only_the_first_process_speaks(ddp: Two) -> None:
    lines = ddp[1].splitlines()
    assert len(set(lines)) == len(lines)
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == [f"{n}/6" for n in range(1, 7)]


@pytest.mark.slow
def test_a_sharded_training_that_was_killed_goes_on(sharded: Two, two: Train) -> None:
    out, _, _ = two("--strategy", "sharded", "--checkpoint-steps", 5, die_at=KILLED, code=1)
    assert last(out)["global_step"] == 20
    _, told, _ = two(out=out)
    assert "continuing after epoch 2 and 2 batches (step 20)" in told
    steps, difference = furthest(sharded[0], out)
    assert (steps, difference <= 1e-6) == (54, True)
    expected, found = last(sharded[0]), last(out)
    assert found["global_step"] == expected["global_step"] == 54
    for key, value in expected["state_dict"].items():
        assert torch.allclose(found["state_dict"][key], value, rtol=1e-5, atol=1e-7), key


@pytest.mark.slow
def test_lightning_starts_the_second_process_and_broken_images_are_skipped(tmp_path: Path) -> None:
    data = split_folder(tmp_path / "data", train=4, val=3)
    broken = [data / "train" / "red" / "0.png", data / "train" / "blue" / "1.png", data / "val" / "green" / "1.png"]
    for path in broken:
        path.write_text("no image")
    flags = fast("--devices", 2, "--batch-size", 2, "--backbone", "convnext_atto", "--on-error", "skip", "--epochs", 2)
    done = python("fishnet", "train", "classify", data, "--out", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(named) == len(broken)
    assert all(any(str(path) in line for line in named) for path in broken)
    assert "3 images could not be read and were skipped" in done.stdout
    assert done.stdout.count("best epoch") == 1
    accuracy = read_bundle(tmp_path / "run").metrics["acc@1"] / 100 * 8
    assert accuracy == pytest.approx(round(accuracy), abs=1e-3), "of the eight images that could be read"


# what two processes refuse, and how they are found


def test_a_batch_that_cannot_be_shared(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--devices", 2, "--batch-size", 5))
    says(result, 2, "batch_size=5", "multiple of 2", "processes")
    assert not (tmp_path / "run").exists()


def test_two_processes_must_be_told_a_folder(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    says(run("train", "classify", folder, *fast("--devices", 2)), 2, "out is missing: 2 processes")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _elastic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of four processes on two machines, as torchrun says it."""
    told = {
        "RANK": 2, "LOCAL_RANK": 0, "GROUP_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "here",
        "MASTER_PORT": 1234, "TORCHELASTIC_RUN_ID": "x",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("_elastic")
def test_what_torchrun_says_counts() -> None:
    found = find_processes(Recipe(devices=2))
    assert (found, found.devices) == (Processes(rank=2, world=4, nodes=2), 2)
    with pytest.raises(InputError, match="nodes=3: torchrun started processes on 2 machines: remove nodes"):
        find_processes(Recipe(nodes=3))


@pytest.mark.usefixtures("_elastic")
def test_what_torchrun_says_is_not_contradicted(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--devices", 3))
    says(result, 2, "devices=3", "torchrun started 2 processes per machine", "remove devices")


def test_what_slurm_says_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "SLURM_NTASKS": 8, "SLURM_NTASKS_PER_NODE": 4, "SLURM_PROCID": 5, "SLURM_LOCALID": 1, "SLURM_NNODES": 2,
        "SLURM_JOB_NAME": "training",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))
    assert find_processes(Recipe()) == Processes(rank=5, world=8, nodes=2)


def test_alone_there_is_one_process() -> None:
    assert "RANK" not in os.environ
    assert find_processes(Recipe()) == Processes(0, 1, 1)
    assert find_processes(Recipe(devices=2, nodes=3)) == Processes(0, 6, 3)


# batch norms over all processes


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_synchronised_batch_norms_are_for_gpus(folder: Path, tmp_path: Path, run: Run) -> None:
    says(run("train", "classify", folder, "--out", tmp_path / "run", *fast("--sync-bn")), 2, "sync_bn", "GPUs only")
    assert not (tmp_path / "run").exists()


def test_a_fishnet_can_be_given_synchronised_batch_norms() -> None:
    model = fishnet.create_model("fishnet_nano", num_classes=3).eval()
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.BatchNorm2d)]
    images = torch.rand(2, 3, 32, 32)
    expected = model(images)
    keys = list(model.state_dict())
    converted = convert_sync_batchnorm(model)
    synchronised = [name for name, part in converted.named_modules() if isinstance(part, nn.SyncBatchNorm)]
    assert synchronised == norms
    assert len(norms) > 10
    assert not [part for part in converted.modules() if isinstance(part, nn.BatchNorm2d)]
    assert list(converted.state_dict()) == keys
    assert torch.equal(converted(images), expected)
