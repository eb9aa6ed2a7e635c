"""One training step on the CPU: this package's FishNet-99 against pytorchcv's, and timm's ResNet-50.

    OMP_NUM_THREADS=1 python benchmarks/training_cost.py
    OMP_NUM_THREADS=1 python benchmarks/training_cost.py --layouts channels_last contiguous --rounds 5
    python benchmarks/training_cost.py --precisions fp32 bf16 --threads 2

A step is forward, cross-entropy, backward and SGD with momentum on random images of 224 x 224 px, in float32 or under
torch's automatic mixed precision with bfloat16, which ``fishnet train`` uses where the processor has AMX. Each net
lives in a process of its own, and the processes take turns: one step of each a round, so that whatever slows the
machine down for a while slows them all. The layout is channels last, the faster one for all three nets; ``--layouts``
compares. Peak memory is the process's largest resident set (ru_maxrss) over all steps, with Python, torch, weights,
gradients and momenta: some 2 GB for each net at batch 8.
"""

import argparse
import itertools
import os
import platform
import statistics
from collections.abc import Callable
from typing import Any

from turns import Child, serve

OURS, THEIRS, RESNET = "fishnet99 (ours)", "fishnet99 (pytorchcv)", "resnet50 (timm)"
NETS = (OURS, THEIRS, RESNET)
WARM_UP = 4  # steps until the allocator asks the system for no more memory


def build(net: str) -> Any:
    """A new net in training mode. Imports happen here: a child's ru_maxrss starts at its parent's."""
    import timm

    if net == THEIRS:
        from pytorchcv.model_provider import get_model

        return get_model("fishnet99", pretrained=False).train()
    import fishnet.backbone  # noqa: F401  (registers the networks)

    return timm.create_model("fishnet99" if net == OURS else "resnet50").train()


def step_of(net: str, layout: str, precision: str, batch: int, threads: int) -> Callable[[], None]:
    """A training step of a net, to be called again and again."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    memory = getattr(torch, "channels_last" if layout == "channels_last" else "contiguous_format")
    model = build(net).to(memory_format=memory)
    optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)
    x, y = torch.randn(batch, 3, 224, 224).contiguous(memory_format=memory), torch.arange(batch)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15, help=f"timed rounds, after {WARM_UP} that are not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layouts", nargs="+", choices=["channels_last", "contiguous"], default=["channels_last"])
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16"], default=["fp32"])
    parser.add_argument("--net", choices=NETS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.net:
        serve(step_of(args.net, args.layouts[0], args.precisions[0], args.batch, args.threads))
        return

    before = os.getloadavg()[0]
    shared = ["--batch", args.batch, "--threads", args.threads]
    rows = list(itertools.product(NETS, args.layouts, args.precisions))
    children = [
        Child(__file__, ["--net", net, "--layouts", layout, "--precisions", precision, *shared], args.threads, net)
        for net, layout, precision in rows
    ]
    found: dict[int, dict[str, Any]] = {}
    for _ in range(WARM_UP + args.rounds):
        for i, child in enumerate(children):
            found[i] = child.step()
    rates, own_rates = (
        [[args.batch / s[which] for s in child.seconds[WARM_UP:]] for child in children] for which in (0, 1)
    )
    for child in children:
        child.process.communicate("")
    theirs = [i for i, (net, _, precision) in enumerate(rows) if net == THEIRS and precision == rows[0][2]]
    base, base_own = (max(statistics.median(values[i]) for i in theirs) for values in (rates, own_rates))
    print(
        "| net | layout | precision | minimum | median | maximum, images/s | ratio of medians "
        "| images per processor second, median | ratio | peak memory, MB |"
    )
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for i, (net, layout, precision) in enumerate(rows):
        middle, own = statistics.median(rates[i]), statistics.median(own_rates[i])
        print(
            f"| {net} | {layout.replace('_', ' ')} | {precision} | {min(rates[i]):.2f} | {middle:.2f} "
            f"| {max(rates[i]):.2f} | {middle / base:.2f} | {own:.2f} | {own / base_own:.2f} "
            f"| {found[i]['peak'] / 1e6:.0f} |"
        )
    print(
        f"\n224 x 224 px, batch {args.batch}, CPU, {args.threads} thread(s), {args.rounds} interleaved rounds "
        f"after {WARM_UP} not counted; ratios to pytorchcv's faster layout in {rows[0][2]}; torch {found[0]['torch']}, "
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load average {before:.1f} "
        f"before, {os.getloadavg()[0]:.1f} after; MB = 10**6 bytes"
    )


if __name__ == "__main__":
    main()
