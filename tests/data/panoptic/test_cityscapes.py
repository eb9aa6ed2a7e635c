"""Cityscapes' instance ids: crowds, labels that are not measured, and ids that no label has."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fishnet.data.panoptic.base import PanopticSplit
from fishnet.data.panoptic.cityscapes import SEGMENTS
from fishnet.data.panoptic.open import looks_like_panoptic, open_panoptic
from fishnet.data.segmentation.cityscapes import CLASSES
from fishnet.errors import InputError
from tests.panoptic_makers import cityscapes_panoptic
from tests.segmentation_makers import cityscapes_folder, save_mask


def opened(data: Path, **options: Any) -> dict[str, PanopticSplit]:
    return open_panoptic(str(data), 3, **{"val_fraction": 0.25, "seed": 0, "keep_splits": True, **options})


def test_the_classes() -> None:
    assert [(each.name, each.id) for each in SEGMENTS] == list(zip(CLASSES.names, CLASSES.ids, strict=True))
    assert [each.id for each in SEGMENTS if each.is_thing] == [24, 25, 26, 27, 28, 31, 32, 33]


def test_what_the_ids_mean(tmp_path: Path) -> None:
    data = cityscapes_panoptic(tmp_path / "data")
    mask = Path(opened(data)["train"].segment.location(0))
    ids = np.zeros((80, 96), np.int64)
    columns = {0: 0, 1: 7, 2: 26, 3: 26_000, 4: 26_001, 5: 24_123, 6: 29, 7: 29_003, 8: 4, 9: 33}
    for column, id_ in columns.items():
        ids[:, column] = id_
    save_mask(mask, ids, "deep")
    split = opened(data)["train"]
    truth = split.truth(0)
    shown = {s.id: (split.segments[s.category].name, s.is_thing, s.iscrowd, s.area) for s in truth.segments}
    assert shown == {
        7: ("road", False, False, 80),
        26: ("car", True, True, 80),
        26_000: ("car", True, False, 80),
        26_001: ("car", True, False, 80),
        24_123: ("person", True, False, 80),
        33: ("bicycle", True, True, 80),
    }
    labels = split.segment.label_map(0)[0, :10].tolist()
    assert labels == [255, 1, 255, 0, 0, 0, 255, 255, 255, 255]
    objects = split.instances.objects(0)
    names = [split.instances.classes.names[label] for label in objects.labels]
    assert sorted(zip(names, objects.crowd.tolist(), strict=True)) == [
        ("bicycle", True), ("car", False), ("car", False), ("car", True), ("person", False)
    ]  # fmt: skip


@pytest.mark.parametrize("id_", [34, 999, 7_001, 34_001, 60_000])
def test_ids_that_no_label_has(id_: int, tmp_path: Path) -> None:
    data = cityscapes_panoptic(tmp_path / "data")
    mask = next((data / "gtFine" / "train").rglob("*_instanceIds.png"))
    ids = np.array(Image.open(mask)).astype(np.int64)
    ids[1, 2:5] = id_
    save_mask(mask, ids, "deep")
    split = opened(data)["train"]
    with pytest.raises(InputError, match=rf"instanceIds.png: ids without a segment: {id_} \(3 px\)"):
        split.truth(split.segment.entries.index(next(e for e in split.segment.entries if e.mask == mask)))


def test_splits_and_files(tmp_path: Path) -> None:
    data = cityscapes_panoptic(tmp_path / "data", train=3, val=2, test=2)
    assert list(opened(data)) == ["train", "val", "test"]
    for path in (data / "gtFine" / "test").rglob("*_instanceIds.png"):
        save_mask(path, np.zeros((80, 96), np.int64), "deep")
    assert list(opened(data)) == ["train", "val"]
    next((data / "gtFine" / "train").rglob("*_instanceIds.png")).unlink()
    train = opened(data)["train"]
    assert len(train) == 2
    [line] = train.segment.left_out
    assert "has no mask" in line


def test_without_instance_ids(tmp_path: Path) -> None:
    data = cityscapes_folder(tmp_path / "data")
    for path in data.rglob("*_instanceIds.png"):
        path.unlink()
    assert not looks_like_panoptic(str(data))
    with pytest.raises(InputError, match=r"gtFine/ with .*_gtFine_instanceIds"):
        opened(data)
