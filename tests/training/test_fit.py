"""Training from data to bundle: what it tells and refuses, and what each of a recipe's keys does."""

import re
import shutil
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.bundle.classes import Classes
from fishnet.cli import main
from fishnet.data.classification.folder import ImageFolder
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.recipes.recipe import Recipe
from fishnet.tasks import get_task
from fishnet.tasks.classification.losses import ClassificationLoss
from fishnet.tasks.store import load_model
from fishnet.training import fit as fitting
from fishnet.training.batches import preprocess_of
from fishnet.training.history import read_history
from fishnet.training.module import TrainingModule
from fishnet.training.optimise import schedule_of
from tests.cli.test_bad_input import says
from tests.conftest import Run, fast
from tests.makers import image, image_folder
from tests.training.runs import EPOCHS, STEPS, last, spied

SMOOTH = ["--weight-decay", 0, "--warmup-epochs", 0, "--schedule", "constant", "--momentum", 0.5]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of some epochs. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", "classify", str(folder), "--out", str(out), *fast("--epochs", EPOCHS, "--lr", 0.05)]) == 0
    return out


Train = Callable[..., tuple[Path, str]]


@pytest.fixture
def train(folder: Path, tmp_path: Path, run: Run) -> Train:
    """Trains with these flags: the folder, and what was told."""
    made = 0

    def call(*more: object, data: Path = folder) -> tuple[Path, str]:
        nonlocal made
        made += 1
        out = tmp_path / f"run{made}"
        code, text, err = run("train", "classify", data, "--out", out, *fast(*more))
        assert code == 0, err
        return out, text

    return call


def weights(out: Path) -> dict[str, Tensor]:
    """Of the trained model, as they were at the end; without averages."""
    state = last(out)["state_dict"]
    return {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}


# what is logged and told


def test_the_history_of_a_training(whole: Path) -> None:
    rows = read_history(whole / "history.csv")
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == list(range(1, EPOCHS * STEPS + 1))
    assert [float(row["epoch"]) for row in rows if row["val/acc@1"]] == [1, 2, 3, 4]
    assert [float(row["epoch"]) for row in rows] == [int(row["step"]) / STEPS for row in rows]


def test_the_training_follows_the_schedule(whole: Path) -> None:
    # a row stands after its step: with the rate of the next
    found = [float(row["lr"]) for row in read_history(whole / "history.csv") if row["train/loss"]]
    recipe = Recipe().replace(yaml.safe_load((whole / "recipe.yaml").read_text()))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    schedule = schedule_of(optimizer, recipe, STEPS)
    expected = []
    for step in range(1, EPOCHS * STEPS + 1):
        schedule.step_update(num_updates=step)
        expected.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12), "the log has the digits of float32"


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4]), (2, [2, 4]), (3, [3])])
def test_rows_between_epochs(every: int, steps: list[int], train: Train) -> None:
    out, _ = train("--log-steps", every, "--epochs", 2)
    assert [int(row["step"]) for row in read_history(out / "history.csv") if row["train/loss"]] == steps


def test_the_last_lines_name_the_best_epoch(train: Train) -> None:
    out, text = train("--epochs", 3, "--lr", 0.1)
    rows = [row for row in read_history(out / "history.csv") if row["val/acc@1"]]
    best = max(rows, key=lambda row: (float(row["val/acc@1"]), -float(row["val/loss"])))
    assert f"best epoch: {round(float(best['epoch']))}  " in text
    assert text.splitlines()[-2:] == [f"curves: {out / 'curves.png'}", f"bundle: {out}"]


