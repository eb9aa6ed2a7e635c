"""Pascal VOC: layouts, lists, masks, and faults by file and line."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.detection.files import open_splits
from fishnet.data.detection.voc import VocDetection, find_voc
from fishnet.data.detection.voc_xml import read_xml
from fishnet.errors import InputError
from tests.detection_makers import KINDS, scenes, voc_folder


def opened(data: Path, **options: Any) -> Any:
    return open_splits(VocDetection, find_voc(data, options.get("masks", False)), 3, **options)


def counts(data: Path, **options: Any) -> dict[str, int]:
    return {split: len(images) for split, images in opened(data, **options).items()}


@pytest.mark.parametrize("layout", ["lists", "flat", "folders"])
def test_layouts(layout: str, tmp_path: Path) -> None:
    splits = opened(voc_folder(tmp_path / "data", layout=layout))
    by_split = {"train": scenes("train", 6), "val": scenes("val", 3)}
    expected = {"all": by_split["train"] + by_split["val"]} if layout == "flat" else by_split
    assert list(splits) == list(expected)
    for split, truths in expected.items():
        assert splits[split].classes == Classes.of(KINDS)
        assert len(splits[split]) == len(truths)
        for i, truth in enumerate(truths):
            image, objects = splits[split].read(i)
            assert image.size == truth.image.size
            assert np.array_equal(objects.boxes, truth.boxes)  # the numbers of the file
            assert np.array_equal(objects.labels, truth.labels)


@pytest.mark.parametrize("images", ["images", "PNGImages", "Annotations", "."])
def test_where_images_are(images: str, tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=2)
    (data / "ImageSets" / "Main" / "train.txt").unlink()
    for path in (data / "JPEGImages").iterdir():
        (data / images).mkdir(exist_ok=True)
        path.rename(data / ("." if images == "Annotations" else images) / path.name)
    (data / "JPEGImages").rmdir()
    splits = opened(data)
    assert list(splits) == ["all"]
    assert splits["all"].read(1)[0].size == (96, 80)


def test_lists(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=4, val=2, test=1)
    main = data / "ImageSets" / "Main"
    (main / "trainval.txt").write_text("train_000\ntrain_001\nval_000\n")
    (main / "leaf_train.txt").write_text("train_000 1\n")
    assert counts(data) == {"train": 4, "val": 2, "test": 1}
    (main / "train.txt").unlink()
    assert counts(data) == {"train": 2, "val": 2, "test": 1}  # without what val has
    (main / "val.txt").unlink()
    assert counts(data) == {"train": 3, "test": 1}
    (main / "test.txt").write_bytes(b"test_000\r\n\r\nval_001\r\n")
    assert counts(data) == {"train": 3, "test": 2}
    (main / "test.txt").write_text("\n\nval_007\n")
    with pytest.raises(InputError, match=r"test.txt line 3: no such annotation: .*Annotations/val_007.xml"):
        opened(data)


def test_lists_of_segmentation_come_first_with_masks(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=3, masks=True)
    (data / "ImageSets" / "Segmentation").mkdir()
    (data / "ImageSets" / "Segmentation" / "train.txt").write_text("train_001\n")
    assert (counts(data), counts(data, masks=True)) == ({"train": 3}, {"train": 1})


def test_an_image_without_annotation_is_left_out(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="flat", train=3)
    (data / "train_001.xml").unlink()
    (data / "train_000.jpg.aux.xml").write_text("<PAMDataset/>")  # what GDAL writes beside an image
    with collecting() as collector:
        dataset = opened(data)["all"]
    assert [dataset.key(i) for i in range(len(dataset))] == ["train_000.jpg", "train_002.jpg"]
    assert dataset.left_out == (str(data / "train_001.jpg"),)
    assert [problem.code for problem in collector.findings] == ["image-left-out"]
    with pytest.raises(InputError, match=r"1 of 3 images of .*data have no annotation and are left out: .*001.jpg"):
        opened(data)


def test_which_of_two_images_of_a_name(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="flat", train=1)
    scenes("train", 1)[0].image.save(data / "train_000.png")
    assert opened(data)["all"].key(0) == "train_000.jpg"
    xml = data / "train_000.xml"
    xml.write_text(xml.read_text().replace("train_000.jpg", "train_000.png"))
    assert opened(data)["all"].key(0) == "train_000.png"
    xml.write_text(xml.read_text().replace("train_000.png", "renamed.png"))
    assert opened(data)["all"].key(0) == "train_000.jpg"


def test_masks(tmp_path: Path) -> None:
    train = opened(voc_folder(tmp_path / "data", train=5, masks=True), masks=True)["train"]
    for i, truth in enumerate(scenes("train", 5)):
        objects = train.read(i)[1]
        assert np.array_equal(objects.labels, truth.labels)
        assert np.array_equal(objects.masks(), truth.masks)
        assert np.array_equal(objects.boxes, truth.boxes)


def test_masks_and_boxes_that_do_not_fit(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=1, masks=True)
    mask = data / "SegmentationObject" / "train_000.png"
    ids = np.asarray(Image.open(mask))
    Image.fromarray(np.where(ids == 1, 0, ids)).save(mask)
    with pytest.raises(InputError, match=r"train_000.xml line 4: this object has no mask in .*train_000.png"):
        opened(data, masks=True)["train"].read(0)
    more = ids.copy()
    more[0, 0] = 9
    Image.fromarray(more).save(mask)
    with pytest.raises(InputError, match=r"train_000.png: object 9 is in none of the boxes of .*train_000.xml"):
        opened(data, masks=True)["train"].read(0)
    Image.fromarray(ids[:40]).save(mask)
    with pytest.raises(InputError, match=r"train_000.png: is 96x40 px, but .*train_000.xml has 96x80"):
        opened(data, masks=True)["train"].read(0)
    mask.unlink()
    with pytest.raises(InputError, match=r"train_000\.png: no such file"):
        opened(data, masks=True)["train"].read(0)


def test_boxes_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has boxes only \(no SegmentationObject folder .*train detect"):
        opened(voc_folder(tmp_path / "data"), masks=True)


OBJECT = "<object><name>leaf</name>{}</object>"
BOX = "<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: not XML: no element found"),
        ("<annotation>\n<object>", "line 2: not XML: no element found"),
        ("<annotation>\n</object>", "line 2: not XML: mismatched tag"),
        ("<svg>\n</svg>", "line 1: not a Pascal VOC annotation: it is <svg>"),
        ("<annotation>\n" + OBJECT.format("") + "</annotation>", "line 2: object 'leaf' has no bndbox: add one"),
        ("<annotation>\n\n<object>" + BOX + "</object></annotation>", "line 3: an object without a name"),
        (
            "<annotation>\n" + OBJECT.format(BOX.replace("30", "x")) + "</annotation>",
            "line 2: object 'leaf': xmax of its bndbox is 'x', which is not a number",
        ),
        (
            "<annotation>\n" + OBJECT.format(BOX.replace("<xmin>1</xmin>", "")) + "</annotation>",
            "line 2: object 'leaf': xmin of its bndbox is '', which is not a number",
        ),
        ("<annotation>\n" + OBJECT.format(BOX.replace("30", "nan")) + "</annotation>", "line 2: .*not finite"),
        (
            '<!DOCTYPE a [\n<!ENTITY b "bb">\n<!ENTITY c "&b;&b;">]>\n<annotation>&c;</annotation>',
            "line 2: declares an XML entity",
        ),
    ],
)
def test_faults_by_file_and_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(InputError, match=rf"a\.xml {words}") as error:
        read_xml(tmp_path / "a.xml")
    assert "\n" not in str(error.value)


def test_parts_of_objects_are_ignored(tmp_path: Path) -> None:
    part = "<part><name>head</name>" + BOX.replace("1", "9") + "</part>"
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><source><name>x</name></source>\n"
        f"<size><width>50</width><height>40</height></size>{OBJECT.format(part + BOX + part)}</annotation>"
    )
    annotation = read_xml(tmp_path / "a.xml")
    assert (annotation.names, annotation.lines) == (("leaf",), (2,))
    assert (annotation.size, annotation.filename) == ((40, 50), "a.jpg")
    assert annotation.boxes.tolist() == [[1, 2.5, 30, 40]]


def test_faults_are_collected(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=4)
    text = (data / "Annotations" / "train_000.xml").read_text()
    (data / "Annotations" / "train_000.xml").write_text(
        text.replace("<bndbox>", "<box>", 1).replace("</bndb", "</b", 1)
    )
    (data / "Annotations" / "train_001.xml").write_text("<a>")
    with collecting() as collector:
        train = opened(data)["train"]
    assert [len(train), len(train.objects(0))] == [3, len(scenes("train", 1)[0].labels) - 1]
    assert [problem.message.split(".xml")[1][:7] for problem in collector.findings] == [" line 4", " line 1"]


def test_a_class_that_training_lacks(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data")
    index, labels = next(
        (i, truth.labels.tolist()) for i, truth in enumerate(scenes("val", 3)) if len(truth.labels) > 1
    )
    path = data / "Annotations" / f"val_{index:03d}.xml"
    path.write_text(path.read_text().replace(KINDS[labels[0]], "moss", 1))
    with pytest.raises(InputError, match=rf"{path} line 4: class 'moss' is not known \(berry, leaf, stone\)"):
        opened(data)
    with collecting() as collector:
        val = opened(data)["val"]
    assert len(collector.findings) == 1
    assert val.objects(index).labels.tolist() == labels[1:]
    assert val.location(index, 0) == f"{path} line 9"


def test_known_classes(tmp_path: Path) -> None:
    known = Classes(("stone", "leaf", "berry"), (5, 6, 7))
    train = opened(voc_folder(tmp_path / "data", train=2), classes=known)["train"]
    assert train.classes is known
    assert train.objects(0).labels.tolist() == [2 - label for label in scenes("train", 1)[0].labels]


def test_no_objects(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="flat", train=1)
    (data / "train_000.xml").write_text("<annotation></annotation>")
    with pytest.raises(InputError, match="data: no object in 1 annotation files"):
        opened(data)
    assert len(opened(data, classes=Classes.of(["leaf"]))["all"].read(0)[1]) == 0


def test_an_image_without_annotation_among_many_is_a_note(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="flat", train=2)
    text = (data / "train_000.xml").read_text()
    for i in range(150):
        (data / f"{i}.xml").write_text(text)
        (data / f"{i}.jpg").symlink_to(data / "train_000.jpg")
    (data / "train_001.xml").unlink()
    dataset = opened(data)["all"]
    assert [(finding.code, finding.count) for finding in dataset.notes] == [("image-left-out", 1)]


def test_annotations_without_an_image(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=3)
    (data / "JPEGImages" / "train_001.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 3 annotation files of .*Annotations have no image: .*train_001.xml"):
        opened(data)
    with collecting():
        assert len(opened(data)["train"]) == 3  # reported later, when each image is read


def nested(data: Path, *folders: str) -> Path:
    """Moves the files of some folders into one called ``sub`` in each."""
    for name in folders:
        files = list((data / name).iterdir())
        (data / name / "sub").mkdir()
        for path in files:
            path.rename(data / name / "sub" / path.name)
    return data


@pytest.mark.parametrize("folders", [("Annotations",), ("Annotations", "JPEGImages")])
@pytest.mark.parametrize("listed", ["", "{}", "sub/{}", "{}.jpg"])
def test_nested_folders(folders: tuple[str, ...], listed: str, tmp_path: Path) -> None:
    data = nested(voc_folder(tmp_path / "data", train=3), *folders)
    main = data / "ImageSets" / "Main"
    (main / "train.txt").unlink()
    if listed:
        (main / "Train.txt").write_text("".join(f"{listed.format(f'train_{i:03d}')}\n" for i in range(3)))
    dataset = opened(data)["train" if listed else "all"]
    for i, truth in enumerate(scenes("train", 3)):
        assert np.array_equal(dataset.read(i)[1].boxes, truth.boxes)


def test_spellings_of_lists(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=4, val=2)
    main = data / "ImageSets" / "Main"
    (main / "train.txt").rename(main / "Train.txt")
    (main / "val.txt").rename(main / "valid.txt")
    (main / "leaf_train.txt").write_text("train_000 1\n")
    (main / "default.txt").write_text("train_000\n")
    splits = opened(data)
    assert {split: len(images) for split, images in splits.items()} == {"train": 4, "val": 2}
    assert [finding.code for finding in splits["train"].notes] == ["split-unnamed"]
    assert "default.txt" in splits["train"].notes[0].message
    (main / "val.txt").write_text("val_000\n")
    with pytest.raises(InputError, match=r"two lists for the val split: val\.txt and valid\.txt"):
        opened(data)


@pytest.mark.parametrize("kit", ["VOCdevkit", "."])
def test_years(kit: str, tmp_path: Path) -> None:
    voc_folder(tmp_path / kit / "VOC2007", train=3, test=1)
    assert counts(tmp_path) == {"train": 3, "test": 1}
    voc_folder(tmp_path / kit / "VOC2012", train=2, val=2)
    splits = opened(tmp_path)
    assert {split: len(images) for split, images in splits.items()} == {"train": 5, "val": 2, "test": 1}
    assert [splits["train"].key(i) for i in (0, 4)] == [
        "VOC2007/JPEGImages/train_000.jpg", "VOC2012/JPEGImages/train_001.jpg"
    ]  # fmt: skip
    assert np.array_equal(splits["train"].read(4)[1].boxes, scenes("train", 2)[1].boxes)
    for path in (tmp_path / kit / "VOC2012" / "ImageSets" / "Main").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"VOC2012: has no lists of train and val in ImageSets"):
        opened(tmp_path)


@pytest.mark.parametrize("masks", [False, True])
def test_difficult_objects(masks: bool, tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=1, masks=True)
    path = data / "Annotations" / "train_000.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    train = opened(data, masks=masks)["train"]
    count = len(scenes("train", 1)[0].labels)
    assert train.objects(0).crowd.tolist() == [True] + [False] * (count - 1)
    assert [(finding.code, finding.count) for finding in train.notes] == [("object-difficult", 1)]
    assert f"1 of {count} objects are marked difficult" in train.notes[0].message
    used = opened(data, masks=masks, difficult="use")["train"]
    assert not used.objects(0).crowd.any()
    assert used.notes == []


@pytest.mark.parametrize("encoding", ["UTF-16", "ISO-8859-1", "UTF-8"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation>{OBJECT.format(BOX)}</annotation>'
    (tmp_path / "a.xml").write_bytes(text.replace("leaf", "fève").encode(encoding))
    assert read_xml(tmp_path / "a.xml").names == ("fève",)


def test_names_are_one_in_either_unicode_form(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="flat", train=2)
    for i, form in enumerate(("NFC", "NFD")):
        path = data / f"train_{i:03d}.xml"
        path.write_text(path.read_text().replace("<name>leaf", f"<name>{unicodedata.normalize(form, 'fève')}"))
    assert "fève" in opened(data)["all"].classes.names
