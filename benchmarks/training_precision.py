"""Training in bf16 against training in float32: the metric over several seeds, and processor time.

    python benchmarks/training_precision.py segment nuclei runs-precision --epochs 6
    python benchmarks/training_precision.py classify FOLDER runs-classify --epochs 5 --size 64

DATA is what ``fishnet train TASK`` takes; what is not given is the recipe small-data's. Each row of OUT/precision.csv
is one training: its best validation metric (validation is in float32 for both) and its processor time. If the command
is interrupted and repeated with the same arguments, it continues with the first training that has no row.
"""

import argparse
import os
import shutil
import statistics
from pathlib import Path
from typing import Any

from runs import CONDITIONS, append, conditions, fishnet, machine, mean_and_spread, rows_of

PRECISIONS = ("fp32", "bf16")
SETTINGS = ("task", "data", "backbone", "epochs", "size", "device", "threads")  # the same in all rows of a file
COLUMNS = ("precision", "seed", "metric", "value", "processor_minutes", *SETTINGS, *CONDITIONS)


def run(args: argparse.Namespace, precision: str, seed: int) -> dict[str, Any]:
    """Trains a model; its row."""
    from fishnet.bundle.bundle import read_bundle
    from fishnet.tasks import get_task

    folder = args.out / f"{precision}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    before = sum(os.times()[2:4])  # of the processes that this one has started and that have ended
    size = ["--size", args.size] if args.size else []
    fishnet(
        "train", args.task, args.data, "--backbone", args.backbone, "--epochs", args.epochs, "--seed", seed,
        "--precision", precision, "--device", args.device, "--threads", args.threads, "--out", folder, "--quiet", *size,
    )  # fmt: skip
    seconds = sum(os.times()[2:4]) - before
    bundle = read_bundle(folder)
    metric = get_task(args.task).for_head(bundle.only_head).monitor
    return {
        "precision": precision,
        "seed": seed,
        "metric": metric,
        "value": f"{bundle.metrics[metric]:.2f}",
        "processor_minutes": f"{seconds / 60:.2f}",
        **settings_of(args),
        **conditions(args.device),
    }


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """The values of :data:`SETTINGS`."""
    values = [args.task, Path(args.data).name, args.backbone, args.epochs, args.size or "", args.device, args.threads]
    return dict(zip(SETTINGS, map(str, values), strict=True))


def table(rows: list[dict[str, str]]) -> str:
    """Mean and sample standard deviation over the seeds."""
    lines = [f"| precision | {rows[0]['metric']} | seeds | processor minutes |", "|---|---:|---:|---:|"]
    for precision in PRECISIONS:
        own = [row for row in rows if row["precision"] == precision]
        if own:
            minutes = statistics.mean(float(row["processor_minutes"]) for row in own)
            value = mean_and_spread([float(row["value"]) for row in own])
            lines.append(f"| {precision} | {value} | {len(own)} | {minutes:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task", choices=["classify", "detect", "instances", "segment"])
    parser.add_argument("data")
    parser.add_argument("out", type=Path, help="folder of the trainings and of precision.csv")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="fishnet_nano")
    parser.add_argument("--size", type=int)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    file = args.out / "precision.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for precision in PRECISIONS:
            rows = rows_of(file, settings_of(args))
            if (precision, str(seed)) not in {(row["precision"], row["seed"]) for row in rows}:
                append(file, run(args, precision, seed), COLUMNS)
    print(table(rows_of(file, settings_of(args))))
    print(f"\n{args.task}, best validation; mean ± sample standard deviation; {machine(args.device)}")


if __name__ == "__main__":
    main()
