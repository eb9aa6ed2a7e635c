"""COCO's objects as label maps: what lies on what, crowds, the background, ids that are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.detection.coco import find_coco
from fishnet.data.segmentation.base import IGNORE
from fishnet.data.segmentation.coco import CocoSegmentation, open_coco
from fishnet.data.segmentation.deciding import Choices
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.errors import InputError
from tests.detection_makers import KINDS, coco_folder, run_lengths, scenes, write_json

SIDE = 20
CATEGORIES = {4: "road", 9: "car"}


def opened(data: Path, **options: Any) -> dict[str, CocoSegmentation]:
    kept = {key: options.pop(key) for key in ("ignore", "void", "only") if key in options}
    return open_coco(find_coco(data), 3, choices=Choices.of(**kept), **options)


def box(category: int, x1: int, y1: int, x2: int, y2: int, **more: Any) -> dict[str, Any]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y1:y2, x1:x2] = 1
    return {
        "image_id": 0, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": run_lengths(mask),
        **more,
    }  # fmt: skip


def street(root: Path, *objects: dict[str, Any], categories: dict[int, str] = CATEGORIES, **stated: int) -> Path:
    """One image with objects, in ``objects.json``."""
    root.mkdir(exist_ok=True)
    Image.new("RGB", (SIDE, SIDE)).save(root / "0.png")
    content = {
        "images": [{"id": 0, "file_name": "0.png", **stated}],
        "annotations": [{"id": i, **one} for i, one in enumerate(objects)],
        "categories": [{"id": id_, "name": name} for id_, name in categories.items()],
    }
    return write_json(root / "objects.json", content)


@pytest.mark.parametrize("form", ["rle", "compressed", "polygon"])
def test_maps_are_of_the_objects(form: str, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", form=form)
    splits = open_segmentation(str(data), 3, val_fraction=0.1, seed=0)
    assert list(splits) == ["train", "val"]
    for split, count in (("train", 6), ("val", 3)):
        assert splits[split].classes == Classes(("background", *KINDS), (0, 3, 7, 11))
        for i, truth in enumerate(scenes(split, count)):
            image, labels = splits[split].read(i)
            assert np.array_equal(np.asarray(image), np.asarray(truth.image))
            wanted = np.zeros_like(labels)
            for label, mask in zip(truth.labels.tolist(), truth.masks, strict=True):
                wanted[mask == 1] = label + 1
            # An ellipse's outline has 24 corners: its edges are off by a px here and there; everything else is exact.
            assert (labels != wanted).mean() <= (0.02 if form == "polygon" else 0)


@pytest.mark.parametrize("turn", [1, -1])
def test_smaller_objects_lie_on_larger_ones(turn: int, tmp_path: Path) -> None:
    road, car = box(4, 2, 2, 18, 18, area=1), box(9, 5, 5, 8, 8, area=1e6)  # areas as stated are not looked at
    labels = opened(street(tmp_path / "data", *(road, car)[::turn]))["all"].label_map(0)
    wanted = np.zeros((SIDE, SIDE), np.uint8)
    wanted[2:18, 2:18] = 1
    wanted[5:8, 5:8] = 2
    assert np.array_equal(labels, wanted)


def test_many_overlapping_polygons_are_as_if_painted_one_after_the_other(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    polygons = [{"image_id": 0, "category_id": 4 + 5 * (i % 2), "segmentation": [row]} for i, row in
                enumerate(random.uniform(-3, SIDE + 3, (12, 8)).round(2).tolist())]  # fmt: skip
    dataset = opened(street(tmp_path / "data", *polygons, width=SIDE, height=SIDE))["all"]
    masks = dataset.detection.objects(0).masks().astype(bool)  # as the COCO API fills them in
    wanted = np.zeros((SIDE, SIDE), np.uint8)
    for i in np.argsort(-masks.sum((1, 2)), kind="stable"):
        wanted[masks[i]] = 1 + i % 2
    assert len(set(masks.sum((1, 2)).tolist())) > 9
    assert np.array_equal(dataset.label_map(0), wanted)


def test_crowds_are_ignored_where_no_object_lies_on_them(tmp_path: Path) -> None:
    crowd = box(9, 4, 4, 8, 8, iscrowd=1)
    labels = opened(street(tmp_path / "data", box(4, 6, 0, 20, 20), crowd))["all"].label_map(0)
    assert set(labels[4:8, 4:6].flat) == {IGNORE}, "of the crowd alone"
    assert set(labels[:, 6:].flat) == {1}, "of a larger object on it"
    assert np.bincount(labels.ravel())[[0, 1, IGNORE]].tolist() == [6 * 20 - 8, 14 * 20, 8]


@pytest.mark.parametrize(
    ("options", "names", "values"),
    [
        ({}, ("background", "road", "car"), (0, 1, 2)),
        ({"void": ["car"]}, ("background", "road"), (0, 1, IGNORE)),
        ({"ignore": [4]}, ("background", "car"), (0, IGNORE, 1)),
        ({"ignore": [0]}, ("road", "car"), (IGNORE, 0, 1)),
        ({"void": ["background"]}, ("road", "car"), (IGNORE, 0, 1)),
        ({"classes": Classes.of(["car", "x", "background", "road"])}, ("car", "x", "background", "road"), (2, 3, 0)),
        ({"only": ["background", "road"]}, ("background", "road"), (0, 1, IGNORE)),
        (
            {"classes": Classes.of(["background", "car"]), "only": ["background", "car"]},
            ("background", "car"),
            (0, IGNORE, 1),
        ),
        ({"classes": Classes.of(["background", "car"]), "void": ["road"]}, ("background", "car"), (0, IGNORE, 1)),
    ],
)
def test_ignored_and_known_classes(
    options: dict[str, Any], names: tuple[str, ...], values: tuple[int, ...], tmp_path: Path
) -> None:
    dataset = opened(street(tmp_path / "data", box(4, 0, 0, 8, 8), box(9, 10, 10, 15, 15)), **options)["all"]
    assert dataset.classes.names == names
    labels = dataset.label_map(0)
    assert (labels[19, 0], labels[4, 4], labels[12, 12]) == values


@pytest.mark.parametrize(
    ("categories", "classes", "values"),
    [
        ({0: "road", 1: "car"}, Classes(("background", "road", "car"), (2, 0, 1)), (0, 1, 2)),
        ({0: "_background_", 1: "car"}, Classes(("_background_", "car"), (0, 1)), (0, 0, 1)),
        ({1: "car", 5: "Background"}, Classes(("Background", "car"), (5, 1)), (0, 0, 1)),
    ],
)
def test_the_background(categories: dict[int, str], classes: Classes, values: tuple[int, ...], tmp_path: Path) -> None:
    car = next(id_ for id_, name in categories.items() if name == "car")
    other = next(id_ for id_ in categories if id_ != car)
    path = street(tmp_path / "data", box(other, 0, 0, 8, 8), box(car, 10, 10, 15, 15), categories=categories)
    dataset = opened(path)["all"]
    assert dataset.classes == classes
    labels = dataset.label_map(0)
    assert (labels[19, 0], labels[4, 4], labels[12, 12]) == values


def test_sizes_that_are_not_stated_are_read_and_wrong_ones_said(tmp_path: Path) -> None:
    polygon = {"image_id": 0, "category_id": 4, "segmentation": [[2, 2, 9, 2, 9, 9, 2, 9]]}
    dataset = opened(street(tmp_path / "data", polygon))["all"]
    assert dataset.read(0)[1].sum() == 49
    dataset = opened(street(tmp_path / "data", polygon, width=30, height=40))["all"]
    with pytest.raises(
        InputError, match=r"0.png: is 20x20 px, but its mask 30x40 \(.*objects.json line 2: images\[0\]"
    ):
        dataset.read(0)


def test_images_without_objects_are_background(tmp_path: Path) -> None:
    dataset = opened(street(tmp_path / "data"))["all"]
    assert dataset.classes.names == ("background", "road", "car")
    assert not dataset.label_map(0).any()
    assert dataset.frequencies()[0].tolist() == [SIDE * SIDE, 0, 0]


def test_as_many_classes_as_labels_hold(tmp_path: Path) -> None:
    one = box(1, 0, 0, 5, 5)
    most = {i: f"kind {i}" for i in range(1, 255)}
    assert len(opened(street(tmp_path / "data", one, categories=most))["all"].classes) == 255
    path = street(tmp_path / "data", one, categories=most | {255: "one more"})
    with pytest.raises(InputError, match=r"objects.json: has 256 classes: segmentation can learn at most 255"):
        opened(path)
    assert len(opened(path, void=["one more"])["all"].classes) == 255


def spoiled(key: str, value: Any) -> Callable[[Path], Path]:
    return lambda root: street(root, {**box(4, 0, 0, 8, 8), key: value}, box(9, 9, 9, 12, 12))


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (spoiled("segmentation", None), {}, r"objects.json line 5: annotations\[0\]: no segmentation, only a box"),
        (spoiled("category_id", 7), {}, r"line 5: annotations\[0\]: category_id 7 is in no entry of categories"),
        (spoiled("id", 1), {"classes": Classes.of(["background", "road"])}, r"id 1 belongs to annotations\[0\]"),
        (street, {"only": ["cat"]}, r"classes 'cat': .*objects.json names no such class: did you mean car"),
        (street, {"void": ["cat"]}, r"void 'cat': .*objects.json names no such class: did you mean car"),
        (
            spoiled("area", 3), {"classes": Classes.of(["background", "road"])},
            r"objects.json: the data has classes the model does not know: car",
        ),
    ],
)  # fmt: skip
def test_faults(made: Callable[[Path], Path], options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        opened(made(tmp_path / "data"), **options)


def test_faults_are_collected(tmp_path: Path) -> None:
    with collecting() as collector:
        dataset = opened(spoiled("segmentation", None)(tmp_path / "data"))["all"]
    assert ["no segmentation" in one.message for one in collector.findings] == [True]
    assert np.bincount(dataset.label_map(0).ravel()).tolist() == [SIDE * SIDE - 9, 0, 9]


def test_coco_is_for_detection_unless_it_is_said(tmp_path: Path) -> None:
    assert not looks_like_segmentation(str(coco_folder(tmp_path / "data", train=2)))
