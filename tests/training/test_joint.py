"""Training several heads on one trunk: what is resumed, divided among processes, left out, kept and written."""

import csv
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.errors import InputError, WorkError
from fishnet.recipes.joint_recipe import load_joint_recipe
from fishnet.tasks.joint import Joint
from fishnet.tasks.store import load_model
from fishnet.training.fit import Trained
from fishnet.training.history import read_history
from fishnet.training.module import TrainingModule
from tests.joint_makers import BRIGHT, joint_data
from tests.makers import image_folder
from tests.tasks.test_model import flat
from tests.training.runs import die_at_step, ended, events, last, same_training, spied, torchrun

SMALL: dict[str, Any] = {
    "backbone": "fishnet_nano", "size": 64, "max_size": 64, "epochs": 2, "batch_size": 2, "workers": 0, "device": "cpu",
    "threads": 1, "fpn_channels": 16, "box_width": 16, "decoder_channels": 16, "proposals": 20, "roi_samples": 16,
}  # fmt: skip
HEADS = ("classify", "detect", "segment")
IMAGES = 12


def words(values: dict[str, Any]) -> list[str]:
    """Settings as flags."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same images, annotated for three heads. Not to be changed by a test."""
    return joint_data(tmp_path_factory.mktemp("data") / "all", IMAGES)


def sources(data: dict[str, str]) -> list[str]:
    return [f"{name}={path}" for name, path in data.items()]


def only(data: dict[str, str], root: Path, **kept: range) -> dict[str, str]:
    """The data with the annotations of some images only, by the head's name."""
    root.mkdir(parents=True)
    folder = Path(data["classify"]).parent
    for name in ("images", "masks"):
        (root / name).symlink_to(folder / name)
    left = dict(data)
    if "classify" in kept:
        rows = Path(data["classify"]).read_text().splitlines()
        (root / "labels.csv").write_text("\n".join([rows[0], *(rows[1 + i] for i in kept["classify"])]) + "\n")
        left["classify"] = str(root / "labels.csv")
    if "detect" in kept:
        coco = json.loads(Path(data["detect"]).read_text())
        coco["images"] = [image for image in coco["images"] if image["id"] in kept["detect"]]
        coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in kept["detect"]]
        (root / "boxes.json").write_text(json.dumps(coco))
        left["detect"] = str(root / "boxes.json")
    return left


def with_splits(table: Path, val: int) -> None:
    """Adds a column to a table: its first images are val, the others train."""
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{first},split", *(f"{r},{('train', 'val')[i < val]}" for i, r in enumerate(rows))]))


def trained(
    data: dict[str, str], out: Path, log: Callable[[str], None] = lambda line: None, **settings: Any
) -> Trained:
    """A training in this process. Keys that none of the heads has are left out."""
    given = {key: value for key, value in {**SMALL, **settings}.items() if value is not None}
    heads = {"detect": ("fpn_channels", "box_width", "proposals", "roi_samples"), "segment": ("decoder_channels",)}
    for head, keys in heads.items():
        if head not in data and "recipe" not in settings:
            given = {key: value for key, value in given.items() if key not in keys or key in settings}
    return fishnet.train("joint", data, out=out, quiet=True, log=log, **given)


