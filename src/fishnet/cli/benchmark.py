"""``fishnet benchmark``."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def benchmark(
    *,
    model: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    engine: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    task: str | None = None,
    head: str = "default",
    size: int | None = None,
    batch: int = 1,
    threads: int | None = None,
    rounds: int = 21,
    warm_up: int = 3,
    baseline: str | None = None,
    out: Path | None = None,
    quiet: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
) -> None:
    """How fast models are on this machine's processor, by every engine that runs them.

    Each model and engine has a process of its own, and the processes take turns: whatever slows the machine slows all.
    Besides times: peak memory, multiply-accumulates, and the share of what this processor reaches in plain float32
    matrix products in the same rounds. An engine that is not installed or cannot run a model is named and left out.

    Parameters
    ----------
    model
        Networks' names or bundles. Default: fishnet99.
    engine
        One or more, with commas between: eager, channels_last, folded (that, and batch norms in the convolutions),
        packed (that, and weights in the library's own order), compile, onnx, openvino, pytorchcv (its network of the
        same name). Default: eager,channels_last,folded,packed,onnx.
    task
        What networks given by name are measured at: a bundle has its own task. Default: classify.
    head
        Task head of networks given by name. Default: the task's first.
    size
        Side of the input, px. Default: 224, with objects or label maps 640; a classifier's bundle has its own.
    batch
        Images at once.
    threads
        Of every engine. Default: the machine's cores.
    rounds
        Turns of each that count.
    warm_up
        Turns before these, which do not.
    baseline
        Engine that the others are compared with. Default: the first row.
    out
        Folder for results.json and benchmark.png. Default: nothing is written.
    quiet
        No progress bar.
    as_json
        Print one JSON object.
    """
    from fishnet.analysis.benchmark.plan import Plan, engines_of
    from fishnet.analysis.benchmark.run import benchmark as measure
    from fishnet.cli.progress import bar

    plan = Plan(
        tuple(model or ("fishnet99",)), Plan.engines if engine is None else engines_of(engine), task, head, size, batch,
        (os.cpu_count() or 1) if threads is None else threads, rounds, warm_up, baseline,
    )  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is found before the work
    with bar("measuring", show=not (quiet or as_json)) as step:
        found = measure(plan, step)
    for line in found.left_out:
        print(f"fishnet: left out: {line}", file=sys.stderr)
    files = found.write(out) if out is not None else []
    if as_json:
        print(json.dumps({**found.to_dict(), "files": [str(file) for file in files]}, allow_nan=False))
        return
    print("\n".join(found.lines()))
    if files:
        print(f"\nsaved in {out}: {', '.join(file.name for file in files)}")
