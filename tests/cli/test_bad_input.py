"""What a user can get wrong: one line that says what and where, the right exit code, nothing good lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fishnet.cli import main
from tests.conftest import Run, fast
from tests.makers import image_folder, split_folder


def says(result: tuple[int, str, str], code: int, *words: str) -> None:
    """Checks the exit code, that standard error is one line, and its words."""
    found, _, err = result
    assert found == code, err
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    for word in words:
        assert word in lines[0], f"{word!r} is not in: {lines[0]}"


def _empty(root: Path) -> None:
    shutil.rmtree(root / "red")
    (root / "red").mkdir()


def _one(root: Path) -> None:
    shutil.rmtree(root / "red")
    shutil.rmtree(root / "green")


def _none(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def _missing(root: Path) -> None:
    shutil.rmtree(root)


def _corrupt(root: Path) -> None:
    (root / "red" / "3.png").write_bytes(b"\xff\xd8\xff garbage")


def _truncated(root: Path) -> None:
    whole = (root / "red" / "2.jpg").read_bytes()
    (root / "red" / "2.jpg").write_bytes(whole[: len(whole) // 2])


def _text(root: Path) -> None:
    (root / "red" / "3.png").write_text("this is text")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, ("colours", "no such folder")),
        (_none, ("colours", "no class folders")),
        (_empty, ("colours/red", "empty class folder")),
        (_one, ("colours", "one class only", "blue")),
        (_corrupt, ("red/3.png", "not an image", "on_error=skip")),
        (_truncated, ("red/2.jpg", "broken image", "on_error=skip")),
        (_text, ("red/3.png", "not an image")),
    ],
)
def test_bad_training_data(spoil: Callable[[Path], None], words: tuple[str, ...], tmp_path: Path, run: Run) -> None:
    root = image_folder(tmp_path / "colours", 4)
    spoil(root)
    result = run("train", "classify", root, "--out", tmp_path / "run", *fast())
    says(result, 2, *words)
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_broken_image_met_by_a_worker_is_the_same_one_line(tmp_path: Path, run: Run) -> None:
    root = image_folder(tmp_path / "colours", 4)
    _truncated(root)
    result = run("train", "classify", root, "--out", tmp_path / "run", *fast("--workers", 1))
    says(result, 2, "red/2.jpg", "broken image", "on_error=skip")


def test_broken_images_can_be_skipped(tmp_path: Path, run: Run) -> None:
    root = image_folder(tmp_path / "colours", 4)
    _corrupt(root)
    _truncated(root)
    out = tmp_path / "run"
    code, _, err = run("train", "classify", root, "--out", out, *fast("--on-error", "skip"))
    assert code == 0, err
    assert sorted(line.split("/")[-1].split(":")[0] for line in err.splitlines()) == ["2.jpg", "3.png"]
    code, text, err = run("val", out, root, "--split", "train", "--json", "--workers", 0)
    assert code == 1, "an image left out of a measurement must not pass unseen"
    assert json.loads(text)["images"] + len(err.splitlines()) == 9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backbone", "fishnet98"], ("unknown backbone 'fishnet98'", "fishnet99")),
        (["--backbone", "qqqqqqqq"], ("unknown backbone", "fishnet_nano")),
        (["--recipe", "small-dat"], ("unknown recipe 'small-dat'", "small-data")),
        (["--epochz", "3"], ("--epochz", "--epochs")),
        (["--epochs", "three"], ("--epochs", "three")),
        (["--epochs", "0"], ("epochs=0", "1 or more")),
        (["--lr", "-1"], ("lr=-1", "0 or more")),
        (["--size", "16"], ("size=16", "from 32")),
        (["--channels", "2"], ("holds 3 channels, but the model takes 2", "channels 3")),
        (["--crop-scale", "0.9", "0.2"], ("crop_scale",)),
        (["--head", "fpn"], ("unknown head 'fpn'", "default")),
        (["--device", "cuda"], ("cuda", "not available")) if not torch.cuda.is_available() else (["--head", "x"], ()),
        (["--optimizer", "sgdd"], ("unknown optimizer 'sgdd'", "sgd")),
        (["--weights", "nowhere.pth"], ("nowhere.pth", "no such checkpoint file")),
        (["--weights", ""], ("weights: the name is empty",)),
        (
            ["--backbone", "fishnet99", "--pretrained"],
            ("no published weights for fishnet99", "fishnet150", "docs/weights.md"),
        ),
        (["--config", "nowhere.yaml"], ("nowhere.yaml", "no such file")),
    ],
    ids=lambda value: "_".join(value).strip("-")[:30] if isinstance(value, list) else "",
)
def test_bad_arguments(arguments: list[str], words: tuple[str, ...], folder: Path, tmp_path: Path, run: Run) -> None:
    says(run("train", "classify", folder, "--out", tmp_path / "run", *fast(*arguments)), 2, *words)
    assert not (tmp_path / "run" / "config.json").exists()


def test_nothing_to_resume(folder: Path, tmp_path: Path, run: Run) -> None:
    says(run("train", "classify", folder, "--resume", tmp_path / "nowhere"), 2, "nowhere", "nothing to resume")


def test_unknown_verb(run: Run) -> None:
    says(run("trian"), 2, "trian", "train")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 3\n", ("mine.yaml", "unknown key 'epoch'", "epochs")),
        ("epochs: many\n", ("mine.yaml", "epochs='many'", "whole number")),
        ("schedule: cosin\n", ("schedule='cosin'", "cosine")),
        ("- 1\n", ("mine.yaml", "KEY: VALUE")),
        ("a: [1\n", ("mine.yaml", "not YAML")),
    ],
)
def test_bad_recipe_files(text: str, words: tuple[str, ...], folder: Path, tmp_path: Path, run: Run) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(text)
    says(run("train", "classify", folder, "--recipe", recipe, "--out", tmp_path / "run"), 2, *words)


def test_unknown_key_in_a_config_file(folder: Path, tmp_path: Path, run: Run) -> None:
    config = tmp_path / "my.yaml"
    config.write_text("epoch: 1\n")
    says(run("train", "classify", folder, "--config", config, "--out", tmp_path / "run"), 2, "epoch")


def test_a_training_is_never_overwritten(bundle: Path, folder: Path, run: Run) -> None:
    before = (bundle / "model.safetensors").read_bytes()
    says(
        run("train", "classify", folder, "--out", bundle, *fast()),
        2,
        "already holds a training",
        "continue it with resume",
    )
    assert (bundle / "model.safetensors").read_bytes() == before


def _lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _change_weights(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({key: value + 1 for key, value in state.items()}, folder / "model.safetensors")


def _cut_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:200])


def _future(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "schema": 99}))


def _other_backbone(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "backbone": "fishnet_tiny"}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_lose_weights, ("model.safetensors is missing",)),
        (_lose_config, ("config.json is missing",)),
        (_cut_weights, ("model.safetensors", "not a complete safetensors file")),
        (_change_weights, ("model.safetensors", "altered or damaged")),
        (_cut_config, ("config.json", "damaged")),
        (_future, ("config.json", "schema 99 is newer", "upgrade")),
        (_other_backbone, ("the weights are not those of its config",)),
    ],
)
def test_spoiled_bundles(
    spoil: Callable[[Path], None], words: tuple[str, ...], bundle: Path, folder: Path, tmp_path: Path, run: Run
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(bundle, mine)
    spoil(mine)
    says(run("predict", mine, folder / "red" / "0.png"), 2, "mine", *words)


def test_no_bundle_at_all(folder: Path, tmp_path: Path, run: Run) -> None:
    image = folder / "red" / "0.png"
    says(run("predict", tmp_path / "nowhere", image), 2, "nowhere", "no such bundle")
    says(run("predict", image, image), 2, "is a file, not a bundle")


def test_nothing_to_predict(bundle: Path, tmp_path: Path, run: Run) -> None:
    says(run("predict", bundle), 2, "nothing to predict")
    says(run("predict", bundle, tmp_path), 2, "no images in this folder")
    says(run("predict", bundle, tmp_path / "*.png"), 2, "no file matches")


def test_a_checkpoint_of_another_network(folder: Path, tmp_path: Path, run: Run) -> None:
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "other.pth")
    result = run("train", "classify", folder, "--weights", tmp_path / "other.pth", "--out", tmp_path / "run", *fast())
    says(result, 2, "other.pth", "does not fit", "missing", "no FishNet of a known layout")


def test_data_with_classes_the_model_does_not_know(bundle: Path, tmp_path: Path, run: Run) -> None:
    root = image_folder(tmp_path / "colours", 2)
    (root / "red").rename(root / "crimson")
    says(run("val", bundle, root), 2, "crimson", "blue, green, red")


def test_a_split_the_data_does_not_have(bundle: Path, folder: Path, run: Run) -> None:
    says(run("val", bundle, folder, "--split", "test"), 2, "no split 'test'", "train")


def test_a_loss_that_is_not_finite(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--lr", "1e30", "--warmup-epochs", "0"))
    says(result, 1, "the loss became", "step", "learning rate", "nan-batch.pt", "lower lr")
    saved = torch.load(tmp_path / "run" / "nan-batch.pt", weights_only=True)
    assert saved["images"].dtype == torch.uint8
    assert len(saved["indices"]) == len(saved["targets"])


def test_an_unknown_option_of_predict(bundle: Path, run: Run) -> None:
    says(run("predict", bundle, "a.png", "--overlya"), 2, "unknown option --overlya", "--help")


@pytest.fixture(scope="module")
def begun(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two epochs. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("begun") / "run"
    assert main(["train", "classify", str(folder), "--out", str(out), *fast("--epochs", 2)]) == 0
    return out


@pytest.mark.parametrize(
    "change",
    [
        ["--backbone", "fishnet_tiny"], ["--optimizer", "adamw"], ["--batch-size", "4"], ["--lr", "0.3"],
        ["--weights", "some.pth"], ["--recipe", "quickstart"], ["--out", "elsewhere"], ["--seed", "3"],
    ],
    ids=lambda change: change[0].strip("-"),
)  # fmt: skip
def test_a_resumed_training_stays_the_same_one(change: list[str], begun: Path, folder: Path, run: Run) -> None:
    recipe = (begun / "recipe.yaml").read_text()
    says(
        run("train", "classify", folder, "--resume", begun, *change),
        2,
        change[0].strip("-").replace("-", "_"),
        "with its own settings",
        "epochs",
    )
    assert (begun / "recipe.yaml").read_text() == recipe


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_leaves_everything_as_it_was(
    begun: Path, folder: Path, tmp_path: Path, run: Run
) -> None:
    recipe = (begun / "recipe.yaml").read_text()
    says(run("train", "classify", folder, "--resume", begun, "--device", "cuda"), 2, "not available")
    assert (begun / "recipe.yaml").read_text() == recipe
    says(run("train", "classify", folder, "--out", tmp_path / "run", *fast("--device", "cuda")), 2, "not available")
    assert not (tmp_path / "run").exists()


def test_a_resumed_training_keeps_its_classes(begun: Path, tmp_path: Path, run: Run) -> None:
    data = image_folder(tmp_path / "data", 4)
    (data / "red").rename(data / "rosso")
    says(run("train", "classify", data, "--resume", begun, "--epochs", 3), 2, "its classes are not", "blue, green, red")


def test_a_resumed_training_keeps_its_classes_before_its_first_bundle(begun: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(begun, tmp_path / "run")
    for name in ("config.json", "model.safetensors"):  # as after a kill within the first epoch
        (tmp_path / "run" / name).unlink()
    data = image_folder(tmp_path / "data", 4)
    (data / "red").rename(data / "azure")  # as many classes, in another order
    result = run("train", "classify", data, "--resume", tmp_path / "run", "--epochs", 3)
    says(result, 2, "its classes are not", "blue, green, red")


def test_resuming_with_other_images_is_said(begun: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(begun, tmp_path / "run")
    shutil.copytree(folder, tmp_path / "data")
    resume = ("--resume", tmp_path / "run", "--quiet")
    assert "not the images that" not in run("train", "classify", tmp_path / "data", *resume)[1]
    (tmp_path / "data" / "red" / "0.png").unlink()
    code, out, err = run("train", "classify", tmp_path / "data", *resume)
    assert code == 0, err
    assert "not the images that" in out


@pytest.mark.parametrize("parts", [("train", "val"), ("train",), ()])
def test_a_training_inside_its_own_data(parts: tuple[str, ...], tmp_path: Path, run: Run) -> None:
    data = tmp_path / "data"
    for part in parts or (".",):
        image_folder(data / part, 4)
    inner, hidden = data / parts[0] / "run" if parts else data / "run", data / ".runs" / "one"
    says(run("train", "classify", data, "--out", inner, *fast()), 2, "folders are classes", "elsewhere as out")
    assert run("train", "classify", data, "--out", hidden, *fast())[0] == 0
    code, _, err = run("train", "classify", data, "--out", data / "run", *fast())
    assert code == (0 if "val" in parts else 2), err


def test_a_dry_run_without_a_readable_image(tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=3, val=2)
    flags = fast("--on-error", "skip", "--dry-run", "--out", tmp_path / "run")
    for part in ("val", "train"):
        for path in (data / part).rglob("*.*"):
            path.write_text("no image")
        says(run("train", "classify", data, *flags), 2, f"images of the {part} split can be read", f"data/{part}")


def test_an_empty_name_of_data_is_not_the_current_folder(bundle: Path, tmp_path: Path, run: Run) -> None:
    says(run("train", "classify", "", "--out", tmp_path / "run"), 2, "the data's name is empty")
    says(run("val", bundle, ""), 2, "the data's name is empty")


def test_resuming_to_fewer_epochs(begun: Path, folder: Path, run: Run) -> None:
    says(
        run("train", "classify", folder, "--resume", begun, "--epochs", 1),
        2,
        "epochs=1",
        "already trained for 2 epochs",
    )


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_damaged_checkpoint(kept: int, begun: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(begun, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:kept])
    says(run("train", "classify", folder, "--resume", tmp_path / "run"), 2, "last.ckpt: damaged")


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_part_without_a_readable_image(part: str, tmp_path: Path, run: Run) -> None:
    data = split_folder(tmp_path / "data", train=3, val=2)
    for path in (data / part).rglob("*.*"):
        path.write_text("no image")
    result = run("train", "classify", data, "--out", tmp_path / "run", *fast("--on-error", "skip"))
    says(result, 2, f"no image of the {part} split could be read", f"{data}/{part}")
    assert not (tmp_path / "run" / "config.json").exists()


def test_one_image_a_step_at_32_px(folder: Path, tmp_path: Path, run: Run) -> None:
    result = run("train", "classify", folder, "--out", tmp_path / "run", *fast("--batch-size", 1))
    says(result, 2, "one image", "batch of 2 or more")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "fishnet_nano", "--size", "20"], ("--size 20", "32 or more")),
        (["list", "nonet"], ("nonet", "resnet*")),
        (["info", "resnet18.bogus"], ("resnet18.bogus", "tag")),
        (["info", "resnet1"], ("unknown backbone 'resnet1'", "resnet18")),
    ],
)
def test_bad_names(arguments: list[str], words: tuple[str, ...], run: Run) -> None:
    says(run(*arguments), 2, *words)


def test_a_config_that_is_not_yaml(folder: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "my.yaml").write_text("a: [1")
    says(run("train", "classify", folder, "--config", tmp_path / "my.yaml"), 2, "my.yaml line 1", "not YAML")


def test_an_empty_name_is_not_the_current_folder(bundle: Path, run: Run) -> None:
    says(run("predict", bundle, ""), 2, "an empty name")


def test_weights_of_a_bundle_of_another_network_say_what_to_add(
    bundle: Path, folder: Path, tmp_path: Path, run: Run
) -> None:
    result = run(
        "train", "classify", folder, "--weights", bundle, "--out", tmp_path / "run", *fast("--backbone", "fishnet_tiny")
    )
    says(result, 2, "is a fishnet_nano: give backbone=fishnet_nano and size=32", "does not fit")


def test_a_finished_training_says_so_when_it_is_resumed(begun: Path, folder: Path, tmp_path: Path, run: Run) -> None:
    shutil.copytree(begun, tmp_path / "run")
    assert "all 2 epochs are done" in run("train", "classify", folder, "--resume", tmp_path / "run", "--quiet")[1]
    _, out, _ = run("train", "classify", folder, "--resume", tmp_path / "run", "--epochs", 3, "--quiet")
    assert "continuing after epoch 2 (step 4), with the learning rates of a training of 3 epochs" in out
