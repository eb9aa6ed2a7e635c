"""COCO files: layouts, forms of masks, ids, errors with file and line, and memory."""

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.detection.coco import find_coco, open_coco
from fishnet.data.detection.coco_shapes import Shapes, packed
from fishnet.data.detection.coco_stream import read_entries
from fishnet.data.detection.coco_table import KEYS, CocoTable
from fishnet.errors import InputError
from tests.detection_makers import KINDS, coco_dict, coco_folder, scene, scenes, write_json

Content = dict[str, Any]


def opened(data: Path, **options: Any) -> Any:
    return open_coco(find_coco(data), 3, **options)


@pytest.mark.parametrize("form", ["polygon", "rle", "compressed"])
@pytest.mark.parametrize("layout", ["standard", "roboflow", "file"])
def test_layouts_and_forms(layout: str, form: str, tmp_path: Path) -> None:
    splits = opened(coco_folder(tmp_path / "data", layout=layout, form=form), masks=True)
    expected = {"train": scenes("train", 6), "val": scenes("val", 3)}
    expected = {"all": expected["train"] + expected["val"]} if layout == "file" else expected
    assert list(splits) == list(expected)
    for split, shown in expected.items():
        assert len(splits[split]) == len(shown)
        for i, truth in enumerate(shown):
            image, objects = splits[split].read(i)
            assert np.array_equal(np.asarray(image), np.asarray(truth.image))
            assert np.array_equal(objects.boxes, truth.boxes)
            assert np.array_equal(objects.labels, truth.labels)
            assert np.array_equal(objects.areas, truth.masks.sum((1, 2)))
            if len(truth.masks):
                masks = objects.masks()
                overlap = (masks & truth.masks).sum((1, 2)) / (masks | truth.masks).sum((1, 2))
                # An ellipse's outline has 24 corners; everything else is exact.
                assert (overlap > (0.95 if form == "polygon" else 0.9999)).all()


@pytest.mark.parametrize("place", ["images/train2017", "images/train", "train", "Images", "."])
def test_where_images_are_looked_for(place: str, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=2)
    (data / "train2017").rename(tmp_path / "images")
    (data / place).parent.mkdir(parents=True, exist_ok=True)
    if place == ".":
        for path in (tmp_path / "images").iterdir():
            path.rename(data / path.name)
    else:
        (tmp_path / "images").rename(data / place)
    train = opened(data)["train"]
    assert train.read(1)[0].size == (96, 80)
    assert train.key(1) == "train_001.png"


def test_file_names_may_hold_folders(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=2)
    path = data / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace('"train_', '"train2017/train_'))
    assert opened(data)["train"].key(0) == "train2017/train_000.png"


def test_other_annotation_files_beside(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    for name in ("captions_train2017", "person_keypoints_val2017"):
        (data / "annotations" / f"{name}.json").write_text("{}")
    assert list(opened(data)) == ["train", "val"]
    (data / "annotations" / "instances_training.json").write_text("{}")
    with pytest.raises(InputError, match=r"two files for the train split: instances_train2017.json and instances_tr"):
        opened(data)


@pytest.mark.parametrize("ids", [(0, 1, 2), (90, 0, 7), (5, 1000000, 2)])
def test_classes_in_the_order_of_their_ids(ids: tuple[int, ...], tmp_path: Path) -> None:
    train = opened(coco_folder(tmp_path / "data", ids=ids, train=4))["train"]
    assert train.classes.ids == tuple(sorted(ids))
    assert train.classes.names == tuple(KINDS[ids.index(id_)] for id_ in sorted(ids))
    for i, truth in enumerate(scenes("train", 4)):
        assert [train.classes.ids[label] for label in train.objects(i).labels] == [ids[k] for k in truth.labels]


def test_known_classes_are_matched_by_name(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=4)
    known = Classes(("stone", "moss", "leaf", "berry"), (9, 8, 7, 6))
    train = opened(data, classes=known)["train"]
    assert train.classes is known
    assert train.objects(0).labels.tolist() == [[3, 2, 0][k] for k in scenes("train", 1)[0].labels]
    with pytest.raises(InputError, match=r"instances_train2017.json: .*does not know: .*it knows berry\)"):
        opened(data, classes=Classes.of(["berry"]))


def test_categories_of_val_are_matched_by_name(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    path = data / "annotations" / "instances_val2017.json"
    names = [f"val_{i:03d}.png" for i in range(3)]
    write_json(path, coco_dict(scenes("val", 3), names, ids=(11, 3, 7)))
    splits = opened(data)
    assert splits["val"].objects(0).labels.tolist() == scenes("val", 1)[0].labels.tolist()
    path.write_text(path.read_text().replace('"berry"', '"cherry"'))
    with pytest.raises(InputError, match=r"instances_val2017.json: .*cherry"):
        opened(data)


def test_a_group_that_is_called_like_a_class(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=3)
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 0, "name": "leaf"})
    write_json(path, content)
    assert opened(data)["train"].classes.ids == (3, 7, 11)
    content["annotations"][0]["category_id"] = 0
    write_json(path, content)
    with pytest.raises(InputError, match=r"categories\[1\]: ids 0 and 7 are both called 'leaf': rename one"):
        opened(data)


