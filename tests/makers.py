"""Small real files for tests: folders of images that a net can tell apart, and bundles over them."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red")


def image(name: str, seed: int, size: tuple[int, int] = (40, 36)) -> Image.Image:
    """A noisy image in which one channel is bright: the class's colour."""
    noise = np.random.default_rng(seed).integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
    noise[..., {"red": 0, "green": 1, "blue": 2}[name]] += 150
    return Image.fromarray(noise)


def image_folder(root: Path, per_class: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
    """``root/<class>/<n>.png`` (every third a JPEG)."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            suffix = "jpg" if i % 3 == 2 else "png"
            image(name, 100 * c + i).save(root / name / f"{i}.{suffix}")
    return root


def split_folder(root: Path, **counts: int) -> Path:
    """``root/<split>/<class>/<n>.png`` for each split and its images per class."""
    for split, count in counts.items():
        image_folder(root / split, count)
    return root


def label_table(root: Path, count: int = 24, name: str = "labels.csv") -> Path:
    """``root/NAME`` with the column ``labels``: noisy images in which any number of channels are bright; also none."""
    (root / "images").mkdir(parents=True)
    rows = ["path,labels"]
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 90, (36, 40, 3), dtype=np.uint8)
        colours = [colour for i, colour in enumerate(("red", "green", "blue")) if (number % 8) >> i & 1]
        for colour in colours:
            noise[..., ("red", "green", "blue").index(colour)] += 150
        Image.fromarray(noise).save(root / "images" / f"{number:02}.png")
        rows.append(f"images/{number:02}.png,{';'.join(colours)}")
    (root / name).write_text("\n".join(rows) + "\n")
    return root / name
