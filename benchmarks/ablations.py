"""What the parts of a FishNet contribute: fishnet_nano with one change at a time.

    git clone https://github.com/seshuad/IMagenet SRC
    python benchmarks/tiny_imagenet.py SRC/tiny-imagenet-200 DATA --classes 100
    python benchmarks/ablations.py DATA OUT                      # appends rows to OUT/ablations.csv
    python benchmarks/ablations.py --table benchmarks/ablations.csv

The first 100 classes of Tiny-ImageNet, 6 epochs of the recipe tiny-imagenet, 2 seeds. The variants: ``VARIANTS`` in
benchmarks/rivals.py. Some cost more or less than the network that they are made from: see their parameters and MACs.
Interrupted runs, shares and rates: as in benchmarks/headline.py.
"""

from headline import finish, settings_of
from rivals import VARIANTS
from runs import arguments, mean_and_spread, parsed, rows_of

SEEDS = (0, 1)


def paired(rows: list[dict[str, str]], name: str) -> list[float]:
    """The differences to the unchanged network, seed by seed."""
    own, base = (
        {row["seed"]: float(row["acc@1"]) for row in rows if row["network"] == each} for each in (name, "nano")
    )
    return [own[seed] - base[seed] for seed in own if seed in base]


def table(rows: list[dict[str, str]]) -> str:
    """Mean and sample standard deviation over the seeds."""
    lines = [
        "| variant | parameters, M | MMACs | acc@1 | difference | seeds |", "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for name, (text, _, _) in VARIANTS.items():
        own = [row for row in rows if row["network"] == name]
        if own:
            values = [float(row["acc@1"]) for row in own]
            pairs = paired(rows, name)
            difference = mean_and_spread(pairs) if name != "nano" and pairs else ""
            lines.append(
                f"| {text} | {int(own[0]['parameters']) / 1e6:.3f} | {float(own[0]['mmacs']):.2f} "
                f"| {mean_and_spread(values)} | {difference} | {len(own)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__, "ablations.csv")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=0.2, help="peak learning rate of all variants")
    args = parsed(parser)
    if args.table:
        print(table(rows_of(args.table, {})))
        return
    file = args.out / "ablations.csv"
    finish(args, ((name, args.rate, seed) for seed in SEEDS for name in VARIANTS), file)
    print(table(rows_of(file, settings_of(args))))


if __name__ == "__main__":
    main()
