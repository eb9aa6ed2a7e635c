"""The report on a detector against values by hand, a plain search and COCO's own matching."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.detection.objects import Objects
from fishnet.errors import InputError, WorkError
from fishnet.prediction.results import Detections
from fishnet.tasks.detection.matches import THRESHOLDS, Matches, match_detections
from fishnet.tasks.detection.metrics import EvaluationPair, coco_table, evaluate_pairs
from fishnet.tasks.detection.report import DetectionReport
from tests.tasks.detection.simulated import (
    SimulatedDataset,
    as_batch,
    pairs_of,
    simulated,
    without_detections,
    without_objects,
)


class Painted(ImageDataset):
    """Plain images of the dataset's sizes; image ``gone`` cannot be read."""

    classes, channels = Classes.of(["a"]), 3

    def __init__(self, dataset: SimulatedDataset, gone: int = -1) -> None:
        self.sizes, self.gone = [truth.size for truth in dataset.truths], gone

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int) -> tuple[Image.Image, int]:
        if index == self.gone:
            raise InputError(f"p{index}: gone")
        return Image.new("RGB", self.sizes[index][::-1], (60, 90, 140)), 0

    def source(self, index: int) -> str:
        return f"folder/p{index}"


def filled(
    dataset: SimulatedDataset, masks: bool = False, threshold: float | None = None, batch: int = 5
) -> DetectionReport:
    report = DetectionReport(dataset.classes, masks, threshold)
    outputs, targets = as_batch(dataset)
    for i in range(0, len(targets), batch):
        stop = min(i + batch, len(targets))
        report.update(outputs[i:stop], targets[i:stop], list(range(i, stop)))
    return report


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def by_hand() -> SimulatedDataset:
    """Two images, two classes of which one occurs, and a crowd."""
    classes, size = Classes(("cat", "dog"), (7, 3)), (100, 100)
    truths = [
        Objects.of([[0, 0, 20, 20], [40, 40, 60, 60], [60, 0, 100, 40]], [0, 0, 0], size, crowd=[False, False, True]),
        Objects.of([[10, 10, 30, 30]], [0], size),
    ]
    rows = [
        [
            ([0, 0, 20, 20], 0, 0.9),  # finds the first
            ([0, 0, 20, 18], 0, 0.8),  # again: false
            ([60, 0, 80, 20], 0, 0.7),  # on the group: not counted
            ([40, 40, 60, 52], 0, 0.6),  # finds the second, IoU 0.6
            ([40, 40, 60, 60], 1, 0.5),  # of another class: false
            ([0, 60, 20, 80], 0, 0.15),  # nothing there: false
        ],
        [([10, 10, 30, 19], 0, 0.95)],  # IoU 0.45: false, and the object missed
    ]
    detections = [
        Detections(
            np.array([box for box, _, _ in row], np.float32),
            np.array([label for _, label, _ in row]),
            np.array([score for _, _, score in row], np.float32),
            classes,
            size,
        )
        for row in rows
    ]
    return SimulatedDataset(truths, detections, classes)


def test_by_hand(tmp_path: Path) -> None:
    dataset = by_hand()
    report = filled(dataset, threshold=0.5, batch=1)
    assert report.metrics() == pytest.approx({"precision": 2 / 5, "recall": 2 / 3, "F1": 4 / 8})
    cat, dog = report.rows()
    assert {name: cat[name] for name in ("class", "id", "objects", "found", "false", "threshold")} == {
        "class": "cat", "id": 7, "objects": 3, "found": 2, "false": 2, "threshold": 0.5,
    }  # fmt: skip
    assert (cat["precision"], cat["recall"], cat["F1"]) == pytest.approx((50, 66.6667, 57.1429))
    assert (dog["objects"], dog["found"], dog["false"], dog["precision"], dog["F1"]) == (0, 0, 1, 0, 0)
    assert (dog["recall"], dog["AP"], dog["AP50"], dog["best_threshold"]) == (None, None, None, None)
    table = coco_table(dataset.truths, dataset.detections, dataset.classes, "box").per_class()[0]
    assert [cat[name] for name in ("AP", "AP50", "AP75", "AR100")] == pytest.approx(
        [100 * table[name] for name in ("AP", "AP50", "AP75", "AR100")], abs=1e-4
    )
    assert report.lines() == [
        "at scores from 0.50, as given: 2 of 3 objects found, 3 false (boxes, IoU 0.5)",
        "class  objects      AP    AP50 precision  recall      F1",
        f"cat          3 {cat['AP']:>7.2f} {cat['AP50']:>7.2f}     50.00   66.67   57.14",
        "dog          0       -       -      0.00       -    0.00",
    ]
    files = report.write(tmp_path, Painted(dataset))
    assert {file.name for file in files} == {"per_class.csv", "errors.csv", "precision_recall.png", "worst.png"}
    assert {file.name for file in files} == {path.name for path in tmp_path.iterdir()}
    assert rows_of(tmp_path / "errors.csv") == [
        ["image", "objects", "found", "missed", "false"],
        ["folder/p0", "2", "2", "0", "2"],
        ["folder/p1", "1", "0", "1", "1"],
    ]
    assert rows_of(tmp_path / "per_class.csv")[0] == list(cat)
    assert rows_of(tmp_path / "per_class.csv")[2][:2] == ["dog", "3"]


