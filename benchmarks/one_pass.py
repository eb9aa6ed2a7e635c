"""Three heads on one trunk in one pass, against the heaviest model alone and against three models in sequence.

    python benchmarks/one_pass.py run one_pass.csv
    python benchmarks/one_pass.py table one_pass.csv --png one_pass.png

Heads by their defaults: classify, detect (two configurations: Faster R-CNN and RetinaNet) and segment. Random weights:
the models with one head have the weights of the model with three, and detectors keep their 100 best objects whatever
their scores, so that all do the same work. One image of 640 x 640 px, float32, on the CPU: eager in channels last, and
the file that ``fishnet export`` writes under onnxruntime.

Every model lives in a process of its own, and the processes of a backbone and a detector take turns: each runs once a
round, whichever the engine. A row is one turn: what was measured, its seconds, the largest resident set of its process
in bytes, the machine and the versions. A run that is repeated goes on after the last complete round of the same
settings, machine and versions. ``sequence`` is one process with all three models, which run one after the other.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from turns import Child

from fishnet.analysis.benchmark import machine
from fishnet.analysis.benchmark.child import peak_memory

HEADS = ("classify", "detect", "segment")
ONE_PASS, SEQUENCE = "one pass", "sequence"
MODELS = (ONE_PASS, *HEADS, SEQUENCE)
BACKBONES, DETECTORS, ENGINES = ("fishnet_small", "fishnet99"), ("faster-rcnn", "retinanet"), ("channels_last", "onnx")
WARM_UP = 2  # rounds of each run that are not kept
SLOWER, FASTER = 1.35, 1.8  # at most so much slower than the heaviest model, and at least so much faster than all three
SETTINGS = ("backbone", "detector", "size", "threads", "cpu", "cores", "system", "python", "fishnet-vision", "torch",
            "onnxruntime")  # fmt: skip
COLUMNS = ("date", *SETTINGS, "engine", "model", "round", "seconds", "peak_bytes", "load_average")


def configs(detector: str) -> dict[str, Any]:
    """The heads. With two stages, the scores of many random classes would all go to NMS: one class."""
    from fishnet.bundle.bundle import HeadConfig
    from fishnet.bundle.classes import Classes

    def classes(count: int) -> Classes:
        return Classes.of(map(str, range(count)))

    return {
        "classify": HeadConfig("classify", classes(1000)),
        "detect": HeadConfig(
            "detect", classes(1 if detector == "faster-rcnn" else 80), detector, {"score_threshold": 0.0}
        ),
        "segment": HeadConfig("segment", classes(21), "body"),
    }


def build(backbone: str, detector: str, name: str, size: int) -> tuple[Any, Any]:
    """The bundle's config and the model, in evaluation mode: with all heads, or with one and the same weights."""
    import torch

    from fishnet.backbone.registry import any_size_args
    from fishnet.bundle.bundle import Bundle
    from fishnet.images.preprocess import Preprocess
    from fishnet.tasks.store import build_from

    heads = configs(detector)
    preprocess = Preprocess((size, size), fit="whole")
    bundle = Bundle(backbone, heads, preprocess, backbone_args=any_size_args(backbone))
    torch.manual_seed(0)
    model = build_from(bundle)
    if name == ONE_PASS:
        return bundle, model.eval()
    single = Bundle(backbone, {name: heads[name]}, preprocess, backbone_args=bundle.backbone_args)
    alone, state = build_from(single), model.state_dict()
    alone.load_state_dict({key: state[key] for key in alone.state_dict()})
    return single, alone.eval()


def parts(name: str) -> tuple[str, ...]:
    """The models that a process runs."""
    return HEADS if name == SEQUENCE else (name,)


def file_of(folder: Path, backbone: str, detector: str, name: str) -> Path:
    """The exported file of a model. What is exported does not depend on the size of the image."""
    kind = f"-{detector}" if name in (ONE_PASS, "detect") else ""
    return folder / f"{backbone}-{name.replace(' ', '-')}{kind}.onnx"


def step_of(job: dict[str, Any]) -> Callable[[], None]:
    """What a process does in a turn."""
    from fishnet.analysis.benchmark.plan import Subject

    size, threads = job["size"], job["threads"]
    images = Subject(job["backbone"], "classify", "default", size, size, 3, 1).images()
    if job["engine"] == "onnx":
        from fishnet.runtime.engines import open_engine

        files = [file_of(Path(job["files"]), job["backbone"], job["detector"], name) for name in parts(job["model"])]
        engines = [open_engine(file, threads=threads) for file in files]

        def run_files() -> None:
            for engine in engines:
                engine(images)

        return run_files
    import torch

    torch.set_num_threads(threads)
    models = [build(job["backbone"], job["detector"], name, size)[1] for name in parts(job["model"])]
    models = [model.to(memory_format=torch.channels_last) for model in models]
    batch = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)

    def run_models() -> None:
        with torch.inference_mode():
            for model in models:
                model(batch)

    return run_models