def test_crowds_and_missing_numbers(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        first, second = content["annotations"][:2]
        first["iscrowd"] = 1
        del first["area"], second["bbox"]
        del content["images"][0]["height"]

    truth = scenes("train", 1)[0]
    train = changed(tmp_path, change)["train"]
    objects = train.objects(0)
    assert objects.crowd.tolist() == [True] + [False] * (len(truth.labels) - 1)
    sides = truth.boxes[0, 2:] - truth.boxes[0, :2]
    assert objects.areas[0] == sides.prod()
    assert np.allclose(objects.boxes[1], truth.boxes[1], atol=0.5)  # the outline's 24 corners need not touch its box
    assert objects.size == (0, 0)
    assert train.read(0)[1].size == (80, 96)


def changed(folder: Path, change: Callable[[Content], None], **options: Any) -> Any:
    """A small data set after a change of its file; the first scene has three objects or more."""
    data = coco_folder(folder / "data", train=4)
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)
    return opened(data, **options)


def put(place: str, number: int, **values: Any) -> Callable[[Content], None]:
    def change(content: Content) -> None:
        entry = content[place][number]
        for key, value in values.items():
            if value is None:
                del entry[key]
            else:
                entry[key] = value

    return change


# The file: line 1 info, 2 "images": [, 3 to 6 four images, 8 "annotations": [, so that annotations[1] is on line 10.
FAULTS: list[tuple[Callable[[Content], None], bool, str]] = [
    (put("annotations", 1, image_id=99), False, r"line 10: annotations\[1\]: image_id 99 is in no entry of images"),
    (put("annotations", 1, category_id=4), False, r"line 10: annotations\[1\]: category_id 4 is in no entry of categ"),
    (put("annotations", 1, id=0), False, r"line 10: annotations\[1\]: id 0 belongs to annotations\[0\] \(line 9\) a"),
    (put("annotations", 1, id=1.5), False, r"line 10: annotations\[1\]: id 1.5 is neither an integer nor a text"),
    (put("annotations", 1, image_id=None), False, r"line 10: annotations\[1\]: no image_id"),
    (put("annotations", 1, category_id=None), False, r"line 10: annotations\[1\]: no category_id"),
    (put("annotations", 1, bbox=[1, 2, 3]), False, r"line 10: annotations\[1\]: bbox must be four numbers"),
    (put("annotations", 1, bbox=[1, 2, 3, "4"]), False, r"line 10: annotations\[1\]: bbox must be four numbers"),
    (put("annotations", 1, bbox=[1, 2, float("nan"), 4]), False, r"line 10: annotations\[1\]: bbox must be four"),
    (put("annotations", 1, bbox=None, segmentation=None), False, r"line 10: annotations\[1\]: no bbox: add bbox"),
    (put("annotations", 1, segmentation=None), True, r"line 10: annotations\[1\]: no segmentation, only a box: use tr"),
    (put("annotations", 1, segmentation=[]), True, r"line 10: annotations\[1\]: no segmentation"),
    (put("annotations", 1, segmentation=[[1, 2, 3, 4]]), True, r"line 10: annotations\[1\]: a polygon of 2 points: it"),
    (put("annotations", 1, segmentation=[[1, 2, 3, 4, 5]]), True, r"line 10: annotations\[1\]: a polygon has 5 num"),
    (put("annotations", 1, segmentation=[1, 2, 3, 4, 5, 6]), True, r"line 10: annotations\[1\]: segmentation must be"),
    (put("annotations", 1, segmentation=[[1, 2, 3, 4, 5, "6"]]), True, r"line 10: annotations\[1\]: a polygon holds"),
    (
        put("annotations", 1, segmentation=[[1, 2, 3, 4, 5, 1e9]]),
        True,
        r"line 10: annotations\[1\]: polygon coordinate 1e",
    ),
    (put("annotations", 1, segmentation="x"), True, r"line 10: annotations\[1\]: segmentation is neither"),
    (
        put("annotations", 1, segmentation={"counts": [3]}),
        True,
        r"line 10: annotations\[1\]: a run-length encoding nee",
    ),
    (
        put("annotations", 1, segmentation={"size": [80, 96], "counts": [10, 20]}),
        True,
        r"line 10: annotations\[1\]: the run lengths add up to 30 px, but the mask has 7,680 px \(96x80\)",
    ),
    (
        put("annotations", 1, segmentation={"size": [80, 96], "counts": "zz~"}),
        True,
        r"line 10: annotations\[1\]: a run-length encoding needs counts",
    ),
    (
        put("annotations", 1, segmentation={"size": [8, 8], "counts": [10, 20, 34]}),
        True,
        r"line 10: annotations\[1\]: a mask of 8x8 px in an image of 96x80",
    ),
    (put("images", 1, id=0), False, r"line 4: images\[1\]: id 0 belongs to images\[0\] \(line 3\) already"),
    (put("images", 1, file_name=None), False, r"line 4: images\[1\]: no file_name"),
    (put("images", 1, id=1.5), False, r"line 4: images\[1\]: id 1.5 is neither an integer nor a text"),
    (put("categories", 1, id=3), False, r"line 25: categories\[1\]: id 3 belongs to categories\[0\]"),
    (put("categories", 1, name=None), False, r"line 25: categories\[1\]: no name"),
]


