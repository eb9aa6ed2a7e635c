"""Training things and stuff on one trunk: its metric is that of the predictions, and it resumes bit for bit."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import fishnet
from fishnet.bundle.bundle import read_bundle
from fishnet.data.panoptic.open import open_panoptic
from fishnet.errors import InputError
from fishnet.prediction.results.scene import Scene
from fishnet.tasks.joint_parts import JointOutputs
from fishnet.tasks.panoptic.metrics import PanopticQuality, Segments
from fishnet.tasks.panoptic.task import Panoptic
from fishnet.training.history import read_history
from fishnet.training.module import TrainingModule
from tests.panoptic_makers import cityscapes_panoptic, coco_panoptic, object_pairs
from tests.training.runs import die_at_step, ended, events, last, same_training, spied

SMALL: dict[str, Any] = {
    "backbone": "fishnet_nano", "size": 64, "max_size": 96, "epochs": 2, "batch_size": 2, "workers": 0, "device": "cpu",
    "threads": 1, "fpn_channels": 16, "box_width": 16, "mask_width": 16, "decoder_channels": 16, "proposals": 20,
    "roi_samples": 16,
}  # fmt: skip
MAKERS = {"coco": coco_panoptic, "cityscapes": cityscapes_panoptic, "pairs": object_pairs}


def words(values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def trained(data: Path, out: Path, **settings: Any) -> dict[str, float]:
    given = {**SMALL, **settings}
    return fishnet.train("panoptic", data, out=out, quiet=True, log=lambda line: None, **given).metrics


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images to train on, three to validate. Not to be changed by a test."""
    return coco_panoptic(tmp_path_factory.mktemp("data") / "coco", crowd=True)


def measured(bundle: Path, data: Path) -> tuple[dict[str, float], int]:
    """Panoptic quality of ``predict`` on the validation images, and the number of predicted things."""
    split = open_panoptic(str(data), 3, val_fraction=0.15, seed=0)["val"]
    predictor = fishnet.load(bundle, "cpu")
    quality = PanopticQuality(split.segments)
    for index in range(len(split)):
        scene = predictor.predict(split.source(index))
        assert isinstance(scene, Scene)
        assert scene.panoptic is not None
        quality.update(Segments.of_result(scene.panoptic), Segments.of_truth(split.truth(index)))
    things = sum(row["matches"] + row["false_positives"] for row in quality.rows() if row["is_thing"])
    return {name: 100 * value for name, value in quality.compute().items()}, things


def sure(module: TrainingModule) -> None:
    """Lets a model find the first stuff everywhere, and a thing in each proposal: something to count."""
    heads = module.eval_model.heads
    with torch.no_grad():
        scores = heads["segment"].scores
        scores.weight.zero_()
        scores.bias.copy_(5.0 * (torch.arange(len(scores.bias)) == 1))
        bias = heads["instances"].roi_heads.box_predictor.cls_score.bias
        bias.copy_(6.0 * (torch.arange(len(bias)) == 1))


