"""Detection with the training engine of all tasks: trained, killed, resumed, shared out, evaluated, used."""

import json
from collections.abc import Callable
from dataclasses import dataclass
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
from fishnet.prediction.results import Detections
from fishnet.recipes.loading import load_recipe, recipe_names
from fishnet.recipes.recipe import Recipe, keys_of
from fishnet.tasks import get_task
from fishnet.tasks.detection.report import DetectionReport
from fishnet.tasks.engine import TorchEngine
from fishnet.tasks.model import Model, ModelSpec
from fishnet.tasks.store import load_model
from fishnet.training.history import read_history
from fishnet.training.module import TrainingModule
from tests.cli.test_bad_input import says
from tests.conftest import Run
from tests.detection_makers import (
    KINDS,
    SIZE,
    coco_dict,
    coco_folder,
    mask_folder,
    scene,
    scenes,
    voc_folder,
    write_json,
    yolo_folder,
)
from tests.marks import slow
from tests.training.runs import die_at_step, ended, falls, last, same_training, spied, torchrun

TASKS = ("detect", "instances")
DRAWING = [("detect", "default"), ("instances", "default"), ("instances", "htc")]
"""Heads that draw their training samples in different ways."""
COUNTS = {"train": 8, "val": 5}
IDS = (3, 7, 11)


def small(*more: object) -> list[str]:
    """Flags that make a training take some seconds; flags given here win over them."""
    flags = {
        "--backbone": "fishnet_nano", "--size": 64, "--max-size": 96, "--batch-size": 4, "--workers": 0, "--epochs": 2,
        "--device": "cpu", "--fpn-channels": 32, "--box-width": 32, "--proposals": 60, "--roi-samples": 32,
        "--warmup-epochs": 0.5, "--lr": 0.002, "--ema": 0,
    }  # fmt: skip
    words = [str(word) for word in more]
    kept = [str(word) for name, value in flags.items() if name not in words for word in (name, value)]
    return [*kept, "--quiet", *words]


@dataclass(frozen=True)
class Trained:
    """A training and its data. Not to be changed by a test."""

    task: str
    data: Path
    out: Path


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_folder(tmp_path_factory.mktemp("data") / "coco", ids=IDS, **COUNTS)


