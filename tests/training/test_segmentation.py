"""Segmentation with the training engine of all tasks: trained, killed, resumed, shared out, evaluated, used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fishnet
from fishnet.bundle.bundle import Bundle, read_bundle, write_bundle
from fishnet.bundle.classes import Classes
from fishnet.cli import main
from fishnet.errors import InputError
from fishnet.evaluation.evaluate import evaluate
from fishnet.images.preprocess import Preprocess
from fishnet.prediction.predictor import Predictor
from fishnet.prediction.results import Segmentation
from fishnet.recipes.loading import load_recipe, recipe_names
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import get_task
from fishnet.tasks.engine import TorchEngine
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.segmentation.report import SegmentationReport
from fishnet.tasks.store import load_model
from fishnet.training.history import read_history
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.marks import slow
from tests.segmentation_makers import KINDS, SIZE, mask_folder, save_mask, scene, scenes
from tests.training.runs import die_at_step, ended, falls, last, same_training, torchrun

COUNTS = {"train": 8, "val": 5}
IDS = (0, 7, 90)
HEADS = ("body", "fish", "fpn", "upernet", "deeplabv3plus", "segformer")


def small(*more: object) -> list[str]:
    """Flags that make a training take some seconds; flags given here win over them."""
    flags = {
        "--backbone": "fishnet_nano", "--size": 64, "--max-size": 96, "--batch-size": 4, "--workers": 0, "--epochs": 2,
        "--device": "cpu", "--decoder-channels": 32, "--warmup-epochs": 0.5, "--lr": 0.004, "--ema": 0,
    }  # fmt: skip
    words = [str(word) for word in more]
    if "--native" in words:
        del flags["--max-size"]
    kept = [str(word) for name, value in flags.items() if name not in words for word in (name, value)]
    return [*kept, "--quiet", *words]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed by a test. The first five of train's images are of all classes but the last, of ground."""
    return mask_folder(tmp_path_factory.mktemp("data") / "scenes", ids=IDS, **COUNTS)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained long enough to find what it was shown. Not to be changed by a test."""
    out = tmp_path_factory.mktemp("run") / "segment"
    assert main(["train", "segment", str(data), "--out", str(out), *small("--epochs", 25, "--ema", 0.9)]) == 0
    return out


def trains(run: Run, data: Path, out: Path, *flags: object) -> str:
    """One epoch, or what the flags say; gives what was printed."""
    words = flags if "--epochs" in flags else ("--epochs", 1, *flags)
    code, said, err = run("train", "segment", data, "--out", out, *small(*words))
    assert code == 0, err
    return said + err


# --- one training, and what can be done with it -----------------------------------------------------------------------


def test_bundle_says_what_it_is(trained: Path) -> None:
    bundle = read_bundle(trained)
    assert (bundle.task, bundle.head, bundle.backbone) == ("segment", "body", "fishnet_nano")
    assert bundle.classes == Classes(KINDS, IDS)
    assert (bundle.preprocess.fit, bundle.preprocess.size) == ("whole", (64, 96))
    assert bundle.head_args == {"width": 32, "norm": "batch", "edges": False, "auxiliary": False, "drop_rate": 0.0}
    assert bundle.thresholds == {}
    assert {"mIoU", "mAcc", "aAcc"} <= set(bundle.metrics)
    assert set(bundle.recipe) == set(keys_of("segment"))


def test_it_has_learnt(trained: Path) -> None:
    falls(trained)


def test_val_agrees_with_the_training(trained: Path, data: Path, run: Run, tmp_path: Path) -> None:
    """The training's own validation of the kept epoch, and `fishnet val`: all images have one size."""
    code, out, err = run("val", trained, data, "--json", "--out", tmp_path, "--device", "cpu")
    assert (code, err) == (0, "")
    found = json.loads(out)
    kept = read_bundle(trained).metrics
    for name in get_task("segment").logged_metrics:
        assert found["metrics"][name] == pytest.approx(kept[name], abs=0.01), name
    assert [row["class"] for row in found["per_class"]] == list(KINDS)
    assert [row["id"] for row in found["per_class"]] == list(IDS)
    assert np.mean([row["IoU"] for row in found["per_class"]]) == pytest.approx(found["metrics"]["mIoU"], abs=0.01)
    assert found["images"] == COUNTS["val"]


