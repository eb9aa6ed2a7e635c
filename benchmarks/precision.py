"""Processor time of exported files, one thread: python benchmarks/precision.py 1x3x224x224 model.onnx model-int8.onnx

Processor time, not the clock's: other programs on the machine then do not count. The files take turns.
"""

import sys
import time
from pathlib import Path

import numpy as np

from fishnet.runtime.engines import open_engine

RUNS = 21


def main(shape: str, files: list[str]) -> None:
    batch = np.random.default_rng(0).standard_normal([int(side) for side in shape.split("x")], dtype=np.float32)
    engines = [open_engine(file, threads=1) for file in files]
    times: list[list[float]] = [[] for _ in files]
    for engine in engines:
        engine(batch)
    for _ in range(RUNS):
        for engine, engine_times in zip(engines, times, strict=True):
            start = time.process_time()
            engine(batch)
            engine_times.append(1e3 * (time.process_time() - start))
    for file, engine_times in zip(files, times, strict=True):
        path = Path(file)
        size = (path.with_suffix(".bin") if path.suffix == ".xml" else path).stat().st_size  # where the weights are
        print(f"{file}: {size / 1e6:.2f} MB, median {np.median(engine_times):.1f} ms, least {min(engine_times):.1f} ms")


main(sys.argv[1], sys.argv[2:])