@pytest.fixture(scope="module")
def one(data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of three heads. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("one") / "run"
    done = ended(["train", "joint", *sources(data), "--out", out, *words(SMALL), "--log-steps", 1])
    assert done.code == 0, done.text
    assert " classify+detect+segment" in done.text
    return out


# what it writes


def test_the_bundle_has_all_heads_and_their_metrics(one: Path, data: dict[str, str]) -> None:
    bundle, model = load_model(one)
    assert {name: head.task for name, head in bundle.heads.items()} == {name: name for name in HEADS}
    assert set(bundle.metrics) == {
        "loss", "classify/acc@1", "detect/AP", "detect/AP50", "detect/AP75", "segment/mIoU", "segment/mAcc",
        "segment/aAcc", "mean",
    }  # fmt: skip
    own = [bundle.metrics[name] for name in ("classify/acc@1", "detect/AP", "segment/mIoU")]
    assert bundle.metrics["mean"] == pytest.approx(sum(own) / 3, abs=1e-3)
    assert bundle.heads["detect"].classes.ids == (3, 4)
    assert {key.partition("/")[0] for key in bundle.data} == set(HEADS)
    assert set(model.heads) == set(HEADS)
    recipe = load_joint_recipe(str(one / "recipe.yaml"))
    assert recipe.data == data
    assert recipe.to_dict() == bundle.recipe
    best = max(float(row["val/mean"]) for row in read_history(one / "history.csv") if row["val/mean"])
    assert bundle.metrics["mean"] == pytest.approx(best, abs=1e-3)


def test_every_head_learns(data: dict[str, str], tmp_path: Path) -> None:
    """One epoch moves the weights of the trunk and of each head."""
    states: list[dict[str, torch.Tensor]] = []

    def note(module: TrainingModule) -> None:
        states.append({key: value.clone() for key, value in module.model.named_parameters()})

    with spied(TrainingModule, "on_train_start", note), spied(TrainingModule, "on_train_end", note):
        trained(data, tmp_path / "run", epochs=1)
    moved = [key for key, value in states[0].items() if not torch.equal(value, states[1][key])]
    for part in ("trunk.backbone.score.", "trunk.backbone.tail.", "heads.detect.", "heads.segment."):
        assert any(key.startswith(part) for key in moved), part


# resuming

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "learned_weights": {"loss_weighting": "uncertainty", "sampling": "sqrt", "repeats": 2, "ema": 0.9},
    "given_weights": {"sampling": {"classify": 1, "detect": 3, "segment": 0.5}, "accumulate": 2},
    "classifiers": {},
}


def variant(name: str, data: dict[str, str], root: Path) -> Path:
    """A recipe file. Only some images are annotated for some heads, unless plain."""
    root.mkdir(parents=True, exist_ok=True)
    values = {**SMALL, **VARIANTS[name], "checkpoint_steps": 2, "log_steps": 1, "lr": 0.01}
    own = {key: values.pop(key) for key in ("fpn_channels", "box_width", "proposals", "roi_samples")}
    width = {"decoder_channels": values.pop("decoder_channels")}
    if name != "plain":
        data = only(data, root / "partial", classify=range(8), detect=range(4, 12))
    heads = {"classify": {"data": data["classify"]}, "detect": {"data": data["detect"], **own},
             "segment": {"data": data["segment"], **width}}  # fmt: skip
    if name == "classifiers":
        ages = [("image", "label"), *((f"images/{i:03d}.png", ("old", "young", "infant")[i % 3]) for i in range(3, 12))]
        with (root / "partial" / "age.csv").open("w", newline="") as file:
            csv.writer(file).writerows(ages)
        heads = {"species": {"task": "classify", "data": data["classify"]},
                 "age": {"task": "classify", "data": str(root / "partial" / "age.csv")}}  # fmt: skip
        del values["max_size"]
    file = root / "tasks.yaml"
    file.write_text(yaml.safe_dump({**values, "heads": heads}, sort_keys=False))
    return file


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_killed_within_epochs_it_goes_on_bit_for_bit(name: str, data: dict[str, str], tmp_path: Path) -> None:
    recipe = variant(name, data, tmp_path)
    whole, out = tmp_path / "whole", tmp_path / "run"
    done = ended(["train", "joint", recipe, "--out", whole, "--quiet"])
    assert done.code == 0, done.text
    total = last(whole)["global_step"]
    first = ["train", "joint", recipe, "--out", out, "--quiet"]
    for step in (3, total - 1):
        done = ended(first, die_at_step, step)
        assert done.code == -signal.SIGKILL, done.text
        first = ["train", "joint", "--resume", out, "--quiet", "--workers", 2]
    assert last(out)["position"]["batches"], "killed within an epoch"
    done = ended(first)
    assert done.code == 0, done.text
    same_training(whole, out)
    assert events(out) == events(whole)
    if name == "learned_weights":
        states = last(out)["state_dict"]
        variances = {key: value for key, value in states.items() if "log_variances" in key}
        assert set(variances) == {f"criterion.log_variances.{head}" for head in HEADS}
        assert all(value != 0 for value in variances.values()), "they are trained"


