"""Accuracy against parameters and MACs: FishNet, pre-activation ResNet and DenseNet-BC of three sizes.

    git clone https://github.com/seshuad/IMagenet SRC
    python benchmarks/tiny_imagenet.py SRC/tiny-imagenet-200 DATA --classes 100
    python benchmarks/headline.py DATA OUT                       # appends rows to OUT/headline.csv
    python benchmarks/headline.py DATA OUT --share 1/2           # and 2/2: two processes share the runs
    python benchmarks/headline.py --table benchmarks/headline.csv --png docs/headline.png

The first 100 classes of Tiny-ImageNet, 8 epochs of the recipe tiny-imagenet. First every family's smallest network is
trained with each of three learning rates (seed 0). The best one by accuracy on val is the family's, which favours no
family, as all have the same choice; it is that of the smallest size for all sizes. Accuracy is that of the best epoch
on val, which chooses the rate too. Then follow the other seeds and sizes: three seeds of the smallest and the middle
size, two of the largest. The networks: benchmarks/rivals.py.

If the command is interrupted and repeated, it goes on with the training that was interrupted. Rates are images per
second of processor time, reading included, and missing where a training was interrupted.
"""

import argparse
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import timm
from rivals import FAMILIES, SIZES
from runs import CONDITIONS, append, arguments, conditions, mean_and_spread, parsed, rows_of, train, unfinished

from fishnet.analysis.profile import cost
from fishnet.bundle.bundle import read_bundle

RATES = (0.1, 0.2, 0.4)
SEEDS = {"nano": (0, 1, 2), "tiny": (0, 1, 2), "small": (0, 1)}
CLASSES, SIDE, IMAGES = 100, 64, 50_000
SETTINGS = ("epochs", "device")
COLUMNS = (
    "network", "lr", "seed", "acc@1", "acc@5", "parameters", "mmacs", "images_per_second", *SETTINGS, *CONDITIONS,
)  # fmt: skip
Run = tuple[str, float, int]


def sweep() -> list[Run]:
    """The runs that choose each family's learning rate."""
    return [(f"{family}_{SIZES[0]}", rate, 0) for rate in RATES for family in FAMILIES]


def best_rate(rows: list[dict[str, str]], family: str) -> float | None:
    """A family's learning rate; None until its runs are done."""
    smallest = f"{family}_{SIZES[0]}"
    own = {float(row["lr"]): float(row["acc@1"]) for row in rows if row["network"] == smallest and row["seed"] == "0"}
    return max(own, key=lambda rate: own[rate]) if len(own) == len(RATES) else None


def other_runs(rates: dict[str, float]) -> Iterator[Run]:
    """The runs at the families' learning rates, from the smallest size to the largest."""
    for size in SIZES:
        for seed in SEEDS[size]:
            yield from ((f"{family}_{size}", rates[family], seed) for family in FAMILIES)


def classifier_run(args: argparse.Namespace, network: str, rate: float, seed: int) -> dict[str, Any]:
    """Trains a network; its row."""
    folder = args.out / f"{network}-{rate}-{seed}-{args.epochs}"
    seconds = train(
        folder, "classify", args.data, "--recipe", "tiny-imagenet", "--backbone", network, "--size", SIDE,
        "--lr", rate, "--seed", seed, "--epochs", args.epochs, "--device", args.device, "--threads", 1,
        "--checkpoint-steps", 200, register="rivals",
    )  # fmt: skip
    bundle = read_bundle(folder)
    size = cost(timm.create_model(network, num_classes=CLASSES), (3, SIDE, SIDE))
    return {
        "network": network, "lr": rate, "seed": seed,
        **{name: f"{bundle.metrics[name]:.2f}" for name in ("acc@1", "acc@5")},
        "parameters": size.parameters, "mmacs": f"{size.macs / 1e6:.2f}",
        "images_per_second": f"{args.epochs * IMAGES / seconds:.0f}" if seconds else "",
        **settings_of(args), **conditions(args.device),
    }  # fmt: skip


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """The values of :data:`SETTINGS`."""
    return {name: str(getattr(args, name)) for name in SETTINGS}


def finish(args: argparse.Namespace, plan: Iterable[Run], file: Path) -> None:
    """Trains the networks of a plan that have no row yet."""
    for network, rate, seed in unfinished(plan, ("network", "lr", "seed"), file, settings_of(args), args.share):
        append(file, classifier_run(args, network, rate, seed), COLUMNS)


def groups(rows: list[dict[str, str]]) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Family, size and the rows of the family's learning rate; nothing of a family as long as there is none."""
    for size in SIZES:
        for family in FAMILIES:
            rate = best_rate(rows, family)
            own = [row for row in rows if row["network"] == f"{family}_{size}" and float(row["lr"]) == rate]
            if own:
                yield family, size, own


def table(rows: list[dict[str, str]]) -> str:
    """The learning rates, and mean and sample standard deviation over the seeds."""
    lines = [f"| lr | {' | '.join(f'{family}_{SIZES[0]}' for family in FAMILIES)} |", "|---:|---:|---:|---:|"]
    for rate in RATES:
        own = {row["network"]: row["acc@1"] for row in rows if float(row["lr"]) == rate and row["seed"] == "0"}
        lines.append(f"| {rate} | {' | '.join(own.get(f'{family}_{SIZES[0]}', '') for family in FAMILIES)} |")
    lines += [
        "", "| network | parameters, M | MMACs | acc@1 | acc@5 | seeds | images/s, training |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for family, size, own in groups(rows):
        first, fifth = (mean_and_spread([float(row[name]) for row in own]) for name in ("acc@1", "acc@5"))
        rates = [float(row["images_per_second"]) for row in own if row["images_per_second"]]
        lines.append(
            f"| {family}_{size} | {int(own[0]['parameters']) / 1e6:.2f} | {float(own[0]['mmacs']):.1f} | {first} "
            f"| {fifth} | {len(own)} | {f'{statistics.median(rates):.0f}' if rates else ''} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """Accuracy against parameters and against MACs, as the paper's figure 4 has them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for axis, column, label, unit in zip(
        figure.subplots(1, 2), ("parameters", "mmacs"), ("parameters, M", "MMACs at 64 px"), (1e6, 1), strict=True
    ):
        for family in FAMILIES:
            points = [
                (float(own[0][column]) / unit, [float(row["acc@1"]) for row in own])
                for each, _, own in groups(rows)
                if each == family
            ]
            middle = [statistics.mean(values) for _, values in points]
            spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
            axis.errorbar([x for x, _ in points], middle, yerr=spread, marker="o", capsize=3, label=family)
        axis.set(xlabel=label, ylabel="acc@1 %", xscale="log")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = arguments(__doc__, "headline.csv")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--png", type=Path, help="with --table: where to draw the figure")
    args = parsed(parser)
    if args.table:
        rows = rows_of(args.table, {})
        print(table(rows))
        if args.png:
            draw(rows, args.png)
        return
    file = args.out / "headline.csv"
    finish(args, sweep(), file)
    rates = {family: best_rate(rows_of(file, settings_of(args)), family) for family in FAMILIES}
    if missing := [family for family, rate in rates.items() if rate is None]:
        raise SystemExit(
            f"the learning rates of {', '.join(missing)} are not chosen yet: repeat when all shares are done"
        )
    finish(args, other_runs({family: rate for family, rate in rates.items() if rate is not None}), file)
    print(table(rows_of(file, settings_of(args))))


if __name__ == "__main__":
    main()
