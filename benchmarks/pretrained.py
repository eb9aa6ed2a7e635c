"""Whether a trunk that has learned to classify single objects helps a detector of scenes with them.

    python benchmarks/pretrained.py                     # three seeds, twelve epochs each; minutes on a processor
    python benchmarks/pretrained.py --seeds 10 --epochs 20

A classifier is trained on the objects, cut out; then detectors are trained on the scenes, from its trunk and from
random weights, alike in everything else. AP50 of the last four epochs, in percent. Single short trainings differ from
one processor, number of threads or library release to another: compare the means over many seeds.
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from fishnet.cli import main
from fishnet.training.history import read_history
from tests.detection_makers import KINDS, coco_folder, scenes

FLAGS = (
    "--backbone", "fishnet_nano", "--workers", "0", "--device", "cpu", "--quiet",
)  # fmt: skip
DETECTOR = (
    "--size", "64", "--max-size", "96", "--batch-size", "4", "--fpn-channels", "32", "--box-width", "32",
    "--proposals", "60", "--roi-samples", "32", "--warmup-epochs", "0.5", "--ema", "0", "--lr", "0.001",
)  # fmt: skip


def cut_out(root: Path) -> Path:
    """Every object of the scenes as an image of its own, in a folder for each kind."""
    for split, count in (("train", 120), ("val", 30)):
        for i, one in enumerate(scenes(split, count)):
            for n, (label, box) in enumerate(zip(one.labels.tolist(), one.boxes.tolist(), strict=True)):
                path = root / split / KINDS[label] / f"{i}-{n}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                one.image.crop(tuple(box)).save(path)
    return root


def trained(*words: object) -> None:
    """Runs ``fishnet train ...``."""
    if main(["train", *map(str, words)]):
        raise SystemExit("the training failed")


def ap50(data: Path, out: Path, seed: int, epochs: int, *start: object) -> float:
    """The mean AP50 of a detector's last four epochs, percent."""
    trained("detect", data, "--out", out, "--seed", seed, "--epochs", epochs, *FLAGS, *DETECTOR, *start)
    kept = [float(row["val/AP50"]) for row in read_history(out / "history.csv") if row["val/AP50"]]
    return float(np.mean(kept[-4:]))


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        crops, trunk = cut_out(root / "crops"), root / "trunk"
        trained("classify", crops, "--out", trunk, "--size", 48, "--epochs", 8, "--batch-size", 16, *FLAGS)
        data = coco_folder(root / "coco", train=24, val=8)
        rows: dict[str, list[float]] = {"pretrained": [], "random": []}
        for seed in range(options.seeds):
            for name, start in (("pretrained", ("--weights", trunk)), ("random", ())):
                rows[name].append(round(ap50(data, root / f"{name}-{seed}", seed, options.epochs, *start), 1))
                print(f"seed {seed} {name}: AP50 {rows[name][-1]}", flush=True)
    means = {name: round(float(np.mean(values)), 1) for name, values in rows.items()}
    print(json.dumps({"AP50": rows, "mean": means, "torch": torch.__version__, "machine": platform.processor()}))


if __name__ == "__main__":
    run()