def test_threads_are_the_recipe_s(folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    assert run("train", "classify", folder, "--dry-run", "--out", tmp_path / "run", *fast("--threads", 1))[0] == 0
    assert run("train", "classify", folder, "--dry-run", "--out", tmp_path / "run", *fast())[0] == 0
    assert asked == [1]


# averaged weights


def test_the_average_follows_the_weights(train: Train, folder: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def copy(module: TrainingModule, *_: Any) -> None:
        seen.append({name: value.detach().clone() for name, value in module.model.state_dict().items()})

    with spied(TrainingModule, "on_train_start", copy), spied(TrainingModule, "optimizer_step", copy):
        out, _ = train("--ema", 0.9, "--epochs", 3, "--lr", 0.05)
    expected, *rest = seen
    assert len(rest) == 3 * STEPS
    for step, state in enumerate(rest, start=1):
        decay = min(0.9, 1 - (1 + (step - 1)) ** (-2 / 3)) if step > 1 else 0.0  # timm's warm-up of the average
        expected = {
            name: decay * expected[name] + (1 - decay) * value if value.is_floating_point() else value
            for name, value in state.items()
        }
    found = {
        k.removeprefix("ema.module."): v for k, v in last(out)["state_dict"].items() if k.startswith("ema.module.")
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5), name
    assert any(not torch.equal(found[name], value) for name, value in weights(out).items())
    best = last(out, "best")["state_dict"]
    kept = load_model(out)[1].state_dict()
    assert all(torch.equal(value, best[f"ema.module.{name}"]) for name, value in kept.items()), "what is kept"


# losses and mixing


@pytest.mark.parametrize("flags", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0}])
def test_mixed_targets_are_shares(flags: dict[str, float]) -> None:
    mixing = get_task("classify").mixing(Recipe(**flags), Classes.of(["a", "b", "c"]))  # type: ignore[arg-type]
    assert mixing is not None
    images, targets = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    for seed in range(4):
        found = []
        for _ in range(2):
            torch.manual_seed(seed)
            found.append(mixing(images, targets))
        (mixed, shares), (again, same) = found
        assert torch.equal(mixed, again)
        assert torch.equal(shares, same)
        assert mixed.shape == images.shape
        assert shares.shape == (6, 3)
        assert shares.sum(1) == pytest.approx(torch.ones(6), abs=1e-6)
        assert (shares >= 0).all()
        assert not torch.equal(mixed, images)


def test_nothing_is_mixed_by_default() -> None:
    assert get_task("classify").mixing(Recipe(), Classes.of(["a", "b"])) is None


def test_mixing_changes_the_training_and_is_the_seed_s(train: Train) -> None:
    losses = [
        [row["train/loss"] for row in read_history(train("--epochs", 2, *flags)[0] / "history.csv")]
        for flags in ((), ("--mixup", 0.4, "--cutmix", 1), ("--mixup", 0.4, "--cutmix", 1))
    ]
    assert losses[0] != losses[1] == losses[2]


def test_label_smoothing_and_class_weights() -> None:
    scores, targets = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 3.0]]), torch.tensor([0, 1])
    logs = scores.log_softmax(1)
    assert float(ClassificationLoss(0.0, None)(scores, targets)["cross_entropy"]) == pytest.approx(
        -float(logs[0, 0] + logs[1, 1]) / 2
    )
    smooth = -(0.9 * (logs[0, 0] + logs[1, 1]) + 0.1 * logs.mean(1).sum()) / 2
    assert float(ClassificationLoss(0.1, None)(scores, targets)["cross_entropy"]) == pytest.approx(float(smooth))
    weighted = ClassificationLoss(0.0, torch.tensor([1.0, 3.0, 1.0]))(scores, targets)["cross_entropy"]
    assert float(weighted) == pytest.approx(-float(logs[0, 0] + 3 * logs[1, 1]) / 4)


def test_balanced_classes_count_alike(tmp_path: Path, train: Train) -> None:
    data = image_folder(tmp_path / "data", 3)
    for i in range(3, 12):
        image("red", 900 + i).save(data / "red" / f"{i}.png")
    seen: list[Tensor] = []
    with spied(TrainingModule, "on_train_start", lambda module: seen.append(module.criterion.weights)):
        train("--class-weights", "balanced", "--batch-size", 4, data=data)
    counts = torch.tensor([2.0, 2.0, 11.0])  # of blue, green and red: one of each is held out
    assert seen[0] == pytest.approx(counts.sum() / (3 * counts))
    assert float((seen[0] * counts).sum()) == pytest.approx(15)


# gradients


def test_gradients_add_up_over_batches(train: Train) -> None:
    flags = [
        "--backbone", "convnext_atto", "--flip", 0, "--crop-scale", 1, 1, *SMOOTH, "--lr", 0.01, "--log-steps", 1,
    ]  # fmt: skip
    whole, _ = train("--batch-size", 8, *flags)
    halves, _ = train("--batch-size", 4, "--accumulate", 2, *flags)
    # 21 images: 2 whole batches of 8, and 5 of 4, of which the last is an update of its own
    assert [int(row["step"]) for row in read_history(whole / "history.csv")] == [1, 2, 2]
    assert [int(row["step"]) for row in read_history(halves / "history.csv")] == [1, 2, 3, 3]
    assert [float(row["epoch"]) for row in read_history(halves / "history.csv")] == pytest.approx(
        [1 / 3, 2 / 3, 1, 1], abs=1e-3
    )