def test_workers_change_nothing(one: Path, data: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = ended(["train", "joint", *sources(data), "--out", out, *words({**SMALL, "workers": 2}), "--log-steps", 1])
    assert done.code == 0, done.text
    same_training(one, out)


def test_a_finished_training_can_be_prolonged(one: Path, data: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained(data, out, epochs=1, log_steps=1)
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    assert recipe["precision"] == "fp32", "what auto was, see tests/__init__.py"
    (out / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "precision": "32"}))  # its old name
    lines: list[str] = []
    result = fishnet.train("joint", resume=out, epochs=2, quiet=True, log=lines.append)
    assert any("continuing after epoch 1" in line for line in lines)
    assert yaml.safe_load((out / "recipe.yaml").read_text())["epochs"] == 2
    assert last(out)["global_step"] == last(one)["global_step"]
    assert result.bundle == out


# two processes


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_two_processes_train_as_one(weighting: str, data: dict[str, str], tmp_path: Path) -> None:
    """With layer norms, losses that are means over images, and images without padding.

    Few images are annotated for all heads, so that a process often has none for one of them. The order of summation
    differs, so the losses differ in their last digits, and by more in every step.
    """
    partial = only(data, tmp_path / "partial", classify=range(6), detect=range(3, 12))
    heads = {
        "classify": {"data": partial["classify"]},
        "detect": {"data": partial["detect"], "head": "retinanet", "fpn_channels": 32, "anchors": "default"},
        "segment": {"data": data["segment"], "head": "fpn", "decoder_channels": 32, "head_norm": "group",
                    "loss": "cross-entropy"},
    }  # fmt: skip
    values = {"backbone": "convnext_atto", "size": 64, "max_size": 64, "epochs": 3, "batch_size": 4, "workers": 0,
              "device": "cpu", "threads": 1, "jitter": [1, 1], "log_steps": 1, "lr": 0.0005, "ema": 0.9,
              "loss_weighting": weighting}  # fmt: skip
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({**values, "heads": heads}))
    done = ended(["train", "joint", file, "--out", tmp_path / "one", "--quiet"])
    assert done.code == 0, done.text
    process = torchrun("train", "joint", file, "--out", tmp_path / "two", "--quiet")
    assert process.returncode == 0, process.stderr
    losses = [
        [float(row["train/loss"]) for row in read_history(tmp_path / name / "history.csv") if row["train/loss"]]
        for name in ("one", "two")
    ]
    assert len(losses[0]) == len(losses[1]) >= 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1][:2] == pytest.approx(losses[0][:2], rel=1e-4)
    ones, twos = (last(tmp_path / name)["state_dict"] for name in ("one", "two"))
    assert list(ones) == list(twos)
    metrics = [read_bundle(tmp_path / name).metrics for name in ("one", "two")]
    assert metrics[0].keys() == metrics[1].keys()
    assert metrics[1]["loss"] == pytest.approx(metrics[0]["loss"], rel=0.02)


# partial labels


def test_half_of_the_images_for_each_head(data: dict[str, str], tmp_path: Path) -> None:
    partial = only(data, tmp_path / "partial", classify=range(6), detect=range(6, 12))
    lines: list[str] = []
    seen: list[list[set[str]]] = []
    with spied(TrainingModule, "training_step", lambda module, batch, _: seen.append([set(t) for t in batch.targets])):
        trained({name: partial[name] for name in ("classify", "detect")}, tmp_path / "run", lines.append, epochs=1)
    assert {frozenset(names) for batch in seen for names in batch} == {frozenset({"classify"}), frozenset({"detect"})}
    (line,) = [line for line in lines if line.startswith("training images by the heads")]
    counts = {name: int(count) for count, name in (part.split() for part in line.partition(": ")[2].split(", "))}
    assert set(counts) == {"classify", "detect"}
    assert sum(counts.values()) == sum(len(batch) for batch in seen) + sum(counts.values()) % 2
    assert set(read_bundle(tmp_path / "run").heads) == {"classify", "detect"}


