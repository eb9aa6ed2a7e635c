"""Panoptic quality, by hand and against a slow reference. benchmarks/panoptic_quality.py compares panopticapi."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from fishnet.bundle.panoptic import PanopticConfig, SegmentClass
from fishnet.data.panoptic.base import PanopticTruth
from fishnet.data.panoptic.base import Segment as TrueSegment
from fishnet.errors import InputError
from fishnet.prediction.results import Panoptic
from fishnet.tasks.panoptic.metrics import PanopticQuality, Segments

CAT, DOG, SKY, SEA = range(4)
CLASSES = (
    SegmentClass("cat", 17, True),
    SegmentClass("dog", 3, True),
    SegmentClass("sky", 90, False),
    SegmentClass("sea", 1, False),
)


def row(*parts: tuple[int, int]) -> Any:
    """A map of one row: (id, number of pixels) from left to right."""
    return np.repeat([id_ for id_, _ in parts], [count for _, count in parts])[None].astype(np.int32)


def segments(labels: Mapping[int, int], *parts: tuple[int, int], crowds: Sequence[int] = ()) -> Segments:
    return Segments(row(*parts), labels, crowds)


def quality(*images: tuple[Segments, Segments]) -> PanopticQuality:
    """The quality over images, each predicted and annotated."""
    result = PanopticQuality(CLASSES)
    for predicted, truth in images:
        result.update(predicted, truth)
    return result


@pytest.mark.parametrize(
    ("predicted", "truth", "sums"),
    [
        pytest.param(
            segments({1: CAT, 2: SKY}, (1, 6), (2, 4)),
            segments({7: CAT, 9: SKY}, (7, 6), (9, 4)),
            {CAT: (1, 1, 0, 0), SKY: (1, 1, 0, 0)},
            id="complete",
        ),
        pytest.param(
            segments({1: CAT, 2: SKY}, (1, 8), (2, 2)),
            segments({7: CAT, 9: SKY}, (7, 6), (9, 4)),
            {CAT: (6 / 8, 1, 0, 0), SKY: (0, 0, 1, 1)},
            id="an IoU of 2/4 is no match",
        ),
        pytest.param(
            segments({1: DOG}, (1, 10)),
            segments({7: CAT}, (7, 10)),
            {CAT: (0, 0, 0, 1), DOG: (0, 0, 1, 0)},
            id="another class",
        ),
        pytest.param(
            segments({1: CAT}, (1, 10)),
            segments({7: CAT}, (7, 6), (0, 4)),
            {CAT: (1, 1, 0, 0)},
            id="void in the truth does not count in the union",
        ),
        pytest.param(
            segments({1: CAT, 2: DOG}, (1, 10), (2, 10)),
            segments({}, (0, 6), (0, 4), (0, 6), (0, 4)),
            {},
            id="predictions on void are ignored",
        ),
        pytest.param(
            segments({1: CAT}, (1, 10)),
            segments({7: DOG}, (7, 5), (0, 5)),
            {CAT: (0, 0, 1, 0), DOG: (0, 0, 0, 1)},
            id="half of it void is not more than half",
        ),
        pytest.param(
            segments({1: CAT}, (0, 4), (1, 6)),
            segments({7: CAT}, (7, 10)),
            {CAT: (0.6, 1, 0, 0)},
            id="void in the prediction counts in the union",
        ),
        pytest.param(
            segments({}, (0, 10)),
            segments({7: CAT, 8: SEA}, (7, 5), (8, 5)),
            {CAT: (0, 0, 0, 1), SEA: (0, 0, 0, 1)},
            id="nothing is predicted",
        ),
        pytest.param(
            segments({1: CAT, 2: CAT, 3: DOG}, (1, 5), (2, 5), (3, 5)),
            segments({7: CAT, 8: DOG}, (7, 10), (8, 5), crowds=[7]),
            {DOG: (1, 1, 0, 0)},
            id="a crowd is neither missed nor matched, and its predictions are ignored",
        ),
        pytest.param(
            segments({1: CAT}, (1, 10)),
            segments({7: CAT}, (7, 10), crowds=[7]),
            {},
            id="a crowd is not matched by the whole of it",
        ),
        pytest.param(
            segments({1: DOG}, (1, 10)),
            segments({7: CAT}, (7, 10), crowds=[7]),
            {DOG: (0, 0, 1, 0)},
            id="the crowd of another class",
        ),
        pytest.param(
            segments({1: CAT}, (1, 10)),
            segments({7: CAT, 8: SKY}, (7, 4), (0, 2), (8, 4), crowds=[7]),
            {SKY: (0, 0, 0, 1)},
            id="crowd and void together are more than half",
        ),
        pytest.param(
            segments({1: CAT}, (1, 10)),
            segments({7: CAT, 8: SKY}, (7, 3), (0, 2), (8, 5), crowds=[7]),
            {CAT: (0, 0, 1, 0), SKY: (0, 0, 0, 1)},
            id="crowd and void together are half",
        ),
        pytest.param(
            segments({1: CAT}, (1, 10)),
            segments({7: CAT, 8: CAT}, (7, 4), (8, 6), crowds=[7]),
            {CAT: (6 / 10, 1, 0, 0)},
            id="pixels of a crowd count in the union",
        ),
        pytest.param(
            segments({1: CAT, 2: CAT}, (1, 3), (2, 3), (0, 1), (2, 3)),
            segments({2**24 - 1: CAT, 4: CAT}, (2**24 - 1, 3), (4, 7)),
            {CAT: (1 + 6 / 7, 2, 0, 0)},
            id="segments in pieces, ids of 24 bits",
        ),
        pytest.param(
            segments({1: SEA}, (1, 10)),
            segments({7: SEA, 8: SKY}, (7, 10)),
            {SEA: (1, 1, 0, 0), SKY: (0, 0, 0, 1)},
            id="an annotated segment without pixels is missed",
        ),
    ],
)
def test_by_hand(predicted: Segments, truth: Segments, sums: dict[int, tuple[float, ...]]) -> None:
    expected = np.array([sums.get(label, (0, 0, 0, 0)) for label in range(4)], float)
    np.testing.assert_allclose(quality((predicted, truth)).sums, expected, rtol=1e-15)


def test_the_means_by_hand() -> None:
    """Two images: a cat of IoU 0.8 and a missed one, no dog, sky of IoU 1 and a false one, no sea."""
    first = segments({1: CAT, 2: SKY}, (1, 8), (0, 2), (2, 10)), segments({1: CAT, 2: SKY}, (1, 10), (2, 10))
    second = segments({2: SKY}, (2, 10)), segments({1: CAT}, (1, 10))
    values = quality(first, second).compute()
    cat, sky = (0.8 / 1.5, 0.8, 1 / 1.5), (1 / 1.5, 1.0, 1 / 1.5)
    expected = {f"{name}_th": value for name, value in zip(("PQ", "SQ", "RQ"), cat, strict=True)}
    expected |= {f"{name}_st": value for name, value in zip(("PQ", "SQ", "RQ"), sky, strict=True)}
    expected |= {name: (a + b) / 2 for name, a, b in zip(("PQ", "SQ", "RQ"), cat, sky, strict=True)}
    assert values == pytest.approx(expected)
    assert list(values)[:3] == ["PQ", "SQ", "RQ"]


def test_rows() -> None:
    first = segments({1: CAT, 3: DOG}, (1, 8), (0, 2), (3, 10)), segments({1: CAT, 2: SKY}, (1, 10), (2, 10))
    rows = quality(first).rows()
    assert [(one["class"], one["id"], one["is_thing"]) for one in rows] == [
        ("cat", 17, True), ("dog", 3, True), ("sky", 90, False), ("sea", 1, False),
    ]  # fmt: skip
    assert [(one["PQ"], one["SQ"], one["RQ"]) for one in rows] == [(80, 80, 100), (0, 0, 0), (0, 0, 0), (None,) * 3]
    counts = [
        tuple(one[name] for name in ("segments", "matches", "false_positives", "false_negatives")) for one in rows
    ]
    assert counts == [(1, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 1), (0, 0, 0, 0)]


def test_nothing_at_all() -> None:
    """No image, and things only: what does not exist is left out."""
    assert quality().compute() == {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0}
    values = quality((segments({1: CAT}, (1, 4)), segments({1: CAT}, (1, 4)))).compute()
    assert values == {"PQ": 1.0, "SQ": 1.0, "RQ": 1.0, "PQ_th": 1.0, "SQ_th": 1.0, "RQ_th": 1.0}


def slow_sums(predicted: Segments, truth: Segments) -> Any:
    """The sums of one image by the definition, one pair of masks at a time."""
    sums = np.zeros((len(CLASSES), 4))
    void = truth.ids == 0
    matched_true, matched_predicted = set(), set()
    for true, label in truth.labels.items():
        for one, other in predicted.labels.items():
            if label != other or true in truth.crowds:
                continue
            a, b = truth.ids == true, predicted.ids == one
            iou = (a & b).sum() / (a | (b & ~void)).sum()
            if iou > 0.5:
                matched_true.add(true)
                matched_predicted.add(one)
                sums[label, 0] += iou
                sums[label, 1] += 1
    for true, label in truth.labels.items():
        sums[label, 3] += true not in matched_true and true not in truth.crowds
    crowd: defaultdict[int, Any] = defaultdict(lambda: np.zeros_like(void))
    for true in truth.crowds:
        crowd[truth.labels[true]] = truth.ids == true
    for one, label in predicted.labels.items():
        inside = predicted.ids == one
        ignored = (inside & (void | crowd[label])).sum() > inside.sum() / 2
        sums[label, 2] += one not in matched_predicted and not ignored
    return sums


def random_segments(random: np.random.Generator, base: Any, share: float, crowds: bool) -> Segments:
    """Redraws a share of a map's pixels; its numbers 1 to 8 get random ids, each two of one class, 0 stays void."""
    index = np.where(random.random(base.shape) < share, random.integers(0, 9, base.shape), base)
    ids = np.append(0, random.choice(2**24 - 1, 8, replace=False) + 1)
    present = sorted(set(np.unique(index).tolist()) - {0})
    crowd = [int(ids[1 + 2 * label]) for label in (CAT, DOG) if crowds and 1 + 2 * label in present]
    return Segments(ids[index].astype(np.int32), {int(ids[i]): (i - 1) // 2 for i in present}, crowd)


@pytest.mark.parametrize("seed", range(20))
def test_equal_to_the_slow_reference(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 40, 2)
    base = random.integers(0, 9, (-(-height // 6), -(-width // 6))).repeat(6, 0).repeat(6, 1)[:height, :width]
    truth = random_segments(random, base, 0.05, crowds=seed % 2 == 0)
    predicted = random_segments(random, base, float(random.uniform(0, 0.6)), crowds=False)
    np.testing.assert_allclose(quality((predicted, truth)).sums, slow_sums(predicted, truth), rtol=1e-12)


def test_processes_add_their_sums() -> None:
    random = np.random.default_rng(1)
    base = random.integers(0, 9, (5, 5)).repeat(6, 0).repeat(6, 1)
    images = [
        (random_segments(random, base, 0.3, crowds=False), random_segments(random, base, 0.1, crowds=True))
        for _ in range(6)
    ]
    halves = quality(*images[:2]), quality(*images[2:])
    halves[0].merge_state(halves[1:])
    assert halves[0].compute() == pytest.approx(quality(*images).compute())


def test_a_prediction_is_taken_as_it_is() -> None:
    config = PanopticConfig(CLASSES)
    result = Panoptic.from_ids(row((5, 6), (0, 1), (2, 3)), {5: CAT, 2: SKY}, config, {5: 0.9})
    predicted = Segments.of_result(result)
    assert (dict(predicted.labels), predicted.crowds) == ({5: CAT, 2: SKY}, ())
    values = quality((predicted, segments({1: CAT, 2: SKY}, (1, 7), (2, 3)))).compute()
    assert values["PQ"] == pytest.approx((6 / 7 + 1) / 2)


def test_annotations_are_taken_as_they_are() -> None:
    truth = PanopticTruth(
        row((9, 4), (0, 1), (4, 5)),
        (TrueSegment(9, SKY, False, False, 4), TrueSegment(4, CAT, True, True, 5)),
    )
    ids, labels, crowds = Segments.of_truth(truth)
    assert ids is truth.ids
    assert (dict(labels), list(crowds)) == ({9: SKY, 4: CAT}, [4])


@pytest.mark.parametrize(
    ("predicted", "truth", "words"),
    [
        (segments({1: CAT}, (1, 4)), segments({1: CAT}, (1, 5)), "of 4x1 px and annotated ones of 5x1 px"),
        (segments({1: CAT}, (1, 4), (3, 1)), segments({1: CAT}, (1, 5)), "id 3 has pixels but no segment"),
        (segments({1: CAT}, (1, 5)), segments({1: CAT}, (1, 4), (3, 1)), "id 3 has pixels but no segment"),
        (segments({1: 4}, (1, 5)), segments({1: CAT}, (1, 5)), "predicted segment 1 has the class index 4"),
        (segments({1: CAT}, (1, 5)), segments({1: -1}, (1, 5)), "annotated segment 1 has the class index -1"),
        (segments({1: CAT, 8: CAT}, (1, 5)), segments({1: CAT}, (1, 5)), "predicted segment 8 has no pixels"),
        (segments({1: CAT}, (1, 5)), segments({1: CAT}, (1, 4), (2**24, 1)), "from 0 to 16777216"),
    ],
)
def test_wrong_input(predicted: Segments, truth: Segments, words: str) -> None:
    with pytest.raises(InputError, match=words):
        quality((predicted, truth))
