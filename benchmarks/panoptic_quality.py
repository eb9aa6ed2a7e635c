"""Panoptic quality: values and time of COCO's panopticapi against ours, on simulated maps.

git clone https://github.com/cocodataset/panopticapi
python benchmarks/panoptic_quality.py panopticapi [--images 200] [--rounds 3]
"""

import argparse
import contextlib
import io
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle.panoptic import SegmentClass
from fishnet.images.segment_ids import ids_to_rgb, read_png, rgb_to_ids, write_png
from fishnet.tasks.panoptic.metrics import PanopticQuality, Segments

THINGS, STUFF = 80, 53  # COCO's numbers of classes
CLASSES = tuple(SegmentClass(f"class {i}", 3 * i + 1, i < THINGS) for i in range(THINGS + STUFF))
SIZE = (480, 640)


@dataclass(frozen=True)
class Pair:
    """Predicted and annotated segments of one image."""

    predicted: Segments
    truth: Segments


def named(random: np.random.Generator, index: NDArray[Any], labels: Sequence[int], crowds: Sequence[int]) -> Segments:
    """Gives the numbers 1, 2, ... of a map ids as COCO has them, any of 24 bits. Segments without pixels are left out.

    Args:
        random: draws the ids.
        index: (height, width) numbers, 0 for void.
        labels: the class of each number.
        crowds: numbers of the crowds.
    """
    ids = random.choice(2**24 - 1, len(labels), replace=False) + 1
    present = set(np.unique(index).tolist()) - {0}
    listed = {int(ids[i - 1]): int(labels[i - 1]) for i in sorted(present)}
    return Segments(
        np.append(0, ids)[index].astype(np.int32), listed, [int(ids[i - 1]) for i in crowds if i in present]
    )


def random_pair(random: np.random.Generator, block: int) -> Pair:
    """Blocks of pixels with random segments of few classes, of which a quarter is void. In the prediction three tenths
    of the blocks are drawn again. A thing class in the image may have a crowd.
    """
    height, width = random.integers(64, 321, 2)
    rows, columns = -(-height // block), -(-width // block)
    labels = random.choice(len(CLASSES), 4, replace=False).repeat(4)
    owner = random.integers(-5, len(labels), (rows, columns)).clip(-1) + 1
    redrawn = random.integers(-5, len(labels), (rows, columns)).clip(-1) + 1
    guess = np.where(random.random((rows, columns)) < 0.3, redrawn, owner)
    true, pred = (each.repeat(block, 0).repeat(block, 1)[:height, :width] for each in (owner, guess))
    crowds = [4 * k + 1 for k in range(4) if labels[4 * k] < THINGS and random.random() < 0.5]
    return Pair(named(random, pred, labels, ()), named(random, true, labels, crowds))


def realistic_pair(random: np.random.Generator) -> Pair:
    """An image of COCO's size: stuff with smooth edges, up to 25 ellipses as things, void along a border. The
    prediction is moved by some pixels, a tenth of its segments has another class, and a tenth is missing.
    """
    height, width = SIZE
    kinds = random.choice(STUFF, 4, replace=False) + THINGS
    coarse = random.random((4, 6, 8)).astype(np.float32)
    planes = [np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)) for plane in coarse]
    true = np.argmax(planes, 0) + 1
    labels = kinds.tolist()
    for _ in range(int(random.integers(1, 26))):
        (y, x), (b, a) = random.uniform(0, 1, 2) * SIZE, np.exp(random.normal(3.5, 0.7, 2)).clip(4, 200)
        labels.append(int(random.integers(THINGS)))
        rows, columns = np.ogrid[:height, :width]
        true[((rows - y) / b) ** 2 + ((columns - x) / a) ** 2 <= 1] = len(labels)
    pred = np.roll(true, tuple(random.integers(-4, 5, 2)), (0, 1))
    guessed = [int(random.integers(len(CLASSES))) if random.random() < 0.1 else label for label in labels]
    pred[np.isin(pred, np.flatnonzero(random.random(len(labels)) < 0.1) + 1)] = 0
    true[:, : int(random.integers(1, 40))] = 0
    crowds = [i for i, label in enumerate(labels, 1) if label < THINGS and random.random() < 0.03]
    return Pair(named(random, pred, guessed, ()), named(random, true, labels, crowds))


def noise_pair(random: np.random.Generator) -> Pair:
    """Every pixel is drawn by itself, which no map is like: runs of equal pixels are as short as they can be."""
    labels = random.integers(0, len(CLASSES), 20)
    true, redrawn = random.integers(0, 21, (2, *SIZE))
    pred = np.where(random.random(SIZE) < 0.2, redrawn, true)
    return Pair(named(random, pred, labels, ()), named(random, true, labels, ()))


def annotation(number: int, segments: Segments) -> dict[str, Any]:
    """An image's entry in COCO's panoptic format."""
    areas = dict(zip(*(each.tolist() for each in np.unique(segments.ids, return_counts=True)), strict=True))
    return {
        "image_id": number,
        "file_name": f"{number}.png",
        "segments_info": [
            {"id": id_, "category_id": CLASSES[label].id, "iscrowd": int(id_ in segments.crowds), "area": areas[id_]}
            for id_, label in segments.labels.items()
        ],
    }


