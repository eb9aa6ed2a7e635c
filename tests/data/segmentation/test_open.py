"""Which format data is, its parts, and what is said of none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.identity import fingerprint
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.errors import InputError
from tests.detection_makers import mask_folder as object_folder
from tests.detection_makers import voc_folder as object_voc
from tests.detection_makers import yolo_folder
from tests.makers import split_folder
from tests.segmentation_makers import KINDS, ade_folder, cityscapes_folder, mask_folder, voc_folder

MAKERS: dict[str, Callable[..., Path]] = {
    "folder": mask_folder,
    "camvid": lambda root, **counts: mask_folder(root, layout="camvid", form="colour", **counts),
    "voc": voc_folder,
    "cityscapes": cityscapes_folder,
    "ade": ade_folder,
}


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, **options}))


def counts(data: Path, **options: Any) -> dict[str, int]:
    return {split: len(images) for split, images in opened(data, **options).items()}


@pytest.mark.parametrize("name", MAKERS)
def test_splits(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data", val=3, train=6)
    assert looks_like_segmentation(str(data))
    assert list(counts(data).items()) == [("train", 6), ("val", 3)]
    assert counts(data, keep_splits=True) == counts(data)


@pytest.mark.parametrize("name", MAKERS)
def test_a_val_split_is_held_out_where_there_is_none(name: str, tmp_path: Path) -> None:
    data = MAKERS[name](tmp_path / "data", train=8)
    assert list(counts(data).items()) == [("train", 6), ("val", 2)]
    assert counts(data, keep_splits=True) == {"train": 8}
    first, again, other = ({p.key(i) for i in range(2)} for p in (opened(data, seed=s)["val"] for s in (0, 0, 1)))
    assert first == again != other


@pytest.mark.parametrize("name", MAKERS)
def test_tensors(name: str, tmp_path: Path) -> None:
    train = opened(MAKERS[name](tmp_path / "data", train=3, val=1))["train"]
    image, labels = train[0]
    assert (image.shape, labels.shape) == ((3, 80, 96), (80, 96))
    assert set(np.unique(labels).tolist()) <= {*range(len(train.classes)), 255}


def test_data_without_splits(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", layout="whole", train=8)
    assert counts(data, keep_splits=True) == {"all": 8}
    assert counts(data) == {"train": 6, "val": 2}


def test_marks(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    found = fingerprint(str(data), opened(data))
    data.rename(tmp_path / "moved")
    moved = fingerprint(str(tmp_path / "moved"), opened(tmp_path / "moved"))
    assert found["images"] == moved["images"]
    assert found["place"] != moved["place"]


def test_channels(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data")
    train = open_segmentation(str(data), 1, val_fraction=0.1, seed=0)["train"]
    assert train[0][0].shape == (1, 80, 96)
    assert train.classes == Classes.of(KINDS)


@pytest.mark.parametrize(
    "make",
    [
        lambda root: split_folder(root, train=2, val=1),
        object_folder,
        yolo_folder,
        object_voc,
        lambda root: object_voc(root, masks=True),
        lambda root: root / "nowhere",
        lambda root: Path(__file__),
    ],
    ids=["classes", "masks of objects", "yolo", "voc", "voc with masks", "nowhere", "a file"],
)
def test_what_does_not_look_like_it(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert not looks_like_segmentation(str(make(tmp_path / "data")))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: root / "nowhere", "nowhere: no such file or folder: expected Pascal VOC "),
        (
            lambda root: split_folder(root / "classes", train=1),
            r"classes: holds no masks of a known format: .*Known: Pascal VOC .*Cityscapes .*ADE20K .*images/ and masks",
        ),
        (lambda root: Path(__file__), "py: is not a file of a known format: it holds 1 .py. Known: "),
        (lambda root: yolo_folder(root / "data"), "data: holds no masks of a known format: it holds "),
        (lambda root: mask_folder(root / "data", test=2), r"data: has no train \w+, only test"),
        (lambda root: mask_folder(root / "data", layout="whole", train=1), "only one image, so none can be held out"),
    ],
)
def test_no_data(make: Callable[[Path], Path], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as error:
        opened(make(tmp_path))
    assert "\n" not in str(error.value)


def test_an_empty_name() -> None:
    with pytest.raises(InputError, match="name is empty"):
        open_segmentation("", 3, val_fraction=0.1, seed=0)
    assert not looks_like_segmentation("")


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    data = mask_folder(tmp_path / "data", val=1, train=1)
    (data / "val").rename(data / "valid")
    (data / "dev").mkdir()
    with pytest.raises(InputError, match=r"two folders for the same \w+: dev and valid"):
        opened(data)
