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
    precision: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    task: str | None = None,
    head: Annotated[str, Parameter(show_default=False)] = "default",
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
    """Measure how fast models run on this machine's CPU, by engine.

    Each model and engine runs in its own process, and the processes take turns, so that background load affects all of
    them equally. Besides times, the table shows peak memory, multiply-accumulates (MACs), and the fraction of the speed
    that this CPU reaches in float32 matrix products. Engines that are not installed or cannot run a model are named and
    left out.

    Parameters
    ----------
    model
        Names of networks, or bundles. Default: fishnet99.
    engine
        One or more engines, comma-separated: eager, channels_last, folded (channels_last with batch norms folded into
        convolutions), packed (folded with weights in oneDNN's own layout), compile (torch.compile), onnx, openvino, or
        pytorchcv (its network of the same name). Default: eager,channels_last,folded,packed,onnx.
    precision
        One or more precisions to compute in, comma-separated: fp32, bf16 and int8. Each engine is measured in each;
        combinations that this machine cannot run are left out. int8 is for onnx and openvino. Default: fp32.
    task
        Task of the networks given by name; a bundle has its own. Default: classify.
    head
        Task head of the networks given by name. Default: the task's first.
    size
        Side of the input, px. Default: 224 for classifiers, or the bundle's own; 640 for detectors and segmenters.
    batch
        Batch size.
    threads
        Threads of every engine. Default: the number of CPU cores.
    rounds
        Number of measured rounds.
    warm_up
        Number of rounds before these, which are not measured.
    baseline
        Engine to compare the others with. Default: the first row.
    out
        Folder for results.json and benchmark.png. Default: nothing is written.
    quiet
        Show no progress bar.
    as_json
        Print one JSON object.
    """
    from fishnet.analysis.benchmark.plan import Plan, names_of
    from fishnet.analysis.benchmark.run import benchmark as measure
    from fishnet.cli.progress import bar

    plan = Plan(
        tuple(model or ("fishnet99",)), Plan.engines if engine is None else names_of(engine), task, head, size, batch,
        (os.cpu_count() or 1) if threads is None else threads, rounds, warm_up, baseline,
        Plan.precisions if precision is None else names_of(precision),
    )  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # before the work, so that an unwritable folder is an early error
    with bar("measuring", show=not (quiet or as_json)) as step:
        result = measure(plan, step)
    for line in result.left_out:
        print(f"fishnet: left out: {line}", file=sys.stderr)
    files = result.write(out) if out is not None else []
    if as_json:
        print(json.dumps({**result.to_dict(), "files": [str(file) for file in files]}, allow_nan=False))
        return
    print("\n".join(result.lines()))
    if files:
        print(f"\nsaved in {out}: {', '.join(file.name for file in files)}")
