"""Task heads of segmentation on one data set, each trained for the same time: mIoU against cost.

    python benchmarks/brain.py write brain
    python benchmarks/segment_heads.py brain runs-heads --minutes 12

Every training has a process and a core of its own (one thread, as many at a time as there are cores), the recipe
small-data and seed 0. How many epochs fit into the time is measured first, by trainings of one and of four epochs; the
schedule of the learning rate then ends with the time. Measured on the test part by the bundle that validation chose.
Images/s: one image a step through the bundle, one thread, the models take turns. MACs are counted for one input of
192 x 224 px. A run that is repeated keeps the models that were done.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from turns import Child, serve

MODELS = {
    "body, fishnet_tiny": ["--backbone", "fishnet_tiny", "--head", "body"],
    "fpn, fishnet_tiny": ["--backbone", "fishnet_tiny", "--head", "fpn"],
    "upernet of 32 channels, fishnet_tiny": [
        "--backbone", "fishnet_tiny", "--head", "upernet", "--decoder-channels", "32",
    ],
    "fpn, resnet10t": ["--backbone", "resnet10t", "--head", "fpn"],
    "body with edges, fishnet_tiny": ["--backbone", "fishnet_tiny", "--head", "body", "--edges"],
    "body with edges, fishnet_small": ["--backbone", "fishnet_small", "--head", "body", "--edges"],
}  # fmt: skip
SHARED = [
    "--channels",
    "1",
    "--native",
    "--size",
    "224",
    "--flip",
    "0.5",
    "--workers",
    "0",
    "--threads",
    "1",
    "--quiet",
]
HEIGHT, WIDTH = 224, 192  # a slice, padded
CORES: "Queue[int]" = Queue()


def command(*words: object) -> float:
    """Runs ``fishnet`` on a core that is free; its seconds."""
    core = CORES.get()
    try:
        start = time.perf_counter()
        subprocess.run(
            ["taskset", "-c", str(core), sys.executable, "-m", "fishnet", *map(str, words)],
            check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return time.perf_counter() - start
    finally:
        CORES.put(core)


def epochs_of(data: Path, folder: Path, flags: list[str], minutes: float) -> int:
    """How many epochs last so long, with everything before and after them."""
    train = ["train", "segment", data, *flags, *SHARED, "--warmup-epochs", "0"]
    one, four = (command(*train, "--epochs", n, "--out", folder / f"of-{n}") for n in (1, 4))
    each = (four - one) / 3
    return max(3, int((60 * minutes - (one - each)) / each))


def measured(data: Path, folder: Path, flags: list[str], minutes: float) -> dict[str, Any]:
    """Trains and validates; what was measured before is read again."""
    kept = folder / "measured.json"
    if kept.is_file():
        result: dict[str, Any] = json.loads(kept.read_text())
        return result
    for unfinished in (folder, Path(f"{folder}-timed")):
        shutil.rmtree(unfinished, ignore_errors=True)
    epochs = epochs_of(data, Path(f"{folder}-timed"), flags, minutes)
    seconds = command("train", "segment", data, *flags, *SHARED, "--epochs", epochs, "--out", folder)
    command("val", folder, data, "--split", "test", "--workers", "0", "--quiet")
    metrics = json.loads((folder / "val-test" / "metrics.json").read_text())
    result = {"epochs": epochs, "minutes": seconds / 60, "metrics": metrics["metrics"], "classes": metrics["per_class"]}
    kept.write_text(json.dumps(result))
    return result


def step_of(folder: str) -> Any:
    """One image through a bundle."""
    import numpy as np
    import torch

    from fishnet.tasks.loading import load

    torch.set_num_threads(1)
    engine = load(folder, "cpu").engine
    batch = np.random.default_rng(0).normal(size=(1, 1, HEIGHT, WIDTH)).astype(np.float32)
    return lambda: engine(batch)


def rates(folders: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Images/s of each model, one number a round."""
    children = {name: Child(__file__, ["--serve", folder], 1, name) for name, folder in folders.items()}
    for _ in range(rounds + 3):
        for child in children.values():
            child.step()
    for child in children.values():
        child.process.communicate("")
    return {name: [1 / wall for wall, _ in child.seconds[3:]] for name, child in children.items()}


def counted(folder: Path) -> tuple[float, float]:
    """Parameters in millions, and MMACs."""
    from fishnet.analysis.profile import cost
    from fishnet.tasks.store import load_model

    _, model = load_model(folder)
    it = cost(model, (1, HEIGHT, WIDTH))
    return it.parameters / 1e6, it.macs / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(step_of(args.serve))
        return
    before = os.getloadavg()[0]
    for core in range(os.cpu_count() or 1):
        CORES.put(core)
    places = {name: args.out / f"{i + 1}-{MODELS[name][3]}-{MODELS[name][1]}" for i, name in enumerate(args.models)}
    with ThreadPoolExecutor(CORES.qsize()) as pool:
        running = {
            name: pool.submit(measured, args.data, place, MODELS[name], args.minutes) for name, place in places.items()
        }
        result = {name: it.result() for name, it in running.items()}
    speed = rates(places, args.rounds)
    print("| head, backbone | mIoU | mDice | boundary F1 | MMACs | parameters, M | images/s | epochs in | minutes |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, place in places.items():
        it, (parameters, macs) = result[name], counted(place)
        metrics = it["metrics"]
        print(
            f"| {name} | {metrics['mIoU']:.2f} | {metrics['mDice']:.2f} | {metrics['boundary_F1']:.2f} | {macs:.0f} "
            f"| {parameters:.2f} | {statistics.median(speed[name]):.1f} | {it['epochs']} | {it['minutes']:.1f} |"
        )
    for name in places:
        ious = ", ".join(f"{row['class']} {row['IoU']:.2f}" for row in result[name]["classes"])
        print(f"\n{name}: {ious}")
    print(
        f"\nmedians of {args.rounds} rounds; CPU, one thread each, {platform.machine()}, {os.cpu_count()} cores; load "
        f"average {before:.1f} before, {os.getloadavg()[0]:.1f} after"
    )


if __name__ == "__main__":
    main()
