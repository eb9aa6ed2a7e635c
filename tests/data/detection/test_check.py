"""What a check finds in data with objects."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.check import CheckReport, check_splits
from fishnet.data.collector import collecting
from fishnet.data.detection.check import DetectionCheck, DetectionStatistics
from fishnet.data.detection.open import open_detection
from tests.detection_makers import KINDS, coco_folder, mask_folder, scene, scenes, voc_folder, write_json, yolo_folder


def checked(data: Path, masks: bool = False, **options: Any) -> CheckReport[DetectionStatistics]:
    with collecting() as collector:
        datasets = open_detection(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True, masks=masks)
    return check_splits(datasets, DetectionCheck, collector.findings, **options)


MAKERS: dict[str, Callable[..., Path]] = {"coco": coco_folder, "voc": voc_folder, "yolo": yolo_folder}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("workers", [0, 1])
def test_clean_data(name: str, workers: int, tmp_path: Path) -> None:
    result = checked(MAKERS[name](tmp_path / "data", train=6, val=3), workers=workers)
    assert result.ok
    for split, count in {"train": 6, "val": 3}.items():
        labels = [truth.labels.tolist() for truth in scenes(split, count)]
        check = result.splits[split]
        flat = [label for image_labels in labels for label in image_labels]
        assert (check.images, check.objects, check.crowds) == (count, len(flat), 0)
        assert check.objects_per_class == {kind: flat.count(i) for i, kind in enumerate(KINDS)}
        assert check.images_per_class == {kind: sum(i in row for row in labels) for i, kind in enumerate(KINDS)}
        assert check.without_objects == sum(not row for row in labels)
        assert sum(check.by_size.values()) == len(flat)
        assert (check.smallest, check.largest, check.corrupt, check.duplicates) == ((96, 80), (96, 80), 0, 0)
    json.dumps(result.to_dict())


def test_sizes_of_objects(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="flat", train=1)
    Image.new("RGB", (300, 200)).save(data / "a.png")
    sides = (31, 32, 95, 96)
    boxes = "".join(
        f"<object><name>{KINDS[0]}</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>{side}</xmax><ymax>{side}</ymax>"
        "</bndbox></object>"
        for side in sides
    )
    (data / "a.xml").write_text(f"<annotation>{boxes}</annotation>")
    (data / "train_000.xml").unlink()
    split = checked(data).splits["all"]
    assert split.by_size == {"small": 1, "medium": 2, "large": 1}
    assert [(one.file, one.severity) for one in checked(data).of("image-left-out")] == [
        (str(data / "train_000.jpg"), "error")
    ]


def change(data: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    edit(content)
    write_json(path, content)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([10, 10, 0, 5], r"line 9: annotations\[0\]: empty box \(10 10 10 15: x1 y1 x2 y2\)"),
        ([10, 10, 5, -3], r"line 9: annotations\[0\]: empty box"),
        ([96, 10, 5, 5], r"line 9: annotations\[0\]: box outside of its image of 96x80 px \(96 10 101 15"),
        ([-9, 10, 5, 5], r"line 9: annotations\[0\]: box outside of its image"),
        ([90, 10, 8, 5], r"line 9: annotations\[0\]: box reaches out of its image of 96x80 px \(90 10 98 15"),
        ([-2, 10, 8, 5], r"line 9: annotations\[0\]: box reaches out"),
        ([90, 10, 7, 5], None),  # one px over an edge: where formats count the last pixel differently
    ],
)
def test_boxes(box: list[float], words: str | None, tmp_path: Path) -> None:
    import re

    data = coco_folder(tmp_path / "data", train=4)
    change(data, lambda content: content["annotations"][0].update(bbox=box))
    result = checked(data)
    assert result.ok == (words is None)
    bad = [finding for finding in result.findings if finding.code.startswith("box-")]
    assert len(bad) == (words is not None)
    if words is not None:
        assert re.search(words, bad[0].message)
        assert (bad[0].split, bad[0].line) == ("train", 9)
        assert bad[0].file == str(data / "annotations" / "instances_train2017.json")


def test_everything_wrong_at_once(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=6, val=3)

    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["category_id"] = 99
        content["annotations"][1]["id"] = 0
        content["images"][2]["width"] = 300
        content["annotations"][2]["iscrowd"] = 1

    change(data, spoil)
    images = data / "train2017"
    (images / "train_001.png").unlink()
    (images / "train_003.png").write_bytes(b"no image")
    scenes("train", 1)[0].image.save(data / "val2017" / "val_001.png")
    result = checked(data)
    train = result.splits["train"]
    assert not result.ok
    for code, words in (
        ("annotation-unreadable", ("category_id 99", "id 0 belongs")),
        ("image-unreadable", ("train_001.png: no such file", "train_003.png: not an im")),
        ("image-size-differs", ("train_002.png: is 96x80 px, but annotated as 300x80",)),
    ):
        assert [word in one.message for word, one in zip(words, result.of(code), strict=True)] == [True] * len(words)
    assert (train.crowds, train.images, train.duplicates) == (1, 6, 0)
    assert [one.message for one in result.of("image-in-two-splits")] == [
        f"{images / 'train_000.png'} (train) = {data / 'val2017' / 'val_001.png'} (val)"
    ]


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", all=4)
    (data / "masks" / "000.png").write_bytes(b"no image")
    Image.fromarray(np.ones((9, 9), np.uint8)).save(data / "masks" / "001.png")
    scene(1000).image.save(data / "images" / "more.png")
    result = checked(data, masks=True)
    assert not result.ok
    unpaired, broken = result.of("annotation-unreadable")
    assert "masks/000.png: the mask cannot be read" in broken.message
    assert "images/001.png: is 96x80 px, but annotated as 9x9" in result.of("image-size-differs")[0].message
    assert "images/more.png: no file in" in unpaired.message


def test_polygons_matter_where_masks_are_wanted(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=4)
    change(data, lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4]]))
    assert checked(data).ok
    assert "a polygon of 2 points" in checked(data, masks=True).of("annotation-unreadable")[0].message


def test_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    checked(coco_folder(tmp_path / "data", train=2, val=1), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


BCCD = Path("/work/shared/data/bccd/BCCD")


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no {BCCD}")
def test_blood_cells() -> None:
    result = checked(BCCD)
    assert {split: check.objects for split, check in result.splits.items()} == {"train": 2805, "val": 1138, "test": 945}
    assert [one.message.split("/")[-1] for one in result.of("box-empty")] == [
        "BloodImage_00343.xml line 50: empty box (181 329 181 329: x1 y1 x2 y2)",
        "BloodImage_00338.xml line 158: empty box (504 337 504 337: x1 y1 x2 y2)",
    ]
    assert [one.line for one in result.of("box-empty")] == [50, 158]
