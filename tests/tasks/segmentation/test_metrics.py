"""Metrics of label maps against counts px by px, and boundary scores against all distances."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fishnet.bundle.classes import Classes
from fishnet.data.segmentation.base import IGNORE
from fishnet.errors import WorkError
from fishnet.images.preprocess import Placement
from fishnet.prediction.results import Segmentation
from fishnet.tasks import get_task
from fishnet.tasks.segmentation.boundaries import boundary_f1
from fishnet.tasks.segmentation.metrics import SegmentationMetric, predicted_labels
from tests.tasks.segmentation.labels import Labels, blobs, logits_of, target

SIZES = ((40, 50), (33, 7), (64, 64), (1, 90), (21, 21))
FIVE = Classes(tuple("abcde"), (3, 0, 70, 9, 4))


def simulated_pairs(seed: int, classes: int = 4) -> list[tuple[Labels, Labels]]:
    """True and predicted label maps of images of different sizes; the last class of ``FIVE`` does not occur."""
    return [
        (blobs(100 * seed + i, size, classes), blobs(100 * seed + i + 50, size, classes, 0))
        for i, size in enumerate(SIZES)
    ]


def by_hand(pairs: list[tuple[Labels, Labels]], classes: int) -> dict[str, float]:
    """Metrics px by px, from sets of positions instead of a matrix."""
    true: list[set[tuple[int, int, int]]] = [set() for _ in range(classes)]
    predicted: list[set[tuple[int, int, int]]] = [set() for _ in range(classes)]
    for number, (truth, given) in enumerate(pairs):
        for y, x in np.argwhere(truth != IGNORE).tolist():
            true[truth[y, x]].add((number, y, x))
            predicted[given[y, x]].add((number, y, x))
    both = list(zip(true, predicted, strict=True))
    found = [len(t & s) / len(t | s) for t, s in both if t | s]
    right = [len(t & s) / len(t) for t, s in both if t]
    total = sum(map(len, true))
    return {
        "mIoU": sum(found) / len(found),
        "mAcc": sum(right) / len(right),
        "aAcc": sum(len(t & s) for t, s in both) / total,
    }


def computed(metric: SegmentationMetric) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_counting(seed: int) -> None:
    pairs = simulated_pairs(seed)
    metric = SegmentationMetric(FIVE)
    metric.update([Segmentation(predicted, FIVE) for _, predicted in pairs], [target(truth) for truth, _ in pairs])
    assert computed(metric) == pytest.approx(by_hand(pairs, 5), abs=1e-6)  # float32 of values up to 1


def test_a_class_that_is_only_said_counts_for_iou_alone() -> None:
    truth, predicted = np.zeros((1, 4), np.uint8), np.array([[0, 0, 0, 1]], np.uint8)
    metric = SegmentationMetric(FIVE)
    metric.update([Segmentation(predicted, FIVE)], [target(truth)])
    assert computed(metric) == pytest.approx({"mIoU": (3 / 4 + 0) / 2, "mAcc": 3 / 4, "aAcc": 3 / 4})


def test_kinds_of_outputs_agree() -> None:
    """Outputs of validation in training (one padded batch, also in bf16), of ``val``, and results of prediction."""
    pairs = simulated_pairs(0)
    targets = [target(truth) for truth, _ in pairs]
    largest = tuple(max(it.placement.outer[axis] for it in targets if it.placement) for axis in (0, 1))
    batch = torch.from_numpy(np.stack([logits_of(predicted, 5, (largest[0], largest[1])) for _, predicted in pairs]))
    each = [
        logits_of(predicted, 5, it.placement.outer)
        for (_, predicted), it in zip(pairs, targets, strict=True)
        if it.placement
    ]
    for outputs in ({"logits": batch}, {"logits": batch.bfloat16(), "auxiliary": batch}, each):
        metric = SegmentationMetric(FIVE)
        metric.update(outputs, targets)
        assert computed(metric) == pytest.approx(by_hand(pairs, 5), abs=1e-6)


def test_what_is_said_of_a_resized_image_is_measured_in_its_own_px() -> None:
    predicted = np.repeat(np.repeat(np.array([[0, 1], [2, 1]], np.uint8), 16, 0), 16, 1)
    truth = predicted.repeat(3, 0).repeat(3, 1)
    placement = Placement((96, 96), (32, 32), (32, 64))
    given = predicted_labels(logits_of(predicted, 5, (64, 64)), target(truth, placement), FIVE)
    assert given.shape == (96, 96)
    # Between two classes the border lies where both are as likely: within 1.5 px of three times the input's border.
    assert (given != truth).mean() < 0.05
    assert np.array_equal(given[::6, ::6][:7, :7], truth[::6, ::6][:7, :7])


def test_several_updates_are_one_and_all_processes_are_one() -> None:
    pairs = simulated_pairs(1)
    whole, parts, one, other = (SegmentationMetric(FIVE) for _ in range(4))
    results = [Segmentation(predicted, FIVE) for _, predicted in pairs]
    targets = [target(truth) for truth, _ in pairs]
    whole.update(results, targets)
    for result, it in zip(results, targets, strict=True):
        parts.update([result], [it])
    one.update(results[:2], targets[:2])
    other.update(results[2:], targets[2:])
    assert computed(parts) == computed(whole)
    assert parts._reductions["confusion"] is not None
    summed = one.confusion + other.confusion
    assert torch.equal(parts._reductions["confusion"](torch.stack([one.confusion, other.confusion])), summed)
    assert torch.equal(summed, whole.confusion)
    whole.reset()
    assert not whole.confusion.any()


def test_images_without_a_label_add_nothing() -> None:
    metric = SegmentationMetric(FIVE)
    nothing = np.full((20, 30), IGNORE, np.uint8)
    metric.update([Segmentation(np.ones_like(nothing), FIVE)], [target(nothing)])
    assert computed(metric) == {"mIoU": 0, "mAcc": 0, "aAcc": 0}
    truth = np.zeros((20, 30), np.uint8)
    metric.update([Segmentation(truth, FIVE)], [target(truth)])
    assert computed(metric) == {"mIoU": 1, "mAcc": 1, "aAcc": 1}


def test_as_many_classes_as_there_may_be() -> None:
    classes = Classes.of(map(str, range(255)))
    truth = np.arange(255, dtype=np.uint8).repeat(2).reshape(30, 17)
    predicted = truth.copy()
    predicted[truth == 254] = 0
    metric = SegmentationMetric(classes)
    metric.update([Segmentation(predicted, classes)], [target(truth)])
    assert computed(metric) == pytest.approx(
        {"mIoU": (253 + 2 / 4) / 255, "mAcc": 254 / 255, "aAcc": 254 / 255}, abs=1e-6
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers(value: float) -> None:
    truth = np.zeros((32, 32), np.uint8)
    logits = logits_of(truth, 5, (32, 64))
    logits[1, 3, 40] = value  # beyond the image's own input: another image's affair
    predicted_labels(logits, target(truth), FIVE)
    logits[1, 3, 4] = value
    with pytest.raises(WorkError, match="not finite"):
        SegmentationMetric(FIVE).update([logits], [target(truth)])


def test_the_level_logs_them() -> None:
    metrics = get_task("segment").metrics(FIVE)
    truth = np.zeros((8, 8), np.uint8)
    metrics.update([Segmentation(truth, FIVE)], [target(truth)])
    assert {name: float(value) for name, value in metrics.compute().items()} == {"mIoU": 1, "mAcc": 1, "aAcc": 1}


# Boundaries


def f1_by_distances(truth: Labels, predicted: Labels, classes: int) -> NDArray[np.float64]:
    """The distances between all pairs of boundary px."""
    predicted = np.where(truth == IGNORE, IGNORE, predicted)
    radius = max(1.0, 0.0075 * math.hypot(*truth.shape))
    found = np.full(classes, np.nan)
    for k in range(classes):
        true, given = edge(truth == k), edge(predicted == k)
        if not len(true) and not len(given):
            continue
        found[k] = 0
        if len(true) and len(given):
            distances = np.sqrt(((true[:, None] - given[None]) ** 2).sum(2))
            recall, precision = ((distances.min(axis) <= radius).mean() for axis in (1, 0))
            found[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0
    return found


def edge(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n, 2) px of a class that have a px of another class above, below, left or right."""
    height, width = mask.shape
    return np.array(
        [
            (y, x)
            for y, x in np.argwhere(mask).tolist()
            if any(
                0 <= y + v < height and 0 <= x + u < width and not mask[y + v, x + u]
                for v, u in ((-1, 0), (1, 0), (0, -1), (0, 1))
            )
        ],
        np.int64,
    ).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("size", "shift"),
    [((30, 40), 1), ((9, 300), 3), ((300, 9), 2), ((1, 50), 1), ((5, 1), 1), ((40, 280), 2), ((40, 280), 5)],
)
def test_boundaries_are_compared_as_all_distances_say(seed: int, size: tuple[int, int], shift: int) -> None:
    """Radii from 1 to 2.25 px (300 px long); a slightly shifted map, also beyond the edge, and an unrelated one."""
    truth = blobs(seed, size, 4, ignored=0.02 if seed % 2 else 0)
    moved = np.roll(np.where(truth == IGNORE, 0, truth), shift, seed % 2)
    for predicted in (moved, blobs(seed + 50, size, 5, 0)):
        np.testing.assert_allclose(boundary_f1(truth, predicted, 5), f1_by_distances(truth, predicted, 5), atol=1e-12)


@pytest.mark.parametrize("off", range(12))
def test_a_border_counts_up_to_the_tolerance(off: int) -> None:
    """In 1000 x 240 px it is 7.7 px: a vertical border between two classes counts up to 7 px off."""
    truth, predicted = np.zeros((2, 240, 1000), np.uint8)
    truth[:, 500:] = 1
    predicted[:, 500 + off :] = 1
    np.testing.assert_array_equal(boundary_f1(truth, predicted, 2), [1, 1] if off <= 7 else [0, 0])


def test_boundaries_by_hand() -> None:
    truth = np.zeros((40, 40), np.uint8)
    np.testing.assert_array_equal(boundary_f1(truth, truth, 3), [np.nan] * 3)  # no border, nothing to be met
    predicted = truth.copy()
    predicted[10:20, 10:20] = 1
    np.testing.assert_array_equal(boundary_f1(truth, predicted, 3), [0, 0, np.nan])
    truth[10:20, 10:20] = IGNORE  # what is said there does not count, and its border is all of ground's
    np.testing.assert_array_equal(boundary_f1(truth, predicted, 3), [1, np.nan, np.nan])
