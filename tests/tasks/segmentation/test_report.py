"""The report on a segmenter against values by hand and the metric."""

import csv
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import InputError, WorkError
from fishnet.prediction.results import Segmentation
from fishnet.tasks.report_files import WRONG
from fishnet.tasks.segmentation.boundaries import boundary_f1
from fishnet.tasks.segmentation.metrics import SegmentationMetric
from fishnet.tasks.segmentation.report import SegmentationReport
from tests.tasks.segmentation.labels import Labels, blobs, logits_of, target

Pair = tuple[Labels, Labels]


class Painted(ImageDataset):
    """Plain images for label maps; image ``gone`` cannot be read."""

    classes, channels = Classes.of(["a"]), 3

    def __init__(self, pairs: Sequence[Pair], gone: int = -1) -> None:
        self.truths, self.gone = [truth for truth, _ in pairs], gone

    def __len__(self) -> int:
        return len(self.truths)

    def read(self, index: int) -> tuple[Image.Image, Labels]:
        if index == self.gone:
            raise InputError(f"p{index}: gone")
        truth = self.truths[index]
        return Image.new("RGB", truth.shape[::-1], (60, 90, 140)), truth

    def source(self, index: int) -> str:
        return f"folder/p{index}"


def filled(classes: Classes, pairs: Sequence[Pair]) -> SegmentationReport:
    report = SegmentationReport(classes)
    for index, (truth, predicted) in enumerate(pairs):
        report.update([Segmentation(predicted, classes)], [target(truth)], [index])
    return report


