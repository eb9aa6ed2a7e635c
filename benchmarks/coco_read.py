"""Reading a large COCO file: seconds and peak memory, for boxes, for boxes and polygons, and by Python's json.

    python benchmarks/coco_read.py                 # 200 MB
    python benchmarks/coco_read.py --megabytes 1110 --without-json

The file is made up in a temporary folder: polygons of 12 to 56 points, 7.3 objects an image, 80 classes, one entry a
line. What is read is the file alone (CocoTable, which open_coco makes of each), no image and no torch. Each reading
is a process of its own; its peak is the largest resident set, beside what it holds before it begins to read. json.load
keeps everything: of large files that is several times their size, so it can be left out.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CLASSES, PER_IMAGE, WIDTH, HEIGHT = 80, 7.3, 640, 480
WAYS = {"boxes": "ours, boxes", "masks": "ours, boxes and polygons", "json": "json.load"}


def annotations(random: np.random.Generator) -> Iterator[dict[str, object]]:
    """Annotations without end: polygons around a centre, two digits a number as in COCO's files."""
    image = number = 0
    while True:
        for _ in range(random.poisson(PER_IMAGE)):
            points = int(random.integers(12, 57))
            angles, far = np.sort(random.uniform(0, 2 * np.pi, points)), random.uniform(10, 100, points)
            centre = random.uniform(100, (WIDTH - 100, HEIGHT - 100))
            corners = (centre + np.stack([np.cos(angles), np.sin(angles)], 1) * far[:, None]).round(2)
            low, high = corners.min(0), corners.max(0)
            yield {
                "segmentation": [corners.reshape(-1).tolist()],
                "area": round(float(np.prod(high - low)) / 2, 2),
                "iscrowd": 0,
                "image_id": image,
                "bbox": [round(value, 2) for value in (*low.tolist(), *(high - low).tolist())],
                "category_id": int(random.integers(1, CLASSES + 1)),
                "id": number,
            }
            number += 1
        image += 1


def write(path: Path, size: int) -> tuple[int, int]:
    """Writes a file of about so many bytes, images and categories last; gives how many images and annotations."""
    count, written, image = 0, 0, 0
    with path.open("w", encoding="utf-8") as file:
        written += file.write('{"annotations": [\n')
        for annotation in annotations(np.random.default_rng(0)):
            written += file.write((",\n" if count else "") + json.dumps(annotation))
            image = int(str(annotation["image_id"]))
            count += 1
            if written + 90 * image > size:  # what the images will take
                break
        entries = (
            json.dumps({"file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH, "id": i})
            for i in range(image + 1)
        )
        file.write('],\n"images": [\n')
        for i, entry in enumerate(entries):
            file.write((",\n" if i else "") + entry)
        names = [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
        file.write(f'],\n"categories": {json.dumps(names)}}}\n')
    return image + 1, count


def peak() -> int:
    """This process's largest resident set, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def read(path: Path, way: str) -> None:
    """Reads the file one way; prints what it took as JSON."""
    if way != "json":
        from fishnet.data.detection.coco_table import CocoTable
    before = peak()
    start, own = time.perf_counter(), time.process_time()
    if way == "json":
        with path.open("rb") as file:
            content = json.load(file)
        images = len(content["images"])
    else:
        images = len(CocoTable(path, masks=way == "masks").images)
    seconds = time.perf_counter() - start, time.process_time() - own
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak(), "images": images}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--without-json", action="store_true")
    parser.add_argument("--read", nargs=2, metavar=("FILE", "WAY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        read(Path(args.read[0]), args.read[1])
        return
    load = os.getloadavg()[0]
    print("| read by | seconds | of the processor | before, MB | peak, MB |")
    print("|---|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annotations.json"
        images, count = write(path, round(args.megabytes * 1e6))
        size = path.stat().st_size
        for way, name in WAYS.items():
            if way == "json" and args.without_json:
                continue
            words = [sys.executable, __file__, "--read", str(path), way]
            result = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
            assert result["images"] == images, f"{name} found {result['images']} images of {images}"
            wall, own = result["seconds"]
            megabytes = " | ".join(f"{result[key] / 1e6:,.0f}" for key in ("before", "peak"))
            print(f"| {name} | {wall:.1f} | {own:.1f} | {megabytes} |", flush=True)
    print(
        f"\n{size / 1e6:,.0f} MB, {images:,} images, {count:,} annotations. Python {platform.python_version()}, "
        f"numpy {np.__version__}, {platform.machine()}, {os.cpu_count()} cores; load average {load:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after."
    )


if __name__ == "__main__":
    main()
