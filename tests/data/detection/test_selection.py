"""Some of the classes of data with objects."""

from pathlib import Path

import numpy as np
import pytest

from fishnet.bundle.classes import Classes
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.open import open_detection
from fishnet.errors import InputError
from tests.detection_makers import KINDS, coco_folder, voc_folder, yolo_folder

CHOSEN = (KINDS[0], KINDS[2])


def opened(
    data: Path, *only: str, classes: Classes | None = None, keep_splits: bool = True, masks: bool = False
) -> dict[str, DetectionDataset]:
    return open_detection(
        str(data), 3, val_fraction=0.25, seed=0, classes=classes, keep_splits=keep_splits, only=only, masks=masks
    )


@pytest.mark.parametrize("maker", [coco_folder, voc_folder, yolo_folder])
def test_objects_of_other_classes_are_left_out_and_images_stay(maker, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = maker(tmp_path / "data", train=8, val=4)
    full, selected = opened(data)["train"], opened(data, *CHOSEN)["train"]
    assert selected.classes.names == CHOSEN
    assert [selected.key(i) for i in range(len(selected))] == [full.key(i) for i in range(len(full))]
    left = 0
    for i in range(len(full)):
        before, after = full.read(i)[1], selected.read(i)[1]
        names = [full.classes.names[label] for label in before.labels]
        kept = [name in CHOSEN for name in names]
        left += len(names) - sum(kept)
        np.testing.assert_array_equal(after.boxes, before.boxes[kept])
        assert [selected.classes.names[label] for label in after.labels] == [n for n in names if n in CHOSEN]
        assert selected.location(i, -1) == full.location(i, -1)
        for number, place in enumerate(np.flatnonzero(kept)):
            assert selected.location(i, number) == full.location(i, int(place))
    assert left > 0
    assert [note.code for note in selected.notes if note not in full.notes] == ["class-left-out"]


def test_original_ids_and_masks_stay(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=6)
    full = opened(data, masks=True, keep_splits=False)
    selected = opened(data, "stone,berry", masks=True, keep_splits=False)
    index = [full["train"].classes.names.index(name) for name in CHOSEN]
    assert selected["train"].classes.ids == tuple(full["train"].classes.ids[i] for i in index)
    assert [len(dataset) for dataset in selected.values()] == [len(dataset) for dataset in full.values()], (
        "the same are held out"
    )
    target = selected["train"][0][1]
    assert len(target["masks"]) == len(target["boxes"])


def test_a_models_classes(tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=6)
    known = Classes(("moss", "stone", "berry"), (7, 8, 9))
    selected = opened(data, "stone", classes=known)["train"]
    assert selected.classes == known
    labels = {int(label) for i in range(len(selected)) for label in selected.objects(i).labels}
    assert labels == {1}


@pytest.mark.parametrize(
    ("only", "classes", "words"),
    [
        (("berri",), None, "classes: no class 'berri': did you mean berry"),
        (("leaf",), Classes.of(["moss", "stone"]), "no class 'leaf'"),
        (("moss",), Classes.of(["moss", "stone"]), "has none of the classes moss, only berry, leaf, stone"),
    ],
)
def test_names_that_are_no_classes(only: tuple[str, ...], classes: Classes | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        opened(coco_folder(tmp_path / "data", train=4), *only, classes=classes)
