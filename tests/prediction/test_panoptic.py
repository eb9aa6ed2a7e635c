"""Merging instances and label maps, and what is made of the result."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.bundle.panoptic import PanopticConfig
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from fishnet.images.segment_ids import read_png
from fishnet.prediction.drawing import colour_of
from fishnet.prediction.panoptic import merge
from fishnet.prediction.results import CroppedMask, Detections, Panoptic, Result, Segmentation

THINGS, STUFF = Classes(("cat", "dog"), (17, 3)), Classes(("sky", "sea"), (90, 1))
CONFIG = PanopticConfig.of(THINGS, STUFF, stuff_area=1)
LABELS = Classes(("things", *STUFF.names), (0, *STUFF.ids))
CAT, DOG, SKY, SEA = range(4)
_, IN_SKY, IN_SEA = range(3)  # labels of the label map; 0 is all things

Box = tuple[int, int, int, int]


def boxes_as_masks(boxes: Sequence[Box], size: tuple[int, int]) -> tuple[CroppedMask, ...]:
    assert all(x2 <= size[1] and y2 <= size[0] for _, _, x2, y2 in boxes)
    return tuple(CroppedMask(x1, y1, np.ones((y2 - y1, x2 - x1), bool)) for x1, y1, x2, y2 in boxes)


def detected(*objects: tuple[int, float, Box], size: tuple[int, int]) -> Detections:
    """Rectangles: (class, score, x1 y1 x2 y2)."""
    boxes = [box for _, _, box in objects]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in objects], np.int64),
        np.array([score for _, score, _ in objects], np.float32),
        THINGS,
        size,
        boxes_as_masks(boxes, size),
    )


def label_map(rows: Any) -> Segmentation:
    return Segmentation(np.array(rows, np.uint8), LABELS)


def row(label: int, *objects: tuple[int, float, int, int], **thresholds: Any) -> Panoptic:
    """Ten pixels in a row of one label, and objects (class, score, from, to)."""
    boxes = [(label_, score, (x1, 0, x2, 1)) for label_, score, x1, x2 in objects]
    return merge(detected(*boxes, size=(1, 10)), label_map([[label] * 10]), replace(CONFIG, **thresholds))


def described(result: Panoptic) -> list[tuple[Any, ...]]:
    """(class index, area, score) of each segment."""
    return [(one.label, one.area, one.score) for one in result.segments]


def test_things_lie_on_stuff() -> None:
    result = row(IN_SKY, (DOG, 0.75, 2, 5))
    assert result.ids.tolist() == [[2, 2, 1, 1, 1, 2, 2, 2, 2, 2]]
    assert result.ids.dtype == np.int32
    assert described(result) == [(DOG, 3, 0.75), (SKY, 7, None)]
    assert [(one.name, one.category_id, one.is_thing) for one in result.segments] == [
        ("dog", 3, True),
        ("sky", 90, False),
    ]


def test_the_best_score_takes_its_pixels_first() -> None:
    objects = [(CAT, 0.75, 0, 6), (DOG, 0.875, 4, 10)]
    for order in (objects, objects[::-1]):
        assert described(row(IN_SKY, *order)) == [(DOG, 6, 0.875), (CAT, 4, 0.75)]
    same = row(IN_SKY, (CAT, 0.75, 0, 6), (DOG, 0.75, 4, 10))
    assert described(same) == [(CAT, 6, 0.75), (DOG, 4, 0.75)], "of equal scores the first one"


@pytest.mark.parametrize(("begin", "kept"), [(5, True), (4, False)])
def test_an_instance_is_dropped_where_more_than_half_is_covered(begin: int, kept: bool) -> None:
    """Of 4 px 2 or 3 are covered by an instance of another class; half is not more than half."""
    result = row(IN_SKY, (CAT, 0.9, 0, 7), (DOG, 0.6, begin, begin + 4))
    assert [one.label for one in result.segments] == ([CAT, DOG, SKY] if kept else [CAT, SKY])


def test_what_is_dropped_covers_nothing() -> None:
    """The second is dropped; the third is covered by the first for a quarter only."""
    result = row(IN_SKY, (CAT, 0.9, 0, 4), (CAT, 0.8, 1, 6), (DOG, 0.7, 3, 7))
    assert result.ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 3, 3, 3]]


def test_an_instance_without_free_pixels_is_dropped() -> None:
    result = row(IN_SKY, (CAT, 0.9, 0, 4), (DOG, 0.8, 1, 3), overlap_threshold=1)
    assert described(result)[1:] == [(SKY, 6, None)]


@pytest.mark.parametrize(("threshold", "count"), [(0.5, 1), (0.500001, 0), (0, 2), (1, 0)])
def test_the_score_threshold_is_reached_or_not(threshold: float, count: int) -> None:
    result = row(IN_SKY, (CAT, 0.5, 0, 2), (DOG, 0.25, 4, 6), score_threshold=threshold)
    assert sum(one.is_thing for one in result.segments) == count


@pytest.mark.parametrize(("threshold", "kept"), [(0.75, True), (0.7, False)])
def test_the_overlap_threshold(threshold: float, kept: bool) -> None:
    result = row(IN_SKY, (CAT, 0.9, 0, 7), (DOG, 0.6, 4, 8), overlap_threshold=threshold)
    assert (DOG in [one.label for one in result.segments]) == kept


@pytest.mark.parametrize(("area", "kept"), [(7, True), (8, False)])
def test_little_stuff_is_void(area: int, kept: bool) -> None:
    """The area is that of the pixels that no thing has taken."""
    result = row(IN_SKY, (CAT, 0.9, 0, 3), stuff_area=area)
    assert described(result) == [(CAT, 3, pytest.approx(0.9)), *([(SKY, 7, None)] if kept else [])]
    assert result.void == (0 if kept else 7)


def test_the_default_area_is_that_of_the_paper() -> None:
    config = replace(CONFIG, stuff_area=PanopticConfig.of(THINGS, STUFF).stuff_area)
    for side, count in ((64, 1), (63, 0)):
        result = merge(detected(size=(side, side)), label_map(np.full((side, side), IN_SEA)), config)
        assert len(result.segments) == count


def test_things_of_the_label_map_without_instance_are_void() -> None:
    result = row(0, (CAT, 0.9, 0, 3))
    assert described(result) == [(CAT, 3, pytest.approx(0.9))]
    assert (result.void, result.ids.tolist()) == (7, [[1] * 3 + [0] * 7])


def test_ignored_pixels_are_void() -> None:
    assert row(255).segments == ()


def test_stuff_in_pieces_is_one_segment() -> None:
    result = merge(detected(size=(2, 3)), label_map([[1, 2, 1], [1, 2, 0]]), CONFIG)
    assert result.ids.tolist() == [[1, 2, 1], [1, 2, 0]]
    assert [one.box for one in result.segments] == [(0, 0, 3, 2), (1, 0, 2, 2)]


def test_classes_in_any_order() -> None:
    """The two heads count the things and the stuff in the order of the config."""
    segments = tuple(CONFIG.segments[i] for i in (SEA, DOG, SKY, CAT))
    config = replace(CONFIG, segments=segments)
    detections = replace(detected((0, 0.9, (0, 0, 1, 1)), size=(1, 3)), classes=config.things)
    labels = Segmentation(np.array([[0, 1, 2]], np.uint8), Classes(("things", "sea", "sky"), (0, 1, 90)))
    names = [(one.label, one.name, one.category_id) for one in merge(detections, labels, config).segments]
    assert names == [(1, "dog", 3), (0, "sea", 1), (2, "sky", 90)]


def slow_merge(detections: Detections, labels: Segmentation, config: PanopticConfig) -> list[tuple[int, Any]]:
    """(class index, mask) by the rule, on masks of full size."""
    taken = np.zeros(detections.size, bool)
    result = []
    masks = detections.masks
    for i in np.argsort(-detections.scores, kind="stable"):
        mask = masks[i]
        if detections.scores[i] < config.score_threshold or not (mask & ~taken).any():
            continue
        if (mask & taken).sum() / mask.sum() <= config.overlap_threshold:
            result.append((int(detections.labels[i]), mask & ~taken))
            taken |= mask
    for label in range(1, len(labels.classes)):
        mask = (labels.labels == label) & ~taken
        if mask.any() and mask.sum() >= config.stuff_area:
            result.append((label + 1, mask))
    return result


@pytest.mark.parametrize("seed", range(10))
def test_equal_to_the_rule_on_whole_masks(seed: int) -> None:
    random = np.random.default_rng(seed)
    size, count = (40, 50), 12
    corners = random.integers(0, 40, (count, 2))
    boxes = np.hstack([corners, np.minimum(corners + random.integers(1, 25, (count, 2)), size[::-1])])
    masks = tuple(CroppedMask(x1, y1, random.random((y2 - y1, x2 - x1)) < 0.8) for x1, y1, x2, y2 in boxes.tolist())
    scores = random.random(count).round(1).astype(np.float32)
    detections = Detections(boxes.astype(np.float32), random.integers(0, 2, count), scores, THINGS, size, masks)
    labels = label_map(random.integers(0, 3, (8, 10)).repeat(5, 0).repeat(5, 1))
    config = replace(CONFIG, score_threshold=0.3, overlap_threshold=float(random.choice([0.2, 0.5, 1])), stuff_area=300)
    result, expected = merge(detections, labels, config), slow_merge(detections, labels, config)
    assert [one.label for one in result.segments] == [label for label, _ in expected]
    for segment, (_, mask) in zip(result.segments, expected, strict=True):
        np.testing.assert_array_equal(result.mask(segment.id), mask)
        y, x = np.nonzero(mask)
        assert segment.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        assert segment.area == mask.sum()
    assert result.void == (~np.any([mask for _, mask in expected], axis=0)).sum()


def test_a_mask_threshold_widens_masks() -> None:
    placement = Preprocess((64, 64), fit="whole").place(64, 64)
    raw: dict[str, NDArray[Any]] = {
        "boxes": np.array([[8, 8, 56, 56]], np.float32),
        "scores": np.array([0.9], np.float32),
        "labels": np.array([0]),
        "masks": np.linspace(0, 1, 28, dtype=np.float32)[None, None].repeat(28, 1),
    }
    areas = [
        Detections.from_raw(raw, THINGS, placement, mask_threshold=threshold).areas[0]
        for threshold in (0.25, 0.5, 0.75)
    ]
    assert areas[0] > areas[1] > areas[2] > 0
    assert Detections.from_raw(raw, THINGS, placement).areas[0] == areas[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cropped_masks": None}, "needs masks: these detections are boxes only"),
        ({"size": (2, 10)}, "an image of 10x2 px cannot be merged with a label map of 10x1 px"),
        ({"classes": Classes(("dog", "cat"), (3, 17))}, "head 'instances' are not"),
    ],
)
def test_what_cannot_be_merged(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        merge(replace(detected(size=(1, 10)), **change), label_map([[1] * 10]), CONFIG)


# the result

RESULT = merge(
    detected((CAT, 0.9, (4, 2, 10, 8)), (CAT, 0.8, (12, 2, 18, 8)), size=(12, 24)),
    label_map([[IN_SKY] * 24] * 6 + [[IN_SEA] * 20 + [0] * 4] * 6),
    CONFIG,
)


def test_cocos_format() -> None:
    values = RESULT.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert (values["task"], values["size"]) == ("panoptic", [12, 24])
    assert values["segments_info"] == [
        {"id": 1, "category_id": 17, "area": 36, "bbox": [4, 2, 6, 6], "iscrowd": 0, "name": "cat", "score": 0.9},
        {"id": 2, "category_id": 17, "area": 36, "bbox": [12, 2, 6, 6], "iscrowd": 0, "name": "cat", "score": 0.8},
        {"id": 3, "category_id": 90, "area": 96, "bbox": [0, 0, 24, 6], "iscrowd": 0, "name": "sky"},
        {"id": 4, "category_id": 1, "area": 96, "bbox": [0, 6, 20, 6], "iscrowd": 0, "name": "sea"},
    ]


def test_rows_and_summary() -> None:
    rows = RESULT.rows()
    assert all(tuple(one) == Panoptic.columns for one in rows)
    assert (rows[0]["id"], rows[0]["score"], rows[0]["x2"], rows[0]["share"]) == (17, 0.9, 10, 0.125)
    assert (rows[2]["is_thing"], rows[2]["score"]) == (False, None)
    assert RESULT.summary() == "2 things: 2 cat; sky 33.3 %, sea 33.3 %, void 8.3 %"
    assert RESULT.summary(1) == "2 things: 2 cat; sky 33.3 %, 1 more, void 8.3 %"
    assert row(0).summary() == "no things; void 100.0 %"
    result: Result = RESULT
    assert result.columns


def test_the_png_holds_the_ids(tmp_path: Path) -> None:
    RESULT.write_png(tmp_path / "a.png")
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), RESULT.ids)


def test_segments_of_other_ids() -> None:
    """As annotations have them: any id, in any order; without pixels, none."""
    ids = np.array([[900, 900, 5], [0, 5, 5]])
    result = Panoptic.from_ids(ids, {900: SEA, 7: CAT, 5: DOG}, CONFIG, {5: 0.5})
    assert [(one.id, one.name, one.area, one.box, one.score) for one in result.segments] == [
        (900, "sea", 2, (0, 0, 2, 1), None),
        (5, "dog", 3, (1, 0, 3, 2), 0.5),
    ]
    assert (result.categories, result.crowds, result.size) == ({900: 1, 5: 3}, frozenset(), (2, 3))
    with pytest.raises(InputError, match="id 5 has pixels but no segment"):
        Panoptic.from_ids(ids, {900: SEA}, CONFIG)


# drawing


def drawn(result: Panoptic, value: int = 128) -> tuple[Any, int]:
    """The overlay of a grey image, and the factor by which it is enlarged."""
    height, width = result.size
    page = result.draw(Image.new("RGB", (width, height), (value, value, value)))
    return np.asarray(page), page.width // width


def test_what_an_overlay_shows() -> None:
    """Pixels inside of segments: the cats differ, the stuff differs, void stays grey. Text is above the cats' boxes."""
    page, factor = drawn(RESULT)
    assert page.shape[0] > factor * 12, "a legend below"
    inside = [tuple(page[round(y * factor), round(x * factor)].tolist()) for x, y in ((7, 5), (15, 5), (22, 3), (3, 9))]
    assert len(set(inside)) == 4
    assert tuple(page[10 * factor, 22 * factor]) == (128, 128, 128)
    hues = np.array([colour_of(i) for i in range(7)])
    outline = page[5 * factor : 6 * factor, 4 * factor : 10 * factor].reshape(-1, 3)
    assert (outline[:, None] == hues).all(-1).any(), "outlined in a colour of things"


def test_an_overlay_of_nothing() -> None:
    page, factor = drawn(row(0))
    assert (page[:factor, : 10 * factor] == 128).all()


def test_many_things_have_no_labels() -> None:
    """The page of 26 things has no text in it: every pixel is grey, a colour, or a mix of both."""
    boxes = [(CAT, 0.9, (4 * i, 0, 4 * i + 3, 3)) for i in range(26)]
    for count in (25, 26):
        result = merge(detected(*boxes[:count], size=(40, 110)), label_map(np.zeros((40, 110))), CONFIG)
        page, factor = drawn(result)
        below = page[4 * factor : 40 * factor]
        assert (below == 128).all() == (count == 26), "labels lie below the things, which are at the top"


def test_an_image_of_another_size() -> None:
    with pytest.raises(InputError, match="24x12 px cannot be drawn on one of 5x5 px"):
        RESULT.draw(Image.new("RGB", (5, 5)))
