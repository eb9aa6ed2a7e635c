"""Objects beside label maps: which images belong together, and what lies above what."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.detection.open import open_detection
from fishnet.data.panoptic.base import PanopticSplit
from fishnet.data.panoptic.open import open_panoptic
from fishnet.errors import InputError
from tests.detection_makers import labelme_folder, voc_folder, yolo_folder
from tests.panoptic_makers import object_pairs, run_lengths
from tests.segmentation_makers import save_mask


def opened(data: Path, **options: Any) -> dict[str, PanopticSplit]:
    return open_panoptic(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options})


def block(top: int, bottom: int, left: int, right: int, size: tuple[int, int] = (20, 30)) -> np.ndarray[Any, Any]:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def drawn(root: Path, objects: list[dict[str, Any]], labels: np.ndarray[Any, Any], category: int = 1) -> Path:
    """One image of 30 x 20 px with these objects and this label map, of the classes sky, berry and leaf."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (30, 20)).save(root / "images" / f"{name}.png")
        save_mask(root / "masks" / f"{name}.png", labels, "index")
    rows = [{"id": i, "image_id": 1, "category_id": category, **each} for i, each in enumerate(objects)]
    images = [{"id": i, "file_name": f"{name}.png", "height": 20, "width": 30} for i, name in ((1, "a"), (2, "b"))]
    categories = [{"id": category, "name": "berry"}]
    (root / "instances.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    (root / "classes.csv").write_text("id,name\n0,sky\n1,berry\n2,leaf\n")
    return root


def test_what_lies_above_what(tmp_path: Path) -> None:
    large, small, group = block(0, 10, 0, 20), block(5, 8, 5, 10), block(0, 20, 15, 30)
    labels = np.where(block(10, 20, 0, 30), 2, 0)
    labels[15:18, 0:10] = 1  # berries without an object
    objects = [{"segmentation": run_lengths(mask)} for mask in (small, large)]
    data = drawn(tmp_path / "data", [*objects, {"segmentation": run_lengths(group), "iscrowd": 1}], labels)
    split = opened(data)["all"]
    truth = split.truth(0)
    shown = {(split.segments[s.category].name, s.iscrowd): truth.ids == s.id for s in truth.segments if s.area != 15}
    assert np.array_equal(truth.ids == 1, small)
    assert np.array_equal(shown["berry", False], large & ~small)
    assert np.array_equal(shown["berry", True], group & ~large)
    assert np.array_equal(shown["leaf", False], block(10, 20, 0, 30) & ~group & (labels == 2))
    assert (truth.ids[15:18, 0:10] == 0).all()
    label_map = split.segment.label_map(0)
    assert split.segment.classes.names == ("things", "sky", "leaf")
    assert (label_map[15:18, 0:10] == 255).all()
    assert (label_map[group & ~large] == 255).all()
    full = split.instances.read(0)[1].masks()
    assert np.array_equal(full[1], large), "instances keep their own masks, under others too"


def test_hidden_objects_are_counted(tmp_path: Path) -> None:
    mask = run_lengths(block(2, 5, 2, 5))
    data = drawn(tmp_path / "data", [{"segmentation": mask}, {"segmentation": mask}], np.zeros((20, 30)))
    split = opened(data)["all"]
    assert split.segment.segment_map(0).hidden == 1
    assert len(split.truth(0).segments) == 2
    assert len(split.instances.objects(0)) == 2


def test_ids_that_both_have(tmp_path: Path) -> None:
    data = drawn(tmp_path / "data", [{"segmentation": run_lengths(block(2, 5, 2, 5))}], np.zeros((20, 30)), category=2)
    split = opened(data)["all"]
    assert [(each.name, each.id) for each in split.segments] == [("berry", 2), ("sky", 0), ("leaf", 3)]
    [note] = [note for note in split.segment.notes if note.code == "panoptic-id-taken"]
    assert "'leaf' is 3" in note.message


def flatten(data: Path) -> None:
    """Moves images and masks out of their folders of splits."""
    for folder in [*data.glob("images/*"), *data.glob("masks/*")]:
        for path in folder.iterdir():
            path.rename(folder.parent / path.name)
        folder.rmdir()


@pytest.mark.parametrize("objects_split", [False, True])
def test_splits_of_one_of_the_two(objects_split: bool, tmp_path: Path) -> None:
    data = object_pairs(tmp_path / "data", train=3, val=2)
    if objects_split:
        flatten(data)
    else:
        contents = [
            json.loads((data / f"annotations/instances_{split}.json").read_text()) for split in ("train", "val")
        ]
        for entry in contents[1]["images"]:
            entry["id"] += 10
        for entry in contents[1]["annotations"]:
            entry["image_id"] += 10
            entry["id"] += 100
        merged = {key: [*contents[0][key], *contents[1][key]] for key in ("images", "annotations")}
        for split, content in zip(("train", "val"), contents, strict=True):
            for entry in content["images"]:
                entry["file_name"] = f"{split}/{entry['file_name']}"
            (data / f"annotations/instances_{split}.json").unlink()
        (data / "instances.json").write_text(json.dumps({**merged, "categories": contents[0]["categories"]}))
        (data / "annotations").rmdir()
    splits = opened(data)
    assert {split: len(each) for split, each in splits.items()} == {"train": 3, "val": 2}
    for split, each in splits.items():
        assert all(Path(each.source(i)).name.startswith(split) for i in range(len(each)))
        for i in range(len(each)):
            assert np.array_equal(each.segment.label_map(i) == 0, each.instances.read(i)[1].masks().any(0))
        assert not each.segment.left_out


def test_images_that_only_one_has(tmp_path: Path) -> None:
    data = object_pairs(tmp_path / "data")
    (data / "masks/train/train_001.png").unlink()
    path = data / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content["images"] = [entry for entry in content["images"] if entry["id"] != 2]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 2]
    path.write_text(json.dumps(content))
    splits = opened(data)
    assert {split: len(each) for split, each in splits.items()} == {"train": 5, "val": 2}
    lines = splits["train"].segment.left_out
    assert [line.partition(": ")[2] for line in lines] == [
        "has objects, but no label map", "has a label map, but no entry of objects"
    ]  # fmt: skip


