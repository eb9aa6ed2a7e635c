"""Predicting on many photos: images per second of the whole command against those of the network alone, and memory.

    python benchmarks/predict_files.py fishnet99 PHOTOS --source before=../before/src --source now=src
    python benchmarks/predict_files.py fishnet99 PHOTOS --to openvino --precision bf16 --count 1000

PHOTOS is any folder of photos. Each is resized to 1 MP (1152 x 864 px or upright) and saved as JPEG of quality 90, with
some noise so that files have the size of a camera's; they repeat until there are ``--count``. A network by name gets
random weights and 1,000 classes, and is exported. A turn predicts on ``--turn`` of the files with
``Predictor.stream``, as ``fishnet predict`` does, and writes predictions.jsonl. The row ``network alone`` runs the same
engine on as many inputs of as many batches that are already in memory. Rows take turns, each in a process of its own.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs import machine
from turns import Child, serve

WARM_UP = 1  # turns that are not timed
SIDES = 1152, 864  # px


def make_photos(source: Path, target: Path, count: int) -> None:
    """Writes that many photos of 1 MP."""
    import numpy as np
    from PIL import Image

    suffixes = (".jpg", ".jpeg", ".png")
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in suffixes)[:100]
    if not files:
        raise SystemExit(f"{source}: no photos")
    contents: list[Path] = []
    for number, file in enumerate(files[:count]):
        with Image.open(file) as photo:
            size = SIDES if photo.width >= photo.height else SIDES[::-1]
            pixels = np.asarray(photo.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.int16)
        noise = np.random.default_rng(number).normal(0, 6, (*pixels.shape[:2], 1)).astype(np.int16)
        contents.append(target / f"{number:05}.jpg")
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(contents[-1], quality=90)
    for number in range(len(contents), count):
        os.link(contents[number % len(contents)], target / f"{number:05}.jpg")


def export(model: str, to: str, folder: Path) -> Path:
    """Exports a bundle or a network by name."""
    from fishnet.analysis.benchmark.plan import Plan, make_subject
    from fishnet.exporting.graphs import write_onnx, write_openvino

    bundle, net = make_subject(model, Plan(models=(model,))).build()
    file = folder / "model.onnx"
    exported = write_onnx(net, bundle, file, plain=to == "openvino")
    return file if to == "onnx" else (write_openvino(file, folder / "model.xml", exported), folder / "model.xml")[1]


def step_of(args: argparse.Namespace) -> Callable[[], None]:
    """A turn: predicts on the next of the files, or computes as many inputs."""
    import numpy as np

    from fishnet.prediction.predictor import Predictor
    from fishnet.runtime.engines import open_engine
    from fishnet.runtime.memory import keep_memory

    keep_memory()
    engine = open_engine(args.model, threads=args.threads, precision=args.precision)
    predictor = Predictor(engine.bundle, engine)
    files = sorted(map(str, args.photos.iterdir()))
    if args.alone:
        first = [predictor.preprocess(file) for file in files[: predictor.batch_size]]
        pixels = np.stack([item.pixels for item in first])

        def compute() -> None:
            for start in range(0, args.turn, len(pixels)):
                predictor.runner.run(pixels[: args.turn - start])

        return compute
    position = 0

    def predict() -> None:
        nonlocal position
        from fishnet.cli.writers import Writer

        chosen = [files[(position + i) % len(files)] for i in range(args.turn)]
        position += args.turn
        with tempfile.TemporaryDirectory() as out, Writer("jsonl", Path(out), True) as writer:
            for source, result in predictor.stream(chosen):
                writer.add(source, result)  # type: ignore[arg-type]  # all of them can be read

    return predict


def table(rows: list[tuple[str, Child]], peaks: list[list[int]], turn: int) -> str:
    """Images per second, the share of the network's own rate, and the memory after the first and the last turn."""
    alone = statistics.median(wall for wall, _ in rows[0][1].seconds[WARM_UP:])
    lines = [
        "| row | images/s: lower quartile | median | upper quartile | share of the network's rate | cores busy "
        "| largest resident set after the first turn, MB | after the last |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for (label, child), own in zip(rows, peaks, strict=True):
        times = child.seconds[WARM_UP:]
        high, middle, low = statistics.quantiles([wall for wall, _ in times], n=4)
        busy = statistics.median(processor / wall for wall, processor in times)
        lines.append(
            f"| {label} | {turn / low:.1f} | {turn / middle:.1f} | {turn / high:.1f} | {100 * alone / middle:.0f} % "
            f"| {busy:.2f} | {own[0] / 1e6:.0f} | {own[-1] / 1e6:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="a network's name, or a bundle")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--source", action="append", default=[], metavar="NAME=FOLDER", help="a version of src")
    parser.add_argument("--to", choices=["onnx", "openvino"], default="onnx")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--count", type=int, default=1000, help="photos")
    parser.add_argument("--turn", type=int, default=100, help="photos of a turn")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=9, help=f"turns of each row, after {WARM_UP} that are not timed")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(step_of(args))
        return
    here = f"now={Path(__file__).resolve().parents[1] / 'src'}"
    sources = [source.partition("=")[::2] for source in args.source or [here]]
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        make_photos(args.photos, photos, args.count)
        bytes_each = statistics.mean(file.stat().st_size for file in photos.iterdir())
        file = export(args.model, args.to, Path(folder))
        words: list[Any] = [file, photos, "--precision", args.precision, "--turn", args.turn]
        words += ["--threads", args.threads, "--serve"]
        rows = []
        for number, (name, source) in enumerate([sources[-1], *sources]):
            variables = {"PYTHONPATH": os.pathsep.join([source, str(Path(__file__).parent)])}
            alone = ["--alone"] if number == 0 else []
            label = "network alone" if number == 0 else f"files, {name}"
            rows.append((label, Child(__file__, [*words, *alone], args.threads, label, variables)))
        peaks: list[list[int]] = [[] for _ in rows]
        for _ in range(WARM_UP + args.rounds):
            for (_label, child), own in zip(rows, peaks, strict=True):
                own.append(child.step()["peak"])
        for _, child in rows:
            child.process.communicate("")
    print(table(rows, peaks, args.turn))
    print(
        f"\n{args.model}, {args.to}, {args.precision}; {args.count} photos of {SIDES[0]} x {SIDES[1]} px "
        f"({bytes_each / 1e3:.0f} kB), {args.turn} a turn, {args.threads} thread(s), {args.rounds} interleaved rounds; "
        f"{machine('cpu')}"
    )


if __name__ == "__main__":
    main()
