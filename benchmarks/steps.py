"""A training step of a task on real data: of several versions of the package and precisions, in one interleaved run.

    git worktree add ../before COMMIT
    python benchmarks/steps.py segment nuclei --source before=../before/src --source now=src --precision fp32 bf16
    python benchmarks/steps.py segment nuclei --kept 0 1      # with the allocator of glibc as it is, and set
    python benchmarks/steps.py segment nuclei --profile

DATA is what ``fishnet train TASK`` takes; settings that are not given are those of the recipe ``small-data``. A step is
forward, loss, backward and AdamW on one batch of the loader, again and again; reading images is not part of it. Each
row is a process of its own, and they take turns.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runs import machine
from turns import Child, serve

WARM_UP = 3


def step_of(args: argparse.Namespace) -> Callable[[], None]:
    """A training step, to be called again and again."""
    try:
        from fishnet.runtime.memory import keep_memory  # the versions before it do not have it
    except ImportError:
        pass
    else:
        keep_memory()
    import torch

    from fishnet.training.checkpoints import Resumed
    from fishnet.training.jobs import single_job
    from fishnet.training.plan import make_plan
    from fishnet.training.processes import find_processes

    given = {"backbone": args.backbone, "size": args.size, "batch_size": args.batch_size, "head": args.head}
    settings = {name: value for name, value in given.items() if value is not None}
    if args.size is not None and args.task != "classify":
        settings["max_size"] = args.size * 7 // 5
    settings |= {"workers": 0, "threads": args.threads, "device": "cpu"}
    job = single_job(args.task, args.data, None, None, settings)
    plan = make_plan(job.make_task(), job.data, job.recipe, find_processes(job.recipe), Resumed(), None, None, print_no)
    module = plan.module.train()
    batch: Any = next(iter(plan.train))
    images, targets = module.prepare(batch.images, batch.targets)
    optimizer = torch.optim.AdamW(module.model.parameters(), 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision[0] == "bf16"):
            losses = module.criterion(module.outputs(module.model, images, targets), targets)
        total: Any = sum(losses.values()) if isinstance(losses, dict) else losses
        total.backward()
        optimizer.step()

    return step


def print_no(_line: str) -> None:
    """Leaves out what a training prints at its start."""


def profile(step: Callable[[], None]) -> None:
    """Prints the operations that take most of a step."""
    import torch

    for _ in range(WARM_UP):
        step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        step()
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))


def table(rows: Sequence[tuple[str, Child]], peaks: Sequence[int]) -> str:
    """Seconds of a step, and how many times as fast as the first row it is."""
    lines = [
        "| version | precision | memory kept | lower quartile, s | median, s | upper quartile, s | times as fast "
        "| largest resident set, MB |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    first = statistics.median(wall for wall, _ in rows[0][1].seconds[WARM_UP:])
    for (label, child), peak in zip(rows, peaks, strict=True):
        low, middle, high = statistics.quantiles([wall for wall, _ in child.seconds[WARM_UP:]], n=4)
        lines.append(f"| {label} | {low:.3f} | {middle:.3f} | {high:.3f} | {first / middle:.2f} | {peak / 1e6:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("task", choices=["classify", "detect", "instances", "segment"])
    parser.add_argument("data")
    parser.add_argument("--source", action="append", default=[], metavar="NAME=FOLDER", help="a version of src")
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32"])
    parser.add_argument("--kept", nargs="+", choices=["0", "1"], default=["1"], help="FISHNET_KEEP_MEMORY")
    parser.add_argument("--backbone")
    parser.add_argument("--head")
    parser.add_argument("--size", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15, help=f"steps of each, after {WARM_UP} that are not timed")
    parser.add_argument("--profile", action="store_true", help="print one step's operations instead")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve or args.profile:
        step = step_of(args)
        profile(step) if args.profile else serve(step)
        return
    here = f"now={Path(__file__).resolve().parents[1] / 'src'}"
    sources = [source.partition("=")[::2] for source in args.source or [here]]
    own = [args.task, args.data, "--threads", args.threads, "--serve"]
    for name in ("backbone", "head", "size", "batch_size"):
        if (value := getattr(args, name)) is not None:
            own += [f"--{name.replace('_', '-')}", value]
    rows = []
    for name, folder in sources:
        for precision in args.precision:
            for kept in args.kept:
                variables = {"PYTHONPATH": os.pathsep.join([folder, str(Path(__file__).parent)])}
                words = [*own, "--precision", precision]
                child = Child(__file__, words, args.threads, name, {**variables, "FISHNET_KEEP_MEMORY": kept})
                is_kept = kept == "1" and Path(folder, "fishnet", "runtime", "memory.py").is_file()
                rows.append((f"{name} | {precision} | {'yes' if is_kept else 'no'}", child))
    peaks = [0] * len(rows)
    for _ in range(WARM_UP + args.rounds):
        for place, (_label, child) in enumerate(rows):
            peaks[place] = child.step()["peak"]
    for _, child in rows:
        child.process.communicate("")
    print(table(rows, peaks))
    print(f"\n{args.task}; {args.threads} thread(s), {args.rounds} interleaved rounds; {machine('cpu')}")


if __name__ == "__main__":
    main()
