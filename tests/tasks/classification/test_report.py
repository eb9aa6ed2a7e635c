"""The report on a classifier, against torchmetrics and by hand."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_precision,
    multiclass_recall,
)

from fishnet.bundle.classes import Classes
from fishnet.data.base import ImageDataset
from fishnet.errors import InputError, WorkError
from fishnet.tasks.classification.report import ClassificationReport


class Painted(ImageDataset):
    """Plain images of different shapes; number 3 cannot be read."""

    classes, channels = Classes.of(["a"]), 3

    def __len__(self) -> int:
        return 1000

    def read(self, index: int) -> tuple[Image.Image, int]:
        if index == 3:
            raise InputError("p3: gone")
        return Image.new("RGB", (20 + index % 7, 300), (index % 256, 50, 90)), 0

    def source(self, index: int) -> str:
        return f"p{index}"


def drawn(classes: int, images: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Random logits that are often correct."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), targets] += 2
    return logits, targets


def filled(
    names: list[str], logits: NDArray[np.float32], targets: NDArray[np.int64], batch: int = 17
) -> ClassificationReport:
    report = ClassificationReport(Classes.of(names))
    for i in range(0, len(targets), batch):
        stop = min(i + batch, len(targets))
        report.update(logits[i:stop], targets[i:stop], range(i, stop))
    return report


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(("classes", "images"), [(2, 50), (7, 400), (300, 900)])
def test_numbers_agree_with_torchmetrics(classes: int, images: int) -> None:
    logits, targets = drawn(classes, images)
    report = filled([f"c{i}" for i in range(classes)], logits, targets)
    scores, labels = torch.from_numpy(logits).softmax(1), torch.from_numpy(targets)
    expected = float(multiclass_calibration_error(scores, labels, classes, n_bins=15))
    assert report.metrics() == {"ECE": pytest.approx(expected, abs=1e-5)}
    matrix = multiclass_confusion_matrix(scores, labels, classes).numpy()
    confusion = report.confusion()
    true, said, counts = confusion.true, confusion.predicted, confusion.counts
    assert (counts > 0).all()
    rebuilt = np.zeros_like(matrix)
    rebuilt[true, said] = counts
    np.testing.assert_array_equal(rebuilt, matrix)
    recall = multiclass_recall(scores, labels, classes, average=None).numpy()
    precision = multiclass_precision(scores, labels, classes, average=None).numpy()
    for i, row in enumerate(report.rows()):
        assert row["images"] == matrix[i].sum()
        if matrix[i].sum():
            assert row["recall"] == pytest.approx(100 * recall[i], abs=1e-3)
        else:
            assert row["recall"] is None
        if matrix[:, i].sum():
            assert row["precision"] == pytest.approx(100 * precision[i], abs=1e-3)
        else:
            assert row["precision"] is None
        wrong = np.where(np.arange(classes) == i, 0, matrix[i])
        assert row["mistaken"] == wrong.max()
        assert row["mistaken_for"] is None if not wrong.max() else wrong[int(row["mistaken_for"][1:])] == wrong.max()


def test_the_diagrams_bins_give_the_error_that_is_told() -> None:
    logits, targets = drawn(5, 300)
    logits[:40] *= 1000  # scores of exactly 1
    report = filled(list("abcde"), logits, targets)
    bins = report.calibration()
    error = (bins.counts * np.abs(bins.accuracy - bins.confidence)).sum() / bins.counts.sum()
    assert bins.counts.sum() == 300
    assert report.metrics()["ECE"] == pytest.approx(error, abs=1e-6)


def test_by_hand(tmp_path: Path) -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.05, 0.9, 0.05]], np.float32))
    report = filled(["cat", "dog", "none"], logits, np.array([0, 1, 1, 0]), batch=2)
    assert report.rows() == [
        {"class": "cat", "id": 0, "images": 2, "recall": 50, "precision": 50, "mistaken_for": "dog", "mistaken": 1},
        {"class": "dog", "id": 1, "images": 2, "recall": 50, "precision": 50, "mistaken_for": "cat", "mistaken": 1},
        {"class": "none", "id": 2, "images": 0, "recall": None, "precision": None, "mistaken_for": None, "mistaken": 0},
    ]
    assert [line.split() for line in report.lines()] == [
        ["class", "images", "recall", "precision", "most", "often", "mistaken", "for"],
        ["cat", "2", "50.00", "50.00", "dog", "(1)"],
        ["dog", "2", "50.00", "50.00", "cat", "(1)"],
        ["none", "0", "-", "-", "-"],
    ]
    # |0.6 - 0| + |0.7 - 1| + |0.8 - 1| + |0.9 - 0|, a quarter each
    assert report.metrics()["ECE"] == pytest.approx((0.6 + 0.3 + 0.2 + 0.9) / 4, abs=1e-6)
    worst = report.worst(Painted())
    assert [(row["source"], row["predicted"], row["true"]) for row in worst] == [
        ("p3", "dog", "cat"),
        ("p1", "cat", "dog"),
    ]
    assert worst[0]["score"] == pytest.approx(0.9)
    assert worst[0]["true_score"] == pytest.approx(0.05)
    assert worst[0]["loss"] == pytest.approx(-np.log(0.05), abs=1e-4)

    files = report.write(tmp_path, Painted())
    assert {file.name for file in files} == {path.name for path in tmp_path.iterdir()}
    assert rows_of(tmp_path / "per_class.csv")[1:] == [
        ["cat", "0", "2", "50.0", "50.0", "dog", "1"],
        ["dog", "1", "2", "50.0", "50.0", "cat", "1"],
        ["none", "2", "0", "", "", "", "0"],
    ]
    pairs = [["cat", "cat"], ["cat", "dog"], ["dog", "cat"], ["dog", "dog"]]
    assert rows_of(tmp_path / "confusion.csv") == [["true", "predicted", "images"], *([*pair, "1"] for pair in pairs)]
    assert [row[0] for row in rows_of(tmp_path / "most_wrong.csv")] == ["source", "p3", "p1"]


def test_what_a_former_report_left_goes(tmp_path: Path) -> None:
    logits, targets = drawn(3, 60)
    filled(list("abc"), logits, targets).write(tmp_path, Painted())
    assert (tmp_path / "most_wrong.png").is_file()
    right = filled(list("abc"), np.eye(3, dtype=np.float32)[targets] * 5, targets)
    assert right.worst(Painted()) == []
    assert {file.name for file in right.write(tmp_path, Painted())} == {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "most_wrong.png").exists()


def test_the_worst_are_at_most_twelve_by_loss(tmp_path: Path) -> None:
    logits, targets = drawn(4, 200)
    report = filled(list("abcd"), logits, targets)
    losses = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets), reduction="none")
    wrong = np.flatnonzero(logits.argmax(1) != targets)
    expected = wrong[np.argsort(-losses.numpy()[wrong])][:12]
    assert [row["index"] for row in report.worst(Painted())] == expected.tolist()


@pytest.mark.parametrize("classes", [2, 20, 40, 41, 1001])
def test_figures_of_any_number_of_classes(classes: int, tmp_path: Path) -> None:
    logits, targets = drawn(classes, 3 * classes + 20)
    names = [f"{['plain', '$5 off', '人_人', 'x' * 200][i % 4]} {i}" for i in range(classes)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(names, logits, targets).write(tmp_path, Painted())
    for name in ("confusion.png", "reliability.png", "most_wrong.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
            assert 400 < image.width < 2200
            assert 200 < image.height < 2200


def test_beyond_twenty_classes_the_worst_that_have_images_are_printed() -> None:
    logits, targets = drawn(30, 400)
    targets %= 25
    report = filled([f"c{i}" for i in range(30)], logits, targets)
    title, _, *lines = report.lines()
    assert title == "the 20 worst of 25 classes with images (the model has 30):"
    shown = [float(line.split()[2]) for line in lines]
    assert len(shown) == 20
    assert shown == sorted(shown)
    assert max(shown) <= min(row["recall"] for row in report.rows() if row["recall"] is not None and row["class"] not in
                             {line.split()[0] for line in lines})  # fmt: skip


def test_no_scores_are_kept() -> None:
    logits, targets = drawn(2000, 64)
    report = ClassificationReport(Classes.of([str(i) for i in range(2000)]))
    for i in range(20):
        report.update(logits, targets, range(64 * i, 64 * i + 64))
    assert len(report._buffer) == 20 * 64 * 40


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers(value: float) -> None:
    logits, targets = drawn(3, 4)
    logits[2, 1] = value
    with pytest.raises(WorkError, match="not finite"):
        filled(list("abc"), logits, targets)