@pytest.mark.parametrize(("change", "masks", "words"), FAULTS, ids=[words[:60] for *_, words in FAULTS])
def test_faults_by_file_and_line(change: Callable[[Content], None], masks: bool, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"instances_train2017\.json {words}") as error:
        changed(tmp_path / "raised", change, masks=masks)
    assert "\n" not in str(error.value)
    with collecting() as collector:
        splits = changed(tmp_path / "collected", change, masks=masks)
    assert re.search(words, collector.findings[0].message)
    assert len(splits["train"]) >= 3
    splits["train"].read(2)


def test_polygons_of_two_points_do_not_matter_to_boxes(tmp_path: Path) -> None:
    train = changed(tmp_path, put("annotations", 1, segmentation=[[1, 2, 3, 4]]))["train"]
    assert train.objects(0).segmentations is None
    assert np.array_equal(train.objects(0).boxes, scenes("train", 1)[0].boxes)


def test_a_size_that_is_not_the_images(tmp_path: Path) -> None:
    train = changed(tmp_path, put("images", 1, width=50))["train"]
    with pytest.raises(InputError, match=r"train_001.png: is 96x80 px, but annotated as 50x80 \(.*json line"):
        train.read(1)


def without_sizes(content: Content) -> None:
    for image in content["images"]:
        del image["height"], image["width"]


def test_masks_of_another_size_than_an_image_without_size(tmp_path: Path) -> None:
    small = {"size": [8, 8], "counts": [10, 20, 34]}

    def without_size(content: Content) -> None:
        without_sizes(content)
        content["annotations"] = [{**content["annotations"][0], "segmentation": small}]

    def with_size(content: Content) -> None:
        without_sizes(content)
        content["annotations"][0]["segmentation"] = {"size": [80, 96], "counts": [10, 20, 7650]}
        content["annotations"][1]["segmentation"] = small

    with pytest.raises(InputError, match=r"train_000.png: is 96x80 px, but annotated as 8x8 \(.*json line 9"):
        changed(tmp_path / "one", without_size, masks=True)["train"].read(0)
    with pytest.raises(InputError, match=r"line 10: annotations\[1\]: a mask of 8x8 px in an image of 96x80"):
        changed(tmp_path / "two", with_size, masks=True)


