"""On a GPU: the tests of tests/devices, then training and inference of FishNets, pytorchcv's FishNet-99 and ResNet-50.

    python benchmarks/gpu.py                       # a GPU, about 8 minutes
    python benchmarks/gpu.py --device cpu --batch 8 --size 64 --seconds 1 --networks fishnet_nano resnet50

After ``--minutes`` nothing new begins, and what has not been measured is named. Each network trains (forward,
cross-entropy, backward, SGD with momentum) and predicts on random images, in float32 with TF32 and in bf16, channels
last in memory; ``pytorchcv`` as it is built. ``compiled`` is torch.compile in bf16. The table has the medians of some
rounds. A batch that does not fit into the memory is halved until it does, and the table has its size. pytorchcv is left
out if it is not installed.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

ROUNDS = 5
MODES = ("fp32", "bf16", "compiled")


@dataclass
class Row:
    """A network in one mode, training or predicting.

    Attributes:
        network, mode, training: what it is.
        batch: images of a step.
        step: makes a step.
        rates: images/s of each round.
        memory: the largest memory of a step, bytes.
    """

    network: str
    mode: str
    training: bool
    batch: int
    step: Callable[[], None]
    rates: list[float] = field(default_factory=list)
    memory: int = 0


def build(network: str) -> nn.Module:
    """A network by its name in timm's registry, or ``pytorchcv:NAME``."""
    torch.manual_seed(0)
    if network.startswith("pytorchcv:"):
        from pytorchcv.model_provider import get_model

        built: nn.Module = get_model(network.partition(":")[2])
        return built
    from fishnet.backbone.registry import create_model

    return create_model(network)


def make_step(network: str, mode: str, training: bool, batch: int, args: argparse.Namespace) -> Callable[[], None]:
    """A step of training or prediction on one random batch."""
    layout = torch.contiguous_format if network.startswith("pytorchcv:") else torch.channels_last
    model: Any = build(network).to(args.device, memory_format=layout).train(training)
    images = torch.randn(batch, 3, args.size, args.size, device=args.device).contiguous(memory_format=layout)
    labels = torch.randint(1000, (batch,), device=args.device)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    called = torch.compile(model) if mode == "compiled" else model
    autocast = torch.autocast(args.device, torch.bfloat16, enabled=mode != "fp32")

    def train() -> None:
        with autocast:
            loss = F.cross_entropy(called(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    @torch.no_grad()
    def predict() -> None:
        with autocast:
            called(images)

    return train if training else predict


def wait(device: str) -> None:
    """Waits until the device has computed everything."""
    if device == "cuda":
        torch.cuda.synchronize()


def prepare(network: str, mode: str, training: bool, args: argparse.Namespace) -> Row | str:
    """The row, or why there is none."""
    batch = args.batch
    while batch:
        try:
            step = make_step(network, mode, training, batch, args)
            step()
            wait(args.device)
        except torch.OutOfMemoryError:
            batch //= 2
            torch.cuda.empty_cache()
            continue
        except ModuleNotFoundError as error:
            return f"{error.name} is not installed"
        except Exception as error:  # the other networks are still measured
            return f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
        return Row(network, mode, training, batch, step)
    return "not even one image fits into the memory"


def measure(row: Row, args: argparse.Namespace) -> None:
    """A round: as many steps as take some seconds."""
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    row.step()
    wait(args.device)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds:
        row.step()
        steps += 1
        if steps % 4 == 0:
            wait(args.device)  # or the queue would run ahead of the clock
    wait(args.device)
    row.rates.append(steps * row.batch / (time.perf_counter() - start))
    if args.device == "cuda":
        row.memory = torch.cuda.max_memory_allocated()


def run_tests(minutes: float) -> str:
    """Runs the tests of the device, and returns pytest's last line."""
    folder = Path(__file__).resolve().parents[1]
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/devices", "-p", "no:cacheprovider"]
    try:
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60 * minutes, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {minutes:.1f} minutes"
    failed = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return "\n".join([*failed, (ended.stdout.strip() or ended.stderr.strip()).splitlines()[-1]])


def table(rows: list[Row]) -> str:
    """Median images/s of each row, with quartiles, and the largest memory."""
    lines = [
        "| network | step | mode | batch | lower quartile, images/s | median | upper quartile | memory, MB |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        low, middle, high = statistics.quantiles(row.rates, n=4) if len(row.rates) > 1 else row.rates * 3
        memory = f"{row.memory / 1e6:.0f}" if row.memory else "-"
        lines.append(
            f"| {row.network} | {'train' if row.training else 'predict'} | {row.mode} | {row.batch} "
            f"| {low:.1f} | {middle:.1f} | {high:.1f} | {memory} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    networks = ["fishnet99", "fishnet150", "pytorchcv:fishnet99", "resnet50"]
    parser.add_argument("--networks", nargs="+", default=networks)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=2, help="of a round of a network")
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing new begins")
    args = parser.parse_args()
    start = time.perf_counter()
    if args.device == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit("no CUDA GPU here: --device cpu tries the script")
        print(f"tests: {run_tests(args.minutes / 2)}\n", flush=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    rows: list[Row] = []
    cases = [
        (network, mode, training) for mode in args.modes for network in args.networks for training in (True, False)
    ]
    for network, mode, training in cases:
        name = f"{network} {'train' if training else 'predict'} {mode}"
        if time.perf_counter() - start > 60 * args.minutes:
            print(f"not measured, no time left: {name}")
            continue
        row = prepare(network, mode, training, args)
        if isinstance(row, str):
            print(f"left out: {name}: {row}")
            continue
        for _ in range(ROUNDS):  # of one network after the other: not all of them fit into the memory at once
            measure(row, args)
        row.step = _nothing
        rows.append(row)
        if args.device == "cuda":
            torch.cuda.empty_cache()
    print(f"\n{table(rows)}")
    place = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"\n{args.size} px, {ROUNDS} rounds of {args.seconds:g} s; {place}, torch {torch.__version__}")


def _nothing() -> None:
    """Takes the place of a step whose network is no longer needed."""


if __name__ == "__main__":
    main()