def test_images_that_another_head_holds_out_are_left_out_and_counted(tmp_path: Path) -> None:
    """The classifier's table has its own splits; the detector's images are held out by their names."""
    data = joint_data(tmp_path / "data", IMAGES)
    with_splits(Path(data["classify"]), val=4)
    lines: list[str] = []
    recipe = load_joint_recipe(data={name: data[name] for name in ("classify", "detect")})
    task = Joint(recipe)
    splits = task.open_data("", 3, recipe.shared)
    task.complete_recipe(recipe.shared, splits, lines.append)
    names = {split: {Path(images.source(i)).name for i in range(len(images))} for split, images in splits.items()}
    assert not names["train"] & names["val"]
    assert {f"{i:03d}.png" for i in range(4)} <= names["val"]
    parts = [splits[split].datasets[name] for split in ("train", "val") for name in data if name != "segment"]
    heads = [{Path(part.source(i)).name for i in range(len(part))} for part in parts]
    assert task.left_out == len((heads[0] & heads[3]) | (heads[1] & heads[2])) > 0
    (line,) = [line for line in lines if "left out" in line]
    assert line.startswith(f"{task.left_out} training images are left out")


def test_a_classifier_of_several_labels_beside_a_detector_of_the_same_objects(
    data: dict[str, str], tmp_path: Path
) -> None:
    """The thresholds of its labels are fitted to the validation images, and its metrics have its name."""
    both = {"labels": data["detect"], "detect": data["detect"]}
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({"heads": {"labels": {"task": "classify", "multi_label": True}}}))
    trained(both, tmp_path / "run", recipe=file, epochs=1, decoder_channels=None)
    bundle = read_bundle(tmp_path / "run")
    assert set(bundle.heads["labels"].thresholds) == {"class:square", "class:stripe"}
    assert {"labels/mAP", "labels/F1", "detect/AP", "mean"} <= set(bundle.metrics)
    again = fishnet.evaluate(tmp_path / "run", workers=0)
    assert again.metrics["labels/mAP"] == pytest.approx(bundle.metrics["labels/mAP"], abs=1e-3)


# bad data


