"""COCO panoptic: layouts, and what is wrong in the JSON file and in the PNGs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.collector import collecting
from fishnet.data.detection.coco import find_coco
from fishnet.data.detection.open import open_detection
from fishnet.data.panoptic.base import PanopticSplit
from fishnet.data.panoptic.open import looks_like_panoptic, open_panoptic
from fishnet.data.segmentation.open import open_segmentation
from fishnet.errors import InputError
from fishnet.images.segment_ids import read_png
from tests.panoptic_makers import coco_panoptic, id_of, id_png, object_pairs

JSON = "annotations/panoptic_train2017.json"
Content = dict[str, list[dict[str, Any]]]


def opened(data: Path, **options: Any) -> dict[str, PanopticSplit]:
    return open_panoptic(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options})


def edit(path: Path, change: Callable[[Content], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=1))


@pytest.mark.parametrize("layout", ["annotations", "splits", "single"])
def test_layouts(layout: str, tmp_path: Path) -> None:
    counts = {"train": 3} if layout == "single" else {"train": 3, "val": 2}
    data = coco_panoptic(tmp_path / "data", layout=layout, **counts)
    splits = opened(data)
    assert [len(split) for split in splits.values()] == list(counts.values())
    assert list(splits) == (["all"] if layout == "single" else ["train", "val"])
    for split in splits.values():
        assert all(split.truth(i).segments for i in range(len(split)))


def test_a_json_file_alone(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    assert list(opened(data / JSON)) == ["all"]
    assert looks_like_panoptic(str(data / JSON))
    assert not looks_like_panoptic(str(object_pairs(tmp_path / "objects") / "annotations/instances_train.json"))


def test_objects_beside_panoptic_files(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    other = object_pairs(tmp_path / "objects") / "annotations/instances_train.json"
    (data / "annotations" / "instances_train2017.json").write_bytes(other.read_bytes())
    assert find_coco(data)["train"].path.name == "instances_train2017.json"
    assert opened(data)["train"].segment.location(0).endswith("panoptic_train2017/train_000.png")


def test_boxes_and_areas_come_from_the_pixels(tmp_path: Path) -> None:
    split = opened(coco_panoptic(tmp_path / "data"))["train"]  # whose bbox is [0, 0, 1, 1] throughout
    objects = split.instances.objects(0)
    for mask, box, area in zip(objects.masks(), objects.boxes, objects.areas, strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert area == mask.sum()


def test_pngs_without_colours(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    png = data / "annotations/panoptic_train2017/train_000.png"
    Image.open(png).convert("L").save(png)
    split = opened(data)["train"]
    with pytest.raises(InputError, match=r"train_000.png: a PNG of mode L: .* encodes segment ids as colours"):
        split.truth(0)


def test_ids_that_no_segment_has(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    png = data / "annotations/panoptic_train2017/train_001.png"
    ids = read_png(png).astype(np.int64)
    ids[5, 3:7] = 4711
    ids[6, :2] = 4712
    id_png(png, ids)
    split = opened(data)["train"]
    message = r"train_001\.png: ids without a segment: 4711 \(4 px\), 4712 \(2 px\): add their segments"
    for read in (split.truth, split.segment.label_map, split.instances.objects):
        with pytest.raises(InputError, match=message):
            read(1)
    split.truth(0)


def test_a_segment_without_a_pixel(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    extra = {"id": 99, "category_id": 3, "iscrowd": 0}
    edit(data / JSON, lambda content: content["annotations"][1]["segments_info"].append(extra))
    split = opened(data)["train"]
    assert split.segment.segment_map(1).empty == [99]
    assert 99 not in [segment.id for segment in split.truth(1).segments]
    message = split.segment.describe_empty(1, [99])
    assert "segments without a pixel: 99 (" in message
    assert "annotations[1], segment 99): remove them, or draw them" in message


def first_segment(content: Content) -> dict[str, Any]:
    segment: dict[str, Any] = content["annotations"][0]["segments_info"][0]
    return segment


FAULTS: dict[str, tuple[Callable[[Content], object], str]] = {
    "category": (
        lambda c: first_segment(c).update(category_id=77),
        rf"line \d+: annotations\[0\], segment {id_of(0)}: category_id 77 is in no entry of categories",
    ),
    "image": (lambda c: c["annotations"][0].update(image_id=5), r"annotations\[0\]: image_id 5 is in no entry of imag"),
    "repeated image": (
        lambda c: c["annotations"][1].update(image_id=100),
        r"annotations\[1\]: image_id 100 has annotations\[0\] \(line \d+\) already",
    ),
    "repeated id": (
        lambda c: c["annotations"][0]["segments_info"].append(dict(first_segment(c))),
        rf"annotations\[0\]: segments_info\[\d\]: id {id_of(0)} belongs to another segment already",
    ),
    "id 0": (lambda c: first_segment(c).update(id=0), r"segments_info\[0\]: id 0 must be from 1 to 16,777,215; 0 is v"),
    "large id": (lambda c: first_segment(c).update(id=1 << 24), r"id 16777216 must be from 1 to 16,777,215"),
    "text id": (lambda c: first_segment(c).update(id="a"), r"id a must be from 1"),
    "no id": (lambda c: first_segment(c).pop("id"), r"segments_info\[0\]: no id"),
    "no segments": (lambda c: c["annotations"][0].pop("segments_info"), r"segments_info must be a list of at most"),
    "no segment": (lambda c: c["annotations"][0].update(segments_info=[3]), r"segments_info\[0\]: is not an object in"),
    "crowd": (lambda c: first_segment(c).update(iscrowd=2), r"iscrowd is '2': it must be 0 or 1"),
    "no png": (lambda c: c["annotations"][0].pop("file_name"), r"no file_name: it must name the PNG"),
    "isthing": (lambda c: c["categories"][0].pop("isthing"), r"categories\[0\]: isthing of 'ground' must be 0 or 1"),
    "category twice": (lambda c: c["categories"][1].update(id=7), r"categories\[1\]: id 7 belongs to 'ground' already"),
    "category id": (lambda c: c["categories"][1].update(id="x"), r"categories\[1\]: id 'x' is not an integer"),
    "names": (lambda c: c["categories"][1].update(name="leaf"), r"the ids 3 and 9 are both called 'leaf': rename one"),
    "things": (lambda c: c["categories"][0].update(name="things"), r"a stuff class is called 'things'"),
    "no stuff": (lambda c: [e.update(isthing=1) for e in c["categories"]], "has no class of stuff: use train instance"),
    "image id twice": (lambda c: c["images"][1].update(id=100), r"images\[1\]: id 100 belongs to images\[0\]"),
    "no categories": (lambda c: c.pop("categories"), r"no entries in categories: not a COCO panoptic file"),
    "missing png": (
        lambda c: c["annotations"][0].update(file_name="none.png"),
        r"1 of 6 PNGs of .*panoptic_train2017.json are not in .*: none.png",
    ),
    "no png at all": (
        lambda c: [e.update(file_name=f"x/{e['file_name']}") for e in c["annotations"]],
        r"none of its PNGs found: x/train_000.png is not in .*annotations/panoptic_train2017, ",
    ),
    "missing image": (lambda c: c["images"][0].update(file_name="none.jpg"), r"1 of 6 images of .* are neither in"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_json_file(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    data = coco_panoptic(tmp_path / "data")
    edit(data / JSON, change)
    with pytest.raises(InputError, match=message) as error:
        opened(data)
    assert "\n" not in str(error.value)


def test_an_unknown_category_is_void_where_problems_are_collected(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    edit(data / JSON, lambda content: first_segment(content).update(category_id=77))
    with collecting() as collector:
        split = opened(data)["train"]
    assert [finding.code for finding in collector.findings] == ["annotation-unreadable"]
    truth = split.truth(0)
    assert id_of(0) not in truth.ids
    assert id_of(0) not in [segment.id for segment in truth.segments]


def test_images_without_an_annotation_are_left_out(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    edit(data / JSON, lambda content: content["annotations"].pop(2))
    split = opened(data)["train"]
    assert len(split) == len(split.instances) == 5
    [line] = split.segment.left_out
    assert line.startswith("train_002.png: has no annotation (")


@pytest.mark.parametrize("break_it", ["png", "json", "image", "cut", "text"])
def test_masks_that_do_not_fit(break_it: str, tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    png = data / "annotations/panoptic_train2017/train_000.png"
    if break_it == "png":
        id_png(png, np.zeros((4, 5), np.int64))
    if break_it == "json":
        edit(data / JSON, lambda content: content["images"][0].update(height=33))
    if break_it == "image":
        Image.new("RGB", (50, 40)).save(data / "train2017" / "train_000.png")
    if break_it == "cut":
        png.write_bytes(png.read_bytes()[:90])
    if break_it == "text":
        png.write_text("ids")
    message = {
        "png": r"train_000.png: is 5x4 px, but annotated as 96x80 \(.*annotations\[0\]\): correct one of them",
        "json": r"train_000.png: is 96x80 px, but annotated as 96x33",
        "image": r"train_000.png: is 50x40 px, but ",
    }.get(break_it, r"panoptic_train2017/train_000\.png: (broken PNG|not an image)")
    split = opened(data)["train"]
    for view in (split.instances, split.segment):
        with pytest.raises(InputError, match=message):
            view.read(0)
        view.read(1)


def test_two_files_of_one_split(tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    path = data / JSON
    path.with_name("panoptic_train.json").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="two files for the train split"):
        opened(data)


@pytest.mark.parametrize("open_other", [open_detection, open_segmentation])
def test_other_tasks_name_the_one_for_it(open_other: Callable[..., Any], tmp_path: Path) -> None:
    data = coco_panoptic(tmp_path / "data")
    with pytest.raises(
        InputError, match=r"annotations\[0\]: has segments_info, as COCO panoptic .*: use train panoptic"
    ):
        open_other(str(data), 3, val_fraction=0.25, seed=0)