@pytest.fixture(scope="module", params=TASKS)
def trained(request: pytest.FixtureRequest, coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trained for some time on images of which every fifth has no objects; it gives detections of any score."""
    out = tmp_path_factory.mktemp("run") / request.param
    flags = small(
        "--epochs", 16, "--ema", 0.9, "--score-threshold", 0, *(["--mask-width", 32] if out.name == "instances" else [])
    )
    assert main(["train", request.param, str(coco), "--out", str(out), *flags]) == 0
    return Trained(request.param, coco, out)


# --- one training, and what can be done with it -----------------------------------------------------------------------


def test_bundle_says_what_it_is(trained: Trained) -> None:
    bundle = read_bundle(trained.out)
    assert bundle.task == trained.task
    assert bundle.head == get_task(trained.task).heads[0]
    assert bundle.classes == Classes(KINDS, IDS)
    assert bundle.preprocess.fit == "whole"
    assert bundle.preprocess.size == (64, 96)
    assert bundle.thresholds == {"score": 0.5}
    assert bundle.head_args["anchors"]["sizes"]  # small-data fits them to the boxes
    assert ("mask_AP" in bundle.metrics) == (trained.task == "instances")
    falls(trained.out)
    assert set(bundle.recipe) == set(keys_of(trained.task))


def test_val_agrees_with_the_training(trained: Trained, run: Run, tmp_path: Path) -> None:
    """The training's own validation of the kept epoch, and `fishnet val`: all images have one size."""
    code, out, err = run("val", trained.out, trained.data, "--json", "--out", tmp_path, "--device", "cpu")
    assert (code, err) == (0, "")
    found = json.loads(out)
    kept = read_bundle(trained.out).metrics
    for name in get_task(trained.task).logged_metrics:
        assert found["metrics"][name] == pytest.approx(kept[name], abs=0.01), name
    assert {"AP", "AP50", "AP75", "AR100", "F1"} <= set(found["metrics"])
    assert [row["class"] for row in found["per_class"]] == list(KINDS)
    assert [row["id"] for row in found["per_class"]] == list(IDS)
    assert (tmp_path / "precision_recall.png").is_file()
    assert found["images"] == COUNTS["val"]


def test_val_computes_what_prediction_does(tmp_path: Path) -> None:
    """Also of images of many sizes, however many are computed at once: none is padded to another's size."""
    shown = [scene(i, size) for i, size in enumerate([(96, 80), (80, 160), (200, 100), (96, 80)])]
    names = [f"{i}.png" for i in range(len(shown))]
    data = write_json(tmp_path / "objects.json", coco_dict(shown, names))
    for one, name in zip(shown, names, strict=True):
        one.image.save(tmp_path / name)
    predictor = untrained()
    found = evaluate(predictor, str(data), split="all", batch_size=4, workers=0).report
    assert isinstance(found, DetectionReport)
    for pair, name in zip(found.pairs, names, strict=True):
        alone: Any = predictor.predict(tmp_path / name)
        np.testing.assert_allclose(pair.detections.boxes, alone.boxes, atol=1e-3)  # px; float32 in another order
        np.testing.assert_allclose(pair.detections.scores, alone.scores, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"overlap": 0.3}, "overlap: needs tile, the side of the tiles"),
        ({"tile": 3}, "tile=3: must be a whole number, 32 or more"),
        ({"threshold": 7.0}, "threshold=7.0: must be a number, 0 to 1"),
        ({"max_detections": 0}, "max_detections=0: must be a whole number, 1 or more"),
        ({"batch_size": 0}, "batch_size=0: must be 1 or more"),
    ],
)
def test_val_refuses_what_predict_refuses(option: dict[str, Any], words: str, coco: Path) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(untrained(), str(coco), workers=0, **option)


def untrained() -> Predictor:
    torch.manual_seed(0)
    head = {"width": 16, "box_width": 16, "proposals": 20, "score_threshold": 0.0}
    preprocess = Preprocess((64, 96), fit="whole")
    bundle = Bundle.single("detect", "fishnet_nano", Classes(KINDS, IDS), preprocess, head_args=head)
    model = Model.build(ModelSpec(bundle.backbone, bundle.heads))
    return Predictor(bundle, TorchEngine(bundle, model, "cpu"))


def test_val_says_what_it_does_not_count(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=1, val=1)
    path = data / "Annotations" / "val_000.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    count = len(scenes("val", 1)[0].labels)
    ignored, used = (evaluate(untrained(), str(data), workers=0, difficult=difficult) for difficult in (None, "use"))  # type: ignore[arg-type]
    assert sum(row["objects"] for row in ignored.to_dict()["per_class"]) == count - 1
    assert sum(row["objects"] for row in used.to_dict()["per_class"]) == count
    assert used.warnings == ()
    assert len(ignored.warnings) == 1
    assert f"1 of {count} objects are marked difficult: neither trained on nor counted" in ignored.warnings[0]
    assert ignored.to_dict()["warnings"] == list(ignored.warnings)


def test_val_in_tiles(trained: Trained, run: Run, tmp_path: Path) -> None:
    """One tile that holds a whole image changes nothing; smaller ones do."""
    figures = []
    for tile in ([], ["--tile", 128], ["--tile", 64]):
        code, out, err = run("val", trained.out, trained.data, "--json", "--out", tmp_path, "--device", "cpu", *tile)
        assert (code, err) == (0, "")
        figures.append(json.loads(out)["metrics"])
    assert figures[1] == pytest.approx(figures[0], abs=0.01)
    assert figures[2] != figures[0]


