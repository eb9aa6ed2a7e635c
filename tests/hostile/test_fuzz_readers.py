"""Changed bytes in every file of the newer formats with objects: nothing but an InputError may come of them.

``FISHNET_FUZZ=20000 pytest tests/hostile/test_fuzz_readers.py`` tries so many changes of each file.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fishnet.data.collector import collecting
from fishnet.data.panoptic.open import looks_like_panoptic, open_panoptic
from fishnet.data.quick import quick_findings
from fishnet.data.segmentation.open import open_segmentation
from fishnet.errors import InputError
from tests.detection_makers import (
    box_table,
    darknet_folder,
    labelme_folder,
    object_files,
    open_images_folder,
    supervisely_folder,
)  # fmt: skip
from tests.hostile.test_fuzz_detection import fuzz, read
from tests.panoptic_makers import cityscapes_panoptic, coco_panoptic, object_pairs

FILES: dict[str, tuple[Callable[..., Path], dict[str, Any], str, bool]] = {
    "labelme": (labelme_folder, {}, "train/000.json", False),
    "labelme-masks": (labelme_folder, {}, "train/000.json", True),
    "supervisely": (supervisely_folder, {}, "train/ann/000.png.json", True),
    "supervisely-meta": (supervisely_folder, {}, "meta.json", False),
    "box-table": (box_table, {}, "train.csv", False),
    "box-table-without-names": (box_table, {"columns": "retinanet"}, "train.csv", False),
    "open-images": (open_images_folder, {}, "oidv6-train-annotations-bbox.csv", False),
    "open-images-names": (open_images_folder, {}, "class-descriptions-boxable.csv", False),
    "yolo-names": (darknet_folder, {}, "classes.txt", False),
    "darknet-data": (darknet_folder, {"layout": "darknet"}, "obj.data", False),
    "darknet-list": (darknet_folder, {"layout": "darknet"}, "train.txt", True),
    "object-files": (object_files, {}, "stage1_train/train000/masks/0.png", True),
}


@pytest.mark.parametrize("name", FILES)
def test_nothing_but_input_errors(name: str, tmp_path: Path) -> None:
    make, options, place, masks = FILES[name]
    data = make(tmp_path / "data", train=2, **options)

    def check() -> None:
        read(data, masks)
        if masks:
            label_maps(data)

    fuzz(data / place, check, 12)


def label_maps(data: Path) -> None:
    """Draws the objects of all images, where the format has a reading for that."""
    for context in (contextlib.nullcontext, collecting):
        with contextlib.suppress(InputError):
            with context():
                splits = open_segmentation(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True)
            for samples in splits.values():
                for index in range(len(samples)):
                    with contextlib.suppress(InputError):
                        samples.read(index)


PANOPTIC: dict[str, tuple[Callable[..., Path], str]] = {
    "json": (coco_panoptic, "annotations/panoptic_train2017.json"),
    "png": (coco_panoptic, "annotations/panoptic_train2017/train_000.png"),
    "cityscapes": (cityscapes_panoptic, "gtFine/train/ulm/ulm_train000000_000019_gtFine_instanceIds.png"),
    "objects": (object_pairs, "annotations/instances_train.json"),
    "maps": (object_pairs, "masks/train/train_000.png"),
}


@pytest.mark.parametrize("name", PANOPTIC)
def test_panoptic_files(name: str, tmp_path: Path) -> None:
    make, place = PANOPTIC[name]
    data = make(tmp_path / "data", train=2)
    fuzz(data / place, lambda: segments(data), 12)


def segments(data: Path) -> None:
    """All that a check and a training read of panoptic data."""
    for context in (contextlib.nullcontext, collecting):
        with contextlib.suppress(InputError):
            with context():
                looks_like_panoptic(str(data))
                splits = open_panoptic(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True)
            quick_findings({split: samples.segment for split, samples in splits.items()})
            for samples in splits.values():
                for index in range(len(samples)):
                    for view in (samples.instances, samples.segment):
                        with contextlib.suppress(InputError):
                            view.read(index)
                    with contextlib.suppress(InputError):
                        samples.truth(index)
                        samples.instances.location(index, 0)
