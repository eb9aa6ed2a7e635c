"""Drawn images that several heads annotate: one class an image, boxes and masks of its shapes, and a label map."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHAPES = ("square", "stripe")
BRIGHT = ("dark", "light")


def draw(index: int, side: int = 64) -> tuple[Image.Image, int, list[tuple[int, tuple[int, int, int, int]]]]:
    """An image, its class (background dark or light), and its shapes: kind and box (x, y, width, height)."""
    random = np.random.default_rng(index)
    label = index % 2
    pixels = np.full((side, side, 3), (40, 150)[label], np.uint8)
    pixels += random.integers(0, 20, pixels.shape).astype(np.uint8)
    shapes = []
    for number in range(1 + index % 2):
        kind = (index + number) % 2
        width, height = ((20, 20), (24, 10))[kind]
        x = int(random.integers(0, side - width))
        y = number * side // 2 + int(random.integers(0, side // 2 - height))
        pixels[y : y + height, x : x + width] = ((230, 60, 60), (60, 60, 230))[kind]
        shapes.append((kind, (x, y, width, height)))
    return Image.fromarray(pixels), label, shapes


def joint_data(root: Path, count: int = 12, side: int = 64) -> dict[str, str]:
    """The same images annotated three times. Returns the data of a classify, a detect and a segment head."""
    images, masks = root / "images", root / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    rows: list[tuple[str, str]] = []
    coco: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3 + kind, "name": name} for kind, name in enumerate(SHAPES)],
    }
    for index in range(count):
        image, label, shapes = draw(index, side)
        name = f"{index:03d}.png"
        image.save(images / name)
        rows.append((f"images/{name}", BRIGHT[label]))
        mask = np.zeros((side, side), np.uint8)
        coco["images"].append({"id": index, "file_name": name, "width": side, "height": side})
        for kind, (x, y, width, height) in shapes:
            mask[y : y + height, x : x + width] = 1 + kind
            coco["annotations"].append(
                {
                    "id": len(coco["annotations"]) + 1, "image_id": index, "category_id": 3 + kind,
                    "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0,
                    "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
                }
            )  # fmt: skip
        Image.fromarray(mask).save(masks / name)
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "label"), *rows])
    (root / "boxes.json").write_text(json.dumps(coco))
    return {"classify": str(root / "labels.csv"), "detect": str(root / "boxes.json"), "segment": str(root)}
