"""What the benchmarks of trainings share: one CSV row a run, a command that goes on where it stopped, and a table."""

import csv
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "timm", "numpy")
CONDITIONS = ("fishnet", *PACKAGES, "python", "machine", "load_average", "finished")


def fishnet(*words: object) -> float:
    """Runs a command of ``fishnet``; its seconds."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "fishnet", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


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
    is_new = not file.is_file()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


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
