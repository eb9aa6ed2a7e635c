"""What each step gives FishNet-99 at 224 px, one image, in one thread: processor time, in turns.

    python benchmarks/rewriting.py
    python benchmarks/rewriting.py --winograd

Time of the processor and not of the clock, so that other work on the machine counts for little; only one thread,
because threads that wait for each other count too. `fishnet benchmark` measures what users see. `--winograd` compares
the two largest 3x3 convolutions with Winograd's F(2x2, 3x3), written in ONNX operations.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from fishnet.analysis.benchmark.engines import step_of
from fishnet.analysis.benchmark.plan import Plan
from fishnet.exporting.graphs import write_onnx
from fishnet.exporting.layout import stay_blocked
from fishnet.exporting.splitting import split_concatenations

SIDE = 2048
WARM_UP = 2
Step = Callable[[], Any]


def session(model: Any, *entries: tuple[str, str], level: str = "ORT_ENABLE_ALL") -> Any:
    """onnxruntime in one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    for entry in entries:
        options.add_session_config_entry(*entry)
    return ort.InferenceSession(model.SerializeToString(), options)


def steps() -> dict[str, Step]:
    """Everything that is compared."""
    (subject,) = Plan(("fishnet99",), threads=1).subjects()
    named_steps: dict[str, Step] = {"numpy sgemm": step_of("sgemm-numpy", None, 1, None)}
    for engine in ("pytorchcv", "eager", "channels_last", "folded", "packed"):
        named_steps[f"torch: {engine}"] = step_of(engine, subject, 1, None)
    bundle, model = subject.build()
    images = subject.images()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, bundle, path, plain=True)
        plain = onnx.load(str(path))
    split = split_concatenations(plain)
    both = stay_blocked(split)
    for name, one in (
        ("onnx: norms folded", session(plain)),
        ("onnx: and kept in the layout", session(stay_blocked(plain))),
        ("onnx: folded, concatenations split", session(split)),
        ("onnx: split and kept in the layout", session(both)),
        ("onnx: the same, denormals as zero", session(both, ("session.set_denormal_as_zero", "1"))),
        ("onnx: the same, without blocks", session(both, level="ORT_ENABLE_EXTENDED")),
    ):
        named_steps[name] = lambda one=one: one.run(None, {"image": images})  # type: ignore[misc]
    return named_steps


def winograd(channels: int, side: int) -> dict[str, Step]:
    """A 3x3 convolution, directly and by Winograd; both in onnxruntime."""
    weights = np.random.default_rng(0).standard_normal((channels, channels, 3, 3), np.float32)
    image = np.random.default_rng(1).standard_normal((1, channels, side, side), np.float32)
    b = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
    a = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
    tiles = side // 2
    constants = {
        "inner": np.einsum("ia,jb->ijab", b, b).reshape(16, 1, 4, 4),
        "weights": np.einsum("ij,ocjk,lk->iloc", g, weights, g).reshape(16, channels, channels),
        "outer": np.einsum("pi,qj->pqij", a, a).reshape(4, 16),
        "single": np.array([channels, 1, side, side]),
        "tiles": np.array([channels, 16, tiles**2]),
        "flat": np.array([16, channels * tiles**2]),
        "four": np.array([2, 2, channels, tiles, tiles]),
        "map": np.array([1, channels, side, side]),
    }
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "single"], ["1"]),
        node("Conv", ["1", "inner"], ["2"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Reshape", ["2", "tiles"], ["3"]),
        node("Transpose", ["3"], ["4"], perm=[1, 0, 2]),
        node("MatMul", ["weights", "4"], ["5"]),
        node("Reshape", ["5", "flat"], ["6"]),
        node("MatMul", ["outer", "6"], ["7"]),
        node("Reshape", ["7", "four"], ["8"]),
        node("Transpose", ["8"], ["9"], perm=[2, 3, 0, 4, 1]),
        node("Reshape", ["9", "map"], ["y"]),
    ]
    direct = [node("Conv", ["x", "direct"], ["y"], pads=[1, 1, 1, 1])]
    runs: list[Any] = [session(_graph(direct, {"direct": weights}, image)), session(_graph(nodes, constants, image))]
    outputs = [run.run(None, {"x": image})[0] for run in runs]
    print(f"{channels} channels, {side} px: differ by {np.abs(outputs[0] - outputs[1]).max() / np.ptp(outputs[0]):.1e}")
    return {
        f"{name}, {channels} channels, {side} px": lambda run=run: run.run(None, {"x": image})  # type: ignore[misc]
        for name, run in zip(("direct", "Winograd"), runs, strict=True)
    }


def _graph(nodes: list[Any], constants: dict[str, Any], image: Any) -> Any:
    values = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, image.shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "one", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help=f"after {WARM_UP} that are not counted")
    parser.add_argument("--winograd", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    named_steps = {**winograd(208, 28), **winograd(400, 14)} if args.winograd else steps()
    taken: dict[str, list[float]] = {name: [] for name in named_steps}
    for _ in range(WARM_UP + args.rounds):
        for name, step in named_steps.items():
            start = time.process_time()
            step()
            taken[name].append(time.process_time() - start)
    print("| step | processor time, ms: median | lower quartile | minimum |\n|---|---:|---:|---:|")
    for name, seconds in taken.items():
        values = sorted(1e3 * value for value in seconds[WARM_UP:])
        print(f"| {name} | {statistics.median(values):.1f} | {values[len(values) // 4]:.1f} | {values[0]:.1f} |")


if __name__ == "__main__":
    main()
