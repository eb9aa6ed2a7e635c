"""All formats: recognition, splits, and the same objects in each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.detection.open import looks_like_detection, open_detection
from fishnet.data.identity import class_folders, fingerprint
from fishnet.errors import InputError
from fishnet.images.preprocess import Preprocess
from tests.detection_makers import (
    KINDS,
    box_table,
    coco_folder,
    darknet_folder,
    labelme_folder,
    mask_folder,
    object_files,
    open_images_folder,
    scenes,
    supervisely_folder,
    voc_folder,
    yolo_folder,
)  # fmt: skip
from tests.makers import split_folder

MAKERS: dict[str, Callable[..., Path]] = {
    "coco": coco_folder,
    "roboflow": lambda root, **counts: coco_folder(root, layout="roboflow", **counts),
    "voc": lambda root, **counts: voc_folder(root, masks=True, **counts),
    "voc folders": lambda root, **counts: voc_folder(root, layout="folders", **counts),
    "yolo": lambda root, **counts: yolo_folder(root, polygons=True, **counts),
    "masks": mask_folder,
    "labelme": labelme_folder,
    "supervisely": supervisely_folder,
    "box table": box_table,
    "box table without names": lambda root, **counts: box_table(root, columns="retinanet", **counts),
    "box table with sizes": lambda root, **counts: box_table(root, columns="tensorflow", **counts),
    "open images": open_images_folder,
    "yolo classes.txt": darknet_folder,
    "darknet": lambda root, **counts: darknet_folder(root, layout="darknet", **counts),
    "object files": object_files,
}
BOXES_ONLY = {"voc folders", "box table", "box table without names", "box table with sizes", "open images"}
WHOLE: dict[str, Callable[..., Path]] = {
    "coco": lambda root: coco_folder(root, layout="file", train=8),
    "voc": lambda root: voc_folder(root, layout="flat", train=8),
    "masks": lambda root: mask_folder(root, all=8),
}


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_detection(str(data), 3, **{"val_fraction": 0.25, "seed": 0, **options}))


def counts(data: Path, **options: Any) -> dict[str, int]:
    return {split: len(images) for split, images in opened(data, **options).items()}


@pytest.mark.parametrize("name", MAKERS)
def test_splits(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data", test=2, val=3, train=6)
    assert looks_like_detection(str(data))
    assert list(counts(data).items()) == [("train", 6), ("val", 3), ("test", 2)]
    assert counts(data, keep_splits=True) == counts(data)


@pytest.mark.parametrize("name", MAKERS)
def test_val_is_held_out_if_there_is_none(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data", train=8, test=2)
    assert list(counts(data).items()) == [("train", 6), ("val", 2), ("test", 2)]
    assert counts(data, keep_splits=True) == {"train": 8, "test": 2}


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_boxes_in_px_of_the_input(name: str, masks: bool, tmp_path: Path) -> None:
    if masks and name in BOXES_ONLY:
        return
    data = MAKERS[name](tmp_path / "data", train=4, val=1)
    if name == "coco":  # sizes may be missing: the images have them
        path = data / "annotations" / "instances_train2017.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "images": [drop(image, "width") for image in content["images"]]}))
    train = opened(data, masks=masks)["train"]
    twice = Preprocess((160, 320), fit="whole")  # of 80 x 96 px
    boxes = train.boxes_in(twice)
    expected = np.concatenate([2 * train.objects(i).boxes for i in range(4)])
    assert len(expected) > 4
    assert np.allclose(boxes, expected, atol=1e-4)

    Path(train.source(0)).write_bytes(b"x")  # an unreadable image is not reported here
    states_sizes = name in ("roboflow", "voc", "voc folders", "masks", "box table with sizes", "object files")
    states_sizes |= not masks and name in ("labelme", "supervisely")
    first = 0 if states_sizes else len(scenes("train", 1)[0].boxes)
    assert np.allclose(train.boxes_in(twice), expected[first:], atol=1e-4)


def drop(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


@pytest.mark.parametrize("name", WHOLE)
def test_data_without_splits(name: str, tmp_path: Path) -> None:
    data = WHOLE[name](tmp_path / "data")
    assert counts(data, keep_splits=True) == {"all": 8}
    first, again, other = (opened(data, seed=seed)["val"] for seed in (0, 0, 1))
    keys = [[dataset.key(i) for i in range(len(dataset))] for dataset in (first, again, other)]
    assert len(first) == 2
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("masks", [False, True])
def test_tensors(name: str, masks: bool, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data", train=3)
    if masks and name in BOXES_ONLY:
        with pytest.raises(InputError, match="boxes only"):
            opened(data, masks=True)
        return
    train = opened(data, masks=masks, keep_splits=True)["train"]
    image, target = train[0]
    count = len(train.objects(0))
    assert (image.shape, target["boxes"].shape) == ((3, 80, 96), (count, 4))
    assert ("masks" in target) == masks
    assert not masks or target["masks"].shape == (count, 80, 96)


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_objects_in_every_format(name: str, tmp_path: Path) -> None:
    splits = opened(MAKERS[name](tmp_path / "data", train=5, val=2))
    for split, dataset in splits.items():
        for index, truth in enumerate(scenes(split, len(dataset))):
            objects = dataset.objects(index)
            names = [dataset.classes.names[label] for label in objects.labels]
            wanted = ["object" if name in ("masks", "object files") else KINDS[label] for label in truth.labels]
            rows = sorted(zip(objects.boxes.round(1).tolist(), names, strict=True))
            assert [kind for _, kind in rows] == [
                kind for _, kind in sorted(zip(truth.boxes.tolist(), wanted, strict=True))
            ]
            assert np.allclose([box for box, _ in rows], sorted(truth.boxes.tolist()), atol=0.6)


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in BOXES_ONLY])
def test_the_same_masks_in_every_format(name: str, tmp_path: Path) -> None:
    dataset = opened(MAKERS[name](tmp_path / "data", train=4, val=1), masks=True)["train"]
    for index, truth in enumerate(scenes("train", 4)):
        objects = dataset.objects(index)
        masks = objects.clean((80, 96)).masks()
        assert len(masks) == len(truth.masks)
        overlaps = (masks[:, None] & truth.masks[None]).sum((2, 3)) / (masks[:, None] | truth.masks[None]).sum((2, 3))
        assert (overlaps.max(1) > 0.85).all()
        assert sorted(overlaps.argmax(1).tolist()) == list(range(len(masks)))


@pytest.mark.parametrize("name", ["coco", "voc", "yolo", "labelme", "supervisely", "box table", "open images"])
def test_known_classes_by_name(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data", train=6)
    known = Classes((*KINDS[::-1], "moss"), (1, 2, 3, 4))
    own, matched = opened(data), opened(data, classes=known)
    for i in range(len(own["train"])):
        names = [
            [dataset.classes.names[k] for k in dataset.objects(i).labels]
            for dataset in (own["train"], matched["train"])
        ]
        assert names[0] == names[1]
    with pytest.raises(InputError, match="know"):
        opened(data, classes=Classes.of(["moss"]))


def test_fingerprint(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    before = fingerprint(str(data), opened(data))
    (tmp_path / "data").rename(tmp_path / "moved")
    after = fingerprint(str(tmp_path / "moved"), opened(tmp_path / "moved"))
    assert before["images"] == after["images"]
    assert before["place"] != after["place"]
    assert class_folders(str(data), opened(tmp_path / "moved")) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda root: root / "nowhere",
            r"nowhere: no such file or folder: expected COCO \(.*; YOLO .*; Pascal VOC .*; labelme ",
        ),
        (
            lambda root: split_folder(root / "classes", train=1),
            "classes: holds no annotations of a known format: it holds .* images without annotations. Known: COCO",
        ),
        (lambda root: Path(__file__), "py: is not a file of a known format: it holds 1 .py. Known: COCO"),
        (lambda root: voc_folder(root / "data", test=2), "data: has no train split, only test"),
        (lambda root: voc_folder(root / "data", layout="flat", train=1), "only one image, so none can be held out"),
        (lambda root: mask_folder(root / "data", train=0), "data: no image in its split 'train'"),
    ],
)
def test_no_data(make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as error:
        opened(make(tmp_path))
    assert "\n" not in str(error.value)


def test_an_empty_name() -> None:
    with pytest.raises(InputError, match="name is empty"):
        open_detection("", 3, val_fraction=0.1, seed=0)
    assert not looks_like_detection("")


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    data = voc_folder(tmp_path / "data", layout="folders")
    voc_folder(tmp_path / "more", layout="folders", val=1)
    (tmp_path / "more" / "valid").rename(data / "dev")
    with pytest.raises(InputError, match="two folders for the same split: dev and valid"):
        opened(data)


def test_image_folders_are_not_detection(tmp_path: Path) -> None:
    assert not looks_like_detection(str(split_folder(tmp_path / "data", train=2, val=1)))


BCCD = Path("/work/shared/data/bccd/BCCD")


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no {BCCD}")
def test_blood_cells() -> None:
    assert counts(BCCD) == {"train": 205, "val": 87, "test": 72}
    assert opened(BCCD)["train"].classes == Classes.of(["Platelets", "RBC", "WBC"])