def test_the_best_threshold_by_hand() -> None:
    # From 0.16 to 0.50 the last false one is gone; two found and three false, of three; at 0.51 one false less.
    report = filled(by_hand())
    assert report.threshold == 0.56  # the middle of 0.51 to 0.60
    assert report.metrics()["F1"] == pytest.approx(4 / 7)
    assert "at scores from 0.56, which gives the best F1 on these images" in report.lines()[0]
    assert report.rows()[0]["best_threshold"] == 0.38  # of cats alone the dog's 0.50 is none: 0.16 to 0.60


def greedy(truth: Objects, detections: Detections, threshold: float) -> tuple[int, int]:
    """True and false positives of one image, box by box in plain Python."""
    order = sorted(range(len(detections.boxes)), key=lambda i: -detections.scores[i])
    taken: set[int] = set()
    false = 0
    for i in order:
        if detections.scores[i] < np.float32(threshold):
            continue
        best, place, grouped = 0.0, -1, False
        for j in range(len(truth)):
            if truth.labels[j] != detections.labels[i]:
                continue
            a, b = detections.boxes[i].astype(float), truth.boxes[j].astype(float)
            sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            common = float(sides.clip(min=0).prod())
            mine, theirs = float((a[2:] - a[:2]).prod()), float((b[2:] - b[:2]).prod())
            if truth.crowd[j]:
                grouped |= common / mine >= 0.5
            elif j not in taken and (iou := common / (mine + theirs - common)) >= max(0.5, best):
                best, place = iou, j
        if place >= 0:
            taken.add(place)
        else:
            false += not grouped
    return len(taken), false


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.75])
@pytest.mark.parametrize("seed", range(4))
def test_counts_as_a_plain_search_finds_them(seed: int, threshold: float) -> None:
    dataset = simulated(seed, coarse=seed % 2 == 1)
    pairs = pairs_of(dataset)
    counts = Matches.of(pairs, "box").counts(threshold, "image", len(pairs))
    expected = [greedy(pair.truth, pair.detections, threshold) for pair in pairs]
    assert list(zip(counts.true_positives.tolist(), counts.false_positives.tolist(), strict=True)) == expected
    assert counts.objects.tolist() == [int((~truth.crowd).sum()) for truth in dataset.truths]
    assert sum(counts.true_positives) > 0 or threshold > 0.5


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", range(6))
def test_all_that_coco_finds_is_found(seed: int, kind: Any) -> None:
    dataset = simulated(seed, masks=True, coarse=seed % 2 == 1)
    pairs = pairs_of(dataset, masks=True)
    counts = Matches.of(pairs, kind).counts(0, "label", len(dataset.classes))
    recall = evaluate_pairs(pairs, dataset.classes, kind).recall[
        0, :, 0, 2
    ]  # IoU 0.5, all sizes, no class over 100 an image
    np.testing.assert_allclose(counts.true_positives[:3] / counts.objects[:3], recall[:3], atol=1e-12)


def test_f1_at_any_threshold_is_that_of_a_matching_at_it() -> None:
    dataset = simulated(5)
    pairs = pairs_of(dataset)
    matches = Matches.of(pairs, "box")
    for i in (0, 30, 60, 98):
        kept = [
            detections.take(np.flatnonzero(detections.scores >= THRESHOLDS[i])) for detections in dataset.detections
        ]
        rest = pairs_of(replace(dataset, detections=kept))
        objects, true_positives, false_positives = Matches.of(rest, "box").counts(0, "label", 4).total()
        f1 = 2 * true_positives / (objects + true_positives + false_positives)
        assert matches.f1()[i] == pytest.approx(f1)
    assert matches.f1().max() == matches.f1()[np.abs(THRESHOLDS - matches.best_threshold()).argmin()]


def test_with_masks_these_decide(tmp_path: Path) -> None:
    dataset = simulated(2, masks=True)
    report = filled(dataset, masks=True)
    metrics = report.metrics()
    assert list(metrics) == ["precision", "recall", "F1", "mask_precision", "mask_recall", "mask_F1"]
    assert metrics["mask_F1"] == pytest.approx(report.kind_metrics()["mask"].matches.f1().max())
    row = report.rows()[0]
    json.dumps(report.rows())
    names = ["AP", "AP50", "AP75", "AR100", "precision", "recall", "F1", "found", "false", "best_threshold"]
    assert set(row) == {"class", "id", "threshold", "objects", *names, *(f"mask_{name}" for name in names)}
    errors = report.errors(Painted(dataset))
    assert sum(it["found"] for it in errors) == sum(it["mask_found"] for it in report.rows())
    assert sum(it["found"] + it["missed"] for it in errors) == sum(it["objects"] for it in report.rows())
    wrong = [row["missed"] + row["false"] for row in errors]
    assert wrong == sorted(wrong, reverse=True)
    assert report.lines()[1].split() == [
        "class", "objects", "AP", "AP50", "mask_AP", "mask_AP50", "mask_precision", "mask_recall", "mask_F1",
    ]  # fmt: skip
    assert len(report.write(tmp_path, Painted(dataset))) == 4


