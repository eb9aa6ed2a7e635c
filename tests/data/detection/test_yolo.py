"""YOLO: layouts, boxes and outlines, and faults by file and line."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.detection.yolo import find_yolo, open_yolo, read_yaml
from fishnet.data.segmentation.open import looks_like_segmentation
from fishnet.errors import InputError
from tests.detection_makers import KINDS, scenes, yolo_folder


def opened(data: Path, **options: Any) -> Any:
    file = find_yolo(data)
    assert file is not None
    return open_yolo(file, 3, **options)


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("name", ["", "data.yaml"])
def test_boxes_and_outlines(polygons: bool, name: str, tmp_path: Path) -> None:
    splits = opened(yolo_folder(tmp_path / "data", polygons=polygons) / name, masks=polygons)
    assert list(splits) == ["train", "val"]
    for split, count in {"train": 6, "val": 3}.items():
        assert splits[split].classes == Classes.of(KINDS)
        for i, truth in enumerate(scenes(split, count)):
            objects = splits[split].read(i)[1]
            assert np.array_equal(objects.labels, truth.labels)
            assert np.allclose(objects.boxes, truth.boxes, atol=2e-3)  # six decimals of 96 px, float32
            assert objects.size == (80, 96)
            if polygons and len(objects):
                masks = objects.masks()
                assert ((masks & truth.masks).sum((1, 2)) / (masks | truth.masks).sum((1, 2)) > 0.95).all()
                assert np.allclose(objects.areas, truth.masks.sum((1, 2)), rtol=0.05)
            elif not polygons:
                sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
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
def test_where_images_are(text: str, tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data")
    (data / "train.txt").write_text("".join(f"./images/train/{i:03d}.png\n" for i in range(5)) + "images/train/005.png")
    splits = opened(yaml(data, text.format(here=data) + NAMES))
    assert [len(splits[split]) for split in ("train", "val")] == [6, 3]
    assert len(splits["train"].read(0)[1]) == len(scenes("train", 1)[0].labels)
    assert splits["train"].key(0) == "images/train/000.png"


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
        ("leaf .5 .5 .1 .1", False, "not all values are numbers: 'leaf"),
        ("0 .5 .5 .1", False, "3 numbers after the class: a box has 4, an outline"),
        ("0 .5 .5 .1 .1 .9", False, "5 numbers after the class"),
        ("0 .5 .5", False, "2 numbers after the class"),
        ("0 .1 .1 .2 .2 .3 .3 .4", False, "7 numbers after the class"),
        ("0 .5 .5 .1 1.002", False, "1.002 is not within 0 to 1"),
        ("0 .5 -.1 .1 .1", False, "-0.1 is not within 0 to 1"),
        ("0 .5 nan .1 .1", False, "nan is not within 0 to 1"),
        ("0 48 40 10 10", False, "48 is not within 0 to 1"),
        (
            "0 .5 .5 .1 .1",
            True,
            r"a box \(or an outline of two points\), but masks need three points: use train detect",
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
    with collecting() as collector:
        train = opened(data, masks=masks)["train"]
    assert len(collector.findings) == 1
    assert (len(train), len(train.objects(1))) == (3, 1)
    assert train.location(1, 0) == f"{path} line 2"


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
        (NAMES, "has no split"),
        (NAMES + "train: 3\n", "train must be a folder"),
        (NAMES + "train: images/nowhere\n", "train: no such folder or list: .*images/nowhere"),
        (NAMES + "train: empty\n", "train: no image in .*empty"),
        (NAMES + "train: bare\n", "no image of train has a label file: .*there is no .*bare/0.txt"),
        (NAMES + "\ntrain: [\n", "line 4: not YAML"),
        ("[1, 2]", "expected the keys names and at least one of train, val and test"),
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


def labelled(folder: Path, *rows: str, text: str = "train: images/train\n" + NAMES, count: int = 1) -> Any:
    """The train split of images of 100 x 50 px, each with these lines."""
    data = folder / "data"
    for i in range(count):
        for name in ("images", "labels"):
            (data / name / "train").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(data / "images" / "train" / f"{i}.png")
        (data / "labels" / "train" / f"{i}.txt").write_text("\n".join(rows) + "\n")
    return opened(yaml(data, text))["train"]


BOX = "0 .5 .5 .2 .4"  # 40 15 60 35 px
POINTS = ".45 .4 2 .55 .6 1 0 0 0"


@pytest.mark.parametrize(
    ("rows", "text", "dropped"),
    [
        ([f"{BOX} .9"], "", "a score"),
        ([f"{BOX} 0.25", f"{BOX} 1"], "", "a score"),
        ([f"{BOX} 17"], "", "a track number"),
        ([f"{BOX} .9 17", f"{BOX} .8 18"], "", "a score and a track number"),
        ([f"{BOX} .9 17", f"{BOX} .8"], "", "a score and a track number"),
        ([f"{BOX} {POINTS}"], "kpt_shape: [3, 3]\n", "3 keypoints of 3 values"),
        ([f"{BOX} {POINTS}", BOX], "kpt_shape: [3, 3]\n", "3 keypoints of 3 values"),
        ([f"{BOX} .45 .4 .55 .6"], "kpt_shape: [2, 2]\n", "2 keypoints of 2 values"),
    ],
)
def test_values_after_a_box_are_dropped_with_a_note(rows: list[str], text: str, dropped: str, tmp_path: Path) -> None:
    train = labelled(tmp_path, *rows, text="train: images/train\n" + NAMES + text)
    assert np.allclose(train.objects(0).boxes, [[40, 15, 60, 35]] * len(rows), atol=1e-3)
    notes = [finding for finding in train.notes if finding.code == "label-values-dropped"]
    assert len(notes) == 1
    assert f"have {dropped} after the box: dropped" in notes[0].message
    assert notes[0].count == sum(len(row.split()) > 5 for row in rows)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([f"{BOX} {POINTS}"], r"look like a box with 3 keypoints: .* kpt_shape: \[3, 3\]"),
        ([f"{BOX} .45 .4 .55 .6 .5 .5"] * 10, r"look like a box with 3 keypoints: .* kpt_shape: \[3, 2\]"),
        ([f"{BOX} .9 1"], "may be a box with score and track, or an outline of three points"),
        ([f"{BOX} .9", BOX], "line 1: 5 numbers after the class"),
        ([f"{BOX} 1.5"], "line 1: 5 numbers after the class"),
    ],
)
def test_ambiguous_lines_are_refused(rows: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        labelled(tmp_path, *rows)


def test_keypoints_of_another_number_than_stated(tmp_path: Path) -> None:
    text = "train: images/train\nkpt_shape: [2, 3]\n" + NAMES
    with pytest.raises(InputError, match=r"0\.txt line 1: 13 numbers after the class, but 4 or 10 are expected"):
        labelled(tmp_path, f"{BOX} {POINTS}", text=text)


def test_four_corners_are_outlines_with_a_note(tmp_path: Path) -> None:
    train = labelled(tmp_path, "0 .5 .2 .7 .5 .5 .8 .3 .5")
    assert np.allclose(train.objects(0).boxes, [[30, 10, 70, 40]], atol=1e-3)
    assert [finding.code for finding in train.notes] == ["label-four-corners"]


def test_outlines_of_one_length_stay_outlines(tmp_path: Path) -> None:
    truth = scenes("train", 1)[0]
    corners = np.random.default_rng(0).uniform(0.2, 0.9, (12, 12))
    train = labelled(tmp_path, *("0 " + " ".join(f"{value:.4f}" for value in row) for row in corners))
    assert len(train.objects(0)) == 12
    assert train.notes == []
    assert len(truth.labels)


@pytest.mark.parametrize("hashed", ["labels", "images"])
def test_a_hash_before_the_name(hashed: str, tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=4)
    folder = data / hashed / "train"
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"a1b2c3d{i}-{path.name}")
    train = opened(data)["train"]
    for i, truth in enumerate(scenes("train", 4)):
        assert np.array_equal(train.objects(i).labels, truth.labels)
    notes = {finding.code: finding.count for finding in train.notes}
    assert notes == {"label-paired-by-tail": 4}


def test_a_hash_that_two_share_pairs_with_nothing(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=4)
    labels = data / "labels" / "train"
    (labels / "000.txt").rename(labels / "aaaaaaaa-000.txt")
    (labels / "001.txt").rename(labels / "bbbbbbbb-000.txt")
    with pytest.raises(InputError, match=r"2 of 4 label files have no image: .*aaaaaaaa-000.txt, .*bbbbbbbb-000.txt"):
        opened(data)
    with collecting() as collector:
        opened(data)
    assert [(problem.code, problem.count) for problem in collector.findings] == [
        ("label-without-image", 2), ("image-without-label", 2)
    ]  # fmt: skip


def test_labels_beside_the_images(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=4)
    for path in (data / "labels" / "train").iterdir():
        path.rename(data / "images" / "train" / path.name)
    (data / "images" / "train" / "classes.txt").write_text("berry\n")
    train = opened(data)["train"]
    assert [len(train.objects(i)) for i in range(4)] == [len(truth.labels) for truth in scenes("train", 4)]
    assert train.notes == []


def test_splits_that_share_a_folder_have_no_orphans(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=4)
    for split, numbers in {"train": (0, 1), "val": (2, 3)}.items():
        (data / f"{split}.txt").write_text("".join(f"images/train/{n:03d}.png\n" for n in numbers))
    splits = opened(yaml(data, "train: train.txt\nval: val.txt\n" + NAMES))
    assert [len(splits[split]) for split in splits] == [2, 2]
    assert splits["train"].notes == splits["val"].notes == []


def test_one_stray_label_beside_images_without_objects(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    for i in range(110):
        Image.new("RGB", (8, 8)).save(data / "images" / f"{i}.png")
        if i >= 5:
            (data / "labels" / f"{i}.txt").write_text("0 .5 .5 .2 .2\n")
    (data / "labels" / "stray.txt").write_text("0 .5 .5 .2 .2\n")
    notes = opened(yaml(data, "train: images\n" + NAMES))["train"].notes
    assert [(note.code, note.count) for note in notes] == [("label-without-image", 1), ("image-without-label", 5)]


def test_a_test_split_without_labels_is_left_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split, count in {"train": 3, "val": 1, "test": 2}.items():
        for kind in ("images", "labels"):
            (data / split / kind).mkdir(parents=True)
        for i, truth in enumerate(scenes(split, count)):
            truth.image.save(data / split / "images" / f"{i}.png")
            (data / split / "labels" / f"{i}.txt").write_text("0 .5 .5 .2 .2\n")
    shutil.rmtree(data / "test" / "labels")
    yaml(data, "train: train/images\nval: val/images\ntest: test/images\n" + NAMES)
    assert not looks_like_segmentation(str(data)), "labels/ might hold masks, and one split has none"
    splits = opened(data)
    assert list(splits) == ["train", "val"]
    (note,) = splits["train"].notes
    assert (note.code, note.split) == ("image-without-label", "test")
    assert note.message.endswith("test is left out")


def test_a_list_of_another_machine(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=3)
    (data / "train.txt").write_text("/content/data/images/train/000.png\nC:\\x\\train\\001.png\n")
    assert [entry.path.name for entry in opened(yaml(data, "train: train.txt\n" + NAMES))["train"].entries] == [
        "000.png", "001.png"
    ]  # fmt: skip


def test_places_outside_need_trust(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "away" / "data", train=1)
    own = tmp_path / "here" / "own"
    own.mkdir(parents=True)
    text = f"path: {data}\ntrain: images/train\n" + NAMES
    with pytest.raises(InputError, match=r"train: .*images/train is outside .*here: pass the YAML file itself"):
        opened(yaml(own, text))
    assert len(opened(own, trusted=True)["train"]) == 1
    for place in ("/proc/self", "/", "/dev"):
        with pytest.raises(InputError, match=r"data.yaml: train: .* is a folder of the system"):
            opened(yaml(own, f"train: {place}\n" + NAMES), trusted=True)
    beside = yolo_folder(tmp_path / "here" / "beside", train=1)
    assert len(opened(yaml(own, f"path: ../{beside.name}\ntrain: images/train\n" + NAMES))["train"]) == 1


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ("[1, 2.5]", {0: "1", 1: "2.5"}),
        ('{"0": a, "7": b}', {0: "a", 7: "b"}),
        ("[2020-01-01, b]", {0: "2020-01-01", 1: "b"}),
    ],
)
def test_names_of_any_kind(names: str, read: dict[int, str], tmp_path: Path) -> None:
    data = yaml(yolo_folder(tmp_path / "data", train=1), f"train: images/train\nnames: {names}\n")
    assert read_yaml(data / "data.yaml").names == read


def test_listed_images_that_are_not_there(tmp_path: Path) -> None:
    data = yolo_folder(tmp_path / "data", train=3)
    (data / "train.txt").write_text("".join(f"images/train/{i:03d}.png\n" for i in range(3)) + "images/train/9.png\n")
    with pytest.raises(InputError, match=r"1 of 4 images of train that .*data.yaml names do not exist: .*9\.png"):
        opened(yaml(data, "train: train.txt\n" + NAMES))


@pytest.mark.parametrize("key", ["path", "train"])
def test_names_that_are_too_long(key: str, tmp_path: Path) -> None:
    text = f"train: images/train\n{NAMES}" if key == "path" else NAMES
    data = yaml(yolo_folder(tmp_path / "data", train=1), f"{text}{key}: {'a' * 9000}\n")
    if key == "path":
        assert len(opened(data)["train"]) == 1
    else:
        with pytest.raises(InputError, match="train: no such folder or list"):
            opened(data)