def untrained(**preprocess: Any) -> Predictor:
    torch.manual_seed(0)
    given = Preprocess(**{"size": (64, 96), "fit": "whole"} | preprocess)
    bundle = Bundle.single("segment", "fishnet_nano", Classes(KINDS, IDS), given, head="fish", head_args={"width": 16})
    model = Model.build(ModelSpec(bundle.backbone, bundle.heads))
    return Predictor(bundle, TorchEngine(bundle, model, "cpu"))


@pytest.mark.parametrize("fit", ["whole", "native"])
def test_val_computes_what_prediction_does(fit: str, tmp_path: Path) -> None:
    """Also of images of many sizes, however many are computed at once: none is padded to another's size."""
    sizes = [(96, 80), (80, 160), (200, 100), (96, 80), (33, 47)]
    for i, size in enumerate(sizes):
        shown = scene(i, size)
        (tmp_path / "images").mkdir(exist_ok=True)
        shown.image.save(tmp_path / "images" / f"{i}.png")
        save_mask(tmp_path / "masks" / f"{i}.png", np.asarray(IDS)[shown.labels], "index")
    (tmp_path / "classes.txt").write_text(
        "id,name\n" + "".join(f"{i},{name}\n" for i, name in zip(IDS, KINDS, strict=True))
    )
    predictor = untrained(fit=fit)
    right = everything = 0
    for i, size in enumerate(sizes):
        alone: Any = predictor.predict(tmp_path / "images" / f"{i}.png")
        assert alone.labels.shape == size[::-1]
        right += int((alone.labels == scene(i, size).labels).sum())
        everything += alone.labels.size
    found = evaluate(predictor, str(tmp_path), split="all", batch_size=4, workers=0)
    assert isinstance(found.report, SegmentationReport)
    # float32 in another order: a px between two classes may be of either
    assert found.metrics["aAcc"] == pytest.approx(100 * right / everything, abs=0.1)


def test_val_in_tiles_and_averaged(trained: Path, data: Path, run: Run, tmp_path: Path) -> None:
    """One tile that holds a whole image changes nothing; smaller ones, and averages over scales, do."""
    figures = []
    for flags in ([], ["--tile", 128], ["--tile", 64], ["--tta"]):
        code, out, err = run("val", trained, data, "--json", "--out", tmp_path, "--device", "cpu", *flags)
        assert (code, err) == (0, "")
        figures.append(json.loads(out)["metrics"])
    assert figures[1] == pytest.approx(figures[0], abs=0.01)
    for other in figures[2:]:
        assert other != figures[0]
        assert 0 <= other["mIoU"] <= 100


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"overlap": 0.3}, "overlap: needs tile, the side of the tiles"),
        ({"tile": 3}, "tile=3: must be a whole number, 32 or more"),
        ({"threshold": 0.5}, "threshold"),
        ({"max_detections": 10}, "max_detections"),
        ({"batch_size": 0}, "batch_size=0: must be 1 or more"),
    ],
)
def test_val_refuses_what_predict_refuses(option: dict[str, Any], words: str, data: Path) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(untrained(), str(data), workers=0, **option)