@pytest.mark.parametrize("part", ["nothing found", "no objects", "neither"])
@pytest.mark.parametrize("masks", [False, True])
def test_sets_with_nothing_in_them(part: str, masks: bool, tmp_path: Path) -> None:
    dataset = simulated(1, masks=masks)
    dataset = dataset if part == "nothing found" else without_objects(dataset)
    dataset = dataset if part == "no objects" else without_detections(dataset)
    report = filled(dataset, masks)
    metrics = report.metrics()
    assert metrics.get("recall") == (0 if part == "nothing found" else None)
    assert metrics.get("F1") == {"nothing found": 0, "no objects": 0, "neither": None}[part]
    assert len(report.lines()) == 2 + len(dataset.classes)
    report.write(tmp_path, Painted(dataset))
    assert (tmp_path / "worst.png").exists() == (part != "neither")
    filled(without_detections(without_objects(dataset)), masks).write(tmp_path, Painted(dataset))
    assert not (tmp_path / "worst.png").exists()  # nothing of a former report stays


@pytest.mark.parametrize("classes", [2, 11, 12, 200])
def test_figures_of_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    dataset = simulated(0, classes=classes, images=8)
    names = tuple(f"{['plain', '$5 off', '人_人', 'x' * 200][i % 4]} {i}" for i in range(classes))
    named = Classes(names, dataset.classes.ids)
    detections = [Detections(it.boxes, it.labels, it.scores, named, it.size) for it in dataset.detections]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(SimulatedDataset(dataset.truths, detections, named)).write(tmp_path, Painted(dataset, gone=0))
    for name in ("precision_recall.png", "worst.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
            assert 400 < image.width < 2200
            assert 200 < image.height < 2200


def test_beyond_twenty_classes_the_worst_that_have_objects_are_printed() -> None:
    dataset = simulated(0, classes=60, images=40)
    report = filled(dataset)
    _, title, _, *lines = report.lines()
    there = [row for row in report.rows() if row["objects"]]
    assert title == f"the 20 worst of {len(there)} classes with objects (the model has 60):"
    shown = {line.split()[0] for line in lines}
    assert len(lines) == 20 < len(there)
    assert max(row["AP"] for row in there if row["class"] in shown) <= min(
        row["AP"] for row in there if row["class"] not in shown
    )


def test_outputs_that_are_no_numbers() -> None:
    dataset = simulated(1)
    outputs, targets = as_batch(dataset)
    outputs[0]["scores"] = np.full_like(outputs[0]["scores"], np.inf)
    with pytest.raises(WorkError, match="not finite"):
        DetectionReport(dataset.classes).update(outputs, targets, range(len(targets)))


def test_more_images_change_what_was_said() -> None:
    dataset = simulated(1)
    report = filled(dataset, threshold=0.3)
    before = report.metrics()
    report.update(*as_batch(without_detections(dataset)), range(len(dataset.truths)))
    assert report.metrics()["recall"] == pytest.approx(before["recall"] / 2)
    assert report.metrics()["precision"] == before["precision"]


def test_an_object_is_found_once() -> None:
    dataset = by_hand()
    scores, false = match_detections(EvaluationPair.of(dataset.truths[0], dataset.detections[0], False), "box")
    np.testing.assert_allclose(scores, [0.9, 0.6, -1], atol=1e-6)
    assert false.tolist() == [False, True, False, False, True, True]


@pytest.mark.parametrize(("count", "max_detections", "said"), [(196, 100, True), (196, 196, False), (100, 100, False)])
def test_more_objects_than_are_counted_are_said(count: int, max_detections: int, said: bool) -> None:
    corners = 12 * np.array([[i % 15, i // 15] for i in range(count)], np.float32)
    boxes = np.concatenate([corners, corners + 10], 1)
    classes, size = Classes.of(("dot",)), (180, 190)
    truth = Objects.of(boxes, np.zeros(count, int), size)
    detections = Detections(boxes, np.zeros(count, np.int64), np.ones(count, np.float32), classes, size)
    outputs, targets = as_batch(SimulatedDataset([truth], [detections], classes))
    report = DetectionReport(classes, max_detections=max_detections)
    report.update(outputs, targets, [0])
    assert bool(report.warnings()) == said
    if said:
        assert "more than 100 objects of a class (up to 196)" in report.warnings()[0]
        assert "--max-detections 196" in report.warnings()[0]


def test_images_without_any_object_are_said() -> None:
    report = filled(without_objects(simulated(1)))
    assert report.warnings() == ["no object is annotated in these images: the metrics say nothing about the model"]