def test_predictions_come_back_with_the_datas_own_ids(trained: Trained, run: Run) -> None:
    images = sorted((trained.data / "val2017").iterdir())
    code, out, err = run("predict", trained.out, *images, "--json", "--device", "cpu", "--threshold", 0)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    objects = [one for row in rows for one in row["objects"]]
    assert len(rows) == len(images)
    assert objects
    for one in objects:
        assert (one["id"], one["name"]) in zip(IDS, KINDS, strict=True)
        assert 0 <= one["score"] <= 1
        left, top, right, bottom = one["box"]
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        assert ("segmentation" in one) == (trained.task == "instances")


def test_load_predicts_a_image_as_in_a_batch(trained: Trained) -> None:
    predictor = fishnet.load(trained.out, "cpu")
    images = [Image.open(path).convert("RGB") for path in sorted((trained.data / "val2017").iterdir())]
    together: Any = predictor.predict(images, threshold=0.05)
    for image, one in zip(images, together, strict=True):
        alone: Any = predictor.predict(image, threshold=0.05)
        assert isinstance(alone, Detections)
        # float32's sums depend on the batch; a score near the threshold may fall on either side of it
        near = min(len(alone.scores), len(one.scores), 5)
        assert np.allclose(alone.scores[:near], one.scores[:near], atol=1e-3)
    default: Any = predictor.predict(images[0])
    assert (default.scores >= 0.5).all()


