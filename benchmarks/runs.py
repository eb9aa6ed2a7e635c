"""What the benchmarks of trainings share: one CSV row a run, a command that goes on where it stopped, and a table."""

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "numpy")
CONDITIONS = ("fishnet", *PACKAGES, "python", "machine", "load_average", "finished")


def fishnet(*words: object, register: str = "") -> float:
    """Runs a command of ``fishnet``; its seconds.

    Args:
        *words: the command line.
        register: a module of this folder to import before, which registers networks.
    """
    start = time.perf_counter()
    module = f"import {register or 'fishnet'}, runpy; runpy.run_module('fishnet', run_name='__main__', alter_sys=True)"
    folders = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", module, *map(str, words)], check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": folders},
    )  # fmt: skip
    return time.perf_counter() - start


def train(folder: Path, *words: object, register: str = "") -> float | None:
    """Runs ``fishnet train``, or goes on with the training that was begun in a folder.

    Returns:
        The processor seconds of the training and its reading processes; None if it was interrupted before.
    """
    is_new = not (folder / "checkpoints" / "last.ckpt").is_file()
    if is_new:
        shutil.rmtree(folder, ignore_errors=True)
    command = [*words[:2], *(words[2:] if is_new else ()), "--out" if is_new else "--resume", folder, "--quiet"]
    before = os.times()
    fishnet("train", *command, register=register)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds if is_new else None


def epochs_in(minutes: float, kept: Path, train_for: Callable[[int, Path], float]) -> int:
    """How many epochs of a training last so long, with everything before and after them; measured once, with 1 and 2.

    Args:
        minutes: of the processor.
        kept: a JSON file that keeps the number.
        train_for: trains that many epochs into a new folder; its seconds.
    """
    if not kept.is_file():
        folder = kept.with_suffix(".timed")
        once, twice = (train_for(epochs, folder) for epochs in (1, 2))
        shutil.rmtree(folder)
        epochs = max(1, round((60 * minutes - once) / max(twice - once, 1e-3) + 1))
        kept.write_text(json.dumps({"epochs": epochs, "seconds": [once, twice]}))
    return int(json.loads(kept.read_text())["epochs"])


def arguments(doc: str | None, csv: str) -> argparse.ArgumentParser:
    """The arguments of a benchmark that trains: data, out, --device, --share and --table."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?", help=f"folder of the trainings and of {csv}")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--share", default="1/1", help="NUMBER/COUNT of the processes that share the runs")
    parser.add_argument("--table", type=Path, help="print the table of a CSV file, and train nothing")
    return parser


def parsed(parser: argparse.ArgumentParser, *needed: str) -> argparse.Namespace:
    """The arguments of :func:`arguments`; makes the folder of the trainings.

    Args:
        parser: with further arguments, if there are any.
        *needed: names of further arguments that a training needs.
    """
    args = parser.parse_args()
    if args.table is None:
        if missing := [name for name in ("data", "out", *needed) if getattr(args, name) is None]:
            parser.error(f"a training needs {', '.join(missing)}")
        args.out.mkdir(parents=True, exist_ok=True)
    return args


def unfinished(
    plan: Iterable[tuple[Any, ...]], keys: Sequence[str], file: Path, settings: dict[str, str], share: str
) -> Iterator[tuple[Any, ...]]:
    """The runs of a plan that have no row yet and are this process's.

    Args:
        plan: the runs, as values of ``keys``.
        keys: the columns that tell runs apart.
        file: the CSV file.
        settings: what all rows have in common.
        share: NUMBER/COUNT of the processes that share the work, from 1.
    """
    mine, count = map(int, share.split("/"))
    for number, run in enumerate(plan):
        done = {tuple(row[key] for key in keys) for row in rows_of(file, settings)}
        if number % count == mine - 1 and tuple(map(str, run)) not in done:
            yield run


def conditions(device: str) -> dict[str, str]:
    """Versions, machine, load and time, for a row."""
    return {
        "fishnet": version("fishnet-vision"),
        **{name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": machine(device),
        "load_average": f"{os.getloadavg()[0]:.1f}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine(device: str) -> str:
    """The processor, its cores and vector units, and the GPU if one is used."""
    import torch

    from fishnet.analysis.benchmark.machine import facts, load

    found = facts(load())
    text = f"{found['cpu']}, {found['cores']} cores, {found['vectors']}"
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return f"{text}, {torch.cuda.get_device_name()}" if on_gpu else text


def rows_of(file: Path, settings: dict[str, str]) -> list[dict[str, str]]:
    """The rows that were written before."""
    if not file.is_file():
        return []
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        if changed := [f"{name}: {row[name]}" for name, value in settings.items() if row[name] != value]:
            raise SystemExit(f"{file} has rows with other settings ({', '.join(changed)}): choose another folder")
    return rows


def append(file: Path, row: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Adds a row, with the names of the columns above the first one."""
    with suppress(FileExistsError), file.open("x", newline="") as stream:  # another process may begin it, too
        csv.DictWriter(stream, columns).writeheader()
    with file.open("a", newline="") as stream:
        csv.DictWriter(stream, columns).writerow(row)


def link(source: Path, target: Path) -> None:
    """Gives a file another name, or copies it where the file system has no hard links; makes the target's folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def mean_and_spread(values: Sequence[float]) -> str:
    """The mean, and the sample standard deviation of two values or more."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"
