"""What is odd about a whole split, and what a training changes of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.detection.open import open_detection
from fishnet.data.detection.plausibility import beyond_cap, plausibility, repaired
from fishnet.data.findings import Finding
from tests.detection_makers import coco_folder, mask_folder, voc_folder, write_json, yolo_folder

Content = dict[str, Any]
SETTINGS: dict[str, Any] = {"val_fraction": 0.1, "seed": 0, "keep_splits": True}


def sets_of(data: Path, **options: Any) -> Any:
    return open_detection(str(data), 3, **{**SETTINGS, **options})


def changed(folder: Path, change: Callable[[Content], None]) -> Any:
    """A COCO set of four images after a change of its file."""
    data = coco_folder(folder / "data", train=4)
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)
    return sets_of(data)


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def boxes(change: Callable[[list[float]], list[float]]) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"] = change(annotation["bbox"])

    return apply


def every(**values: Any) -> Callable[[Content], None]:
    def apply(content: Content) -> None:
        for annotation in content["annotations"]:
            annotation.update(values)

    return apply


def few(content: Content) -> None:
    content["annotations"] = content["annotations"][:1]


def twice(content: Content) -> None:
    content["images"][1]["file_name"] = content["images"][0]["file_name"]


def crowded(content: Content) -> None:
    one = content["annotations"][0]
    content["annotations"] += [{**one, "id": 1000 + n} for n in range(196)]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (boxes(lambda box: [box[0] / 96, box[1] / 80, box[2] / 96, box[3] / 80]), "box-normalized", "lie within 0..1"),
        (boxes(lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]]), "box-xyxy", "fit as x1, y1, x2, y2"),
        (every(iscrowd=1), "object-all-crowd", "objects are crowds"),
        (boxes(lambda box: [box[0], box[1], 2.0, 2.0]), "box-tiny", "smaller than 3 x 3 px"),
        (few, "image-mostly-empty", "3 of 4 images have no objects"),
        (twice, "image-repeated", "1 images have two entries"),
        (crowded, "object-crowded", "more than 100 objects of a class (up to 19"),
    ],
)
def test_odd_splits(change: Callable[[Content], None], code: str, words: str, tmp_path: Path) -> None:
    findings = [finding for finding in plausibility(changed(tmp_path, change)) if finding.code == code]
    assert [finding.split for finding in findings] == ["train"]
    assert words in findings[0].message
    assert "\n" not in findings[0].message


@pytest.mark.parametrize("make", [coco_folder, voc_folder, mask_folder])
def test_good_data_has_no_findings(make: Callable[..., Path], tmp_path: Path) -> None:
    splits = sets_of(make(tmp_path / "data", train=6, val=3))
    assert plausibility(splits) == []
    assert repaired(splits) == []


def test_images_without_a_label_file_are_counted(tmp_path: Path) -> None:
    findings = plausibility(sets_of(yolo_folder(tmp_path / "data", train=5)))
    assert codes(findings) == ["image-without-label"]
    assert (findings[0].count, findings[0].split) == (1, "train")


def test_a_held_out_part_repeats_no_finding(tmp_path: Path) -> None:
    splits = sets_of(yolo_folder(tmp_path / "data", train=5), keep_splits=False)
    assert list(splits) == ["train", "val"]
    assert codes(plausibility(splits)).count("image-without-label") == 1


def test_what_a_training_cuts_off_and_drops(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        first, second, third = content["annotations"][:3]
        first["bbox"] = [-20, 5, 40, 30]
        second["bbox"] = [200, 5, 10, 10]
        third["bbox"] = [5, 5, 0, 10]

    splits = changed(tmp_path, change)
    total = sum(len(splits["train"].objects(i)) for i in range(4))
    kept = sum(len(splits["train"].objects(i).clean((80, 96))) for i in range(4))
    findings = {finding.code: finding for finding in repaired(splits)}
    assert {code: finding.count for code, finding in findings.items()} == {"box-clipped": 1, "box-dropped": 2}
    assert total - kept == 2
    assert f"1 of {total} boxes of train extend beyond the edges" in findings["box-clipped"].message


def test_a_box_half_a_pixel_over_the_edge_is_no_news(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["annotations"][0]["bbox"] = [50, 5, 46.5, 30]

    assert repaired(changed(tmp_path, change)) == []


def test_outlines_are_measured_in_px(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=1)
    Image.new("RGB", (1000, 1000)).save(data / "images" / "train" / "000.png")
    (data / "labels" / "train" / "000.txt").write_text("0 0.5 0.5 0.9 0.9\n1 0.95 0.5 0.2 0.1\n")
    splits = sets_of(data)
    assert plausibility(splits) == []
    assert [(finding.code, finding.count) for finding in repaired(splits)] == [("box-clipped", 1)]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([3, 100], ""),
        ([], ""),
        ([196, 4], "one image has more than 100 objects of a class (up to 196)"),
        ([150, 1200], "2 images have more than 100 objects of a class (up to 1,200)"),
    ],
)
def test_the_cap(counts: list[int], words: str) -> None:
    line = beyond_cap(counts, 100)
    assert line.startswith(words)
    assert bool(line) == bool(words)
    if words:
        assert f"--max-detections {max(counts)}" in line
        assert f"--max-detections {max(counts)}" in line


def test_stated_objects_are_those_of_the_annotation(tmp_path: Path) -> None:
    for name, masks in (("coco", True), ("voc", True), ("yolo", False)):
        maker: Any = {"coco": coco_folder, "voc": voc_folder, "yolo": yolo_folder}[name]
        data = maker(tmp_path / name, train=3, **({"masks": True} if name == "voc" else {}))
        train = sets_of(data, masks=masks)["train"]
        for index in range(3):
            boxes = train.annotated_boxes(index)
            assert boxes.segmentations is None
            assert np.allclose(boxes.boxes, train.objects(index).boxes, atol=1)
    assert sets_of(mask_folder(tmp_path / "masks", train=2))["train"].annotated_boxes(0) is None
