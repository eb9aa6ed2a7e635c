"""COCO's metrics against pycocotools, and the metric that training and validation use."""

import copy
import json
import logging
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torchmetrics import MetricCollection

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionTarget
from fishnet.data.detection.files import open_splits
from fishnet.data.detection.objects import Objects
from fishnet.data.detection.voc import VocDetection, find_voc
from fishnet.errors import WorkError
from fishnet.prediction.results import Detections
from fishnet.tasks.detection.metrics import CocoTable, DetectionMetric, EvaluationPair, coco_table, evaluate_pairs
from tests.tasks.detection.simulated import (
    SimulatedDataset,
    as_batch,
    by_pycocotools,
    simulated,
    without_detections,
    without_objects,
)

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # pycocotools' order


def same(table: CocoTable, judge: Any) -> None:
    """Every number within 1e-6; both compute in float64, from the same float32 boxes."""
    for ours, theirs in (
        (table.precision, judge.eval["precision"][..., 2]),
        (table.recall, judge.eval["recall"]),
        (table.scores, judge.eval["scores"][..., 0, 2]),
    ):
        np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs, rtol=0, atol=1e-6)
    expected = {name: value for name, value in zip(NAMES, judge.stats.tolist(), strict=True) if value > -1}
    assert list(table.metrics()) == list(expected)
    assert table.metrics() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_pycocotools(seed: int, coarse: bool, kind: Any) -> None:
    dataset = simulated(seed, masks=kind == "mask", coarse=coarse)
    assert any(truth.crowd.any() for truth in dataset.truths)
    assert not all(len(truth) for truth in dataset.truths)
    assert not all(len(detections.boxes) for detections in dataset.detections)
    table = coco_table(dataset.truths, dataset.detections, dataset.classes, kind)
    same(table, by_pycocotools(dataset, kind))
    assert 0.02 < table.metrics()["AP50"] < 0.95  # or there would be nothing to compare


def test_equal_beyond_a_hundred_detections_of_a_class() -> None:
    dataset = simulated(7, images=4, classes=2, max_detections=260)
    assert max(len(detections.boxes) for detections in dataset.detections) > 200
    same(coco_table(dataset.truths, dataset.detections, dataset.classes, "box"), by_pycocotools(dataset, "box"))


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("part", ["nothing found", "one image", "one class", "crowds alone"])
def test_equal_at_the_edges(part: str, kind: Any) -> None:
    dataset = simulated(3, classes=1 if part == "one class" else 3, masks=True)
    if part == "nothing found":
        dataset = without_detections(dataset)
    elif part == "one image":
        dataset = SimulatedDataset(dataset.truths[:1], dataset.detections[:1], dataset.classes)
    elif part == "crowds alone":
        dataset = SimulatedDataset(
            [truth.take(truth.crowd | (truth.labels > 0)) for truth in dataset.truths],
            dataset.detections,
            dataset.classes,
        )
    table = coco_table(dataset.truths, dataset.detections, dataset.classes, kind)
    same(table, by_pycocotools(dataset, kind))
    if part == "nothing found":
        assert table.metrics()["AP"] == 0


def test_areas_as_annotated_decide_the_size() -> None:
    box = [[10, 10, 30, 30]]
    truth = Objects.of(box, [0], (200, 200), areas=[100.0**2])
    classes = simulated(0).classes
    detections = Detections(
        np.array(box, np.float32), np.zeros(1, np.int64), np.ones(1, np.float32), classes, (200, 200)
    )
    metrics = coco_table([truth], [detections], classes, "box").metrics()
    assert metrics["APl"] == pytest.approx(1)
    assert not {"APs", "APm"} & set(metrics)


def test_rows_and_curves() -> None:
    dataset = simulated(1)
    table = coco_table(dataset.truths, dataset.detections, dataset.classes, "box")
    rows = table.per_class()
    assert [row["id"] for row in rows] == list(dataset.classes.ids)
    for k, row in enumerate(rows):
        assert row["objects"] == sum(int((truth.labels[~truth.crowd] == k).sum()) for truth in dataset.truths)
    assert (rows[-1]["objects"], rows[-1]["AP"], rows[-1]["AR100"]) == (0, None, None)
    for name in ("AP", "AP50", "AP75", "AR100"):
        values = [row[name] for row in rows if row[name] is not None]
        assert np.mean(values) == pytest.approx(table.metrics()[name], abs=1e-12)
    precision, scores = table.curves(0.75)
    assert precision.shape == scores.shape == (4, 101)
    assert precision[:3].mean() == pytest.approx(table.metrics()["AP75"], abs=1e-12)
    assert (np.diff(precision[:3], axis=1) <= 1e-12).all()  # precision is the best at that recall or beyond
    assert (np.diff(scores[:3], axis=1) <= 1e-12).all()


