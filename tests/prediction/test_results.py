"""Results: what the numbers of a model mean."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.errors import InputError
from fishnet.images.preprocess import Placement, Preprocess
from fishnet.prediction.drawing import label_colour
from fishnet.prediction.results import Classification, Detections, Result, Segmentation

TABLE = Classes(("ant", "bee", "cat", "dog"), (11, 7, 90, 1))


def of(*logits: float, k: int = 5, classes: Classes = TABLE) -> Classification:
    return Classification.from_logits(np.array(logits, np.float32), classes, k)


def test_softmax_best_first() -> None:
    result = of(0.0, np.log(6.0), np.log(2.0), 0.0)
    assert result.labels.tolist() == [1, 2, 0, 3]
    # 1e-6: float32's 7 digits
    np.testing.assert_allclose(result.scores, [0.6, 0.2, 0.1, 0.1], atol=1e-6)
    assert (result.name, result.labels.dtype, result.scores.dtype) == ("bee", np.int64, np.float32)
    assert result.score == pytest.approx(0.6, abs=1e-6)


def test_ties_keep_the_order_of_the_classes() -> None:
    assert of(1.0, 1.0, 1.0, 1.0).labels.tolist() == [0, 1, 2, 3]
    assert of(0.0, 1.0, 1.0, 0.0, k=3).labels.tolist() == [1, 2, 0]
    many = of(*[0.0, 1.0] * 50, k=100, classes=Classes.of(map(str, range(100))))
    assert many.labels.tolist() == [*range(1, 100, 2), *range(0, 100, 2)]


@pytest.mark.parametrize(("k", "given"), [(1, 1), (3, 3), (4, 4), (9, 4)])
def test_no_more_than_there_are(k: int, given: int) -> None:
    result = of(3.0, 1.0, 2.0, 0.0, k=k)
    assert result.labels.tolist() == [0, 2, 1, 3][:given]
    assert len(result.scores) == given
    if given < 4:
        assert result.scores.sum() < 1, "the probabilities are over all classes, not over the given ones"


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_large_logits(scale: float) -> None:
    result = of(0.0, scale, -scale, 0.0)
    assert result.scores.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_original_ids_in_plain_values() -> None:
    result = of(0.0, 4.0, 2.0, 1.0, k=2)
    assert result.rows() == [
        {"id": 7, "name": "bee", "score": pytest.approx(0.8311, abs=1e-3)},
        {"id": 90, "name": "cat", "score": pytest.approx(0.1125, abs=1e-3)},
    ]
    assert json.loads(json.dumps(result.to_dict())) == {"task": "classify", "predictions": result.rows()}


def test_the_panel_has_the_best_three() -> None:
    image = Image.new("RGB", (300, 200), "white")
    heights = {k: of(3.0, 1.0, 2.0, 0.0).draw(image, k).height for k in (1, 2, 3)}
    assert heights[2] - heights[1] == heights[3] - heights[2] > 0
    assert of(3.0, 1.0, 2.0, 0.0).draw(image).height == heights[3]
    assert image.size == (300, 200), "the image itself stays as it is"


def test_a_classification_is_a_result() -> None:
    result: Result = of(0.0, 1.0, 2.0, 3.0)
    assert set(result.to_dict()) == {"task", "predictions"}


# detections

PLACE = Placement((100, 200), (200, 400), (224, 416))  # an image of 200x100 px at twice its size


def raw(*objects: tuple[list[float], int, float], masks: Any = None) -> dict[str, NDArray[Any]]:
    """Raw outputs from (box, label, score) in px of the input."""
    values: dict[str, NDArray[Any]] = {
        "boxes": np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
        "labels": np.array([label for _, label, _ in objects], np.int64),
        "scores": np.array([score for _, _, score in objects], np.float32),
    }
    return values if masks is None else {**values, "masks": np.asarray(masks, np.float32)}


THREE = (([20, 40, 60, 80], 1, 0.9), ([380, 180, 416, 224], 0, 0.6), ([0, 0, 10, 10], 3, 0.3))


def test_boxes_in_px_of_the_image_best_first() -> None:
    found = Detections.from_raw(raw(*THREE[::-1]), TABLE, PLACE)
    np.testing.assert_array_equal(found.boxes, [[10, 20, 30, 40], [190, 90, 200, 100], [0, 0, 5, 5]])
    assert found.names == ["bee", "ant", "dog"]
    assert (len(found), found.size, found.boxes.dtype, found.labels.dtype) == (3, (100, 200), np.float32, np.int64)


@pytest.mark.parametrize(
    ("threshold", "max_detections", "count"), [(0.0, None, 3), (0.5, None, 2), (0.0, 1, 1), (0.95, 5, 0)]
)
def test_threshold_and_max_detections(threshold: float, max_detections: int | None, count: int) -> None:
    found = Detections.from_raw(raw(*THREE), TABLE, PLACE, threshold=threshold, max_detections=max_detections)
    assert found.names == ["bee", "ant", "dog"][:count]


def test_what_lies_beside_the_image_is_left_out() -> None:
    beside = ([402, 10, 416, 50], 0, 0.9), ([10, 205, 50, 220], 0, 0.9), ([50, 50, 50, 70], 0, 0.9)
    assert len(Detections.from_raw(raw(*beside, THREE[0]), TABLE, PLACE)) == 1


def test_plain_values_with_original_ids() -> None:
    found = Detections.from_raw(raw(*THREE[:2]), TABLE, PLACE)
    expected = {"id": 7, "name": "bee", "score": 0.9, "box": [10.0, 20.0, 30.0, 40.0]}
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["task"], plain["size"], plain["objects"][0]) == ("detect", [100, 200], expected)
    row = {"id": 7, "name": "bee", "score": 0.9, "x1": 10, "y1": 20, "x2": 30, "y2": 40, "area": 400}
    assert found.rows()[0] == row
    assert found.coco(12)[0] == {"image_id": 12, "category_id": 7, "bbox": [10, 20, 20, 20], "score": 0.9}
    assert found.summary() == "2 objects: 1 bee, 1 ant"


def test_nothing_found() -> None:
    for masks in (None, np.zeros((0, 28, 28))):
        found: Result = Detections.from_raw(raw(masks=masks), TABLE, PLACE)
        assert isinstance(found, Detections)
        assert (len(found), found.rows(), found.coco(1), found.summary()) == (0, [], [], "no objects")
        assert found.to_dict()["objects"] == []
        assert found.draw(Image.new("RGB", (200, 100))).width == 600
        if masks is not None:
            assert found.masks.shape == (0, 100, 200)


def ellipse(m: int = 28) -> NDArray[np.float32]:
    """A soft ellipse that fills its box."""
    y, x = (np.mgrid[:m, :m] + 0.5) / m * 2 - 1
    return np.asarray(1 / (1 + np.exp(m * (np.hypot(x, y) - 1))), np.float32)


@pytest.mark.parametrize(
    "box", [[10, 20, 60, 80], [10.3, 20.8, 24.6, 31.2], [150.5, 60, 197.5, 99.9], [30, 30, 33, 90], [5, 5, 150, 95]]
)
def test_a_mask_fills_its_box_like_the_shape_it_is(box: list[float]) -> None:
    given = np.array(box) * 2
    found = Detections.from_raw(raw((given.tolist(), 0, 0.9), masks=[ellipse()]), TABLE, PLACE)
    mask = found.masks[0]
    y, x = np.mgrid[:100, :200] + 0.5
    middle, half = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), ((box[2] - box[0]) / 2, (box[3] - box[1]) / 2)
    shape = np.hypot((x - middle[0]) / half[0], (y - middle[1]) / half[1]) <= 1
    # 0.8: px along the edge fall either way, of 3 px across most are such; 0.95 where there are many within
    assert (mask & shape).sum() / (mask | shape).sum() > (0.95 if min(half) > 10 else 0.8)
    assert found.areas.tolist() == [mask.sum()]


@pytest.mark.parametrize("box", [[10.3, 20.7, 50.2, 61], [0.1, 0, 0.4, 60], [99.2, 40.1, 99.3, 40.2]])
def test_a_full_mask_is_its_box_to_a_px(box: list[float]) -> None:
    given = np.array(box) * 2
    found = Detections.from_raw(raw((given.tolist(), 0, 0.9), masks=np.ones((1, 28, 28))), TABLE, PLACE)
    assert found.cropped_masks is not None
    bits, cropped_mask = found.masks[0], found.cropped_masks[0]
    y, x = np.mgrid[:100, :200] + 0.5
    inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    big = min(box[2] - box[0], box[3] - box[1]) > 1
    assert not big or (bits == inside).mean() > 0.995
    assert cropped_mask.bits.shape <= (np.ceil(box[3]) - np.floor(box[1]), np.ceil(box[2]) - np.floor(box[0]))


def test_a_mask_that_reaches_beyond_the_image_is_cut_off_and_not_squeezed() -> None:
    mask = np.zeros((28, 28))
    mask[:, 14:] = 1  # the right half
    box = [-40.0, 20, 40, 60]  # in the input: half of it left of the image
    found = Detections.from_raw(raw((box, 0, 0.9), masks=[mask]), TABLE, PLACE)
    bits = found.masks[0]
    np.testing.assert_array_equal(found.boxes, [[0, 10, 20, 30]])
    assert bits[10:30, :20].all()
    assert bits.sum() == 400


def test_masks_in_plain_values() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    found = Detections.from_raw(raw(*THREE[:2], masks=np.stack([ellipse(), ellipse()])), TABLE, PLACE)
    assert found.to_dict()["task"] == "instances"
    for entry, stated, mask in zip(found.coco(3), found.to_dict()["objects"], found.masks, strict=True):
        assert entry["segmentation"] == stated["segmentation"]
        np.testing.assert_array_equal(np.asarray(coco.decode(entry["segmentation"])), mask)
    json.dumps([found.to_dict(), found.coco(3)])


def test_boxes_alone_have_no_masks() -> None:
    with pytest.raises(InputError, match="train an instances model"):
        _ = Detections.from_raw(raw(*THREE), TABLE, PLACE).masks


def test_drawing_takes_the_same_image() -> None:
    found = Detections.from_raw(raw(*THREE), TABLE, PLACE)
    assert found.draw(Image.new("L", (200, 100))).size > (200, 100)
    turned = Image.new("RGB", (100, 200))
    turned.getexif()[0x0112] = 6  # a quarter turn: upright it is 200x100
    assert found.draw(turned).size == found.draw(Image.new("RGB", (200, 100))).size
    with pytest.raises(InputError, match="of an image of 200x100 px cannot be drawn on one of 100x200"):
        found.draw(Image.new("RGB", (100, 200)))


def test_hundreds_of_masks_of_a_large_image_take_little_memory() -> None:
    place = Preprocess((800, 1333), fit="whole").place(4000, 6000)
    corner = np.random.default_rng(0).uniform(0, 750, (500, 2))
    boxes = np.hstack([corner, corner + 40])
    objects = [(box, 0, 0.9) for box in boxes.tolist()]
    tracemalloc.start()
    found = Detections.from_raw(raw(*objects, masks=np.tile(ellipse(), (500, 1, 1))), TABLE, place)
    assert len(found.coco(1)) == len(found.rows()) == 500
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # one mask in full is 24 MB; 500 cropped_masks of 200x200 px are 20 MB
    assert peak < 80e6


def test_taking_some() -> None:
    found = Detections.from_raw(raw(*THREE, masks=np.ones((3, 28, 28))), TABLE, PLACE).take(np.array([2, 0]))
    assert found.names == ["dog", "bee"]
    assert found.cropped_masks is not None
    assert [cropped_mask.left for cropped_mask in found.cropped_masks] == [0, 10]


# label maps


def logits_of(*pixels: tuple[int, int, int], size: tuple[int, int] = (6, 8)) -> NDArray[np.float32]:
    """Logits of four classes that are for the first but for some (row, column, class)."""
    logits = np.zeros((4, *size), np.float32)
    logits[0] = 1
    for row, column, label in pixels:
        logits[label, row, column] = 3
    return logits


def whole(height: int, width: int) -> Placement:
    return Placement((height, width), (height, width), (height, width))


def test_the_likeliest_class_of_each_px_in_px_of_the_image() -> None:
    place = Placement((3, 6), (3, 6), (6, 8))  # padded right and below
    result = Segmentation.from_logits(logits_of((0, 0, 2), (2, 5, 1), (5, 7, 3), (3, 0, 3)), TABLE, placement=place)
    expected = np.zeros((3, 6), np.uint8)
    expected[0, 0], expected[2, 5] = 2, 1
    np.testing.assert_array_equal(result.labels, expected)
    assert (result.labels.dtype, result.size) == (np.uint8, (3, 6))
    assert result.areas.tolist() == [16, 1, 1, 0]


def test_of_equal_ones_the_first() -> None:
    assert (Segmentation.from_logits(np.zeros((4, 5, 5), np.float32), TABLE, placement=whole(5, 5)).labels == 0).all()
    many = Classes.of(map(str, range(255)))
    logits = np.zeros((255, 3, 3), np.float32)
    logits[254, 1, 1] = 1e-3
    labels = Segmentation.from_logits(logits, many, placement=whole(3, 3)).labels
    assert (labels[1, 1], labels.sum()) == (254, 254)


@pytest.mark.parametrize("size", [(90, 70), (13, 200), (1500, 31), (33, 44)])
def test_it_is_the_probabilities_that_are_resized(size: tuple[int, int]) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 40, 50)).astype(np.float32)
    place = Placement(size, (33, 44), (40, 50))
    part = logits[:, :33, :44].astype(np.float64)
    likely = np.exp(part) / np.exp(part).sum(0)
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in likely]
    expected = np.stack([np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) for plane in planes])
    best = np.sort(expected, 0)
    clear = best[-1] - best[-2] > 1e-4  # the bands' places and float32 decide the others
    assert clear.mean() > 0.99
    labels = Segmentation.from_logits(logits, TABLE, placement=place).labels
    np.testing.assert_array_equal(labels[clear], expected.argmax(0)[clear])


def test_a_label_map_does_not_change_the_logits() -> None:
    logits = logits_of((1, 1, 3))
    before = logits.copy()
    Segmentation.from_logits(logits, TABLE, placement=whole(6, 8))
    np.testing.assert_array_equal(logits, before)


SEGMENTED = Segmentation(np.array([[1, 1, 1], [3, 1, 3]], np.uint8), TABLE)


def test_a_label_map_in_plain_values_with_original_ids() -> None:
    result: Result = SEGMENTED
    rows = [
        {"id": 7, "name": "bee", "pixels": 4, "share": 0.666667},
        {"id": 1, "name": "dog", "pixels": 2, "share": 0.333333},
    ]
    assert result.rows() == rows
    assert json.loads(json.dumps(result.to_dict())) == {"task": "segment", "size": [2, 3], "classes": rows}
    assert list(rows[0]) == list(result.columns)
    assert result.summary() == "bee 66.7 %, dog 33.3 %"


def test_a_summary_of_many_classes() -> None:
    labels = np.repeat(np.arange(8, dtype=np.uint8), [5000, 4000, 3000, 2000, 2, 1, 1, 1])[None]
    text = Segmentation(labels, Classes.of("abcdefghij")).summary()
    assert text == "a 35.7 %, b 28.6 %, c 21.4 %, d 14.3 %, e <0.1 %, 3 more"


@pytest.mark.parametrize(
    ("ids", "mode", "values"),
    [((11, 7, 90, 1), "P", [7, 1]), ((0, 255, 1, 2), "P", [255, 2]), ((0, 256, 1, 65535), "I;16", [256, 65535])],
)
def test_original_ids_as_a_image(ids: tuple[int, ...], mode: str, values: list[int], tmp_path: Path) -> None:
    Segmentation(SEGMENTED.labels, Classes(TABLE.names, ids)).index_image().save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), np.array([0, values[0], 0, values[1]])[SEGMENTED.labels])
        if mode == "P":
            rgb = np.asarray(image.convert("RGB"))
            assert [tuple(rgb[0, 0]), tuple(rgb[1, 0])] == [label_colour(1), label_colour(3)]


@pytest.mark.parametrize("ids", [(0, 1, 2, 65536), (-1, 0, 1, 2)])
def test_ids_that_no_png_holds(ids: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="holds ids from 0 to 65535"):
        Segmentation(SEGMENTED.labels, Classes(TABLE.names, ids)).index_image()


def test_a_label_map_is_drawn_on_the_same_image() -> None:
    labels = np.zeros((100, 200), np.uint8)
    page = Segmentation(labels, TABLE).draw(Image.new("L", (200, 100)))
    turned = Image.new("L", (100, 200))
    turned.getexif()[0x0112] = 6  # a quarter turn: upright it is 200x100
    np.testing.assert_array_equal(np.asarray(Segmentation(labels, TABLE).draw(turned)), np.asarray(page))
    with pytest.raises(InputError, match="of an image of 200x100 px cannot be drawn on one of 100x200"):
        Segmentation(labels, TABLE).draw(Image.new("RGB", (100, 200)))


def test_a_label_map_of_a_large_image_takes_little_memory() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 64, 96)).astype(np.float32)
    place = Placement((4000, 6000), (64, 96), (64, 96))
    tracemalloc.start()
    result = Segmentation.from_logits(logits, Classes.of(map(str, range(20))), placement=place)
    result.to_dict()
    result.index_image()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the labels are 24 MB, as are the ids; one class's probabilities in full would be 96 MB
    assert peak < 90e6