def test_sizes_that_differ(tmp_path: Path) -> None:
    data = object_pairs(tmp_path / "data")
    save_mask(data / "masks/train/train_000.png", np.zeros((40, 40)), "index")
    split = opened(data)["train"]
    with pytest.raises(
        InputError, match=r"masks/train/train_000.png: is 40x40 px, but the objects are annotated in 96x"
    ):
        split.truth(0)


def test_boxes_without_masks(tmp_path: Path) -> None:
    data = drawn(tmp_path / "data", [{"bbox": [2, 2, 5, 5]}], np.zeros((20, 30)))
    with pytest.raises(InputError, match=r"annotations\[0\]: no segmentation, only a box"):
        opened(data)


def test_different_splits(tmp_path: Path) -> None:
    data = object_pairs(tmp_path / "data", train=2, test=2)
    flatten(data)
    (data / "train.txt").write_text("train_000\ntrain_001\n")
    (data / "val.txt").write_text("test_000\n")
    with pytest.raises(InputError, match="have different splits: train, test, and train, val"):
        opened(data)


def test_a_folder_called_stuff(tmp_path: Path) -> None:
    data = object_pairs(tmp_path / "data")
    (data / "masks").rename(data / "stuff")
    assert opened(data)["train"].segment.location(0).endswith("stuff/train/train_000.png")


MASK_FOLDERS: dict[str, tuple[Callable[..., Path], dict[str, bool], str]] = {
    "voc": (voc_folder, {"masks": True}, "SegmentationClass"),
    "yolo": (yolo_folder, {"polygons": True}, "masks/{split}"),
    "labelme": (labelme_folder, {}, "{folder}_masks"),
}


@pytest.mark.parametrize("name", MASK_FOLDERS)
def test_other_formats_of_objects(name: str, tmp_path: Path) -> None:
    make, options, folder = MASK_FOLDERS[name]
    data = make(tmp_path / "data", train=3, val=2, **options)
    objects = open_detection(str(data), 3, val_fraction=0.25, seed=0, keep_splits=True, masks=True)
    for split, dataset in objects.items():
        for i in range(len(dataset)):
            image, (height, width) = Path(dataset.source(i)), dataset.size(i)
            labels = np.repeat(50 + (np.arange(height) >= height // 2)[:, None], width, 1)
            save_mask(
                data / folder.format(split=split, folder=image.parent.name) / f"{image.stem}.png", labels, "index"
            )
    (data / "classes.csv").write_text("id,name\n50,sky\n51,soil\n")
    splits = opened(data)
    assert {split: len(each) for split, each in splits.items()} == {"train": 3, "val": 2}
    for split, each in splits.items():
        assert [(stuff.name, stuff.id) for stuff in each.segments if not stuff.is_thing] == [("sky", 50), ("soil", 51)]
        assert each.instances.classes == objects[split].classes
        for i in range(len(each)):
            labels, masks = each.segment.label_map(i), each.instances.read(i)[1].masks()
            assert np.array_equal(labels == 0, masks.any(0))
            top = np.arange(len(labels)) < len(labels) // 2
            assert (labels[top] != 2).all()
            assert (labels[~top] != 1).all()