def theirs(api: Any, pairs: Sequence[Pair], pixels: dict[str, NDArray[np.uint8]] | None, folder: Path) -> Any:
    """A call of panopticapi in this process, and of its means, on files or on decoded pixels."""
    rows = [(annotation(i, pair.truth), annotation(i, pair.predicted)) for i, pair in enumerate(pairs)]
    categories = {one.id: {"id": one.id, "isthing": int(one.is_thing)} for one in CLASSES}

    def call() -> dict[str, float]:
        api.Image = Image if pixels is None else SimpleNamespace(open=pixels.__getitem__)
        with contextlib.redirect_stdout(io.StringIO()):
            state = api.pq_compute_single_core(0, rows, str(folder / "truth"), str(folder / "predicted"), categories)
        values: dict[str, float] = {}
        for suffix, is_thing in (("", None), ("_th", True), ("_st", False)):
            means, per_class = state.pq_average(categories, isthing=is_thing)
            values |= {f"{name.upper()}{suffix}": means[name] for name in ("pq", "sq", "rq")}
            for id_, scores in per_class.items():
                values |= {f"{id_} {name.upper()}": value for name, value in scores.items()}
        return values

    return call


def ours(pairs: Sequence[Pair], pixels: dict[str, NDArray[np.uint8]] | None, folder: Path) -> Any:
    """The same by :class:`PanopticQuality`."""

    def ids(kind: str, number: int) -> NDArray[np.int32]:
        path = str(folder / kind / f"{number}.png")
        return read_png(path) if pixels is None else rgb_to_ids(pixels[path])

    def call() -> dict[str, float]:
        quality = PanopticQuality(CLASSES)
        for i, pair in enumerate(pairs):
            quality.update(pair.predicted._replace(ids=ids("predicted", i)), pair.truth._replace(ids=ids("truth", i)))
        values = quality.compute()
        for name, scores in quality.scores().items():
            values |= {
                f"{one.id} {name}": value for one, value in zip(CLASSES, np.nan_to_num(scores).tolist(), strict=True)
            }
        return values

    return call


def timed(call: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    start = time.process_time()
    values = call()
    return time.process_time() - start, values


def compare(api: Any, name: str, pairs: Sequence[Pair], rounds: int, folder: Path) -> list[str]:
    """Two rows of the table: from decoded pixels and from files."""
    pixels = {}
    for kind in ("truth", "predicted"):
        for i, pair in enumerate(pairs):
            path, ids = folder / kind / f"{i}.png", getattr(pair, kind).ids
            write_png(path, ids)
            pixels[str(path)] = np.ascontiguousarray(ids_to_rgb(ids))
    segments = sum(len(pair.truth.labels) for pair in pairs), sum(len(pair.predicted.labels) for pair in pairs)
    crowds = sum(len(pair.truth.crowds) for pair in pairs)
    lines = []
    for source, held in (("pixels", pixels), ("files", None)):
        calls = theirs(api, pairs, held, folder), ours(pairs, held, folder)
        times = []
        for _ in range(rounds):
            (reference, expected), (seconds, values) = (timed(call) for call in calls)
            times.append((reference, seconds))
        off = max(abs(values[key] - value) for key, value in expected.items())
        least = min(reference / seconds for reference, seconds in times)
        reference, seconds = (statistics.median(column) for column in zip(*times, strict=True))
        lines.append(
            f"| {name} | {source} | {len(pairs):,} | {segments[0]:,} | {crowds:,} | {segments[1]:,} "
            f"| {reference:.3f} | {seconds:.3f} | {reference / seconds:.1f} | {least:.1f} | {len(expected):,} "
            f"| {off:.0e} | {100 * values['PQ']:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("panopticapi", type=Path, help="a checkout of github.com/cocodataset/panopticapi")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sys.path.insert(0, str(options.panopticapi.resolve()))
    from panopticapi import evaluation

    random, before = np.random.default_rng(0), os.getloadavg()[0]
    kinds: dict[str, list[Pair]] = {
        "random blocks": [random_pair(random, int(random.integers(4, 33))) for _ in range(options.images)],
        "realistic, 640x480": [realistic_pair(random) for _ in range(max(1, options.images // 2))],
        "noise, 640x480": [noise_pair(random) for _ in range(max(1, options.images // 10))],
    }
    print("| maps | from | images | true segments | crowds | predicted | panopticapi, s | ours, s | times faster, of "
          "medians | least of a round | values | largest difference | PQ, % |")  # fmt: skip
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, pairs in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            print("\n".join(compare(evaluation, name, pairs, options.rounds, Path(folder))), flush=True)
    print(
        f"\nCPU time of one process, {options.rounds} interleaved rounds. NumPy {np.__version__}, Python "
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; load average {before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after."
    )


if __name__ == "__main__":
    main()
