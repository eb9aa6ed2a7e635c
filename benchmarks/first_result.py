"""How long a fresh process takes to its first result: the bundle by torch, and its exported files.

    python benchmarks/first_result.py
    python benchmarks/first_result.py --model resnet18 --task segment --runs 11

A process imports fishnet, loads the model and predicts one image of the training's size; the time is wall time from
its start until it says so. The ways take turns, after warm-ups that fill the file cache and write the byte code. The
first row is the bare interpreter with numpy: what the others take above it is the engine's and ours. The last columns
say where the time goes, as the process itself sees it. Weights are random: they do not matter to time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

NOTHING = "import numpy\nprint('done')\nprint('{}')"
CODE = """
import json, sys, time
start = time.perf_counter()
import fishnet
import numpy as np
image = np.random.default_rng(0).integers(0, 256, ({height}, {width}, 3), dtype=np.uint8)
predictor = fishnet.load({path!r}, "cpu")
loaded = time.perf_counter()
predictor.predict(image)
done = time.perf_counter()
print("done", flush=True)
assert ("torch" in sys.modules) == {torch!r}
second = time.perf_counter()
predictor.predict(image)
print(json.dumps({{"load": loaded - start, "first": done - loaded, "second": time.perf_counter() - second}}))
"""


def files(args: argparse.Namespace, folder: Path) -> dict[str, Path | None]:
    """What is timed: label -> bundle or file."""
    from fishnet.bundle.bundle import Bundle, write_bundle
    from fishnet.bundle.classes import Classes
    from fishnet.exporting.graphs import write_onnx, write_openvino
    from fishnet.images.preprocess import Preprocess
    from fishnet.tasks import get_task
    from fishnet.tasks.store import build_from, save_weights

    fit: Any = {"classify": "crop", "segment": "native"}.get(args.task, "whole")
    size = (args.size, args.size) if fit == "crop" else (args.size, 2 * args.size)
    classes = Classes.of([f"class {i}" for i in range(args.classes)])
    head = get_task(args.task).resolve_head(args.head)
    bundle = Bundle.single(args.task, args.model, classes, Preprocess(size, fit=fit), head)
    model = build_from(bundle).eval()
    bundle = write_bundle(folder / "bundle", bundle, lambda path: save_weights(model, path))
    write_onnx(model, bundle, folder / "model.onnx")
    exported = write_onnx(model, bundle, folder / "plain.onnx", plain=True)
    write_openvino(folder / "plain.onnx", folder / "model.xml", exported)
    return {
        "python with numpy": None,
        "bundle, torch": folder / "bundle",
        "model.onnx, onnxruntime": folder / "model.onnx",
        "model.xml, OpenVINO": folder / "model.xml",
    }


def run(path: Path | None, size: int) -> dict[str, float]:
    """One process: its wall time, and its own account, s."""
    code = NOTHING
    if path is not None:
        code = CODE.format(path=str(path), height=size, width=size, torch=path.is_dir())
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        wall = time.perf_counter() - start
        rest = process.stdout.read()
    if process.returncode or said.strip() != b"done":
        raise SystemExit(f"a process of {path} failed")
    return {"all": wall, **json.loads(rest.splitlines()[-1])}


def row(label: str, times: list[dict[str, float]]) -> str:
    """A row of the table."""
    walls = [one["all"] for one in times]
    parts = [f"{statistics.median(walls):.2f}", f"{min(walls):.2f}", f"{max(walls):.2f}"]
    for name in ("load", "first", "second"):
        values = [one[name] for one in times if name in one]
        parts.append(f"{statistics.median(values):.3f}" if values else "")
    return f"| {label} | " + " | ".join(parts) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="fishnet99")
    parser.add_argument("--task", default="classify")
    parser.add_argument("--head", default="default")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--warm-ups", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways = files(args, Path(folder))
        times: dict[str, list[dict[str, float]]] = {label: [] for label in ways}
        for _ in range(args.warm_ups + args.runs):
            for label, path in ways.items():
                times[label].append(run(path, args.size))
    print("| a process of | to the first result, median s | fastest | slowest | import and load | first | second |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for label, each in times.items():
        print(row(label, each[args.warm_ups :]))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino"))
    print(
        f"\n{args.model}, {args.task}, {args.size} px, batch 1; {args.runs} processes each after {args.warm_ups} "
        f"warm-ups; Python {platform.python_version()}, {libraries}; {platform.machine()}, {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
