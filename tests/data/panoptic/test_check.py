"""The check of panoptic data, and what training finds before its first step."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.data.check import CheckReport, check_splits
from fishnet.data.collector import collecting
from fishnet.data.panoptic import plausibility
from fishnet.data.panoptic.check import PanopticCheck, PanopticStatistics
from fishnet.data.panoptic.open import open_panoptic
from fishnet.data.quick import training_findings
from fishnet.images.segment_ids import read_png
from tests.panoptic_makers import BERRY, coco_panoptic, id_png, object_pairs, parts
from tests.segmentation_makers import scenes

PNG = "annotations/panoptic_train2017/train_{:03d}.png"


def checked(data: Path) -> CheckReport[PanopticStatistics]:
    with collecting() as collector:
        splits = open_panoptic(str(data), 3, val_fraction=0.25, seed=0, keep_splits=True)
    return check_splits({split: each.segment for split, each in splits.items()}, PanopticCheck, collector.findings)


def quick(data: Path) -> list[Any]:
    splits = open_panoptic(str(data), 3, val_fraction=0.25, seed=0, keep_splits=True)
    return training_findings({split: each.segment for split, each in splits.items()})


@pytest.mark.parametrize("crowd", [False, True])
def test_counts(crowd: bool, tmp_path: Path) -> None:
    report = checked(coco_panoptic(tmp_path / "data", crowd=crowd))
    assert report.ok
    for split, count in (("train", 6), ("val", 3)):
        shown = [parts(scene) for scene in scenes(split, count)]
        berries = [[part for part in image if part.kind == BERRY] for image in shown]
        crowds = [image[0] for image in berries if image and crowd]
        statistics = report.splits[split]
        assert statistics.things == sum(map(len, berries)) - len(crowds)
        assert statistics.stuff == sum(map(len, shown)) - sum(map(len, berries))
        assert statistics.crowds == len(crowds)
        assert (statistics.pixels, statistics.void) == (count * 96 * 80, count * 96)
        assert statistics.crowd == sum(int(part.mask.sum()) for part in crowds)
        assert statistics.segments_per_class["berry"] == statistics.things
        assert statistics.images_per_class["ground"] == count
        assert set(statistics.annotation_columns()) >= {"things", "stuff", "crowds", "empty segments", "void"}


def test_ids_and_segments_that_do_not_match(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    for number in (1, 2):
        path = data / PNG.format(number)
        ids = read_png(path).astype(np.int64)
        ids[4, :5] = 4711
        id_png(path, ids)
    annotations = data / "annotations/panoptic_train2017.json"
    content = json.loads(annotations.read_text())
    content["annotations"][3]["segments_info"].append({"id": 99, "category_id": 3})
    annotations.write_text(json.dumps(content))

    report = checked(data)
    assert not report.ok
    unknown, [empty] = report.of("panoptic-id-unknown"), report.of("panoptic-segment-empty")
    assert [finding.file for finding in unknown] == [str(data / PNG.format(number)) for number in (1, 2)]
    assert "ids without a segment: 4711 (5 px)" in unknown[0].message
    assert "segments without a pixel: 99" in empty.message
    assert report.splits["train"].unknown == 2
    assert report.splits["train"].empty == 1
    assert report.splits["train"].void == 6 * 96, "unknown ids are not void"

    found = {finding.code: finding for finding in quick(data)}
    assert found["panoptic-id-unknown"].severity == "error"
    assert found["panoptic-id-unknown"].count == 2
    message = found["panoptic-id-unknown"].message
    assert message.startswith("train: 2 in 2 images, first ")
    assert "\n" not in message
    assert found["panoptic-segment-empty"].severity == "error"


def test_a_sample_of_many_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plausibility, "SAMPLE", 3)
    data = coco_panoptic(tmp_path / "data", train=6, val=2)
    path = data / PNG.format(5)
    ids = read_png(path).astype(np.int64)
    ids[4, :5] = 4711
    id_png(path, ids)
    [finding] = [finding for finding in quick(data) if finding.code == "panoptic-id-unknown"]
    assert "(in 3 of 6 masks)" in finding.message


def test_mostly_void(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data", train=2, val=2)
    for number in range(2):
        path = data / PNG.format(number)
        ids = read_png(path).astype(np.int64)
        ids[:60] = 0
        id_png(path, ids)
    content = json.loads((data / "annotations/panoptic_train2017.json").read_text())
    for number, row in enumerate(content["annotations"]):
        kept = set(np.unique(read_png(data / PNG.format(number))).tolist())
        row["segments_info"] = [info for info in row["segments_info"] if info["id"] in kept]
    (data / "annotations/panoptic_train2017.json").write_text(json.dumps(content))
    [finding] = [finding for finding in quick(data) if finding.code == "mask-mostly-ignored"]
    assert finding.message == "train: 75.0 % of the pixels are void"


def test_unreadable_masks_and_images(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    (data / PNG.format(0)).unlink()
    (data / "train2017/train_001.png").write_bytes(b"broken")
    (data / PNG.format(2)).write_bytes(b"broken")
    report = checked(data)
    assert {finding.file for finding in report.of("mask-unreadable")} == {str(data / PNG.format(i)) for i in (0, 2)}
    assert len(report.of("image-unreadable")) == 1


def test_classes_without_segments(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    for split in ("train", "val"):
        path = data / f"annotations/panoptic_{split}2017.json"
        content = json.loads(path.read_text())
        content["categories"].append({"id": 20, "name": "fish", "isthing": 1})
        path.write_text(json.dumps(content))
    report = checked(data)
    assert [finding.message for finding in report.of("class-absent")] == ["fish: no image has a segment of it"]


def test_left_out_and_hidden(tmp_path: Path) -> None:
    data = object_pairs(tmp_path / "data", train=4, val=2)
    (data / "masks/train/train_001.png").unlink()
    path = data / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 1000})
    path.write_text(json.dumps(content))
    report = checked(data)
    assert len(report.of("files-unpaired")) == 1
    [hidden] = report.of("panoptic-object-hidden")
    assert hidden.severity == "note"
    assert report.splits["val"].hidden == 1