@pytest.mark.parametrize("way", [("--batch-size", 16), ("--batch-size", 8, "--accumulate", 2)])
def test_two_batches_for_an_update_are_one_of_twice_the_size(way: tuple[object, ...], train: Train) -> None:
    flags = ["--backbone", "convnext_atto", "--flip", 0, *SMOOTH, "--lr", 0.01]
    one, other = (weights(train(*more, *flags)[0]) for more in (("--batch-size", 16), way))
    for name, value in one.items():
        assert torch.allclose(other[name], value, rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("clip", [0.01, 0.0])
def test_gradients_are_clipped(clip: float, train: Train) -> None:
    before: dict[str, Tensor] = {}

    def remember(module: TrainingModule) -> None:
        before.update({name: value.detach().clone() for name, value in module.model.named_parameters()})

    with spied(TrainingModule, "on_train_start", remember):
        out, _ = train("--batch-size", 64, "--lr", 1, *SMOOTH, "--clip-grad", clip)
    assert last(out)["global_step"] == 1
    after = weights(out)
    change = torch.stack([(after[name] - value).norm() for name, value in before.items()]).norm()
    if clip:
        # The first step of SGD with Nesterov momentum m is lr * (1 + m) * gradient. 1%: a change of 1e-2 in weights of
        # about 1 keeps some five of float32's seven digits.
        assert float(change) == pytest.approx(1.5 * clip, rel=0.01)
    else:
        assert float(change) > 0.1, "the bound above is one that matters"


@pytest.mark.slow
def test_recomputed_features_give_the_same_training(train: Train) -> None:
    plain, _ = train()
    saving, _ = train("--grad-checkpointing")
    for name, value in weights(plain).items():
        assert torch.allclose(weights(saving)[name], value, rtol=1e-5, atol=1e-6), name


def test_half_precision(train: Train) -> None:
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, _, output: seen[module.training].add(output.dtype) if isinstance(module, nn.Conv2d) else None
    )
    try:
        out, _ = train("--precision", "bf16")
    finally:
        hook.remove()
    assert seen == {True: {torch.bfloat16}, False: {torch.float32}}, "validation is in float32"
    assert {value.dtype for value in weights(out).values() if value.is_floating_point()} == {torch.float32}


# parts of the network


@pytest.mark.parametrize(
    ("what", "still"),
    [("none", ()), ("trunk", ("stem", "tail", "bridge", "body", "head")), ("stem,tail", ("stem", "tail"))],
)
def test_what_is_frozen_stays_as_it_was(what: str, still: tuple[str, ...], train: Train) -> None:
    before: dict[str, Tensor] = {}

    def remember(module: TrainingModule) -> None:
        before.update({name: value.detach().clone() for name, value in module.model.state_dict().items()})

    with spied(TrainingModule, "on_train_start", remember):
        out, _ = train("--freeze", what)
    after = weights(out)
    changed = {name.split(".")[2] for name, value in before.items() if not torch.equal(after[name], value)}
    assert not changed & set(still), "weights and running statistics"
    assert {"score"} <= changed
    if what != "trunk":
        assert {"body", "head"} <= changed
    if what == "none":
        assert {"stem", "tail"} <= changed