def test_it_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    dataset = simulated(1, masks=True)
    with warnings.catch_warnings(), caplog.at_level(logging.INFO):
        warnings.simplefilter("error")
        coco_table(dataset.truths, dataset.detections, dataset.classes, "mask")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_masks_that_are_not_there() -> None:
    dataset, bare = simulated(1, masks=True), simulated(1)
    with pytest.raises(ValueError, match="annotations"):
        coco_table(bare.truths, dataset.detections, dataset.classes, "mask")
    with pytest.raises(ValueError, match="detections"):
        coco_table(dataset.truths, bare.detections, dataset.classes, "mask")


def test_nothing_at_all() -> None:
    dataset = without_objects(simulated(1))
    assert coco_table(dataset.truths, dataset.detections, dataset.classes, "box").metrics() == {}
    assert coco_table([], [], dataset.classes, "box").metrics() == {}


# The metric


def fed(dataset: SimulatedDataset, masks: bool = False, batch: int = 5) -> MetricCollection:
    metrics = MetricCollection({"coco": DetectionMetric(dataset.classes, masks)})
    outputs, targets = as_batch(dataset)
    for i in range(0, len(targets), batch):
        metrics.update(outputs[i : i + batch], targets[i : i + batch])
    return metrics


@pytest.mark.parametrize("masks", [False, True])
def test_the_metric_is_the_table_of_what_predict_would_give(masks: bool) -> None:
    dataset = simulated(2, masks=masks)
    outputs, targets = as_batch(dataset)
    pairs = list(zip(outputs, targets, strict=True))
    detections = [Detections.from_raw(raw, dataset.classes, target.placement, threshold=0.0) for raw, target in pairs]  # type: ignore[arg-type]
    expected = coco_table(dataset.truths, detections, dataset.classes, "box").metrics()
    if masks:
        table = coco_table(dataset.truths, detections, dataset.classes, "mask")
        expected |= {f"mask_{name}": value for name, value in table.metrics().items()}
        assert expected["mask_AP"] != expected["AP"]
    values = fed(dataset, masks).compute()
    assert {name: float(value) for name, value in values.items()} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("masks", [False, True])
def test_tensors_as_arrays_and_alone_as_with_losses(masks: bool) -> None:
    dataset = simulated(4, masks=masks)
    outputs, targets = as_batch(dataset)
    metric = DetectionMetric(dataset.classes, masks)
    metric.update({"detections": [{k: torch.from_numpy(v) for k, v in raw.items()} for raw in outputs]}, targets)
    assert metric.compute() == fed(dataset, masks).compute()


def test_boxes_alone_of_a_model_with_masks() -> None:
    dataset = simulated(4, masks=True)
    bare = [replace(truth, segmentations=None) for truth in dataset.truths]
    expected = coco_table(
        bare, [replace(detections, cropped_masks=None) for detections in dataset.detections], dataset.classes, "box"
    ).metrics()
    values = {name: float(value) for name, value in fed(dataset).compute().items()}
    assert values == pytest.approx(expected, abs=1e-6)


def test_the_metric_starts_over() -> None:
    dataset, other = simulated(5), simulated(6)
    metrics = fed(dataset).to("cpu")
    first = metrics.compute()
    assert metrics.compute() == first  # counted once
    metrics.update(*as_batch(other))
    assert metrics.compute() != first
    metrics.reset()
    metrics.update(*as_batch(dataset))
    assert metrics.compute() == first
    assert copy.deepcopy(metrics).compute() == first
    assert pickle.loads(pickle.dumps(metrics)).compute() == first
    assert not metrics.state_dict()


@pytest.mark.parametrize("masks", [False, True])
def test_what_training_monitors_is_always_there(masks: bool) -> None:
    dataset = simulated(5, masks=masks)
    names = {"AP", "mask_AP"} if masks else {"AP"}
    nothing = fed(without_objects(dataset), masks).compute()
    assert {name: float(value) for name, value in nothing.items()} == dict.fromkeys(names, 0.0)
    missed = fed(without_detections(dataset), masks).compute()
    assert all(float(missed[name]) == 0 for name in names)
    assert "AP50" in missed


def test_masks_are_kept_small() -> None:
    dataset = simulated(5, masks=True)
    metric = fed(dataset, masks=True)["coco"]
    assert all(pair.detections.cropped_masks is None for pair in metric.pairs)
    shapes = [shape for pair in metric.pairs for shape in pair.masks]
    assert all(set(shape) == {"size", "counts"} for shape in shapes)
    assert all(isinstance(shape["counts"], bytes) for shape in shapes)


@pytest.mark.parametrize("key", ["boxes", "scores"])
def test_outputs_that_are_no_numbers(key: str) -> None:
    dataset = simulated(5)
    outputs, targets = as_batch(dataset)
    outputs[0] = {**outputs[0], key: np.full_like(outputs[0][key], np.nan)}
    with pytest.raises(WorkError, match="not finite"):
        DetectionMetric(dataset.classes).update(outputs, targets)