def simulated(count: int, classes: int = 4, size: tuple[int, int] = (60, 80)) -> list[Pair]:
    """Label maps, and copies with errors: none in the first image, more in each later one."""
    pairs = []
    for i in range(count):
        truth, other = blobs(i, size, classes), blobs(i + 500, size, classes, 0)
        predicted = np.where(truth == IGNORE, other, truth)
        predicted[:, : i * size[1] // (2 * count)] = other[:, : i * size[1] // (2 * count)]
        pairs.append((truth, predicted))
    return pairs


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_by_hand(tmp_path: Path) -> None:
    classes = Classes(("soil", "corn", "weed", "rock"), (5, 2, 11, 0))
    first, second, third = np.zeros((3, 10, 20), np.uint8)
    first[:, 10:] = 1
    predicted = first.copy()
    predicted[:, 10:14] = 0  # a border that is 4 px off, at a tolerance of 1
    second[:5] = IGNORE
    third[:] = IGNORE
    pairs = [(first, predicted), (second, np.full_like(second, 2)), (third, third * 0)]
    report = filled(classes, pairs)
    # px: soil 200, all of the second said to be weed; corn 100, of which 40 are said to be soil
    soil, corn, weed, rock = report.rows()
    assert soil == {
        "class": "soil", "id": 5, "IoU": round(100 * 100 / 240, 4), "Dice": round(100 * 200 / 340, 4),
        "accuracy": 50, "precision": round(100 * 100 / 140, 4), "boundary_F1": 0, "pixels": 200,
        "share": round(100 * 200 / 300, 4), "predicted": 140,
    }  # fmt: skip
    assert corn | {"class": "corn", "id": 2, "IoU": 60, "Dice": 75, "accuracy": 60, "precision": 100} == corn
    assert (corn["boundary_F1"], corn["pixels"], corn["share"], corn["predicted"]) == (0, 100, round(100 / 3, 4), 60)
    assert weed == {
        "class": "weed", "id": 11, "IoU": 0, "Dice": 0, "accuracy": None, "precision": 0, "boundary_F1": 0, "pixels": 0,
        "share": 0, "predicted": 100,
    }  # fmt: skip
    assert [rock[name] for name in ("IoU", "Dice", "accuracy", "precision", "boundary_F1")] == [None] * 5
    assert report.metrics() == pytest.approx(
        {"mDice": (200 / 340 + 0.75 + 0) / 3, "boundary_F1": 0, "ignored": 300 / 600}
    )
    assert report.lines() == [
        "class   share     IoU    Dice accuracy precision boundary_F1",
        "soil    66.67   41.67   58.82    50.00     71.43        0.00",
        "corn    33.33   60.00   75.00    60.00    100.00        0.00",
        "weed     0.00    0.00    0.00        -      0.00        0.00",
        "rock     0.00       -       -        -         -           -",
    ]
    json.dumps(report.rows())
    files = report.write(tmp_path, Painted(pairs))
    assert [file.name for file in files] == [
        "per_class.csv", "confusion.csv", "errors.csv", "confusion.png", "worst.png",
    ]  # fmt: skip
    assert {file.name for file in files} == {path.name for path in tmp_path.iterdir()}
    head, *rows = rows_of(tmp_path / "per_class.csv")
    assert head == list(soil)
    assert rows[3] == ["rock", "0", "", "", "", "", "", "0", "0.0", "0"]
    assert rows_of(tmp_path / "confusion.csv") == [
        ["true", "predicted", "pixels"], ["soil", "soil", "100"], ["soil", "weed", "100"], ["corn", "soil", "40"],
        ["corn", "corn", "60"],
    ]  # fmt: skip
    assert rows_of(tmp_path / "errors.csv") == [
        ["image", "pixels", "right", "mIoU"],
        ["folder/p1", "100", "0.0", "0.0"],
        ["folder/p0", "200", "80.0", str(round(50 * (100 / 140 + 0.6), 4))],
        ["folder/p2", "0", "", ""],
    ]


def test_it_agrees_with_the_metric_and_the_boundaries_of_each_image() -> None:
    classes = Classes.of("abcde")
    pairs = simulated(9)
    report, metric = SegmentationReport(classes), SegmentationMetric(classes)
    targets = [target(truth) for truth, _ in pairs]
    outputs = [
        logits_of(predicted, 5, it.placement.outer)
        for (_, predicted), it in zip(pairs, targets, strict=True)
        if it.placement
    ]
    metric.update(outputs, targets)
    report.update(outputs[:4], targets[:4], range(4))
    report.update(outputs[4:], targets[4:], range(4, 9))
    values = {name: float(value) for name, value in metric.compute().items()}
    there = [row for row in report.rows() if row["IoU"] is not None]
    assert len(there) == 4
    assert values["mIoU"] == pytest.approx(np.mean([row["IoU"] for row in there]) / 100, abs=1e-6)
    assert values["mAcc"] == pytest.approx(np.mean([row["accuracy"] for row in there]) / 100, abs=1e-6)
    right = sum(row["pixels"] * row["accuracy"] for row in there) / sum(row["pixels"] for row in there)
    assert values["aAcc"] == pytest.approx(right / 100, abs=1e-6)
    each = np.array([boundary_f1(truth, predicted, 5) for truth, predicted in pairs])
    assert report.boundaries()[:4] == pytest.approx(np.nanmean(each[:, :4], 0))
    assert np.isnan(report.boundaries()[4])
    assert report.metrics()["boundary_F1"] == pytest.approx(np.nanmean(each[:, :4], 0).mean())
    assert report.metrics()["mDice"] == pytest.approx(np.mean([row["Dice"] for row in there]) / 100, abs=1e-6)


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_the_worst_six_are_shown_as_they_were_said(order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = Classes.of("abcd")
    pairs = simulated(15)[:: 1 if order == "rising" else -1]
    report = filled(classes, pairs)
    shown: dict[str, Pair] = {}

    def draw(
        image: Image.Image, truth: Labels, predicted: Labels, names: Sequence[str], name: str
    ) -> list[Image.Image]:
        shown[name] = truth, predicted
        return [image]

    monkeypatch.setattr("fishnet.tasks.segmentation.report.error_cards", draw)
    report.write(tmp_path, Painted(pairs))
    wrong = [
        float(((truth != IGNORE) & (truth != predicted)).sum() / (truth != IGNORE).sum()) for truth, predicted in pairs
    ]
    assert wrong.count(0) >= 1
    worst = sorted(range(15), key=lambda i: -wrong[i])[:6]
    assert list(shown) == [f"p{i}" for i in worst]
    for i in worst:
        for drawn, given in zip(shown[f"p{i}"], pairs[i], strict=True):
            np.testing.assert_array_equal(drawn, given)
    rows = report.errors(Painted(pairs))
    assert [row["image"] for row in rows[:6]] == [f"folder/p{i}" for i in worst]
    assert [row["right"] for row in rows] == sorted(row["right"] for row in rows)


def test_memory_does_not_grow_with_the_images() -> None:
    truth = blobs(1, (300, 300), 4)
    report = filled(Classes.of("abcd"), [(truth, np.full_like(truth, i % 4)) for i in range(40)])
    assert len(report._worst) == 6
    assert sum(len(bad.compressed) for bad in report._worst) < truth.nbytes


def test_nothing_wrong_and_nothing_of_a_former_report(tmp_path: Path) -> None:
    classes = Classes.of("abcd")
    pairs = simulated(4)
    filled(classes, pairs).write(tmp_path, Painted(pairs))
    assert (tmp_path / "worst.png").exists()
    right = [(truth, np.where(truth == IGNORE, 0, truth)) for truth, _ in pairs]
    report = filled(classes, right)
    ignored = np.mean([truth == IGNORE for truth, _ in pairs])
    assert report.metrics() == {"mDice": 1, "boundary_F1": 1, "ignored": pytest.approx(ignored)}
    files = report.write(tmp_path, Painted(right))
    assert "worst.png" not in {file.name for file in files}
    assert {file.name for file in files} == {path.name for path in tmp_path.iterdir()}


def test_images_without_a_label(tmp_path: Path) -> None:
    truth = np.full((40, 50), IGNORE, np.uint8)
    pairs = [(truth, np.zeros_like(truth))]
    report = filled(Classes.of("ab"), pairs)
    assert report.metrics() == {"ignored": 1}
    assert report.rows()[0]["share"] is None
    assert len(report.lines()) == 3
    files = report.write(tmp_path, Painted(pairs))
    assert {file.name for file in files} == {"per_class.csv", "confusion.csv", "errors.csv", "confusion.png"}
    assert rows_of(tmp_path / "confusion.csv") == [["true", "predicted", "pixels"]]


@pytest.mark.parametrize(("classes", "size"), [(2, (40, 30)), (21, (30, 700)), (60, (900, 700)), (255, (90, 90))])
def test_figures_of_any_number_of_classes_and_size(classes: int, size: tuple[int, int], tmp_path: Path) -> None:
    names = [f"{['plain', '$5 off', '人_人', 'x' * 200][i % 4]} {i}" for i in range(classes)]
    pairs = [
        (truth, np.roll(truth, 7, 1))
        for truth in (blobs(seed, size, classes, 0) for seed in range(max(8, classes // 3)))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(Classes.of(names), pairs).write(tmp_path, Painted(pairs, gone=0))
    for name in ("confusion.png", "worst.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
            assert 400 < image.width < 2200
            assert 200 < image.height < 3300


def test_wrong_px_are_red_and_ignored_ones_are_not(tmp_path: Path) -> None:
    truth = np.zeros((480, 480), np.uint8)
    predicted = truth.copy()
    predicted[:120] = 1
    truth[:60] = IGNORE
    pairs = [(truth, predicted)]
    filled(Classes.of("ab"), pairs).write(tmp_path, Painted(pairs))
    with Image.open(tmp_path / "worst.png") as image:
        page = np.asarray(image.convert("RGB")).astype(int)
    third = page[:480, 2 * page.shape[1] // 3 :]
    red = (abs(third - WRONG) < 12).all(2).mean() * third.shape[0] * third.shape[1]
    # A quarter less the ignored half of it; all is reduced by a few percent to make room for the legend.
    assert red == pytest.approx(480 * 60, rel=0.15)


def test_beyond_twenty_classes_the_worst_that_are_there_are_printed() -> None:
    pairs = simulated(12, classes=40)
    report = filled(Classes.of([f"c{i}" for i in range(60)]), pairs)
    title, _, *lines = report.lines()
    there = [row for row in report.rows() if row["pixels"]]
    assert title == f"the 20 worst of {len(there)} classes with pixels (the model has 60):"
    shown = {line.split()[0] for line in lines}
    assert len(lines) == 20 < len(there)
    assert max(row["IoU"] for row in there if row["class"] in shown) <= min(
        row["IoU"] for row in there if row["class"] not in shown
    )


def test_outputs_that_are_no_numbers() -> None:
    truth = np.zeros((32, 32), np.uint8)
    with pytest.raises(WorkError, match="not finite"):
        SegmentationReport(Classes.of("ab")).update([np.full((2, 32, 32), np.nan, np.float32)], [target(truth)], [0])
