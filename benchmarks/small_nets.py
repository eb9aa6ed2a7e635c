"""Small FishNets against a bottleneck ResNet, trained under one protocol: Fashion-MNIST at 32 px, a few epochs.

    python benchmarks/small_nets.py                       # every row of the table, 3 epochs each
    python benchmarks/small_nets.py --only fishnet_nano --rate 0.4 --seed 1 --json nano.json

Protocol: 60,000 training photos padded from 28 to 32 px and normalized; random flip, and with ``--padding`` a random
crop; batches of 128; SGD with Nesterov momentum 0.9 and weight decay 5e-4 on all weights; torch's OneCycleLR; the last
weights, not the best ones, are tested on all 10,000 test photos. One seed for weights, order and augmentation.
MMACs at 32 px count the trained network (1 channel, 10 classes), GMACs at 224 px the same one for RGB and 1000 classes.
"""

import argparse
import gzip
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fishnet.backbone.fishnet import FishNet
from fishnet.backbone.spec import Spec
from fishnet.backbone.variants import SPECS

QUARTER = Spec(tail=(32, 64, 128), body=(128, 96, 64), stem=16)
# The small nets' rules at the cost of FishNet-99 x0.25; fishnet_tiny's depths.
RULES = replace(SPECS["fishnet_tiny"], tail=(32, 64, 128), body=(64, 64, 32), stem=24, min_inner=32, max_inner=48)
MEAN, STD = 0.2860, 0.3530


def fish(spec: Spec, **changes: Any) -> Callable[..., nn.Module]:
    """Factory of a FishNet over ``spec`` with ``changes``."""
    return lambda **kwargs: FishNet(replace(spec, **changes), **kwargs)


def resnet(
    layers: tuple[int, int, int, int], channels: tuple[int, int, int, int], stem: int
) -> Callable[..., nn.Module]:
    """Factory of timm's bottleneck ResNet: stages of ``channels`` inner width, 4x as many outside."""
    return lambda **kwargs: ResNet(
        Bottleneck, layers, channels=channels, stem_width=stem // 2, stem_type="deep", zero_init_last=True, **kwargs
    )


def named(name: str) -> Callable[..., nn.Module]:
    """Factory of a registered network."""
    return lambda **kwargs: timm.create_model(name, **kwargs)


@dataclass(frozen=True)
class Row:
    """One row's result."""

    name: str
    parameters: int
    mmacs_32: float
    gmacs_224: float
    rate: float
    accuracy: float
    seconds: float


# A row of the table is a line: name -> factory(num_classes=..., in_chans=...).
CANDIDATES: dict[str, Callable[..., nn.Module]] = {
    "FishNet-99 x0.25": fish(QUARTER),
    "FishNet-99 x0.25, zero init": fish(QUARTER, zero_init=True),
    "ResNet bottleneck (3, 3, 3, 2) x 16": resnet((3, 3, 3, 2), (16, 32, 64, 128), 32),
    "FishNet by the small nets' rules": fish(RULES),
    "fishnet_nano": named("fishnet_nano"),
    "fishnet_tiny": named("fishnet_tiny"),
    "fishnet_small": named("fishnet_small"),
}


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Photos (n, 1, 32, 32), normalized and padded with background, and labels (n,)."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28).copy()
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
    photos = (torch.from_numpy(pixels).float() / 255 - MEAN) / STD
    return F.pad(photos, (2, 2, 2, 2), value=-MEAN / STD), torch.from_numpy(labels)


def augment(x: Tensor, padding: int) -> Tensor:
    """Random crop and horizontal flip, drawn for each photo of (n, 1, size, size)."""
    n, _, size, _ = x.shape
    padded = F.pad(x, (padding,) * 4, value=-MEAN / STD)
    rows = torch.randint(2 * padding + 1, (n, 1)) + torch.arange(size)
    columns = torch.randint(2 * padding + 1, (n, 1)) + torch.arange(size)
    columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(1), columns)
    return padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def macs(factory: Callable[..., nn.Module], size: int, in_chans: int, num_classes: int) -> int:
    """Multiply-adds of one image, counted without allocating anything."""
    with torch.device("meta"):
        model = factory(num_classes=num_classes, in_chans=in_chans).eval()
        image = torch.empty(1, in_chans, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    return counter.get_total_flops() // 2


def train(
    model: nn.Module, photos: Tensor, labels: Tensor, *, epochs: int, rate: float, padding: int, batch: int = 128
) -> None:
    """Trains in place; the incomplete last batch of an epoch is left out."""
    steps = len(photos) // batch
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * steps)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(photos))
        for picked in order[: steps * batch].view(steps, batch):
            loss = F.cross_entropy(model(augment(photos[picked], padding)), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, photos: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Top-1 in percent."""
    model.eval()
    right = sum(
        int((model(x).argmax(1) == y).sum()) for x, y in zip(photos.split(batch), labels.split(batch), strict=True)
    )
    return 100 * right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=CANDIDATES, help="rows to run (default: all)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, nargs="+", default=[0.4], help="peak learning rates, a row each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--padding", type=int, default=0, help="pixels by which a random crop may shift")
    parser.add_argument("--photos", type=int, default=60000, help="training photos to use, for a quick look")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--json", type=Path, help="write the rows here too")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    photos, labels = (t[: args.photos] for t in read(args.data, "train"))
    test = read(args.data, "t10k")
    print(f"torch {torch.__version__}, {args.threads} threads, {platform.machine()}, seed {args.seed}, ", end="")
    print(f"{args.epochs} epochs of {len(photos)} photos, crop padding {args.padding}\n")
    print("| name | parameters | MMACs at 32 px | GMACs at 224 px | peak rate | accuracy % | seconds |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    rows = []
    for name in args.only or CANDIDATES:
        factory = CANDIDATES[name]
        for rate in args.rate:
            torch.manual_seed(args.seed)
            model = factory(num_classes=10, in_chans=1).to(memory_format=torch.channels_last)
            start = time.perf_counter()
            train(model, photos, labels, epochs=args.epochs, rate=rate, padding=args.padding)
            seconds = time.perf_counter() - start
            row = Row(
                name=name,
                parameters=sum(p.numel() for p in model.parameters()),
                mmacs_32=macs(factory, 32, 1, 10) / 1e6,
                gmacs_224=macs(factory, 224, 3, 1000) / 1e9,
                rate=rate,
                accuracy=accuracy(model, *test),
                seconds=seconds,
            )
            rows.append(row)
            print(
                f"| {row.name} | {row.parameters:,} | {row.mmacs_32:.2f} | {row.gmacs_224:.3f} | {row.rate:g} "
                f"| {row.accuracy:.2f} | {row.seconds:.0f} |",
                flush=True,
            )
            if args.json:
                settings = {"seed": args.seed, "epochs": args.epochs, "photos": len(photos), "padding": args.padding}
                args.json.write_text(json.dumps([{**asdict(r), **settings} for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