def test_a_file_whose_images_are_all_wrong(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for image in content["images"]:
            del image["file_name"]

    with collecting() as collector:
        assert len(changed(tmp_path, change)["train"]) == 0
    assert "images[0]: no file_name" in collector.findings[0].message


def test_missing_images(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=3)
    (data / "train2017" / "train_001.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 images of .* train_001.png \(.*line 4: images\[1\]\): add them"):
        opened(data)
    with collecting():
        train = opened(data)["train"]
    with pytest.raises(InputError, match=r"train_001.png: no such file \(.*train2017.json line 4: images\[1\]\)"):
        train.read(1)
    (data / "train2017").rename(tmp_path / "away")
    with pytest.raises(InputError, match=r"none of its images found: train_000.png is not in .*data"):
        opened(data)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the file ends too early"),
        ("[]", "line 1: expected an object with images"),
        ("{}", "no entries in images and categories: not a COCO"),
        ('{"images": 3}', "line 1: expected a list as images"),
        ('{"images": {"a": 1}}', "line 1: images is an object, but its 'a' is not an entry"),
        ('{\n"images": [\n3]}', r"line 3: images\[0\] is not an object"),
        ('{\n"images": [{"id": 1, "file_name": "a.png"}\n{"id": 2}]}', "line 3: not JSON: expected , or ]"),
        ('{"images": [{"id": 1,\n "file_name" "x"}]}', "line 2: not JSON: Expecting ':'"),
        ('{\n"info": {"a": [1, 2', "line 2: the file ends too early"),
        ('{"images": [{"id": 1, "file_name": "a.png"}],\n"categories": [{"id":', "line 2: "),
        ("{images: []}", "line 1: expected a key in quotes"),
    ],
)
def test_no_json(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=rf"a\.json:? {words}"):
        CocoTable(tmp_path / "a.json")


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'{"info": 1,\n"images": [{"file_name": "\xe9\xe8.png"}]}')
    with pytest.raises(InputError, match=r"a.json line 2: not UTF-8"):
        CocoTable(tmp_path / "a.json")


TRICKY = {
    "info": {"text": 'a "quoted" \\ backslash, ] } { [', "deep": [[{"a": [1, {"b": "}"}]}], []], "none": None},
    "images": [{"id": i, "file_name": f"Bäume\n{i}🌳\\", "more": {"x": [1, [2, "]"]]}} for i in range(7)],
    "version": 1.5,
    "annotations": [],
    "licenses": "none, really",
    "categories": [{"id": 0, "name": 'a"b'}],
    "last": True,
}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 2])
def test_the_stream_agrees_with_the_library(chunk: int, ascii_only: bool, indent: int | None, tmp_path: Path) -> None:
    text = json.dumps(TRICKY, ensure_ascii=ascii_only, indent=indent)
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    entries = list(read_entries(tmp_path / "a.json", KEYS, chunk))
    for key in KEYS:
        listed = [entry for entry in entries if entry.key == key]
        assert [entry.value for entry in listed] == TRICKY[key]
        assert [entry.number for entry in listed] == list(range(len(listed)))
    if indent:
        lines = text.split("\n")
        starts = [i for i, line in enumerate(lines, 1) if line == "    {"]
        assert [entry.line for entry in entries] == starts[: len(entries)]
    else:
        assert {entry.line for entry in entries} == {1}


def test_a_file_cut_off_anywhere(tmp_path: Path) -> None:
    content = json.dumps(TRICKY).encode()
    for end in range(0, len(content) - 1, 3):
        (tmp_path / "a.json").write_bytes(content[:end])
        with pytest.raises(InputError, match=r"a\.json line 1: "):
            list(read_entries(tmp_path / "a.json", KEYS, 16))


