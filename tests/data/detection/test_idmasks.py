"""Images paired with masks of numbered objects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.collector import collecting
from fishnet.data.detection.files import open_splits
from fishnet.data.detection.idmasks import MaskDetection, find_masks, read_ids
from fishnet.errors import InputError
from tests.detection_makers import mask_folder, scenes


def opened(data: Path, **options: Any) -> Any:
    return open_splits(MaskDetection, find_masks(data), 3, **options)


@pytest.mark.parametrize(("depth", "suffix"), [(8, "png"), (16, "png"), (8, "tif"), (16, "tif"), (32, "tif")])
@pytest.mark.parametrize("masks", [False, True])
def test_depths(depth: int, suffix: str, masks: bool, tmp_path: Path) -> None:
    splits = opened(mask_folder(tmp_path / "data", depth=depth, suffix=suffix), masks=masks)
    assert (list(splits), splits["train"].classes) == (["train", "val"], Classes.of(["object"]))
    for i, truth in enumerate(scenes("train", 6)):
        objects = splits["train"].read(i)[1]
        assert np.array_equal(objects.boxes, truth.boxes)  # numbered in the scene's order
        assert np.array_equal(objects.areas, truth.masks.sum((1, 2)))
        assert not objects.labels.any()
        if masks and len(objects):
            assert np.array_equal(objects.masks(), truth.masks)
        else:
            assert objects.segmentations is (() if masks else None) or masks


def test_layouts(tmp_path: Path) -> None:
    assert {split: len(dataset) for split, dataset in opened(mask_folder(tmp_path / "whole", all=4)).items()} == {
        "all": 4
    }
    data = mask_folder(tmp_path / "parts")
    for split in ("train", "val"):
        for folder in ("images", "masks"):
            (data / folder).mkdir(exist_ok=True)
            (data / split / folder).rename(data / folder / split)
    assert list(opened(data)) == ["train", "val"]
    (data / "masks" / "val").rename(data / "masks" / "test")
    with pytest.raises(InputError, match="images and masks must have the same splits"):
        opened(data)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_half_of_a_part(folder: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2, val=2, test=2)
    (data / "test" / folder).rename(data / "test" / "other")
    assert list(opened(data)) == ["train", "val"]
    (data / "val" / folder).rename(data / "val" / "other")
    with pytest.raises(InputError, match=r"val: has only one of images and masks: add the other, or remove it$"):
        opened(data)


def test_large_masks_are_read_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    dataset = opened(mask_folder(tmp_path / "data", all=1))["all"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)  # Pillow warns of 96x80, and refuses twice the limit
    dataset.objects(0)
    assert not recwarn.list


def test_palette_and_bits(tmp_path: Path) -> None:
    image = Image.new("P", (4, 3))
    image.putpalette([9, 9, 9] * 256)
    image.putpixel((1, 1), 7)
    image.save(tmp_path / "p.png")
    assert read_ids(tmp_path / "p.png")[1, 1] == 7
    Image.new("1", (4, 3), 1).save(tmp_path / "b.png")
    assert read_ids(tmp_path / "b.png").tolist() == [[1] * 4] * 3
    np.save(tmp_path / "n.npy", np.full((3, 4), 70000, np.uint32))
    assert read_ids(tmp_path / "n.npy")[0, 0] == 70000


def test_places(tmp_path: Path) -> None:
    dataset = opened(mask_folder(tmp_path / "data", depth=16, all=2))["all"]
    assert dataset.location(0, 1) == f"{tmp_path}/data/masks/000.png: object 600"
    assert dataset.location(0, -1) == f"{tmp_path}/data/masks/000.png"
    assert dataset.key(0) == "000.png"


def test_images_without_a_mask(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", all=4)
    (data / "masks" / "001.png").unlink()
    (data / "masks" / "002.png").unlink()
    with pytest.raises(InputError, match=r"images/001.png: no file in .*masks has its name \(and 1 more\)"):
        opened(data)
    with collecting() as collector:
        assert len(opened(data)["all"]) == 2
    assert len(collector.findings) == 2
    (data / "images" / "001.png").unlink()
    (data / "images" / "002.png").unlink()
    (data / "images" / "003.png").unlink()
    with pytest.raises(InputError, match=r"masks/003.png: no file in .*images has its name$"):
        opened(data)


def test_faults(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", all=3)
    Image.new("L", (50, 40)).save(data / "masks" / "000.png")
    Image.new("RGB", (96, 80)).save(data / "masks" / "001.png")
    (data / "masks" / "002.png").write_bytes(b"no image")
    dataset = opened(data)["all"]
    for index, words in enumerate(
        [
            r"images/000.png: is 96x80 px, but annotated as 50x40 \(.*masks/000.png\)",
            r"masks/001.png: has 3 channels: a mask must be one channel",
            r"masks/002.png: the mask cannot be read",
        ]
    ):
        with pytest.raises(InputError, match=words):
            dataset.read(index)
    Image.new("F", (96, 80)).save(data / "masks" / "001.tif")
    (data / "masks" / "001.png").unlink()
    with pytest.raises(InputError, match=r"masks/001.tif: has float32 values of shape"):
        opened(data)["all"].read(1)
    Image.new("L", (96, 80)).save(data / "images" / "002.jpg")
    with pytest.raises(InputError, match=r"images/002.png: has the same name as 002.jpg"):
        opened(data)


def test_known_classes(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", all=2)
    assert set(opened(data, classes=Classes.of(["leaf", "object"]))["all"].objects(0).labels.tolist()) == {1}
    with pytest.raises(InputError, match=r"masks: .*does not know: object \(it knows leaf\)"):
        opened(data, classes=Classes.of(["leaf"]))