def serve(job: dict[str, Any]) -> None:
    """Runs once for every line of standard input. It imports torch only where the engine is torch's."""
    step = step_of(job)
    for _ in sys.stdin:
        start, own = time.perf_counter(), time.process_time()
        step()
        seconds = [time.perf_counter() - start, time.process_time() - own]
        print(json.dumps({"seconds": seconds, "peak": peak_memory()}), flush=True)


def export(job: dict[str, Any]) -> None:
    """Writes the files of a backbone and a detector that are not there yet."""
    from fishnet.exporting.graphs import write_onnx

    for name in (ONE_PASS, *HEADS):
        path = file_of(Path(job["files"]), job["backbone"], job["detector"], name)
        if not path.exists():
            bundle, model = build(job["backbone"], job["detector"], name, job["size"])
            unfinished = path.with_suffix(".partial.onnx")
            write_onnx(model, bundle, unfinished)
            unfinished.replace(path)


def read(path: Path) -> list[dict[str, str]]:
    """The rows that were measured before."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rounds_of(rows: Sequence[dict[str, str]], settings: dict[str, Any], engines: Sequence[str]) -> int:
    """How many complete rounds with these settings were measured before."""
    wanted = {key: str(value) for key, value in settings.items()}
    seen: dict[int, set[tuple[str, str]]] = defaultdict(set)
    for row in rows:
        if all(row[key] == value for key, value in wanted.items()):
            seen[int(row["round"])].add((row["engine"], row["model"]))
    complete = {(engine, model) for engine in engines for model in MODELS}
    return next(number for number in range(len(seen) + 1) if not complete <= seen.get(number, set()))


def measure(path: Path, settings: dict[str, Any], engines: Sequence[str], rounds: int, files: Path) -> None:
    """Measures the rounds of a backbone and a detector that are still missing, and appends their rows."""
    first = rounds_of(read(path), settings, engines)
    title = f"{settings['backbone']}, {settings['detector']}, {settings['size']} px"
    if first >= rounds:
        print(f"{title}: {first} rounds measured before", flush=True)
        return
    job = {key: settings[key] for key in ("backbone", "detector", "size", "threads")} | {"files": str(files)}
    if "onnx" in engines:
        subprocess.run([sys.executable, __file__, "export", json.dumps(job)], check=True)
    kinds = [(engine, model) for engine in engines for model in MODELS]
    children = [
        Child(
            __file__, ["serve", json.dumps({**job, "engine": engine, "model": model})], settings["threads"],
            f"{title}, {engine}, {model}",
        )
        for engine, model in kinds
    ]  # fmt: skip
    is_new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        for number in range(first - WARM_UP, rounds):
            for (engine, model), child in zip(kinds, children, strict=True):
                answer = child.step()
                if number >= first:
                    writer.writerow({
                        **settings, "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "engine": engine,
                        "model": model, "round": number, "seconds": answer["seconds"][0],
                        "peak_bytes": answer["peak"], "load_average": machine.load(),
                    })  # fmt: skip
            file.flush()
            print(f"{title}: round {max(0, number + 1)} of {rounds}", flush=True)
    for child in children:
        child.process.communicate("")


def run(args: argparse.Namespace) -> None:
    """Measures everything that is missing."""
    facts = machine.facts(machine.load())
    versions = {name: facts["versions"].get(name, "") for name in ("python", "fishnet-vision", "torch", "onnxruntime")}
    files = args.csv.with_name(f"{args.csv.stem}-files")
    files.mkdir(parents=True, exist_ok=True)
    for backbone in args.backbones:
        for detector in args.detectors:
            settings = {
                "backbone": backbone, "detector": detector, "size": args.size, "threads": args.threads,
                **{key: facts[key] for key in ("cpu", "cores", "system")}, **versions,
            }  # fmt: skip
            measure(args.csv, settings, args.engines, args.rounds, files)


Measured = dict[str, tuple[dict[int, float], int]]
"""Model -> its seconds by round, and its peak memory in bytes."""


def groups(rows: Sequence[dict[str, str]]) -> dict[tuple[str, ...], Measured]:
    """(settings, engine) -> what was measured, of groups with all models."""
    found: dict[tuple[str, ...], Measured] = defaultdict(dict)
    for row in rows:
        group = found[tuple(row[key] for key in (*SETTINGS, "engine"))]
        seconds, peak = group.setdefault(row["model"], ({}, 0))
        seconds[int(row["round"])] = float(row["seconds"])
        group[row["model"]] = seconds, max(peak, int(row["peak_bytes"] or 0))
    return {key: group for key, group in found.items() if set(group) == set(MODELS)}


def ratios(group: Measured) -> tuple[str, float, float]:
    """The heaviest model with one head, and the medians over rounds of one pass / heaviest and sequence / one pass."""
    heaviest = max(HEADS, key=lambda name: statistics.median(group[name][0].values()))
    one, alone, sequence = (group[name][0] for name in (ONE_PASS, heaviest, SEQUENCE))
    rounds = one.keys() & alone.keys() & sequence.keys()
    return (
        heaviest,
        statistics.median(one[number] / alone[number] for number in rounds),
        statistics.median(sequence[number] / one[number] for number in rounds),
    )


def table(args: argparse.Namespace) -> None:
    """Prints a table in Markdown and, if asked, draws it."""
    import numpy as np

    found = groups(read(args.csv))
    if not found:
        raise SystemExit(f"{args.csv}: no complete round: run it first")
    print("| backbone, detector, engine | model | ms, median | quartiles | peak memory, MB |")
    print("|---|---|---:|---:|---:|")
    for key, group in found.items():
        title = f"{key[0]}, {key[1]}, {key[-1].replace('_', ' ')}"
        for model in MODELS:
            seconds, peak = group[model]
            low, middle, high = 1e3 * np.quantile(list(seconds.values()), (0.25, 0.5, 0.75))
            print(f"| {title} | {model} | {middle:.1f} | {low:.1f}-{high:.1f} | {peak / 1e6:.0f} |")
    print("\n| backbone, detector, engine | heaviest alone | one pass / heaviest | sequence / one pass | px | rounds |")
    print("|---|---|---:|---:|---:|---:|")
    for key, group in found.items():
        heaviest, slower, faster = ratios(group)
        marks = ("" if good else " (missed)" for good in (slower <= SLOWER, faster >= FASTER))
        print(
            f"| {key[0]}, {key[1]}, {key[-1].replace('_', ' ')} | {heaviest} | {slower:.2f}{next(marks)} "
            f"| {faster:.2f}{next(marks)} | {key[2]} | {len(group[ONE_PASS][0])} |"
        )
    print(f"\nTargets: at most {SLOWER} times the heaviest alone, at least {FASTER} times as fast as the sequence.")
    for line in dict.fromkeys(
        ", ".join(f"{n} {v}" for n, v in zip(SETTINGS[3:], key[3:], strict=False)) for key in found
    ):
        print(line)
    print("Float32, CPU; median of the rounds' ratios; MB = 10**6 bytes.")
    if args.png:
        draw(found, args.png)


def draw(found: dict[tuple[str, ...], Measured], path: Path) -> None:
    """Bars of ms per image: one pass, the heaviest model alone, and the sequence."""
    import numpy as np
    from matplotlib.figure import Figure

    names = [f"{key[0]}\n{key[1]}\n{key[-1].replace('_', ' ')}" for key in found]
    figure = Figure(figsize=(2 + 1.7 * len(names), 5), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(names))
    for offset, model, colour in ((-0.3, ONE_PASS, "#4895ef"), (0.3, SEQUENCE, "#adb5bd")):
        spread = np.array([np.quantile(list(group[model][0].values()), (0.25, 0.5, 0.75)) for group in found.values()])
        low, middle, high = 1e3 * spread.T
        axis.bar(
            places + offset, middle, 0.28, color=colour, label=model, yerr=[middle - low, high - middle], capsize=3
        )
    heaviest = [ratios(group)[0] for group in found.values()]
    middles = [
        1e3 * statistics.median(group[name][0].values()) for group, name in zip(found.values(), heaviest, strict=True)
    ]
    axis.bar(places, middles, 0.28, color="#f4a261", label="heaviest alone")
    axis.set_xticks(places, names)
    axis.set_ylabel("ms per image, median and quartiles (lower is better)")
    axis.legend()
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    figure.savefig(path, dpi=110)
    print(f"saved {path}")


def main() -> None:
    if sys.argv[1:2] in (["serve"], ["export"]):
        {"serve": serve, "export": export}[sys.argv[1]](json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    measuring = commands.add_parser("run", help="measure what is missing, and append it")
    measuring.add_argument("csv", type=Path)
    measuring.add_argument("--backbones", nargs="+", default=BACKBONES)
    measuring.add_argument("--detectors", nargs="+", default=DETECTORS)
    measuring.add_argument("--engines", nargs="+", default=ENGINES, choices=ENGINES)
    measuring.add_argument("--size", type=int, default=640, help="side of the image, px, a multiple of 32")
    measuring.add_argument("--rounds", type=int, default=11, help=f"after {WARM_UP} in each run that are not kept")
    measuring.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    measuring.set_defaults(command=run)
    printing = commands.add_parser("table", help="print what was measured")
    printing.add_argument("csv", type=Path)
    printing.add_argument("--png", type=Path)
    printing.set_defaults(command=table)
    args = parser.parse_args()
    args.command(args)


if __name__ == "__main__":
    main()
