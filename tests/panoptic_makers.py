"""Small panoptic datasets in every format: berries are things, ground and leaves are stuff.

Each maker writes ``count`` images per split, as in ``train=6, val=3``, and returns what a user would name as DATA. The
images are those of tests/segmentation_makers.py: at most one shape in each quarter, so each berry is one thing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.segmentation_makers import Scene, save_mask, scenes

GROUND, BERRY, LEAF = range(3)
CATEGORIES = [
    {"id": 7, "name": "ground", "isthing": 0, "supercategory": "none"},
    {"id": 3, "name": "berry", "isthing": 1, "supercategory": "fruit"},
    {"id": 9, "name": "leaf", "isthing": 0, "supercategory": "plant"},
]
CITYSCAPES_LABELS = (7, 26, 21)  # road, car and vegetation
COUNTS = {"train": 6, "val": 3}


@dataclass(frozen=True)
class Part:
    """A segment of a scene.

    Attributes:
        kind: index into ``KINDS``.
        mask: (height, width) bool.
    """

    kind: int
    mask: NDArray[np.bool_]


def parts(scene: Scene) -> list[Part]:
    """The berries, then ground and leaves, without the first row of the image, which is void."""
    labels = scene.labels.astype(np.int64)
    height, width = labels.shape
    quarters = [np.zeros(labels.shape, bool) for _ in range(4)]
    for i, quarter in enumerate(quarters):
        top, left = (i // 2) * (height // 2), (i % 2) * (width // 2)
        quarter[top : top + height // 2, left : left + width // 2] = True
    inside = np.ones(labels.shape, bool)
    inside[0] = False
    found = [Part(BERRY, (labels == BERRY) & quarter & inside) for quarter in quarters]
    found += [Part(kind, (labels == kind) & inside) for kind in (GROUND, LEAF)]
    return [part for part in found if part.mask.any()]


def id_of(number: int) -> int:
    """The id of a segment by its number in the image: ids of one, two and three bytes."""
    return (17, 300, 70_000)[number % 3] + number


def id_png(path: Path, ids: NDArray[np.int64]) -> None:
    """Writes ids as red + 256 green + 65,536 blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)


def segments_info(scene: Scene, crowd: bool = False) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """The id map of a scene, and its segments. With ``crowd`` the first berry is one."""
    ids, infos = np.zeros(scene.labels.shape, np.int64), []
    for number, part in enumerate(parts(scene)):
        ids[part.mask] = id_of(number)
        infos.append({"id": id_of(number), "category_id": CATEGORIES[part.kind]["id"], "area": int(part.mask.sum()),
                      "bbox": [0, 0, 1, 1], "iscrowd": int(crowd and number == 0 and part.kind == BERRY)})  # fmt: skip
    return ids, infos


def coco_panoptic(root: Path, *, layout: str = "annotations", crowd: bool = False, **counts: int) -> Path:
    """COCO panoptic.

    Args:
        root: of the data.
        layout: ``annotations`` (annotations/panoptic_SPLIT2017.json and its folder, images in SPLIT2017/), ``splits``
            (SPLIT/panoptic.json, SPLIT/panoptic/, SPLIT/images/) or ``single`` (panoptic.json, panoptic/, images/).
        crowd: whether the first berry of each image is a crowd.
        counts: images per split.
    """
    for split, count in (counts or COUNTS).items():
        path, images = {
            "annotations": (root / "annotations" / f"panoptic_{split}2017.json", root / f"{split}2017"),
            "splits": (root / split / "panoptic.json", root / split / "images"),
            "single": (root / "panoptic.json", root / "images"),
        }[layout]
        path.parent.mkdir(parents=True, exist_ok=True)
        images.mkdir(parents=True, exist_ok=True)
        content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": CATEGORIES}
        for i, scene in enumerate(scenes(split, count)):
            scene.image.save(images / f"{split}_{i:03d}.png")
            ids, infos = segments_info(scene, crowd)
            id_png(path.with_suffix("") / f"{split}_{i:03d}.png", ids)
            height, width = ids.shape
            name = f"{split}_{i:03d}.png"
            content["images"].append({"id": 100 + i, "file_name": name, "height": height, "width": width})
            content["annotations"].append({"image_id": 100 + i, "file_name": name, "segments_info": infos})
        path.write_text(json.dumps(content, indent=1))
    return root


def cityscapes_panoptic(root: Path, *, crowd: bool = False, **counts: int) -> Path:
    """Cityscapes with instance ids: ground is road, berries are cars, leaves are vegetation; void is 4 (static)."""
    for split, count in (counts or COUNTS).items():
        for i, scene in enumerate(scenes(split, count)):
            stem = f"ulm_{split}{i:06d}_000019"
            image = root / "leftImg8bit" / split / "ulm" / f"{stem}_leftImg8bit.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            scene.image.save(image)
            ids = np.full(scene.labels.shape, 4, np.int64)
            for number, part in enumerate(parts(scene)):
                label = CITYSCAPES_LABELS[part.kind]
                is_object = part.kind == BERRY and not (crowd and number == 0)
                ids[part.mask] = label * 1000 + number if is_object else label
            masks = root / "gtFine" / split / "ulm"
            save_mask(masks / f"{stem}_gtFine_instanceIds.png", ids, "deep")
            save_mask(masks / f"{stem}_gtFine_labelIds.png", np.where(ids < 1000, ids, ids // 1000), "index")
    return root


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run-length encoding."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    counts = np.diff(np.flatnonzero(np.diff(flat)), prepend=0, append=mask.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def object_pairs(root: Path, *, layout: str = "inner", crowd: bool = False, **counts: int) -> Path:
    """COCO objects with masks (berries), and label maps in masks/ (ground, berries and leaves).

    Args:
        root: of the data.
        layout: ``inner`` (annotations/instances_SPLIT.json, images/SPLIT, masks/SPLIT) or ``single`` (instances.json,
            images/, masks/).
        crowd: whether the first berry of each image is a crowd.
        counts: images per split.
    """
    for split, count in (counts or COUNTS).items():
        below = split if layout == "inner" else "."
        path = root / (f"annotations/instances_{split}.json" if layout == "inner" else "instances.json")
        for folder in (path.parent, root / "images" / below):
            folder.mkdir(parents=True, exist_ok=True)
        berry = {"id": 1, "name": "berry"}
        content: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [berry]}
        for i, scene in enumerate(scenes(split, count)):
            scene.image.save(root / "images" / below / f"{split}_{i:03d}.png")
            labels = scene.labels.copy()
            labels[0] = 255
            save_mask(root / "masks" / below / f"{split}_{i:03d}.png", labels, "index")
            height, width = labels.shape
            content["images"].append({"id": i, "file_name": f"{split}_{i:03d}.png", "height": height, "width": width})
            for number, part in enumerate(part for part in parts(scene) if part.kind == BERRY):
                content["annotations"].append({"id": len(content["annotations"]), "image_id": i, "category_id": 1,
                                               "iscrowd": int(crowd and number == 0),
                                               "segmentation": run_lengths(part.mask)})  # fmt: skip
        path.write_text(json.dumps(content))
    (root / "classes.csv").write_text("id,name\n0,ground\n1,berry\n2,leaf\n")
    return root
