"""Cityscapes: the dataset's own ids and training ids, its parts, and what is left out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.segmentation.cityscapes import CLASSES
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.errors import InputError
from tests.segmentation_makers import CITYSCAPES_IDS, cityscapes_folder, outlined, save_mask, scenes


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


@pytest.mark.parametrize("train_ids", [False, True])
def test_ids(train_ids: bool, tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data", train_ids=train_ids, train=4, val=2)
    assert looks_like_segmentation(str(data))
    splits = opened(data)
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 4, "val": 2}
    shown = {dataset.key(i): dataset.label_map(i) for dataset in splits.values() for i in range(len(dataset))}
    for split, count in (("train", 4), ("val", 2)):
        for i, truth in enumerate(scenes(split, count)):
            city = ("ulm", "bochum")[i % 2]
            if split == "train" and i < 2:
                continue  # val has images of the same names
            labels = shown[f"{city}/{city}_{i:06d}_000019_leftImg8bit.png"]
            ids = np.array([*CLASSES.ids, *[0] * 236, 255])[labels]
            assert np.array_equal(ids, outlined(np.array(CITYSCAPES_IDS)[truth.labels], 255))
    assert all(dataset.classes == CLASSES for dataset in splits.values())


def test_the_19_classes() -> None:
    assert len(CLASSES) == 19
    by_name = dict(zip(CLASSES.names, CLASSES.ids, strict=True))
    assert (by_name["road"], by_name["car"], by_name["person"], by_name["bicycle"]) == (7, 26, 24, 33)
    assert list(CLASSES.ids) == sorted(CLASSES.ids)


@pytest.mark.parametrize("train_ids", [False, True])
def test_void(train_ids: bool, tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data", train_ids=train_ids, train=2, val=2)
    for options in ({"void": ["car"]}, {"ignore": [26]}):
        dataset = opened(data, **options)["val"]
        assert "car" not in dataset.classes.names
        assert dataset.classes.ids == tuple(id_ for id_ in CLASSES.ids if id_ != 26)
        every = opened(data)["val"].label_map(0)
        ids = np.array([*dataset.classes.ids, *[0] * 237, 255])[dataset.label_map(0)]
        assert np.array_equal(ids, np.array([*[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 255, 27, 28, 31, 32],
                                             33, *[0] * 236, 255])[every])  # fmt: skip


def test_the_test_split_is_left_out_where_it_is_blank(tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data", train=2, val=2, test=2)
    assert list(opened(data)) == ["train", "val"]
    mask = next((data / "gtFine" / "test").rglob("*_labelIds.png"))
    for path in (data / "gtFine" / "test").rglob("*_labelIds.png"):
        save_mask(path, np.full((80, 96), 7), "index")
    assert len(opened(data)["test"]) == 2
    mask.unlink()
    assert len(opened(data)["test"].left_out) == 1


def test_left_out(tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data", train_ids=True, train=4, val=2)
    stem = "ulm_000002_000019"
    (data / "gtFine" / "train" / "ulm" / f"{stem}_gtFine_labelTrainIds.png").unlink()
    assert opened(data)["train"].location(0).endswith("_labelIds.png")  # training ids only where none is missing
    assert len(opened(data)["train"]) == 4
    (data / "gtFine" / "train" / "ulm" / f"{stem}_gtFine_labelIds.png").unlink()
    (data / "leftImg8bit" / "train" / "ulm" / "ulm_000000_000019_leftImg8bit.png").unlink()
    train = opened(data)["train"]
    assert len(train) == 2
    assert [line.split("/")[-1] for line in train.left_out] == [f"{stem}_gtFine_labelIds.png", "train"]


def test_other_classes(tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data", train_ids=True)
    (data / "classes.csv").write_text("id,name\n4,static\n7,road\n24,person\n26,car\n")
    dataset = opened(data)["val"]
    assert dataset.classes.ids == (4, 7, 24, 26)
    assert dataset.key(1).startswith("ulm/ulm_000000")
    assert np.array_equal(dataset.label_map(1), outlined(np.array([1, 3, 2])[scenes("val", 1)[0].labels], 0))


def test_an_id_that_is_none(tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data")
    train = opened(data)["train"]
    mask = Path(train.location(0))
    labels = np.array(Image.open(mask))
    labels[3, :4] = 77
    save_mask(mask, labels, "index")
    with pytest.raises(InputError, match=r"ids without a name: 77 \(4 px\): add them to .*Cityscapes' 19 without it"):
        train.label_map(0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda data: [path.unlink() for path in data.rglob("*Ids.png")],
            r"gtFine: has no SPLIT/CITY/\*_gtFine_labelIds",
        ),
        (
            lambda data: [(data / "leftImg8bit" / split).rename(data / split) for split in ("train", "val")],
            "leftImg8bit: has no train, val or test folder",
        ),
    ],
)
def test_nothing_in_it(spoil: Any, words: str, tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data")
    spoil(data)
    with pytest.raises(InputError, match=words):
        opened(data)
