"""The comparison lets pass what agrees, and nothing else: each difference by itself, just within and just beyond."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.bundle.bundle import Bundle
from fishnet.exporting.check import LIMITS, Check, compare
from fishnet.images.preprocess import Preprocess
from fishnet.runtime.exported import Exported
from tests.exporting.models import CLASSES
from tests.makers import image

FP32 = LIMITS["fp32"]
BOXES = np.array([[10, 10, 50, 40], [60, 20, 90, 80], [12, 12, 52, 42]], np.float32)
SCORES = np.array([0.9, 0.6, 0.3], np.float32)
LABELS = np.array([0, 1, 2])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """96 x 128 px: at its own size where the shorter side is to be 96."""
    file = tmp_path / "photo.png"
    image("red", 0, (128, 96)).save(file)
    return file


def bundle_for(task: str) -> Bundle:
    fit = {"classify": "crop", "segment": "native"}.get(task, "whole")
    preprocess = Preprocess((96, 128) if fit == "whole" else (96, 96), fit=fit)  # type: ignore[arg-type]
    return Bundle.single(
        task, "fishnet_nano", CLASSES, preprocess, head_args={"score_threshold": 0.05, "max_detections": 100}
    )


def compared(photo: Path, task: str, one: Any, other: Any, **of_file: Any) -> Check:
    bundle = bundle_for(task)
    return compare(Exported(bundle, "onnx", **of_file), lambda _: [one], lambda _: [other], [photo], FP32)[task]


def objects(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"boxes": BOXES.copy(), "scores": SCORES.copy(), "labels": LABELS.copy()}
    return found | changes


def moved(array: np.ndarray[Any, Any], index: Any, by: float) -> np.ndarray[Any, Any]:
    array = array.copy()
    array[index] += by
    return array


@pytest.mark.parametrize("task", ["classify", "segment"])
@pytest.mark.parametrize(("by", "fine"), [(0.9e-4, True), (1.1e-4, False), (float("nan"), False)])
def test_outputs_by_their_range(photo: Path, task: str, by: float, fine: bool) -> None:
    shape = (3,) if task == "classify" else (3, 96, 128)
    one = np.random.default_rng(0).uniform(-2, 8, shape).astype(np.float64)
    spread = one.max() - one.min()
    found = compared(photo, task, one, moved(one, (0,) * len(shape), by * spread))
    assert (found.faults == []) == fine
    assert len(found.inputs) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("wrong", ["both", "file", "bundle"])
def test_outputs_that_are_no_numbers(photo: Path, value: float, wrong: str) -> None:
    """All NaN on both sides differ by nothing that a comparison sees."""
    sound, broken = np.zeros(3), np.full(3, value)
    one, other = (broken if wrong in ("both", side) else sound for side in ("bundle", "file"))
    found = compared(photo, "classify", one, other)
    assert found.faults == ["outputs for 3 of 3 inputs are not finite"]
    assert found.to_dict()["not_finite"] == 3
    assert compared(photo, "detect", objects(), objects(scores=np.full(len(SCORES), value, np.float32))).faults


def test_outputs_of_another_shape(photo: Path) -> None:
    assert compared(photo, "classify", np.zeros(3), np.zeros(4)).faults


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"boxes": moved(BOXES, (0, 2), 0.07)}, None),
        ({"boxes": moved(BOXES, (0, 2), 0.12)}, "boxes"),
        ({"scores": moved(SCORES, 1, 0.9e-4)}, None),
        ({"scores": moved(SCORES, 1, 1.2e-4)}, "scores"),
        ({"labels": moved(LABELS, 1, 1)}, "engine only"),
        ({"boxes": BOXES[:2], "scores": SCORES[:2], "labels": LABELS[:2]}, "engine only"),
        ({"boxes": moved(BOXES, 1, 40)}, "engine only"),
    ],
)
def test_objects(photo: Path, changes: dict[str, Any], word: str | None) -> None:
    faults = compared(photo, "detect", objects(), objects(**changes)).faults
    assert (not faults) if word is None else any(word in fault for fault in faults)


def test_order_does_not_matter(photo: Path) -> None:
    turned = {name: values[::-1] for name, values in objects().items()}
    found = compared(photo, "detect", objects(), turned)
    assert found.faults == []
    assert found.objects == 9  # at each of three sizes


@pytest.mark.parametrize(("score", "fine"), [(0.05004, True), (0.052, False)])
def test_an_object_at_the_floor_may_be_missing(photo: Path, score: float, fine: bool) -> None:
    one = objects(scores=np.array([0.9, 0.6, score], np.float32))
    other = {name: values[:2] for name, values in one.items()}
    for pair in ((one, other), (other, one)):
        assert (compared(photo, "detect", *pair).faults == []) == fine


def test_masks(photo: Path) -> None:
    masks = np.zeros((3, 28, 28), np.float32)
    masks[:, 4:24, 4:24] = 1
    one = objects(masks=masks)
    assert compared(photo, "instances", one, objects(masks=masks.copy())).faults == []
    grown = masks.copy()
    grown[0, 4:24, 24] = 1  # a column of one object: some px of 30 x 40
    assert any("masks" in fault for fault in compared(photo, "instances", one, objects(masks=grown)).faults)


def test_one_size_where_the_file_takes_one(photo: Path) -> None:
    assert compared(photo, "classify", np.arange(3.0), np.arange(3.0), size=(96, 96)).inputs == [(96, 96)]


def test_small_images_are_compared_at_larger_sizes(photo: Path) -> None:
    bundle = Bundle.single("classify", "fishnet_nano", CLASSES, Preprocess((32, 32)))
    engine: Any = lambda _: [np.arange(3.0)]  # noqa: E731
    found = compare(Exported(bundle, "onnx", min_side=32), engine, engine, [photo], FP32)["classify"]
    assert found.inputs == [(32, 32), (40, 40), (48, 48)]