def test_info_and_dry_run_and_show(trained: Trained, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("info", trained.out)
    assert code == 0
    assert trained.task in out
    code, out, err = run("train", trained.task, trained.data, "--dry-run", *small())
    assert code == 0, err
    assert "head_norm: group" in out
    assert "mixup" not in out
    assert "estimated time" in out
    sheet = tmp_path / "sheet.png"
    code, out, err = run(
        "data", "show", trained.data, "--task", trained.task, "--out", sheet, "--size", 64, "--max-size", 96,
        "--count", 4, "--mosaic", 0.5,
    )  # fmt: skip
    assert code == 0, err
    assert Image.open(sheet).size[0] > 200


def test_weights_of_a_bundle_start_another_task(trained: Trained, run: Run, tmp_path: Path) -> None:
    other = "instances" if trained.task == "detect" else "detect"
    code, out, err = run(
        "train", other, trained.data, "--weights", trained.out, "--out", tmp_path / "out", *small("--epochs", 1)
    )
    assert code == 0, err
    assert "tensors of a task head left out" in out


@pytest.mark.parametrize(
    ("given", "size"), [((), (640, 700)), (("--size", 320), (320, 448)), (("--max-size", 800), (640, 800))]
)
def test_a_bundle_brings_its_sizes_to_its_own_task(
    given: tuple[object, ...],
    size: tuple[int, int],
    coco: Path,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the recipe, 320 and 448 px, would not go with one of them."""
    it = Preprocess((640, 700), fit="whole", sixteen_bit="shift")
    write_bundle(
        tmp_path / "own", Bundle.single("detect", "fishnet_nano", Classes(KINDS, IDS), it), lambda path: path.touch()
    )
    asked: list[Recipe] = []

    def fit(task: str, data: str, recipe: Recipe, out: Path, **options: Any) -> None:
        asked.append(recipe)
        raise InputError("enough")

    monkeypatch.setattr("fishnet.training.fit.fit", fit)
    says(run("train", "detect", coco, "--weights", tmp_path / "own", "--out", tmp_path / "out", *given), 2, "enough")
    assert (asked[0].size, asked[0].max_size, asked[0].sixteen_bit) == (*size, "shift")


# --- from an image classifier ---------------------------------------------------------------------------------------


def test_a_classifiers_trunk(bundle: Path, coco: Path, run: Run, tmp_path: Path) -> None:
    """Its backbone is brought, its sizes are not; what is left out is said."""
    words = small("--epochs", 1)
    at = words.index("--backbone")
    code, out, err = run(
        "train", "detect", coco, "--weights", bundle, "--out", tmp_path / "out", *words[:at], *words[at + 2 :]
    )
    assert code == 0, err
    assert "weights from" in out
    assert "score layer left out" in out
    assert read_bundle(tmp_path / "out").backbone == "fishnet_nano"


# --- resuming, and several processes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "head"),
    [case if case == ("instances", "default") else slow(*case) for case in DRAWING],
)
def test_killed_and_resumed_bit_for_bit(task: str, head: str, coco: Path, run: Run, tmp_path: Path) -> None:
    flags = small("--head", head, "--mosaic", 0.5, "--photometric", 0.5, "--crop", 0.3, "--ema", 0.9, "--epochs", 3)
    whole, part = tmp_path / "whole", tmp_path / "part"
    done = ended(["train", task, coco, "--out", whole, *flags])
    assert done.code == 0, done.text
    words = ["train", task, coco, "--out", part, *flags, "--checkpoint-steps", 1]
    assert ended(words, die_at_step, 3).code == -9
    done = ended(["train", task, coco, "--resume", part, "--quiet"])
    assert done.code == 0, done.text
    same_training(whole, part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "head", "strategy"),
    [("instances", "htc", "ddp"), ("detect", "default", "sharded")],
)
def test_two_processes(task: str, head: str, strategy: str, coco: Path, tmp_path: Path) -> None:
    """Two processes train on and measure every image once. The losses are not those of one process: the second stage
    draws its proposals by process. Five val images are shared out as three and two."""
    out = tmp_path / "run"
    flags = small("--head", head, "--epochs", 2, "--strategy", strategy, "--threads", 1, "--log-steps", 1)
    done = torchrun(-1, tmp_path, "train", task, coco, "--out", out, *flags, module="tests.training.watched")
    assert done.returncode == 0, done.stderr
    counts = [[int(n) for n in (tmp_path / f"{rank}.txt").read_text().split()] for rank in (0, 1)]
    assert [sum(pair) for pair in zip(*counts, strict=True)] == [COUNTS["val"]] * 2
    rows = read_history(out / "history.csv")
    assert all(np.isfinite(float(row["train/loss"])) for row in rows if row["train/loss"])
    assert read_bundle(out).task == task
    assert fishnet.load(out, "cpu").predict(np.zeros((80, 96, 3), np.uint8)) is not None


@pytest.mark.slow
def test_a_process_without_a_readable_image_keeps_step(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "coco", **COUNTS)
    for path in sorted((data / "train2017").iterdir())[:5]:
        path.write_bytes(b"no image")
    flags = small(
        "--head", "htc", "--epochs", 2, "--batch-size", 2, "--threads", 1, "--on-error", "skip", "--mosaic", 0
    )
    done = torchrun("train", "instances", data, "--out", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr


# --- every format, head and recipe ------------------------------------------------------------------------------------


FORMATS: dict[str, Callable[[Path], Path]] = {
    "coco-file": lambda root: coco_folder(root, layout="file", train=6),
    "roboflow": lambda root: coco_folder(root, layout="roboflow"),
    "rle": lambda root: coco_folder(root, form="compressed", ids=(0, 5, 90)),
    "voc": lambda root: voc_folder(root, masks=True),
    "yolo": lambda root: yolo_folder(root, polygons=True),
    "masks": lambda root: mask_folder(root, depth=16),
}


@pytest.mark.parametrize("task", [slow("detect"), "instances"])
@pytest.mark.parametrize(
    "name",
    [name if name in ("voc", "yolo", "masks") else slow(name) for name in FORMATS],
)
def test_every_format_trains(name: str, task: str, run: Run, tmp_path: Path) -> None:
    data = FORMATS[name](tmp_path / "data")
    code, _, err = run("train", task, data, "--out", tmp_path / "out", *small("--epochs", 1))
    assert code == 0, err
    code, out, err = run("val", tmp_path / "out", data, "--json", "--device", "cpu", "--out", tmp_path / "val")
    assert code == 0, err
    assert json.loads(out)["images"] > 0


HEADS = [
    slow(task, head) if task == "instances" and head != "htc" else (task, head)
    for task in TASKS
    for head in get_task(task).heads[1:]
]


@pytest.mark.parametrize(("task", "head"), HEADS)
def test_every_head_trains_and_is_kept(task: str, head: str, coco: Path, run: Run, tmp_path: Path) -> None:
    flags = small("--epochs", 1, "--head", head, "--fpn-channels", 64)
    code, _, err = run("train", task, coco, "--out", tmp_path / "out", *flags)
    assert code == 0, err
    assert read_bundle(tmp_path / "out").head == head
    predictor = fishnet.load(tmp_path / "out", "cpu")
    result: Any = predictor.predict(np.full((80, 96, 3), 90, np.uint8), threshold=0.0)
    assert isinstance(result, Detections)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["coco-1x", "coco-modern", "small-data"])
def test_recipes(task: str, name: str) -> None:
    assert name in recipe_names(task)
    recipe = load_recipe(task, name)
    assert isinstance(recipe, Recipe)
    if name == "coco-1x":
        assert (recipe.batch_size, recipe.optimizer, recipe.clip_grad) == (16, "momentum", 5)
        assert recipe.warmup_epochs > 0
    model = Model.build(ModelSpec.single(task, "fishnet_nano", Classes.of(("a",))))
    assert model.trunk.levels


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)])
def test_a_backbone_swap_is_one_flag(backbone: str, coco: Path, run: Run, tmp_path: Path) -> None:
    code, _, err = run(
        "train", "detect", coco, "--out", tmp_path / "out", *small("--epochs", 1, "--backbone", backbone)
    )
    assert code == 0, err
    assert isinstance(fishnet.load(tmp_path / "out", "cpu").predict(np.zeros((50, 90, 3), np.uint8)), Detections)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("norm", ["frozen", "group"])
def test_norms_of_the_trunk(task: str, norm: str, coco: Path, run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", task, coco, "--out", tmp_path / "out", *small("--epochs", 1, "--trunk-norm", norm))
    assert code == 0, err
    assert fishnet.load(tmp_path / "out", "cpu").bundle.backbone_args == (
        {"norm_layer": "groupnorm"} if norm == "group" else {}
    )


@pytest.mark.parametrize("task", TASKS)
def test_mixed_precision(task: str, coco: Path, run: Run, tmp_path: Path) -> None:
    code, _, err = run("train", task, coco, "--out", tmp_path / "out", *small("--epochs", 1, "--precision", "bf16"))
    assert code == 0, err
    assert get_task(task).monitor in read_bundle(tmp_path / "out").metrics


def test_grey_images(tmp_path: Path, run: Run) -> None:
    data = mask_folder(tmp_path / "data")
    code, _, err = run("train", "detect", data, "--out", tmp_path / "out", *small("--epochs", 1, "--channels", 1))
    assert code == 0, err
    assert read_bundle(tmp_path / "out").preprocess.channels == 1


# --- what ends badly --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_nan_is_one_line_with_the_batch_kept(task: str, coco: Path, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    says(
        run("train", task, coco, "--out", out, *small("--optimizer", "sgd", "--lr", 1e30, "--clip-grad", 0)),
        1, "the loss became nan", "try a lower lr",
    )  # fmt: skip
    kept = torch.load(out / "nan-batch.pt", weights_only=True)
    assert {"boxes", "labels", "crowd"} <= set(kept["targets"][0])


@pytest.mark.parametrize("task", TASKS)
def test_batches_whose_boxes_are_all_empty_train(task: str, run: Run, tmp_path: Path) -> None:
    """Every annotated box has no area: nothing to find, which is said of the data by `data check`, and trains."""
    data = coco_folder(tmp_path / "coco", **COUNTS)
    file = data / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    for row in content["annotations"]:
        row["bbox"][2] = 0
    file.write_text(json.dumps(content))
    code, _, err = run("train", task, data, "--out", tmp_path / "out", *small("--epochs", 1, "--anchors", "default"))
    assert code == 0, err
    says(
        run("train", task, data, "--out", tmp_path / "other", *small("--anchors", "auto")),
        2,
        "anchors=auto",
        "no objects",
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mixup", 0.2), ("Unknown option", "--mixup")),
        (("--head", "mask-rcn"), ("unknown head 'mask-rcn' for detect", "faster-rcnn")),
        (("--mosaic", 0.5, "--no-canvas"), ("mosaic", "canvas")),
        (("--max-size", 32), ("max_size=32",)),
        (("--backbone", "vit_tiny_patch16_224"), ("vit_tiny_patch16_224", "only one image size")),
        (("--backbone", "hiera_tiny_224"), ("hiera_tiny_224", "only one image size")),
        (("--jitter", 2, 1), ("jitter",)),
        (("--schedule", "milestones", "--milestones", 3, 2), ("milestones",)),
    ],
)
def test_wrong_settings(
    flags: tuple[object, ...], words: tuple[str, ...], coco: Path, run: Run, tmp_path: Path
) -> None:
    says(run("train", "detect", coco, "--out", tmp_path / "out", *small(*flags)), 2, *words)


def test_a_recipes_key_of_another_task(coco: Path, run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("mixup: 0.2\n")
    says(
        run("train", "detect", coco, "--recipe", recipe, "--out", tmp_path / "out"),
        2,
        "mixup",
        "classify",
        "not for detect",
    )


def test_milestones_divide_the_rate_at_their_epochs(coco: Path, tmp_path: Path) -> None:
    """Exactly at an epoch's first update, whatever the warm-up."""
    rates: list[tuple[int, float]] = []
    step = TrainingModule.training_step

    def watched(self: TrainingModule, batch: Any, batch_idx: int) -> Any:
        rates.append((self.current_epoch, self.trainer.optimizers[0].param_groups[0]["lr"]))
        return step(self, batch, batch_idx)

    TrainingModule.training_step = watched  # type: ignore[method-assign]
    try:
        flags = small(
            "--epochs", 5, "--schedule", "milestones", "--milestones", 2, 4, "--warmup-epochs", 0.5, "--lr", 0.001,
            "--optimizer", "sgd",
        )  # fmt: skip
        assert main(["train", "detect", str(coco), "--out", str(tmp_path / "out"), *flags]) == 0
    finally:
        TrainingModule.training_step = step  # type: ignore[method-assign]
    after = [(epoch, rate) for epoch, rate in rates if epoch > 0]
    wanted = {1: 1e-3, 2: 1e-4, 3: 1e-4, 4: 1e-5}
    assert all(rate == pytest.approx(wanted[epoch]) for epoch, rate in after)
    assert last(tmp_path / "out")["position"]["epoch"] == 5


def test_a_pretrained_trunk_arrives(bundle: Path, coco: Path, run: Run, tmp_path: Path) -> None:
    """Its tensors are in the detector before the first step. Whether they help, benchmarks/pretrained.py measures."""
    pretrained, seen = load_model(bundle)[1].state_dict(), dict[str, torch.Tensor]()

    def look(self: TrainingModule, *_: Any) -> None:
        if not seen:
            seen.update({key: value.clone() for key, value in self.model.state_dict().items()})

    with spied(TrainingModule, "on_train_start", look):
        words = small("--epochs", 1, "--weights", bundle)
        code, _, err = run("train", "detect", coco, "--out", tmp_path / "out", *words)
    assert code == 0, err
    trunk = {key: value for key, value in seen.items() if key.startswith("trunk.")}
    assert trunk
    for key, value in trunk.items():
        assert torch.equal(value, pretrained[key]), key