def test_a_part_that_is_not_there(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--freeze", "tale"))
    says(result, 2, "freeze=tale", "'tale'", "tail")
    assert not (tmp_path / "run").exists()


def test_a_fish_without_its_head(train: Train, folder: Path, tmp_path: Path, run: Run) -> None:
    out, _ = train("--end", "body")
    assert read_bundle(out).backbone_args == {"end": "body"}
    assert fishnet.load(out).predict(folder / "red" / "0.png").to_dict()["predictions"]
    again, text = train("--weights", out)
    assert read_bundle(again).backbone_args == {"end": "body"}, "a bundle brings its end"
    assert "weights from" in text
    result = run(
        "train", "classify", folder, "--out", tmp_path / "no", *fast("--backbone", "resnet18", "--end", "body")
    )
    says(result, 2, "resnet18", "end='body'")


def test_a_bundle_brings_its_network(train: Train, folder: Path, tmp_path: Path, run: Run) -> None:
    first, _ = train("--backbone", "fishnet_tiny", "--size", 48, "--channels", 1)
    data = tmp_path / "two"
    shutil.copytree(folder, data)
    shutil.rmtree(data / "blue")
    out = tmp_path / "second"
    code, text, err = run(
        "train", "classify", data, "--weights", first, "--out", out, "--epochs", 1, "--batch-size", 8, "--workers", 0,
        "--device", "cpu", "--quiet", "--freeze", "trunk", "--lr", 0.01,
    )  # fmt: skip
    assert code == 0, err
    bundle, model = load_model(out)
    assert (bundle.backbone, bundle.preprocess.size, bundle.preprocess.channels) == ("fishnet_tiny", (48, 48), 1)
    assert "classes by name: 2 of 2 keep their weights; 1 left out (blue)" in text
    old = load_model(first)[1].state_dict()
    same = [name for name, value in model.state_dict().items() if old[name].shape == value.shape]
    assert len(same) > 50
    assert all(torch.equal(model.state_dict()[name], old[name]) for name in same), "the frozen trunk is the bundle's"


def test_validation_may_have_a_size_of_its_own(train: Train, folder: Path) -> None:
    seen: list[tuple[int, ...]] = []
    with spied(TrainingModule, "validation_step", lambda module, batch, _: seen.append(tuple(batch.images.shape[2:]))):
        out, _ = train("--size", 32, "--val-size", 48)
    assert set(seen) == {(48, 48)}
    assert read_bundle(out).preprocess.size == (48, 48)


# ends


def test_patience(train: Train) -> None:
    out, text = train("--epochs", 20, "--patience", 2, "--lr", 0)
    assert "stopped early: no improvement for 2 epochs" in text
    epochs = [row for row in read_history(out / "history.csv") if row["val/acc@1"]]
    assert len(epochs) == 3
    assert re.search(r"best epoch: \d", text)


def test_a_loss_that_is_not_finite(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--lr", "1e9", "--batch-size", 4))
    place = tmp_path / "run" / "nan-batch.pt"
    says(result, 1, "the loss became", "at step", "learning rate", str(place), "lower lr", "clip_grad=5")
    saved = torch.load(place, weights_only=True)
    assert saved["images"].shape == (4, 3, 32, 32)
    assert saved["images"].dtype == torch.uint8
    assert len(saved["indices"]) == len(saved["targets"]) == 4


def test_a_validation_loss_that_is_not_finite(folder: Path, tmp_path: Path, run: Run) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--lr", "1e9"))
    assert not [it for it in warned if "nan" in str(it.message)], "one line, and it is ours"
    says(result, 1, "the validation loss became", "after step 2", "learning rate", "lower lr", "clip_grad=5")
    assert not (tmp_path / "run" / "config.json").exists(), "no best epoch without a number"


def test_a_dry_run_saves_no_batch(folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = fast("--lr", "1e30", "--warmup-epochs", 0, "--dry-run")
    says(run("train", "classify", folder, "--out", tmp_path / "run", *flags), 1, "the loss became", "few steps")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("every", [0, 1, 3])
def test_checkpoints_within_an_epoch(every: int, train: Train) -> None:
    saved: list[tuple[int, int, int]] = []

    def see(module: TrainingModule, _: Any) -> None:
        saved.append((module.position.epoch, module.position.batches, module.position.step))

    with spied(TrainingModule, "on_save_checkpoint", see):
        train("--epochs", 2, "--batch-size", 4, "--checkpoint-steps", every)
    within = {0: [], 1: [1, 2, 3, 4, 6, 7, 8, 9], 3: [3, 6, 9]}[every]
    assert saved == sorted([(step // 5, step % 5, step) for step in within] + [(1, 0, 5), (2, 0, 10)])
    assert all(a < b for a, b in pairwise(saved))


# what fit refuses


def test_settings_that_an_optimiser_refuses(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--momentum", 0))
    says(result, 2, "optimizer sgd", "momentum")


def test_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown task 'clasify': did you mean classify"):
        fitting.fit("clasify", "data", Recipe(), tmp_path / "run")


def test_resuming_is_only_offered_where_it_works(whole: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    says(
        run("train", "classify", folder, "--out", whole, *fast()),
        2,
        "already holds a training",
        "continue it with resume",
    )
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast())
    says(result, 2, "already holds a training: choose another folder as out")
    assert "resume" not in result[2]


def test_out_is_a_file(folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "run").touch()
    says(run("train", "classify", folder, "--out", tmp_path / "run", *fast()), 2, "is a file: out must be a folder")


@pytest.mark.parametrize(
    ("brought", "mean"),
    [(None, 0.5), (Preprocess(mean=(0.1,) * 3, std=(1.0,) * 3), 0.1), (Preprocess(mean=(0.1,), std=(1.0,)), 0.5)],
)
def test_the_weights_that_count_bring_their_normalisation(
    brought: Preprocess | None, mean: float, folder: Path
) -> None:
    recipe = Recipe(backbone="vit_tiny_patch16_224", pretrained=True)  # published for a mean of 0.5
    assert preprocess_of(get_task("classify"), recipe, ImageFolder(folder), brought).mean == (mean,) * 3
