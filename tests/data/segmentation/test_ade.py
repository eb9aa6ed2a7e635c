"""ADE20K: ids from 1, 0 ignored, and the names of its table."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishnet.data.collector import collecting
from fishnet.data.segmentation.open import looks_like_segmentation, open_segmentation
from fishnet.errors import InputError
from tests.segmentation_makers import ade_folder, outlined, save_mask, scenes

ROWS = [(i, f"thing {i}, thing") for i in range(1, 151)]


def opened(data: Path, **options: Any) -> dict[str, Any]:
    return dict(open_segmentation(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options}))


@pytest.mark.parametrize("above", [False, True])
def test_labels(above: bool, tmp_path: Path) -> None:
    data = tmp_path / "data"
    ade_folder(data / "ADEChallengeData2016" if above else data, train=4, val=2)
    assert looks_like_segmentation(str(data))
    splits = opened(data)
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 4, "val": 2}
    for split, dataset in splits.items():
        assert dataset.classes.ids == tuple(range(1, 151))
        assert dataset.classes.names[:2] == ("1", "2")
        for i, truth in enumerate(scenes(split, len(dataset))):
            assert np.array_equal(dataset.label_map(i), outlined(truth.labels, 255))


@pytest.mark.parametrize("head", ["Idx\tRatio\tTrain\tVal\tName", "Idx\tRatio\tTrain\tVal\tStuff\tName"])
def test_names_of_the_table(head: str, tmp_path: Path) -> None:
    data = ade_folder(tmp_path / "data")
    stuff = "\t1" if "Stuff" in head else ""
    rows = [f"{i}\t0.15\t11664\t1172{stuff}\t{name}" for i, name in ROWS]
    rows[140] = rows[140].replace("thing 141", "thing 7")
    (data / "objectInfo150.txt").write_text("\n".join([head, *rows]) + "\n")
    classes = opened(data)["val"].classes
    assert classes.names[:7] == ("thing 1", "thing 2", "thing 3", "thing 4", "thing 5", "thing 6", "thing 7 7")
    assert classes.names[140] == "thing 7 141"
    assert classes.ids == tuple(range(1, 151))
    assert "thing 3" not in opened(data, void=["thing 3"])["val"].classes.names


def test_a_line_that_is_none(tmp_path: Path) -> None:
    data = ade_folder(tmp_path / "data")
    (data / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n1\twall\n")
    with pytest.raises(InputError, match=r"objectInfo150\.txt line 2: expected Idx, Ratio, Train, Val, optionally"):
        opened(data)


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        ([name for _, name in ROWS], tuple(range(1, 151))),
        (["id,name", *(f'{i},"{name}"' for i, name in ROWS)], tuple(range(1, 151))),
        (["other", *(name for _, name in ROWS)], tuple(range(151))),
    ],
)
def test_names_of_a_classes_file(rows: list[str], ids: tuple[int, ...], tmp_path: Path) -> None:
    data = ade_folder(tmp_path / "data")
    (data / "classes.txt").write_text("\n".join(rows))
    dataset = opened(data)["val"]
    assert dataset.classes.ids == ids
    assert dataset.classes.names[ids.index(2)] == "thing 2, thing"
    expected = outlined(scenes("val", 1)[0].labels + ids.index(1), 0 if ids[0] == 0 else 255)
    assert np.array_equal(dataset.label_map(0), expected)


def test_no_folder_of_masks_in_a_split(tmp_path: Path) -> None:
    data = ade_folder(tmp_path / "data", train=2, val=2)
    shutil.copytree(data / "images" / "validation", data / "images" / "testing")
    assert {split: len(dataset) for split, dataset in opened(data).items()} == {"train": 2, "val": 2}
    (data / "annotations" / "validation").rename(data / "annotations" / "validaton")
    words = r"no image with a mask in its split 'val' \(.*val_00000001\.jpg: has no mask in .*annotations/validation\)"
    with pytest.raises(InputError, match=words):
        opened(data)
    with collecting():
        left_out = {split: len(dataset.left_out) for split, dataset in opened(data).items()}
    assert left_out == {"train": 0, "val": 2, "test": 2}


def test_ids_above_150(tmp_path: Path) -> None:
    data = ade_folder(tmp_path / "data")
    train = opened(data)["train"]
    save_mask(Path(train.location(0)), np.full((80, 96), 151), "index")
    with pytest.raises(InputError, match=r"ids without a name: 151 \(7,680 px\)"):
        train.label_map(0)


def test_the_same_folders_of_others(tmp_path: Path) -> None:
    data = ade_folder(tmp_path / "data")
    for path in [*data.rglob("*.jpg"), *data.rglob("*.png")]:
        path.rename(path.with_name(path.name.replace("ADE_", "")))
    assert not looks_like_segmentation(str(data))
    assert opened(data)["train"].classes.ids == (0, 1, 2, 3)  # as in the masks, of which none is ignored
