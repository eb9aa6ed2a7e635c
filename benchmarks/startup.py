"""How long the command line takes to answer: fresh processes, wall time.

    python benchmarks/startup.py
    python benchmarks/startup.py --predict quickstart/classify quickstart/classify/model.onnx photo.jpg

Times are medians after warm-ups that fill the file cache and write the byte code. The first row is the bare
interpreter: what the others take above it is ours. With ``--predict`` each model predicts the image, from the command
to the results on the disk.
"""

import argparse
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runs import machine

TARGETS = {"predict": 2.0}  # seconds, by verb
TARGET = 0.5  # of every other command


def commands(predict: list[str], out: str) -> dict[str, list[str]]:
    """What is measured: label -> command. ``fishnet`` is the script installed beside this interpreter."""
    fishnet = shutil.which("fishnet", path=str(Path(sys.executable).parent)) or shutil.which("fishnet")
    if fishnet is None:
        raise SystemExit("no fishnet command found: pip install -e . first")
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        'python -c "import fishnet"': [sys.executable, "-c", "import fishnet"],
        "fishnet --version": [fishnet, "--version"],
        "fishnet --help": [fishnet, "--help"],
        **{
            f"fishnet predict {Path(model).name} {Path(predict[-1]).name}": [
                fishnet, "predict", model, predict[-1], "--out", out, "--device", "cpu",
            ]
            for model in predict[:-1]
        },
    }  # fmt: skip


def seconds(command: list[str]) -> float:
    """Wall time of one run; its output is read and thrown away, its failure is ours."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--warm-ups", type=int, default=2)
    parser.add_argument("--predict", nargs="+", default=[], help="bundles or exported files, and then an image")
    args = parser.parse_args()
    print("| command | median, s | fastest, s | slowest, s |")
    print("|---|---:|---:|---:|", flush=True)
    late = []
    with tempfile.TemporaryDirectory() as out:
        for label, command in commands(args.predict, out).items():
            times = [seconds(command) for _ in range(args.warm_ups + args.runs)][args.warm_ups :]
            median = statistics.median(times)
            print(f"| `{label}` | {median:.3f} | {min(times):.3f} | {max(times):.3f} |", flush=True)
            if median >= TARGETS.get(command[1], TARGET):
                late.append(label)
    print(
        f"\nmedian of {args.runs} after {args.warm_ups} warm-ups; Python {platform.python_version()}, {machine('cpu')}"
    )
    print(
        f"targets, under {TARGET} s, predict under {TARGETS['predict']} s: "
        + (f"missed by {', '.join(late)}" if late else "met by all")
    )


if __name__ == "__main__":
    main()
