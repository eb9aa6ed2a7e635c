"""What a check finds in data with a class for every pixel."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.check import CheckReport, check_splits
from fishnet.data.collector import collecting
from fishnet.data.segmentation.check import SegmentationCheck, SegmentationStatistics
from fishnet.data.segmentation.open import open_segmentation
from tests.detection_makers import coco_folder
from tests.segmentation_makers import KINDS, SIZE, cityscapes_folder, mask_folder, save_mask, scene, scenes, voc_folder

PX = SIZE[0] * SIZE[1]


def checked(
    data: Path, *, ignore: tuple[int, ...] = (), void: tuple[str, ...] = (), **options: Any
) -> CheckReport[SegmentationStatistics]:
    with collecting() as collector:
        datasets = open_segmentation(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True, ignore=ignore, void=void)
    return check_splits(datasets, SegmentationCheck, collector.findings, **options)


def colours(root: Path, **counts: int) -> Path:
    return mask_folder(root, form="colour", **counts)


@pytest.mark.parametrize(
    ("make", "first_row"), [(mask_folder, 0), (colours, 0), (voc_folder, 1), (cityscapes_folder, 1)]
)
@pytest.mark.parametrize("workers", [0, 1])
def test_clean_data(make: Callable[..., Path], first_row: int, workers: int, tmp_path: Path) -> None:
    found = checked(make(tmp_path / "data", train=6, val=3), workers=workers)
    assert found.ok
    for split, count in {"train": 6, "val": 3}.items():
        maps = [truth.labels[first_row:] for truth in scenes(split, count)]
        check = found.splits[split]
        assert (check.images, check.pixels, check.ignored) == (count, count * PX, count * first_row * SIZE[0])
        present = [np.bincount(map_.ravel(), minlength=len(KINDS)) for map_ in maps]
        counts = [value for value in check.pixels_per_class.values() if value]
        images = [value for value in check.images_per_class.values() if value]
        assert sorted(counts) == sorted(np.sum(present, 0).tolist())
        assert sorted(images) == sorted((np.stack(present) > 0).sum(0).tolist())
        assert (check.smallest, check.largest, check.corrupt, check.duplicates) == (SIZE, SIZE, 0, 0)
        assert check.all_ignored == 0
    assert {finding.severity for finding in found.findings} <= {"note"}
    json.dumps(found.to_dict())


def test_classes_by_name(tmp_path: Path) -> None:
    found = checked(mask_folder(tmp_path / "data", train=4), void=("leaf",))
    counts = np.sum([np.bincount(truth.labels.ravel(), minlength=3) for truth in scenes("train", 4)], 0)
    train = found.splits["train"]
    assert train.pixels_per_class == {"ground": counts[0], "berry": counts[1]}
    assert train.ignored == counts[2]
    assert found.ok


def test_objects_as_label_maps(tmp_path: Path) -> None:
    found = checked(coco_folder(tmp_path / "data", train=5, form="rle"))
    train = found.splits["train"]
    assert found.ok
    assert train.images_per_class["background"] == 5
    assert train.pixels == sum(train.pixels_per_class.values()) == 5 * PX


def test_everything_wrong_at_once(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=8, val=2)
    images, masks = data / "train" / "images", data / "train" / "masks"
    (images / "000.png").write_bytes(b"no image")
    (masks / "001.png").write_bytes(b"no mask")
    (masks / "002.png").unlink()
    (images / "003.png").unlink()
    save_mask(masks / "004.png", np.zeros((9, 7), np.uint8), "index")
    save_mask(masks / "005.png", np.full(SIZE[::-1], 255, np.uint8), "index")
    labels = np.array(Image.open(masks / "006.png"))
    labels[0, :5], labels[1, :3], labels[2, :2] = 9, 40, 255
    save_mask(masks / "006.png", labels, "index")
    labels[1, :3] = 0
    save_mask(masks / "007.png", labels, "index")
    scene(6).image.save(data / "val" / "images" / "001.png")
    found = checked(data)
    train = found.splits["train"]
    assert not found.ok
    assert [one.file for one in found.of("image-unreadable")] == [str(images / "000.png")]
    assert [one.file for one in found.of("mask-unreadable")] == [str(masks / "001.png")]
    assert sorted(one.message for one in found.of("files-unpaired")) == [
        f"{images / '002.png'}: has no mask in {masks}", f"{masks / '003.png'}: has no image in {images}",
    ]  # fmt: skip
    assert [one.message for one in found.of("mask-size-differs")] == [
        f"{images / '004.png'}: is 96x80 px, but its mask 7x9 ({masks / '004.png'}): they must have the same size; "
        "correct or remove one of them"
    ]
    assert [one.message.split(": ")[0] for one in found.of("mask-all-ignored")] == [str(images / "005.png")]
    assert [(one.message, one.file, one.count) for one in found.of("mask-id-unnamed")] == [
        (f"9: 10 px in 2 masks of train, first {masks / '006.png'}", str(masks / "006.png"), 2),
        (f"40: 3 px in 1 masks of train, first {masks / '006.png'}", str(masks / "006.png"), 1),
    ]
    assert train.ignored == PX + 2 + 2, "of what has no name nothing is known"
    assert train.pixels == 4 * PX + 9 * 7
    assert sum(train.pixels_per_class.values()) == train.pixels - train.ignored - 13
    assert [one.message for one in found.of("image-in-two-splits")] == [
        f"{images / '006.png'} (train) = {data / 'val' / 'images' / '001.png'} (val)"
    ]


FAULTS: dict[str, Callable[[Path, Path], object]] = {
    "image-unreadable": lambda image, mask: image.write_bytes(b"x"),
    "mask-unreadable": lambda image, mask: mask.write_bytes(b"x"),
    "files-unpaired": lambda image, mask: mask.unlink(),
    "mask-size-differs": lambda image, mask: save_mask(mask, np.zeros((3, 3), np.uint8), "index"),
    "mask-id-unnamed": lambda image, mask: save_mask(mask, np.full(SIZE[::-1], 7, np.uint8), "index"),
}


@pytest.mark.parametrize("code", FAULTS)
def test_one_fault_is_enough(code: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=4)
    FAULTS[code](data / "train" / "images" / "001.png", data / "train" / "masks" / "001.png")
    found = checked(data)
    assert not found.ok
    assert [name for name in FAULTS if found.of(name)] == [code]


def test_colours_without_a_name(tmp_path: Path) -> None:
    data = colours(tmp_path / "data", train=2)
    mask = data / "train" / "masks" / "000.png"
    pixels = np.array(Image.open(mask))
    pixels[0, :4] = 1, 2, 3
    Image.fromarray(pixels).save(mask)
    assert [one.message for one in checked(data).of("mask-id-unnamed")] == [
        f"(1, 2, 3): 4 px in 1 masks of train, first {mask}"
    ]


def test_ids_that_are_ignored_need_no_name(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2)
    FAULTS["mask-id-unnamed"](Path(), data / "train" / "masks" / "000.png")
    found = checked(data, ignore=(7,))
    assert found.ok
    assert [one.file for one in found.of("mask-all-ignored")] == [str(data / "train" / "masks" / "000.png")]


def test_classes_that_are_not_trained_on(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", names=[*KINDS, "moss"])
    found = checked(data)
    assert not found.ok
    assert [(one.message, one.file) for one in found.of("class-without-pixels")] == [
        ("moss: no mask of train has a pixel of it", str(data / "classes.txt"))
    ]
    assert checked(data, void=("moss",)).ok
    mask = data / "val" / "masks" / "000.png"
    save_mask(mask, np.full(SIZE[::-1], 3, np.uint8), "index")
    found = checked(data)
    assert not found.ok
    assert [one.message for one in found.of("class-untrained")] == ["moss: in 1 images of val, but in none of train"]
    assert found.splits["val"].pixels_per_class["moss"] == PX


@pytest.mark.parametrize(("split", "ok"), [("val", False), ("test", True)])
def test_a_split_without_masks(split: str, ok: bool, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", train=2, val=2, test=2)
    for i in range(2):
        (data / split / "masks" / f"00{i}.png").unlink()
    found = checked(data)
    code = "file-unpaired" if ok else "files-unpaired"
    assert (found.splits[split].images, len(found.of(code)), found.ok) == (0, 2, ok)


@pytest.mark.parametrize("layout", ["splits", "inner", "camvid"])
def test_a_split_without_a_folder_of_masks(layout: str, tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout=layout, train=2, val=2)
    masks = data / {"splits": "val/masks", "inner": "masks/val", "camvid": "val_labels"}[layout]
    masks.rename(masks.with_name("maks"))
    found = checked(data)
    assert not found.ok
    assert [one.message.split(": ")[1] for one in found.of("files-unpaired")] == [f"has no mask in {masks}"] * 2


def test_a_image_that_says_its_mask_s_size_is_said_once(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=2)
    path = data / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace('"width": 96, "height": 80', '"width": 0'))
    (data / "train2017" / "train_001.png").write_bytes(b"no image")
    found = checked(data)
    assert found.splits["train"].corrupt == len(found.of("image-unreadable")) == 1
    assert found.of("mask-unreadable") == []


def test_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    checked(mask_folder(tmp_path / "data", train=2, val=1), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]
