"""YOLO: layouts, boxes and outlines, and faults by file and line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.findings import Finding
from fishnet.data.labels import Classes
from fishnet.data.regions.yolo import find_yolo, open_yolo, read_yaml
from fishnet.errors import InputError
from tests.region_makers import KINDS, scenes, yolo_folder


def opened(data: Path, **options: Any) -> Any:
    found = find_yolo(data)
    assert found is not None
    return open_yolo(found, 3, **options)


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("name", ["", "data.yaml"])
def test_boxes_and_outlines(polygons: bool, name: str, tmp_path: Path) -> None:
    sets = opened(yolo_folder(tmp_path / "data", polygons=polygons) / name, masks=polygons)
    assert list(sets) == ["train", "val"]
    for part, count in {"train": 6, "val": 3}.items():
        assert sets[part].classes == Classes.of(KINDS)
        for i, one in enumerate(scenes(part, count)):
            objects = sets[part].read(i)[1]
            assert np.array_equal(objects.labels, one.labels)
            assert np.allclose(objects.boxes, one.boxes, atol=2e-3)  # six decimals of 96 px, float32
            assert objects.size == (80, 96)
            if polygons and len(objects):
                masks = objects.masks()
                assert ((masks & one.masks).sum((1, 2)) / (masks | one.masks).sum((1, 2)) > 0.95).all()
                assert np.allclose(objects.areas, one.masks.sum((1, 2)), rtol=0.05)
            elif not polygons:
                sides = one.boxes[:, 2:] - one.boxes[:, :2]
                assert np.allclose(objects.areas, sides.prod(1), rtol=1e-4)


def yaml(data: Path, text: str) -> Path:
    (data / "data.yaml").write_text(text)
    return data


NAMES = "names: [berry, leaf, stone]\n"


@pytest.mark.parametrize(
    "text",
    [
        "train: images/train\nval: images/val\n",
        "train: ../images/train\nvalid: ../images/val\n",  # as Roboflow writes it
        "path: nowhere\ntrain: [images/train]\nval: ./images/val\n",
        "path: {here}\ntrain: train.txt\nval: {here}/images/val\n",
    ],
)
def test_where_pictures_are(text: str, tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data")
    (data / "train.txt").write_text("".join(f"./images/train/{i:03d}.png\n" for i in range(5)) + "images/train/005.png")
    sets = opened(yaml(data, text.format(here=data) + NAMES))
    assert [len(sets[part]) for part in ("train", "val")] == [6, 3]
    assert len(sets["train"].read(0)[1]) == len(scenes("train", 1)[0].labels)
    assert sets["train"].key(0) == "images/train/000.png"


def test_labels_are_beside_the_last_folder_called_images(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "images" / "data", train=2)
    assert opened(data)["train"].entries[0].text == data / "labels" / "train" / "000.txt"


def test_numbers_of_names_are_kept(tmp_path: Path) -> None:
    data = yaml(yolo_folder(tmp_path / "data"), "train: images/train\nnames: {2: stone, 0: berry, 1: leaf, 7: moss}\n")
    assert opened(data)["train"].classes == Classes((*KINDS, "moss"), (0, 1, 2, 7))
    known = Classes(("stone", "leaf", "berry"), (4, 5, 6))
    assert opened(data, classes=known)["train"].objects(0).labels.tolist() == [
        2 - label for label in scenes("train", 1)[0].labels
    ]


def test_a_turned_photo_is_measured_upright(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(data / "images" / "train" / "001.jpg", exif=exif)
    (data / "labels" / "train" / "001.txt").write_text("0 0.5 0.5 1 0.5\n")
    objects = opened(data)["train"].read(1)[1]
    assert (objects.size, objects.boxes.tolist()) == ((40, 20), [[0, 10, 20, 30]])


@pytest.mark.parametrize(
    ("row", "masks", "words"),
    [
        ("3 .5 .5 .1 .1", False, "class 3 is not among the names, which have 0, 1, 2"),
        ("-1 .5 .5 .1 .1", False, "class -1 is not among the names"),
        ("0.5 .5 .5 .1 .1", False, "class 0.5 is not among the names"),
        ("leaf .5 .5 .1 .1", False, "holds something that is no number: 'leaf"),
        ("0 .5 .5 .1", False, "3 numbers after the class: a box has 4, an outline"),
        ("0 .5 .5 .1 .1 .9", False, "5 numbers after the class"),
        ("0 .5 .5", False, "2 numbers after the class"),
        ("0 .1 .1 .2 .2 .3 .3 .4", False, "7 numbers after the class"),
        ("0 .5 .5 .1 1.002", False, "1.002 is outside of 0 to 1"),
        ("0 .5 -.1 .1 .1", False, "-0.1 is outside of 0 to 1"),
        ("0 .5 nan .1 .1", False, "nan is outside of 0 to 1"),
        ("0 48 40 10 10", False, "48 is outside of 0 to 1"),
        (
            "0 .5 .5 .1 .1",
            True,
            r"a box \(or an outline of two points\), but masks take three points: use train detect",
        ),
    ],
)
def test_faults_by_file_and_line(row: str, masks: bool, words: str, tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", polygons=True, train=3)
    path = data / "labels" / "train" / "001.txt"
    good = path.read_text()
    path.write_text(f"\n{good.splitlines()[0]}\n{row}\n")
    with pytest.raises(InputError, match=rf"labels/train/001.txt line 3: {words}"):
        opened(data, masks=masks)
    problems: list[Finding] = []
    train = opened(data, masks=masks, problems=problems)["train"]
    assert len(problems) == 1
    assert (len(train), len(train.objects(1))) == (3, 1)
    assert train.place(1, 0) == f"{path} line 2"


def test_values_a_little_outside(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=1)
    (data / "labels" / "train" / "000.txt").write_text("0 0.5 0.5 1.0005 1.0005\n")
    assert opened(data)["train"].read(0)[1].boxes.tolist() == [[0, 0, 96, 80]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images/train\n", "names must list the classes"),
        ("names: {a: 1}\ntrain: images/train\n", "names must list the classes"),
        ("names: [a, a]\ntrain: images/train\n", "class names are not unique: a"),
        (NAMES, "names no part"),
        (NAMES + "train: 3\n", "train must be a folder"),
        (NAMES + "train: images/nowhere\n", "train: no such folder or list: .*images/nowhere"),
        (NAMES + "train: empty\n", "train: no picture in .*empty"),
        (NAMES + "train: bare\n", "no picture of train has a label file: .*bare/0.txt is not there"),
        (NAMES + "\ntrain: [\n", "line 4: not YAML"),
        ("[1, 2]", "expected the keys names, train and val"),
    ],
)
def test_faults_of_the_file(text: str, words: str, tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=1)
    for folder in ("empty", "bare"):
        (data / folder).mkdir()
    Image.new("L", (4, 4)).save(data / "bare" / "0.png")
    with pytest.raises(InputError, match=rf"data.yaml.*{words}") as error:
        opened(yaml(data, text))
    assert "\n" not in str(error.value)


def test_which_file_in_a_folder(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=1)
    (data / "data.yaml").rename(data / "berries.yml")
    (data / "other.yaml").write_text("a: 1\n")
    assert find_yolo(data) == data / "berries.yml"
    (data / "other.yaml").write_text((data / "berries.yml").read_text())
    assert find_yolo(data) is None
    assert read_yaml(data / "other.yaml").names == dict(enumerate(KINDS))