def test_predictions_come_back_with_the_datas_own_ids(trained: Path, data: Path, run: Run) -> None:
    images = sorted((data / "val" / "images").iterdir())
    code, out, err = run("predict", trained, *images, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == len(images)
    seen = set()
    for row in rows:
        assert row["size"] == [SIZE[1], SIZE[0]]
        assert sum(one["pixels"] for one in row["classes"]) == SIZE[0] * SIZE[1]
        seen |= {(one["id"], one["name"]) for one in row["classes"]}
    assert seen == set(zip(IDS, KINDS, strict=True))


def test_load_predicts_a_image_as_in_a_batch(trained: Path, data: Path) -> None:
    predictor = fishnet.load(trained, "cpu")
    images = [Image.open(path).convert("RGB") for path in sorted((data / "val" / "images").iterdir())]
    together: Any = predictor.predict(images)
    truths, right = [one.labels for one in scenes("val", COUNTS["val"])], []
    for image, one, truth in zip(images, together, truths, strict=True):
        alone: Any = predictor.predict(image)
        assert isinstance(alone, Segmentation)
        assert (alone.labels != one.labels).mean() < 0.001  # float32's sums depend on the batch
        right.append((alone.labels == truth).mean())
    assert np.mean(right) > 0.85


def test_info_and_dry_run_and_show(trained: Path, data: Path, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("info", trained)
    assert code == 0
    assert "segment" in out
    code, out, err = run("train", "segment", data, "--out", tmp_path / "out", "--dry-run", *small())
    assert code == 0, err
    assert "decoder_channels: 32" in out
    assert "estimated time" in out
    assert "mixup" not in out
    assert not (tmp_path / "out").exists()
    sheet = tmp_path / "sheet.png"
    code, out, err = run("data", "show", data, "--task", "segment", "--out", sheet, "--size", 64, "--count", 4)
    assert code == 0, err
    assert Image.open(sheet).size[0] > 200


@pytest.mark.parametrize(
    ("given", "size"),
    [((), (640, 700)), (("--size", 320), (320, 640)), (("--max-size", 800), (640, 800)), (("--native",), (640, 0))],
)
def test_a_bundle_brings_its_sizes_to_its_own_task(
    given: tuple[object, ...],
    size: tuple[int, int],
    data: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Preprocess((640, 700), fit="whole", sixteen_bit="shift")
    own = Bundle.single("segment", "fishnet_nano", Classes(KINDS, IDS), it)
    write_bundle(tmp_path / "own", own, lambda path: path.touch())
    asked: list[Recipe] = []

    def fit(task: str, data: str, recipe: Recipe, out: Path, **options: Any) -> None:
        asked.append(recipe)
        raise InputError("enough")

    monkeypatch.setattr("fishnet.training.fit.fit", fit)
    says(run("train", "segment", data, "--weights", tmp_path / "own", "--out", tmp_path / "out", *given), 2, "enough")
    assert (asked[0].size, asked[0].max_size, asked[0].sixteen_bit) == (*size, "shift")


# --- from other trainings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["body", "fish"])
def test_a_classifiers_trunk(head: str, bundle: Path, data: Path, run: Run, tmp_path: Path) -> None:
    """Its backbone is brought, its sizes are not; what is left out is said: with a body also the fish's head."""
    words = small("--epochs", 1, "--head", head, "--lr", 0)
    at = words.index("--backbone")
    rest = [*words[:at], *words[at + 2 :]]
    code, out, err = run("train", "segment", data, "--weights", bundle, "--out", tmp_path / "out", *rest)
    assert code == 0, err
    assert "weights from" in out
    body = "of the fish's head left out: this trunk ends with the body, it has no score layer"
    assert (body if head == "body" else "tensors of the score layer left out") in out
    assert read_bundle(tmp_path / "out").backbone == "fishnet_nano"
    started, own = (
        fishnet.load(place, "cpu").engine.model.trunk.backbone.state_dict() for place in (tmp_path / "out", bundle)
    )
    weights = [key for key in started if key.endswith("weight") and "score" not in key]
    assert weights
    assert all(torch.equal(started[key], own[key]) for key in weights)
    assert any(key.startswith("head.") for key in weights) == (head == "fish")


def test_a_segmenter_starts_another(trained: Path, data: Path, run: Run, tmp_path: Path) -> None:
    out = trains(run, data, tmp_path / "out", "--weights", trained, "--head", "body")
    count = sum(key.startswith("heads.") for key in load_model(trained)[1].state_dict())
    assert f"head: {count} of {count} tensors loaded" in out
    flags = small("--weights", trained, "--head", "fish")
    says(run("train", "segment", data, "--out", tmp_path / "other", *flags), 2, str(trained), "missing (head.0")


# --- resuming, and several processes --------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["body", pytest.param("upernet", marks=pytest.mark.slow)])
def test_killed_and_resumed_bit_for_bit(head: str, data: Path, tmp_path: Path) -> None:
    flags = small(
        "--head", head, "--photometric", 0.5, "--jitter", 0.5, 2, "--single-class", 0.8, "--ema", 0.9, "--epochs", 3,
        "--drop-rate", 0.1, "--auxiliary", 0.4, "--boundary", 0.5, "--class-weights", "median",
    )  # fmt: skip
    whole, part = tmp_path / "whole", tmp_path / "part"
    done = ended(["train", "segment", data, "--out", whole, *flags])
    assert done.code == 0, done.text
    words = ["train", "segment", data, "--out", part, *flags, "--checkpoint-steps", 1]
    assert ended(words, die_at_step, 3).code == -9
    done = ended(["train", "segment", data, "--resume", part, "--quiet"])
    assert done.code == 0, done.text
    same_training(whole, part)


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "head"), [("ddp", "upernet"), ("sharded", "body")])
def test_two_processes(strategy: str, head: str, data: Path, tmp_path: Path) -> None:
    """Two processes train on and measure every image once. Five val images are shared out as three and two."""
    out = tmp_path / "run"
    flags = small(
        "--epochs", 2, "--strategy", strategy, "--head", head, "--auxiliary", 0.4, "--threads", 1, "--log-steps", 1
    )
    done = torchrun(-1, tmp_path, "train", "segment", data, "--out", out, *flags, module="tests.training.watched")
    assert done.returncode == 0, done.stderr
    counts = [[int(n) for n in (tmp_path / f"{rank}.txt").read_text().split()] for rank in (0, 1)]
    assert [sum(pair) for pair in zip(*counts, strict=True)] == [COUNTS["val"]] * 2
    rows = read_history(out / "history.csv")
    assert all(np.isfinite(float(row["train/loss"])) for row in rows if row["train/loss"])
    kept = read_bundle(out)
    assert kept.task == "segment"
    found = evaluate(fishnet.load(out, "cpu"), str(data), workers=0)  # all images, in one process
    for name in get_task("segment").logged_metrics:
        assert kept.metrics[name] == pytest.approx(found.metrics[name], abs=0.01), name


@pytest.mark.slow
def test_a_process_without_a_readable_image_keeps_step(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", **COUNTS)
    for part, count in (("train", 5), ("val", 4)):
        for path in sorted((data / part / "images").iterdir())[:count]:
            path.write_bytes(b"no image")
    flags = small(
        "--epochs", 2, "--batch-size", 2, "--threads", 1, "--on-error", "skip", "--auxiliary", 0.4, "--strategy",
        "sharded",
    )  # fmt: skip
    done = torchrun("train", "segment", data, "--out", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    assert read_bundle(tmp_path / "run").metrics["aAcc"] >= 0


# --- every form, head, loss and recipe --------------------------------------------------------------------------------


FORMS: dict[str, Callable[[Path], Path]] = {
    "palette": lambda root: mask_folder(root, form="palette"),
    "colours": lambda root: mask_folder(root, form="colour"),
    "16 bits": lambda root: mask_folder(root, form="deep", ids=(0, 300, 40000)),
    "lists": lambda root: mask_folder(root, layout="lists"),
    "without parts": lambda root: mask_folder(root, layout="whole", train=6),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_trains(name: str, run: Run, tmp_path: Path) -> None:
    data = FORMS[name](tmp_path / "data")
    trains(run, data, tmp_path / "out")
    code, out, err = run("val", tmp_path / "out", data, "--json", "--device", "cpu", "--out", tmp_path / "val")
    assert code == 0, err
    assert json.loads(out)["images"] == (1 if name == "without parts" else 3)


@pytest.mark.parametrize("head", HEADS[1:])
def test_every_head_trains_and_is_kept(head: str, data: Path, run: Run, tmp_path: Path) -> None:
    assert get_task("segment").heads == HEADS
    trains(run, data, tmp_path / "out", "--head", head, "--auxiliary", 0.4, "--drop-rate", 0.1)
    bundle = read_bundle(tmp_path / "out")
    assert (bundle.head, bundle.head_args["auxiliary"], bundle.head_args["drop_rate"]) == (head, True, 0.1)
    result: Any = fishnet.load(tmp_path / "out", "cpu").predict(np.full((70, 96, 3), 90, np.uint8))
    assert isinstance(result, Segmentation)
    assert result.labels.shape == (70, 96)


@pytest.mark.parametrize(
    "flags",
    [
        ("--loss", "focal+0.5*lovasz"),
        ("--loss", "dice", "--boundary", 1),
        slow(("--class-weights", "balanced", "--label-smoothing", 0.1)),
        slow(("--edges",)),
        ("--native", "--crop-size", 64),
        ("--ignore", 90),
        ("--void", "leaf"),
        slow(("--precision", "bf16")),
        slow(("--head-norm", "group")),
        slow(("--head-norm", "none")),
        slow(("--trunk-norm", "frozen")),
        slow(("--trunk-norm", "group")),
        ("--freeze", "trunk"),
        slow(("--freeze", "stem,tail")),
        slow(("--grad-checkpointing",)),
        slow(("--layer-decay", 0.8)),
        slow(("--drop-path-rate", 0.1)),
        ("--channels", 1),
        ("--batch-size", 1),
        slow(("--batch-size", 1, "--head", "upernet", "--head-norm", "group")),
        ("--workers", 2, "--repeats", 2, "--accumulate", 2),
    ],
    ids=lambda flags: " ".join(map(str, flags)),
)
def test_settings_train(flags: tuple[object, ...], data: Path, run: Run, tmp_path: Path) -> None:
    trains(run, data, tmp_path / "out", *flags)
    code, out, err = run("val", tmp_path / "out", data, "--json", "--device", "cpu", "--out", tmp_path / "val")
    assert code == 0, err
    for name in get_task("segment").logged_metrics:  # also with what the training ignored, which its bundle knows
        wanted = read_bundle(tmp_path / "out").metrics[name]
        assert json.loads(out)["metrics"][name] == pytest.approx(wanted, abs=0.01), name  # in fp32 at any precision


def test_what_is_ignored_is_no_class(data: Path, run: Run, tmp_path: Path) -> None:
    for flags in (("--ignore", 90), ("--void", "leaf")):
        out = tmp_path / flags[0]
        said = trains(run, data, out, *flags)
        assert "2 classes" in said
        assert read_bundle(out).classes == Classes(KINDS[:2], IDS[:2])


def test_a_frozen_trunk_stays(data: Path, run: Run, tmp_path: Path) -> None:
    """Weights and running statistics; the decoder learns."""
    states = []
    for epochs in (1, 2):
        trains(run, data, tmp_path / str(epochs), "--freeze", "trunk", "--epochs", epochs, "--schedule", "constant")
        states.append(last(tmp_path / str(epochs))["state_dict"])
    changed = {key.split(".")[3] for key, value in states[0].items() if not torch.equal(value, states[1][key])}
    assert changed == {"decoder", "scores"}


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)])
def test_a_backbone_swap_is_one_flag(backbone: str, data: Path, run: Run, tmp_path: Path) -> None:
    trains(run, data, tmp_path / "out", "--head", "fpn", "--backbone", backbone)
    found: Any = fishnet.load(tmp_path / "out", "cpu").predict(np.zeros((50, 90, 3), np.uint8))
    assert found.labels.shape == (50, 90)


@pytest.mark.parametrize("name", ["small-data", "ade20k", "cityscapes"])
def test_recipes(name: str) -> None:
    assert name in recipe_names("segment")
    recipe, task = load_recipe("segment", name), get_task("segment")
    preprocess = task.preprocess(recipe, (0.5,) * 3, (0.2,) * 3)
    assert preprocess.fit == ("native" if name == "cityscapes" else "whole")
    transform: Any = task.train_transform(recipe, preprocess)
    assert transform.side == {"small-data": 320, "ade20k": 512, "cityscapes": 768}[name]
    if name != "small-data":
        assert (recipe.auxiliary, recipe.single_class, recipe.jitter) == (0.4, 0.75, (0.5, 2.0))


# --- what ends badly --------------------------------------------------------------------------------------------------


def test_nan_is_one_line_with_the_batch_kept(data: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    says(
        run("train", "segment", data, "--out", out, *small("--optimizer", "sgd", "--lr", 1e30, "--clip-grad", 0)),
        1, "the loss became nan", "try a lower lr",
    )  # fmt: skip
    kept = torch.load(out / "nan-batch.pt", weights_only=True)
    assert kept["targets"][0]["labels"].shape == (64, 64)


def _corrupt_image(data: Path) -> None:
    (data / "train" / "images" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")


def _corrupt_mask(data: Path) -> None:
    (data / "train" / "masks" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\n garbage")


def _cut_mask(data: Path) -> None:
    path = data / "train" / "masks" / "001.png"
    path.write_bytes(path.read_bytes()[:90])


def _wrong_size(data: Path) -> None:
    Image.new("L", (50, 40)).save(data / "train" / "masks" / "001.png")


def _unnamed_id(data: Path) -> None:
    Image.new("L", SIZE, 77).save(data / "train" / "masks" / "001.png")


BROKEN: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "image": (_corrupt_image, ("images/001.png",)),
    "mask": (_corrupt_mask, ("masks/001.png",)),
    "cut mask": (_cut_mask, ("masks/001.png",)),
    "size": (_wrong_size, ("001.png: is 96x80 px, but its mask 50x40", "masks/001.png")),
    "id": (_unnamed_id, ("masks/001.png", "77")),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("flags", [(), slow(("--class-weights", "median"))])
def test_a_broken_image(kind: str, flags: tuple[object, ...], run: Run, tmp_path: Path) -> None:
    """Says what and where and ends, or is left out and counted; also where all masks are read for the weights."""
    data = mask_folder(tmp_path / "data", **COUNTS)
    spoil, words = BROKEN[kind]
    spoil(data)
    says(
        run("train", "segment", data, "--out", tmp_path / "out", *small("--epochs", 1, *flags)),
        2, *words, "on_error=skip" if kind == "id" else "fix or remove it, or train with on_error=skip",
    )  # fmt: skip
    said = trains(run, data, tmp_path / "skipping", "--on-error", "skip", *flags)
    assert "1 images could not be read and were skipped" in said
    assert all(word in said for word in words)


def test_no_readable_image_at_all(run: Run, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    for path in (data / "train" / "masks").iterdir():
        path.write_bytes(b"nothing")
    flags = small("--on-error", "skip", "--class-weights", "balanced")
    says(
        run("train", "segment", data, "--out", tmp_path / "out", *flags), 2, "000.png", "not an image that can be read"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mixup", 0.2), ("Unknown option", "--mixup")),
        (("--head", "deeplab"), ("unknown head 'deeplab' for segment", "deeplabv3plus")),
        (("--head", "mask-rcnn"), ("unknown head 'mask-rcnn' for segment",)),
        (("--backbone", "resnet18"), ("head=body: needs a FishNet as backbone", "head=fpn")),
        (("--backbone", "vit_tiny_patch16_224", "--head", "fpn"), ("vit_tiny_patch16_224", "only one image size")),
        (("--head", "fpn", "--decoder-channels", 40), ("decoder_channels=40", "must be a multiple of 32")),
        (("--head", "upernet", "--batch-size", 1), ("batch_size=1: this head's batch norms", "head_norm=group")),
        (("--head", "deeplabv3plus", "--batch-size", 1), ("batch_size=1: this head's batch", "increase batch_size")),
        (("--loss", "cross-entropy+dise"), ("loss='cross-entropy+dise'", "did you mean dice")),
        (("--max-size", 32), ("max_size=32",)),
        (("--jitter", 2, 1), ("jitter",)),
        (("--single-class", 2), ("single_class=2",)),
        (("--crop-size", 8), ("crop_size=8: must be 0, or 32 or more",)),
        (("--ignore", -1), ("ignore=[-1]",)),
        (("--void", "sky"), ("sky",)),
        (("--freeze", "nose"), ("freeze=nose", "no module 'nose'")),
        (("--channels", 4), ("holds 3 channels, but the model takes 4",)),
    ],
    ids=lambda value: " ".join(map(str, value)) if value and str(value[0]).startswith("--") else "",
)
def test_wrong_settings(
    flags: tuple[object, ...], words: tuple[str, ...], data: Path, run: Run, tmp_path: Path
) -> None:
    says(run("train", "segment", data, "--out", tmp_path / "out", *small(*flags)), 2, *words)


def test_a_recipes_key_of_another_task(data: Path, run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("nms: 0.2\n")
    says(
        run("train", "segment", data, "--recipe", recipe, "--out", tmp_path / "out"),
        2, "nms_iou", "detect and instances", "not for segment",
    )  # fmt: skip
