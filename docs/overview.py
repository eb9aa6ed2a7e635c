"""Draws docs/overview.png: a synthetic image and what four trained models predict for it.

    python docs/overview.py [FOLDER]

Draws a small dataset of "cells" and "rods" into FOLDER (default: overview), trains one model for each task on it
through the Python API, predicts an image that is in no split, and puts the overlays side by side. Takes some minutes.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

import fishnet
from fishnet.prediction.drawing import card, sheet

SIDE = 192  # px
KINDS = ("cell", "rod")
COLOURS = ((196, 84, 120), (92, 96, 176))
IMAGES = {"train": 72, "val": 12, "test": 4}
RUNS = {"classify": ("classes", 12), "detect": ("coco", 30), "instances": ("coco", 15), "segment": ("coco", 15)}
SETTINGS: dict[str, Any] = {"size": SIDE, "workers": 1, "quiet": True}


def outline(random: np.random.Generator, kind: int, x: float, y: float) -> list[tuple[float, float]]:
    """A closed outline of 40 points around (x, y): a wobbly disc, or a long rounded bar."""
    turn = random.uniform(0, math.pi)
    long, short = (
        (random.uniform(13, 19), random.uniform(12, 17))
        if kind == 0
        else (random.uniform(20, 28), random.uniform(5, 7))
    )
    wobble = random.uniform(0, 0.06, 3)
    points = []
    for i in range(40):
        angle = 2 * math.pi * i / 40
        radius = 1 + sum(w * math.cos((k + 2) * angle + k) for k, w in enumerate(wobble))
        across, along = short * math.sin(angle) * radius, long * math.cos(angle) * radius
        points.append(
            (x + along * math.cos(turn) - across * math.sin(turn), y + along * math.sin(turn) + across * math.cos(turn))
        )
    return points


def scene(seed: int) -> tuple[Image.Image, list[tuple[int, list[tuple[float, float]]]]]:
    """An image of SIDE x SIDE px, and its objects as (kind, outline)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    light = 222 + 14 * np.cos(3 * (rows - random.uniform(0, 1))) - 10 * columns
    page = np.stack([light, light - 14, light - 4], -1) + random.normal(0, 5, (SIDE, SIDE, 3))
    image = Image.fromarray(page.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    majority = int(random.integers(0, 2))
    objects: list[tuple[int, list[tuple[float, float]]]] = []
    centres: list[tuple[float, float]] = []
    for _ in range(200):
        x, y = random.uniform(26, SIDE - 26, 2)
        if len(objects) < 9 and all(math.hypot(x - a, y - b) > 44 for a, b in centres):
            kind = majority if random.uniform() < 0.75 else 1 - majority
            centres.append((x, y))
            objects.append((kind, outline(random, kind, x, y)))
    pen = ImageDraw.Draw(image)
    for kind, points in objects:
        shade = random.integers(-18, 18, 3)
        pen.polygon(points, tuple(int(c + s) for c, s in zip(COLOURS[kind], shade, strict=True)))
        if kind == 0:
            x, y = np.mean(points, 0) + random.uniform(-3, 3, 2)
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=tuple(int(c * 0.6) for c in COLOURS[kind]))
    noisy = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), np.int16) + random.integers(-8, 9, (SIDE, SIDE, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), objects


def write(folder: Path) -> Image.Image:
    """Writes a COCO dataset and a classification folder; returns an image that belongs to neither."""
    seed = 0
    for split, count in IMAGES.items():
        images, annotations = [], []
        (folder / "coco" / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, objects = scene(seed := seed + 1)
            name = f"{number:03d}.png"
            image.save(folder / "coco" / split / name)
            images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
            kinds = [kind for kind, _ in objects]
            place = folder / "classes" / split / f"mostly {KINDS[int(2 * sum(kinds) > len(kinds))]}s"
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / name)
            for kind, points in objects:
                low, high = np.min(points, 0), np.max(points, 0)
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": kind + 1, "iscrowd": 0,
                    "bbox": [*low.tolist(), *(high - low).tolist()], "area": float(np.prod(high - low)),
                    "segmentation": [np.asarray(points).ravel().round(2).tolist()],
                })  # fmt: skip
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(KINDS)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "coco" / split / "_annotations.coco.json").write_text(json.dumps(content))
    return scene(10_004)[0]


def main(folder: Path) -> None:
    """Writes the data, trains four models, and draws the page."""
    image = write(folder)
    ink = (30, 30, 30)
    panels = [card(image, [("image", "", ink)], 2 * SIDE)]
    for task, (data, epochs) in RUNS.items():
        out = folder / task
        if not (out / "config.json").exists():
            trained = fishnet.train(
                task, str(folder / data), out=str(out), epochs=epochs, backbone="fishnet_nano", **SETTINGS
            )
            print(task, trained.metrics)
        result = fishnet.load(str(out)).predict(image)
        panels.append(card(result.draw(image), [(task, "", ink)], 2 * SIDE))
    sheet(panels, columns=5).save(Path(__file__).with_name("overview.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "overview"))