def test_outputs_in_16_bits() -> None:
    """As autocast leaves them; of three digits, so that the figures are near, not the same."""
    dataset = simulated(5, masks=True)
    outputs, targets = as_batch(dataset)
    half = [
        {k: torch.from_numpy(v).bfloat16() if k == "masks" else torch.from_numpy(v) for k, v in one.items()}
        for one in outputs
    ]
    metrics = [DetectionMetric(dataset.classes, masks=True) for _ in range(2)]
    for metric, given in zip(metrics, (outputs, half), strict=True):
        metric.update(given, targets)
    force_float32, rough = (metric.compute() for metric in metrics)
    assert rough.keys() == force_float32.keys()
    assert float(rough["mask_AP"]) == pytest.approx(float(force_float32["mask_AP"]), abs=0.05)


class Module(pl.LightningModule):
    """Only validates."""

    def __init__(self, dataset: SimulatedDataset) -> None:
        super().__init__()
        self.metrics = MetricCollection({"coco": DetectionMetric(dataset.classes, masks=True)})

    def validation_step(self, batch: tuple[list[dict[str, Any]], list[DetectionTarget]], batch_idx: int) -> None:
        self.metrics.update(*batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute())
        self.metrics.reset()


def test_within_lightning(tmp_path: Path) -> None:
    dataset = simulated(8, masks=True)
    images = [([raw], [target]) for raw, target in zip(*as_batch(dataset), strict=True)]
    batches = torch.utils.data.DataLoader(images, batch_size=None, collate_fn=lambda batch: batch)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path, enable_progress_bar=False
    )
    module = Module(dataset)
    (logged,) = trainer.validate(module, batches, verbose=False)
    assert trainer.validate(module, batches, verbose=False) == [logged]
    expected = {name: float(value) for name, value in fed(dataset, masks=True).compute().items()}
    assert logged == pytest.approx(expected, abs=1e-6)  # float32


SIZES = (1, 11)  # with one image the second process has none


def shared(images: int) -> SimulatedDataset:
    return simulated(9, images=images, masks=True, coarse=True)


def measure(rank: int, world: int, folder: Path) -> None:
    """One process's share of a dataset, and the metrics of the whole dataset that it computes."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=world)
    for images in SIZES:
        outputs, targets = as_batch(shared(images))
        metrics = MetricCollection({"coco": DetectionMetric(shared(images).classes, masks=True)})
        if targets[rank::world]:
            metrics.update(outputs[rank::world], targets[rank::world])
        values = {name: float(value) for name, value in metrics.compute().items()}
        assert len(metrics["coco"].pairs) == len(targets[rank::world])
        (folder / f"{rank}-{images}.json").write_text(json.dumps(values))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_say_what_one_does(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(measure, (2, tmp_path), nprocs=2)
    for images in SIZES:
        expected = {name: float(value) for name, value in fed(shared(images), masks=True).compute().items()}
        for rank in range(2):  # exactly: also the order among equal scores is that of one process
            assert json.loads((tmp_path / f"{rank}-{images}.json").read_text()) == expected


def test_crowded_images_count_more_than_a_hundred() -> None:
    """COCO counts the 100 best of a class and image, so that 150 detected objects give a recall of two thirds."""
    corners = 12 * np.array([[i % 15, i // 15] for i in range(150)], np.float32)
    boxes = np.concatenate([corners, corners + 10], 1)
    classes, size = Classes.of(("dot",)), (130, 190)
    truth = Objects.of(boxes, np.zeros(150, int), size)
    detections = Detections(boxes, np.zeros(150, np.int64), np.linspace(1, 0.1, 150, dtype=np.float32), classes, size)
    pairs = [EvaluationPair.of(truth, detections, masks=False)]
    usual, more = evaluate_pairs(pairs, classes, "box").metrics(), evaluate_pairs(pairs, classes, "box", 200).metrics()
    assert usual["AR100"] == pytest.approx(2 / 3)
    assert usual["AP"] < 0.7
    assert (more["AP"], more["AR200"]) == pytest.approx((1, 1))


@pytest.mark.parametrize("seen", [False, True])
def test_difficult_objects_are_neither_missed_nor_false(seen: bool, tmp_path: Path) -> None:
    """As in VOC's own evaluation: AP is 100 % if all other objects are detected, whether a difficult one is or not."""
    boxes = {0: (5, 5, 25, 25), 1: (40, 40, 70, 60)}
    objects = "".join(
        f"<object><name>cat</name><difficult>{mark}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}"
        f"</xmax><ymax>{y2}</ymax></bndbox></object>"
        for mark, (x1, y1, x2, y2) in boxes.items()
    )
    Image.new("RGB", (100, 80)).save(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(f"<annotation>{objects}</annotation>")
    some = np.array([boxes[i] for i in range(1 + seen)], np.float32)
    count = len(some)
    classes = Classes.of(("cat",))
    detections = Detections(some, np.zeros(count, np.int64), np.full(count, 0.9, np.float32), classes, (80, 100))
    recalls = {}
    for difficult in ("ignore", "use"):
        splits = open_splits(VocDetection, find_voc(tmp_path), 3, difficult=difficult)
        truth = splits["all"].read(0)[1]
        metrics = coco_table([truth], [detections], classes, "box").metrics()
        recalls[difficult] = metrics["AR100"]
        if difficult == "ignore":
            assert metrics["AP"] == 1
    assert recalls == {"ignore": 1, "use": 1 if seen else 0.5}
