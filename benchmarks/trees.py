"""Trees from the air: deepforest's example photos as a data set of tiles, with one photo held out whole.

    pip install --no-deps deepforest==2.1.0      # its files are read where they lie, nothing of it is imported
    python benchmarks/trees.py trees             # trees/{train,val,test}/*.png with Pascal VOC files beside them

951 boxes in four photos at 10 cm a pixel. The photo of 1249 x 1035 px (279 trees) is the test, whole, to be predicted
in tiles. The others are for training, the one of 2299 x 2472 px (574 trees) cut into tiles of 400 px that overlap by a
quarter, like the two small photos in size; trees of which less than half lies in a tile are left out of it. The tiles
along the left edge are validated with; they share a quarter of their pixels with their neighbours.
Living and dead trees, which one photo tells apart, are trees.
"""

import argparse
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from nuclei import folder_of
from numpy.typing import NDArray
from PIL import Image

TEST = "2019_YELL_2_541000_4977000_image_crop"
LARGE = "2019_YELL_2_528000_4978000_image_crop2"
SMALL = ("OSBS_029", "SOAP_061")
TILE, STEP = 400, 300


def boxes_of(path: Path) -> NDArray[np.float64]:
    """(n, 4) x1, y1, x2, y2 in px."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    found = [[float(box.findtext(name) or 0) for name in corners] for box in ET.parse(path).iter("bndbox")]
    return np.array(found).reshape(-1, 4)


def write(folder: Path, name: str, photo: Image.Image, boxes: NDArray[np.float64]) -> None:
    """An image with its Pascal VOC file."""
    folder.mkdir(parents=True, exist_ok=True)
    photo.save(folder / f"{name}.png")
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = f"{name}.png"
    size = ET.SubElement(root, "size")
    for key, value in (("width", photo.width), ("height", photo.height), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    for box in boxes.tolist():
        one = ET.SubElement(root, "object")
        ET.SubElement(one, "name").text = "Tree"
        place = ET.SubElement(one, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            ET.SubElement(place, key).text = f"{value:g}"
    ET.indent(root)
    ET.ElementTree(root).write(folder / f"{name}.xml")


def inside(boxes: NDArray[np.float64], left: int, top: int, width: int, height: int) -> NDArray[np.float64]:
    """The boxes of which at least half lies in a part of the photo, cut off at its edges, in px of the part."""
    edges = np.array([width, height, width, height])
    moved = boxes - np.array([left, top, left, top])
    cut = moved.clip(0, edges)
    share = np.prod(cut[:, 2:] - cut[:, :2], 1) / np.prod(moved[:, 2:] - moved[:, :2], 1).clip(1e-9)
    return cut[share >= 0.5]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    data = folder_of("deepforest") / "data"

    def read(name: str) -> tuple[Image.Image, NDArray[np.float64]]:
        return Image.open(data / f"{name}.png").convert("RGB"), boxes_of(data / f"{name}.xml")

    photo, boxes = read(TEST)
    write(out / "test", TEST, photo, boxes)
    for name in SMALL:
        write(out / "train", name, *read(name))
    photo, boxes = read(LARGE)
    count = {"train": len(SMALL), "val": 0}
    for top in range(0, photo.height - STEP // 2, STEP):
        for left in range(0, photo.width - STEP // 2, STEP):
            x, y = min(left, photo.width - TILE), min(top, photo.height - TILE)
            part = "train" if left else "val"
            tile = photo.crop((x, y, x + TILE, y + TILE))
            write(out / part, f"tile-{y:04d}-{x:04d}", tile, inside(boxes, x, y, TILE, TILE))
            count[part] += 1
    print(f"{count['train']} train, {count['val']} val, 1 test in {out}")


if __name__ == "__main__":
    main()