def test_a_head_whose_images_all_belong_to_others_validation(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", 6)
    partial = only(data, tmp_path / "partial", detect=range(2))
    with_splits(Path(data["classify"]), val=2)
    with pytest.raises(InputError, match=r"boxes.json: the head detect has no image left to train on"):
        trained({"classify": data["classify"], "detect": partial["detect"]}, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_broken_image(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", 6)
    broken = tmp_path / "data" / "images" / "003.png"
    broken.write_text("no image")
    with pytest.raises(InputError, match=r"003\.png"):
        trained({"classify": data["classify"]}, tmp_path / "stopped", epochs=1)
    result = trained(data, tmp_path / "run", epochs=1, on_error="skip")
    assert len(result.skipped) == 1
    assert str(broken) in result.skipped[0]


def test_a_head_of_whose_validation_images_none_can_be_read(tmp_path: Path) -> None:
    data = joint_data(tmp_path / "data", IMAGES)
    partial = only(data, tmp_path / "partial", classify=range(6), detect=range(6, 12))
    with_splits(Path(partial["classify"]), val=1)
    (tmp_path / "data" / "images" / "000.png").write_text("no image")
    both = {name: partial[name] for name in ("classify", "detect")}
    with pytest.raises(InputError, match=r"no validation image of the head classify could be read; first: .*000\.png"):
        trained(both, tmp_path / "run", epochs=1, on_error="skip")


def test_out_within_a_heads_data(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "colours", 4)
    data = {"classify": str(folder), "segment": joint_data(tmp_path / "data", 4)["segment"]}
    with pytest.raises(InputError, match="whose folders are classes"):
        trained(data, folder / "red" / "run")
    assert not (folder / "red" / "run").exists()
    out = tmp_path / "data" / "runs" / "first"
    trained(data, out, epochs=1)
    assert read_bundle(out).heads.keys() == data.keys()


def test_a_loss_that_is_not_finite(data: dict[str, str], tmp_path: Path) -> None:
    """The batch can be read back: targets by head, as plain tensors."""
    with pytest.raises(WorkError, match=r"the loss became (nan|inf) at step .*nan-batch.pt") as caught:
        trained(data, tmp_path / "run", lr=1e30, clip_grad=0, epochs=5, optimizer="sgd", warmup_epochs=0)
    assert "\n" not in str(caught.value)
    content = torch.load(tmp_path / "run" / "nan-batch.pt", weights_only=True)
    assert content["images"].shape[0] == len(content["targets"]) == len(content["indices"]) == 2
    for target in content["targets"]:
        assert set(target) == set(HEADS)
        assert target["detect"]["boxes"].shape[1] == 4
        assert target["segment"]["labels"].shape == (64, 64)
        assert target["classify"] in range(len(BRIGHT))


# beginnings


def test_a_dry_run_prints_a_recipe_and_writes_nothing(data: dict[str, str], tmp_path: Path) -> None:
    lines: list[str] = []
    trained(data, tmp_path / "run", lines.append, dry_run=True)
    assert not (tmp_path / "run").exists()
    file = tmp_path / "printed.yaml"
    file.write_text("\n".join(lines))
    recipe = load_joint_recipe(str(file))
    assert recipe.data == data
    assert recipe.shared.epochs == 2
    assert any(line.startswith("# estimated time") for line in lines)


def test_single_task_bundles_start_their_heads(data: dict[str, str], tmp_path: Path) -> None:
    """A detector's bundle starts the trunk and the detector."""
    alone = tmp_path / "alone"
    given = {key: value for key, value in SMALL.items() if key != "decoder_channels"}
    fishnet.train("detect", data["detect"], out=alone, quiet=True, log=lambda line: None, **{**given, "epochs": 1})
    lines: list[str] = []
    seen: list[dict[str, torch.Tensor]] = []

    def note(module: TrainingModule) -> None:
        seen.append({key: value.clone() for key, value in module.model.state_dict().items()})

    with spied(TrainingModule, "on_train_start", note):
        trained(data, tmp_path / "run", lines.append, weights=alone, epochs=1)
    source = load_model(alone)[1].state_dict()
    trunk = [key for key in source if key.startswith("trunk.")]
    head = [key for key in source if key.startswith("heads.detect.")]
    assert len(trunk) > 10
    assert len(head) > 10
    for key in (*trunk, *head):
        assert torch.equal(seen[0][key], source[key]), key
    new = [key for key in seen[0] if key.startswith("trunk.") and key not in source]
    assert {key.split(".")[2] for key in new} == {"score"}, "of a classifier"
    assert any(line.startswith("weights from") for line in lines)
    assert any(f"head: {len(head)} of {len(head)} tensors loaded" in line for line in lines), lines


def test_keep_heads_needs_a_bundle_and_a_frozen_trunk(one: Path, data: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep_heads: there are no heads to keep: give a bundle as weights"):
        trained(data, tmp_path / "run", keep_heads=True, freeze="trunk")
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({"heads": {"age": new_head(data, tmp_path)}}))
    with pytest.raises(InputError, match=r"keep_heads: heads can only be kept .* set freeze to trunk"):
        fishnet.train("joint", recipe=file, out=tmp_path / "run", keep_heads=True, weights=one)
    same = {"classify": data["classify"]}
    with pytest.raises(InputError, match="keep_heads: the bundle already has a head classify"):
        fishnet.train("joint", same, out=tmp_path / "run", keep_heads=True, weights=one, freeze="trunk")


# heads that are kept


def new_head(data: dict[str, str], root: Path) -> dict[str, Any]:
    """Labels of another kind for some of the images, as the section of a head."""
    table = root / "age.csv"
    folder = Path(data["classify"]).parent
    rows = [f"{folder}/images/{i:03d}.png,{('old', 'young', 'infant')[i % 3]}" for i in range(9)]
    table.write_text("\n".join(["image,label", *rows]) + "\n")
    return {"task": "classify", "data": str(table)}


def kept_outputs(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Raw outputs of some heads for random images."""
    _, model = load_model(folder)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model(images)
    return {name: outputs[name] for name in names}


@pytest.fixture(scope="module")
def widened(one: Path, data: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training of three heads, to which a second classifier was added. Not to be changed by a test."""
    root = tmp_path_factory.mktemp("widened")
    file = root / "tasks.yaml"
    settings = {"epochs": 2, "batch_size": 2, "workers": 0, "device": "cpu", "threads": 1, "log_steps": 1, "lr": 0.01,
                "freeze": "trunk", "keep_heads": True, "checkpoint_steps": 1}  # fmt: skip
    file.write_text(yaml.safe_dump({**settings, "heads": {"age": new_head(data, root)}}))
    done = ended(["train", "joint", file, "--weights", one, "--out", root / "run", "--quiet"])
    assert done.code == 0, done.text
    return root / "run"


def test_the_outputs_of_kept_heads_stay_bit_for_bit(one: Path, widened: Path, data: dict[str, str]) -> None:
    before, after = (kept_outputs(folder, HEADS) for folder in (one, widened))
    for name in HEADS:
        for expected, found in zip(flat(before[name]), flat(after[name]), strict=True):
            assert torch.equal(expected, found), name
    old, new = (load_model(folder)[1].state_dict() for folder in (one, widened))
    for key, value in old.items():
        assert torch.equal(new[key], value), key
    added = [key for key in new if key not in old]
    assert added
    assert all(key.startswith("heads.age.") for key in added)
    images = sorted((Path(data["classify"]).parent / "images").iterdir())[:3]
    scenes = [fishnet.load(folder, "cpu").predict(images) for folder in (one, widened)]
    for expected, found in zip(*scenes, strict=True):
        assert list(found.results) == [*HEADS, "age"]
        for name in HEADS:
            assert found[name].to_dict() == expected[name].to_dict()


def test_the_bundle_of_kept_heads(one: Path, widened: Path) -> None:
    old, new = read_bundle(one), read_bundle(widened)
    assert {name: new.heads[name] for name in HEADS} == dict(old.heads)
    assert (new.heads["age"].head, new.heads["age"].classes.names) == ("linear", ("infant", "old", "young"))
    assert new.preprocess == old.preprocess
    assert set(new.metrics) == {"loss", "age/acc@1", "mean"}


@pytest.mark.slow
def test_a_training_with_kept_heads_is_resumed_without_the_bundle(
    one: Path, widened: Path, data: dict[str, str], tmp_path: Path
) -> None:
    out, source = tmp_path / "run", tmp_path / "source"
    shutil.copytree(one, source)
    file = widened.parent / "tasks.yaml"
    done = ended(
        ["train", "joint", file, "--weights", source, "--out", out, "--quiet"],
        die_at_step,
        last(widened)["global_step"] - 1,
    )
    assert done.code == -signal.SIGKILL, done.text
    shutil.rmtree(source)
    done = ended(["train", "joint", "--resume", out, "--quiet"])
    assert done.code == 0, done.text
    same_training(widened, out)
    assert read_bundle(out).heads == read_bundle(widened).heads


def test_a_new_head_of_another_kind(data: dict[str, str], tmp_path: Path) -> None:
    """A label map beside a detector that is kept."""
    trained({"detect": data["detect"]}, tmp_path / "one", epochs=1)
    file = tmp_path / "tasks.yaml"
    section = {"data": data["segment"], "head": "fpn", "decoder_channels": 32}
    file.write_text(yaml.safe_dump({"heads": {"segment": section}}))
    fishnet.train(
        "joint", recipe=file, weights=tmp_path / "one", out=tmp_path / "two", quiet=True, log=lambda line: None,
        keep_heads=True, freeze="trunk", epochs=1, batch_size=4, workers=0, device="cpu",
    )  # fmt: skip
    before, after = (kept_outputs(tmp_path / name, ("detect",)) for name in ("one", "two"))
    for expected, found in zip(flat(before), flat(after), strict=True):
        assert torch.equal(expected, found)


def test_a_trunk_that_ends_before_the_new_heads_map_is_refused(data: dict[str, str], tmp_path: Path) -> None:
    """The layers that it lacks would be random, and frozen."""
    trained({"segment": data["segment"]}, tmp_path / "one", epochs=1)
    assert read_bundle(tmp_path / "one").heads["segment"].head == "body"
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({"heads": {"age": new_head(data, tmp_path)}}))
    with pytest.raises(InputError, match="ends with the body"):
        fishnet.train(
            "joint",
            recipe=file,
            weights=tmp_path / "one",
            out=tmp_path / "two",
            quiet=True,
            log=lambda line: None,
            keep_heads=True,
            freeze="trunk",
            epochs=1,
            workers=0,
            device="cpu",
        )
    assert not (tmp_path / "two" / "checkpoints").exists()
