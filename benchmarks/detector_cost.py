"""Mask R-CNN on the CPU: FishNet-99-FPN here against torchvision's ResNet-50-FPN, training and inference.

    python benchmarks/detector_cost.py
    python benchmarks/detector_cost.py --rounds 9 --size 640

One image of 640 x 640 px a step, float32, the published head for both (FPN of 256 channels, 1,000 proposals, 512 of
them learned from, 91 outputs, no norms in FPN and heads; every layer of the trunk is trained, with ordinary batch
norms, as torchvision builds it without weights). Random weights: what is computed does not depend on them, but for
how many boxes are found, so both are asked for their 100 best whatever their scores. A training step has 8 objects
with masks, forward, backward and SGD. Each model and mode lives in a process of its own, the processes take turns,
and peak memory is the process's largest resident set. MACs are counted (torch.utils.flop_counter) in one forward pass
in evaluation."""

import argparse
import os
import platform
import statistics
from collections.abc import Callable
from typing import Any

from turns import Child, serve

FISH, RESNET = "fishnet99-fpn (ours)", "resnet50-fpn (torchvision)"
MODELS, MODES = (FISH, RESNET), ("train", "infer")
WARM_UP, OBJECTS, CLASSES = 2, 8, 90


def build(name: str, size: int) -> Any:
    """A Mask R-CNN with random weights."""
    if name == RESNET:
        from torchvision.models.detection import maskrcnn_resnet50_fpn

        return maskrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=size, max_size=size,
            box_score_thresh=0.0, rpn_pre_nms_top_n_test=1000,
        )  # fmt: skip
    from fishnet.bundle.classes import Classes
    from fishnet.tasks.detection.spec import DetectorSpec
    from fishnet.tasks.model import Model, ModelSpec

    classes = Classes.of(map(str, range(CLASSES)))
    args = DetectorSpec(norm="none", score_threshold=0.0).to_dict()
    return Model.build(ModelSpec.single("instances", "fishnet99", classes, head="mask-rcnn", head_args=args))


def step_of(name: str, mode: str, size: int, threads: int) -> Callable[[], None]:
    """A step of a model, to be called again and again."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(name, size).to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    corners = torch.rand(OBJECTS, 2) * size * 0.6
    boxes = torch.cat([corners, corners + size * (0.1 + 0.3 * torch.rand(OBJECTS, 2))], 1)
    masks = torch.zeros(OBJECTS, size, size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    labels = torch.arange(OBJECTS)
    if name == RESNET:
        images: Any = [image[0]]
        targets: Any = [{"boxes": boxes, "labels": labels + 1, "masks": masks}]
    else:
        from fishnet.data.detection.base import DetectionTarget

        images, targets = image, {"instances": [DetectionTarget(boxes, labels, labels < 0, masks)]}
    model.train(mode == "train")
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), 1e-5, momentum=0.9)

    def train() -> None:
        optimizer.zero_grad()
        outputs = model(images, targets)
        losses = outputs if name == RESNET else outputs["instances"]["losses"]
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode():
            model(images)

    return train if mode == "train" else infer


def counted(name: str, size: int) -> tuple[float, float]:
    """Parameters in millions, and GMACs of one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    model = build(name, size).eval()
    image = torch.rand(1, 3, size, size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model([image[0]] if name == RESNET else image)
    return sum(p.numel() for p in model.parameters()) / 1e6, counter.get_total_flops() / 2e9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=9, help=f"timed rounds, after {WARM_UP} that are not")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--model", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.model:
        serve(step_of(args.model, args.mode, args.size, args.threads))
        return

    before = os.getloadavg()[0]
    rows = [(name, mode) for mode in MODES for name in MODELS]
    shared = ["--size", args.size, "--threads", args.threads]
    children = [Child(__file__, ["--model", name, "--mode", mode, *shared], args.threads, name) for name, mode in rows]
    measured: dict[int, dict[str, Any]] = {}
    for _ in range(WARM_UP + args.rounds):
        for i, child in enumerate(children):
            measured[i] = child.step()
    for child in children:
        child.process.communicate("")
    rates = [[1 / wall for wall, _ in child.seconds[WARM_UP:]] for child in children]
    costs = {name: counted(name, args.size) for name in MODELS}
    print(
        "| Mask R-CNN | step | minimum | median | maximum, images/s | ratio of medians | peak memory, MB "
        "| parameters, M | GMACs |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for i, (name, mode) in enumerate(rows):
        base = statistics.median(rates[rows.index((RESNET, mode))])
        middle = statistics.median(rates[i])
        parameters, macs = costs[name]
        print(
            f"| {name} | {mode} | {min(rates[i]):.3f} | {middle:.3f} | {max(rates[i]):.3f} | {middle / base:.2f} "
            f"| {measured[i]['peak'] / 1e6:.0f} | {parameters:.1f} | {macs:.1f} |"
        )
    print(
        f"\n{args.size} x {args.size} px, batch 1, float32, CPU, {args.threads} thread(s), {args.rounds} interleaved "
        f"rounds after {WARM_UP} not counted; torch {measured[0]['torch']}, Python {platform.python_version()}, "
        f"{platform.machine()}, {os.cpu_count()} cores, load average {before:.1f} before, {os.getloadavg()[0]:.1f} "
        "after; MB = 10**6 bytes"
    )


if __name__ == "__main__":
    main()