@pytest.mark.parametrize("name", MAKERS)
def test_the_quality_of_training_is_that_of_the_predictions(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data")
    with spied(TrainingModule, "on_validation_epoch_start", sure):
        metrics = trained(data, tmp_path / "run", max_detections=1, stuff_area=16)  # leaves most of the ground
    bundle = read_bundle(tmp_path / "run")
    assert bundle.panoptic is not None
    assert bundle.panoptic.stuff_area == 16
    expected, things = measured(tmp_path / "run", data)
    assert expected.keys() <= metrics.keys()
    for metric, value in expected.items():
        assert metrics[metric] == pytest.approx(value, abs=1e-3), metric
    assert metrics["PQ_st"] > 0, "ground covers most of the images"
    assert things > 0, "things are merged, too"
    best = max(float(row["val/PQ"]) for row in read_history(tmp_path / "run" / "history.csv") if row["val/PQ"])
    assert bundle.metrics["PQ"] == pytest.approx(best, abs=1e-3)


def test_the_bundle_has_both_heads_and_the_segments_classes(data: Path, tmp_path: Path) -> None:
    trained(data, tmp_path / "run", epochs=1, batch_size=3)
    bundle = read_bundle(tmp_path / "run")
    assert {name: head.classes.names for name, head in bundle.heads.items()} == {
        "instances": ("berry",), "segment": ("things", "ground", "leaf"),
    }  # fmt: skip
    assert bundle.panoptic is not None
    assert {one.name: (one.id, one.is_thing) for one in bundle.panoptic.segments} == {
        "ground": (7, False), "berry": (3, True), "leaf": (9, False),
    }  # fmt: skip
    assert {name for name in bundle.metrics if "/" not in name} >= {"PQ", "SQ", "RQ", "PQ_st", "loss"}
    assert {"instances/mask_AP", "segment/mIoU"} <= set(bundle.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mask-rcnn", "htc"])
def test_killed_within_an_epoch_it_goes_on_bit_for_bit(head: str, data: Path, tmp_path: Path) -> None:
    flags = [*words(SMALL), "--head", head, "--checkpoint-steps", 1, "--log-steps", 1]
    whole, out = tmp_path / "whole", tmp_path / "run"
    done = ended(["train", "panoptic", data, "--out", whole, "--quiet", *flags])
    assert done.code == 0, done.text
    done = ended(["train", "panoptic", data, "--out", out, "--quiet", *flags], die_at_step, 4)
    assert done.code == -signal.SIGKILL, done.text
    assert last(out)["position"] == {"epoch": 1, "batches": 1, "step": 4}
    done = ended(["train", "panoptic", "--resume", out, "--quiet"])
    assert done.code == 0, done.text
    same_training(whole, out)
    assert events(out) == events(whole)


@pytest.mark.parametrize("head", ["mask-rcnn", "htc"])
def test_the_things_head_is_given_the_label_maps(head: str, data: Path, tmp_path: Path) -> None:
    """A hybrid task cascade learns them in its semantic branch, with one class more than it has things."""
    seen: list[tuple[Any, Any]] = []

    run = Panoptic.run

    def noted(self: Panoptic, *arguments: Any) -> JointOutputs:
        outputs = run(self, *arguments)
        seen.append((outputs.targets["instances"], outputs.targets["segment"]))
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Panoptic, "run", noted)
        trained(data, tmp_path / "run", head=head, epochs=1, batch_size=3)
    assert seen
    for things, maps in seen:
        for thing, labels in zip(things, maps, strict=True):
            assert torch.equal(thing.labels_map, labels.labels)
    config = read_bundle(tmp_path / "run").heads["instances"]
    assert config.head == head
    assert config.head_args.get("semantic_classes") == (3 if head == "htc" else None)


@pytest.mark.parametrize("monitor", ["PQ_st", "segment/mIoU"])
def test_another_monitor(monitor: str, data: Path, tmp_path: Path) -> None:
    metrics = trained(data, tmp_path / "run", monitor=monitor, batch_size=3)
    best = max(
        float(row[f"val/{monitor}"])
        for row in read_history(tmp_path / "run" / "history.csv")
        if row.get(f"val/{monitor}")
    )
    assert metrics[monitor] == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("monitor", ["instances/mIoU", "segment/PQ"])
def test_a_monitor_that_no_head_measures(monitor: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"monitor={monitor}: .* has no metric"):
        trained(data, tmp_path / "run", monitor=monitor)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_monitor_without_anything_to_measure(tmp_path: Path) -> None:
    """No validation image has a thing, and none is found."""
    data = object_pairs(tmp_path / "data")
    path = data / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(InputError, match="monitor=PQ_th: cannot be measured on the validation images"):
        trained(data, tmp_path / "run", monitor="PQ_th")


@pytest.mark.parametrize("given", [{"instances": "a", "segment": "b"}, None])
def test_one_dataset(given: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        fishnet.train("panoptic", given, out=tmp_path / "run", quiet=True)


def test_a_dry_run(data: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    fishnet.train("panoptic", data, out=tmp_path / "run", dry_run=True, log=lines.append, **SMALL)
    assert not (tmp_path / "run").exists()
    file = tmp_path / "again.yaml"
    file.write_text("\n".join(lines))
    again: list[str] = []
    fishnet.train("panoptic", recipe=file, out=tmp_path / "run", dry_run=True, log=again.append)
    settings = [[line for line in each if not line.startswith("#")] for each in (lines, again)]
    assert settings[0] == settings[1]
