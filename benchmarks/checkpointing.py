"""Gradient checkpointing: what a training step keeps in memory, and what it costs in time, with and without.

    python benchmarks/checkpointing.py                    # every row of the table
    python benchmarks/checkpointing.py --only fishnet_nano --batch 8 --steps 9

Each row is a process of its own, on the CPU: float32, random images, cross-entropy, SGD with momentum. Kept: bytes of
the distinct storages saved for the backward pass, without parameters. Peak: the process's largest resident memory over
all steps (ru_maxrss), which also holds Python, torch, the weights, their gradients and momenta, and what the backward
pass computes again; "before the steps" is the same with the network made and nothing run. Time: the median step.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

NAMES = ("fishnet_nano", "fishnet99", "fishnet150")
MB = 1e6


def peak_memory() -> float:
    """Largest resident memory of this process so far, in MB of 10**6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB


def measure(
    name: str, checkpointing: bool, *, size: int, batch: int, steps: int, threads: int
) -> dict[str, float | int | str]:
    """One row, measured in this process. torch is imported here only: a child's ru_maxrss starts at its parent's."""
    import timm
    import torch
    from torch import Tensor
    from torch.nn import functional as F

    import fishnet.backbone  # noqa: F401  (registers the networks)

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = timm.create_model(name).train()
    model.set_grad_checkpointing(checkpointing)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    x, y = torch.randn(batch, 3, size, size), torch.arange(batch)
    before = peak_memory()

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        return time.perf_counter() - start

    step()  # warms up, and makes the gradients and momenta
    times = [step() for _ in range(steps)]
    peak = peak_memory()

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(model(x), y)
    kept = sum(sizes.values()) / MB
    del loss
    return {
        "kept": kept,
        "before": before,
        "peak": peak,
        "seconds": statistics.median(times),
        "fastest": min(times),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def in_a_process(arguments: list[str], environment: Mapping[str, str]) -> dict[str, float | int | str]:
    """Runs this file with ``arguments`` and reads the row that it prints."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], env=dict(environment), check=True, capture_output=True, text=True
    )
    row: dict[str, float | int | str] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(NAMES), help=f"default: {' '.join(NAMES)}")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=7, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--row", choices=["plain", "checkpointing"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    settings = {"size": args.size, "batch": args.batch, "steps": args.steps, "threads": args.threads}
    if args.row:
        print(json.dumps(measure(args.only[0], args.row == "checkpointing", **settings)))
        return

    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    print(
        "| network | checkpointing | kept for backward, MB | before the steps, MB | peak, MB | step, s | fastest, s |"
    )
    print("|---|---|---:|---:|---:|---:|---:|", flush=True)
    row: dict[str, float | int | str] = {}
    for name in args.only:
        for kind in ("plain", "checkpointing"):
            flags = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
            row = in_a_process(["--only", name, "--row", kind, *flags], environment)
            print(
                f"| {name} | {'yes' if kind == 'checkpointing' else 'no'} | {row['kept']:.0f} | {row['before']:.0f} "
                f"| {row['peak']:.0f} | {row['seconds']:.2f} | {row['fastest']:.2f} |",
                flush=True,
            )
    print(
        f"\n{args.size} x {args.size} px, batch {args.batch}, CPU, {row['threads']} thread(s), median of {args.steps} "
        f"steps; torch {row['torch']}, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores; MB = 10**6 bytes"
    )


if __name__ == "__main__":
    main()