def test_shapes_come_back_exactly() -> None:
    truth = scene(3)
    random = np.random.default_rng(0)
    segmentations: list[Any] = [
        [random.random(14).tolist(), (random.random(6) * 1000).round(2).tolist()],
        truth.polygons(0),
        {"size": [4, 5], "counts": [3, 7, 10]},
        {"size": [2, 3], "counts": "06"},
        [[1, 2, 3, 4, 5, 6]],
    ]
    shapes = Shapes()
    for shape in segmentations:
        shapes.add(packed(shape))
        shapes.add(None)
    assert [shapes[2 * i] for i in range(len(segmentations))] == segmentations
    assert shapes[1] == []


@pytest.mark.slow
@pytest.mark.parametrize(("masks", "share"), [(True, 1.0), (False, 0.6)])
def test_memory(masks: bool, share: float, tmp_path: Path) -> None:
    """A file of 60 MB takes less than that, where Python's own objects take several times as much."""
    random = np.random.default_rng(0)
    path = tmp_path / "large.json"
    polygons = [(random.random(2 * int(random.integers(8, 60))) * 500).round(2).tolist() for _ in range(500)]
    with path.open("w") as file:
        file.write('{"annotations": [\n')
        number = 0
        while file.tell() < 60 << 20:
            polygon = json.dumps(polygons[number % 500])
            file.write(
                f'{{"segmentation": [{polygon}], "area": 12.5, "iscrowd": 0, "image_id": {number // 7}, '
                f'"bbox": [1, 2, 30, 40.5], "category_id": 1, "id": {number}}},\n'
            )
            number += 1
        file.write('{"id": -1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1], "segmentation": [[0,0,1,0,1,1]]}')
        images = ",\n".join(f'{{"id": {i}, "file_name": "{i:012d}.jpg"}}' for i in range(number // 7 + 1))
        file.write(f'],\n"images": [\n{images}],\n"categories": [{{"id": 1, "name": "a"}}]}}')
    program = (
        "import sys, resource, pathlib\n"
        "from fishnet.data.detection.coco_table import CocoTable\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak()\n"
        f"table = CocoTable(pathlib.Path(sys.argv[1]), {masks})\n"
        "assert 'torch' not in sys.modules\n"
        "print(peak() - before, len(table.images))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True)
    peak, photos = map(int, done.stdout.split())
    assert photos == number // 7 + 1
    assert peak < share * path.stat().st_size


def numbered(change: Callable[[Any], Any], *keys: tuple[str, str]) -> Callable[[Content], None]:
    """A change of ids, such as (images, id)."""

    def apply(content: Content) -> None:
        for place, key in keys:
            for entry in content[place]:
                entry[key] = change(entry[key])

    return apply


IMAGES, CATEGORIES = (
    (("images", "id"), ("annotations", "image_id")),
    (("categories", "id"), ("annotations", "category_id")),
)


@pytest.mark.parametrize(
    "change",
    [
        numbered(float, *IMAGES, *CATEGORIES, ("annotations", "id")),
        numbered(str, *IMAGES, *CATEGORIES, ("annotations", "id")),
        numbered(str, *IMAGES[:1], *CATEGORIES[:1]),
        numbered(lambda id_: f"x{id_}", *IMAGES, ("annotations", "id")),
        lambda content: [annotation.pop("id") for annotation in content["annotations"]],
        lambda content: content.update(annotations={str(row["id"]): row for row in content["annotations"]}),
        lambda content: content.update(annotations={str(row.pop("id")): row for row in content["annotations"]}),
    ],
)
def test_ids_of_any_kind(change: Callable[[Content], None], tmp_path: Path) -> None:
    train = changed(tmp_path, change)["train"]
    assert train.classes == Classes(KINDS, (3, 7, 11))
    for i, truth in enumerate(scenes("train", 4)):
        assert np.array_equal(train.objects(i).labels, truth.labels)
        assert np.array_equal(train.objects(i).boxes, truth.boxes)


def test_categories_whose_ids_are_texts_get_numbers(tmp_path: Path) -> None:
    train = changed(tmp_path, numbered(lambda id_: f"c{id_}", *CATEGORIES))["train"]
    assert train.classes == Classes(KINDS, (0, 1, 2))
    assert np.array_equal(train.objects(0).labels, scenes("train", 1)[0].labels)
    assert [finding.code for finding in train.notes] == ["category-id-text"]
    with pytest.raises(InputError, match=r"category_id 'odd' is in no entry of categories"):
        changed(tmp_path / "odd", put("annotations", 1, category_id="odd"))


def test_a_text_id_twice(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for annotation in content["annotations"][:2]:
            annotation["id"] = "a"

    with pytest.raises(InputError, match=r"annotations\[1\]: id a belongs to annotations\[0\]"):
        changed(tmp_path, change)


def test_names_that_are_numbers(tmp_path: Path) -> None:
    train = changed(tmp_path, put("categories", 0, name=5))["train"]
    assert train.classes.names == ("5", "leaf", "stone")


def test_an_unused_root_is_left_out(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        for category in content["categories"]:
            category["supercategory"] = "plants"
        content["categories"].insert(0, {"id": 0, "name": "plants", "supercategory": "none"})

    train = changed(tmp_path / "unused", change)["train"]
    assert train.classes == Classes(KINDS, (3, 7, 11))
    assert [finding.code for finding in train.notes] == ["category-unused-root"]

    def used(content: Content) -> None:
        change(content)
        content["annotations"][0]["category_id"] = 0

    assert changed(tmp_path / "used", used)["train"].classes.names == ("plants", *KINDS)
    with collecting():
        plain = changed(tmp_path / "plain", put("categories", 0, id=0, supercategory="none"))["train"]
    assert plain.classes.ids == (7, 11)


@pytest.mark.parametrize(
    "spelled",
    [
        "C:\\data\\images\\{}",
        "/home/x/data/images/{}",
        "images\\{}",
        "sub%20folder/{}",
        "file:///home/x/{}",
        "../../{}",
    ],
)
@pytest.mark.parametrize("folder", ["train2017", "train2017/sub folder", "images/deep/er"])
def test_images_by_the_end_of_their_path(spelled: str, folder: str, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=3)
    (data / "train2017").rename(tmp_path / "away")
    (data / folder).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "away").rename(data / folder)
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["file_name"] = spelled.format(image["file_name"])
    write_json(path, content)
    train = opened(data)["train"]
    assert [train.read(i)[0].size for i in range(3)] == [(96, 80)] * 3


def test_either_unicode_form_of_a_file_name(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=2)
    (data / "train2017" / "train_000.png").rename(data / "train2017" / unicodedata.normalize("NFD", "fève.png"))
    path = data / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace("train_000.png", unicodedata.normalize("NFC", "fève.png")))
    assert opened(data)["train"].read(0)[0].size == (96, 80)


def test_an_ambiguous_image(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=2)
    for place in ("a", "b"):
        (data / "more" / place).mkdir(parents=True)
        (data / "more" / place / "train_000.png").write_bytes((data / "train2017" / "train_000.png").read_bytes())
    (data / "train2017" / "train_000.png").unlink()
    with pytest.raises(InputError, match=r"line 3: images\[0\]: train_000.png may be .*a/train_000.png or .*b/train"):
        opened(data)


def test_one_image_never_stands_for_two_names(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"][0]["file_name"] = "x/train_002.png"

    with pytest.raises(InputError, match=r"1 of 4 images of .* x/train_002.png"):
        changed(tmp_path, change)  # train_002.png is taken by its own entry


def test_a_few_missing_images_among_many_are_a_note(tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"] += [{"id": 100 + n, "file_name": "train_000.png"} for n in range(200)]
        content["images"][3]["file_name"] = "nowhere.png"

    train = changed(tmp_path, change)["train"]
    assert {finding.code: finding.count for finding in train.notes}["image-missing"] == 1


def test_a_file_of_no_split_is_noted(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    annotations = data / "annotations"
    (annotations / "instances_foo.json").write_bytes((annotations / "instances_train2017.json").read_bytes())
    splits = opened(data)
    assert list(splits) == ["train", "val"]
    notes = [finding for finding in splits["train"].notes if finding.code == "split-unnamed"]
    assert len(notes) == 1
    assert "instances_foo.json: its name contains neither train, val nor test: left out" in notes[0].message


def test_images_that_no_file_names_are_counted(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=2, val=2)
    for name in ("a.png", "b.jpg", "c.txt"):
        (data / "train2017" / name).write_bytes(b"")
    notes = opened(data)["train"].notes
    assert [(finding.code, finding.count) for finding in notes] == [("image-not-annotated", 2)]
