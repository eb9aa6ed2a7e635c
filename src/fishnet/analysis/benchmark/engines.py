"""The step that is timed: one pass of a model by an engine. Everything here runs in the process of that engine."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fishnet.analysis.benchmark.plan import EXPORTED, Subject
from fishnet.errors import InputError
from fishnet.tasks.info import task_info

Step = Callable[[], Any]
PEAKS = ("sgemm-numpy", "sgemm-torch")
SIDE = 2048  # of the square matrices for measuring the machine's peak
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def environment(threads: int) -> dict[str, str]:
    """Returns an environment in which a process's libraries compute with the given number of threads."""
    return {**os.environ, **dict.fromkeys(THREADS, str(threads))}


def step_of(engine: str, subject: Subject | None, threads: int, file: str | None, precision: str = "fp32") -> Step:
    """Returns a function that runs one pass.

    Args:
        engine: one of :data:`~fishnet.analysis.benchmark.plan.ENGINES` or :data:`PEAKS`.
        subject: the model; None for the machine's peak.
        threads: number of threads to compute with.
        file: the exported model, for engines that run exported files.
        precision: to compute in: fp32, bf16 or, for engines that run exported files, int8.

    Raises:
        InputError: the engine cannot run this model, or compute in this precision here.
        ModuleNotFoundError: the engine's package is not installed.
    """
    if engine == PEAKS[0]:
        left = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
        right, result = left.T.copy(), np.empty_like(left)
        return lambda: np.matmul(left, right, out=result)
    if engine in EXPORTED:
        assert subject is not None
        assert file is not None
        return _exported(subject, threads, file, precision)
    import torch

    torch.set_num_threads(threads)
    if engine == PEAKS[1]:
        matrix = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        transposed, product = matrix.T.contiguous(), torch.empty_like(matrix)
        return lambda: torch.matmul(matrix, transposed, out=product)
    assert subject is not None
    return _torch(engine, subject, precision)


def _exported(subject: Subject, threads: int, file: str, precision: str) -> Step:
    from fishnet.runtime.engines import open_engine

    images = subject.images()
    if precision == "int8":  # the file says so by itself
        engine = open_engine(file, threads=threads)
    else:
        engine = open_engine(file, threads=threads, precision=precision)
        _check_precision(precision, engine.precision)
    return lambda: engine(images)


def _check_precision(requested: str, used: str) -> None:
    """Raises InputError if this machine would compute in another precision."""
    if requested != used:
        raise InputError(f"this machine does not compute in {requested} natively")


def _torch(engine: str, subject: Subject, precision: str) -> Step:
    import torch

    from fishnet.tasks.engine import pick_precision

    if precision == "int8":
        raise InputError("only exported files compute in int8: onnx and openvino")
    if precision != "fp32" and engine == "packed":
        raise InputError("the packed weights are float32")
    _check_precision(precision, pick_precision(precision, "cpu"))

    layout = torch.contiguous_format if engine in ("eager", "pytorchcv") else torch.channels_last
    model = _module(engine, subject).to(memory_format=layout)
    images = torch.from_numpy(subject.images()).contiguous(memory_format=layout)
    # The compiler only freezes weights in no_grad.
    mode = torch.no_grad if engine == "compile" else torch.inference_mode

    def step() -> None:
        with mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(images)

    return step


def _module(engine: str, subject: Subject) -> Any:
    if engine == "pytorchcv":
        return pytorchcv_model(subject)
    _, model = subject.build()
    if engine in ("folded", "packed"):
        import torch

        from fishnet.exporting.folding import folded
        from fishnet.exporting.packing import packed

        make = folded if engine == "folded" else packed
        return make(model, torch.from_numpy(subject.images()))
    return compiled(model) if engine == "compile" else model


def compiled(model: Any) -> Any:
    """Compiles a model with torch.compile, with frozen weights.

    Raises:
        InputError: there is no C++ compiler.
    """
    import torch
    from torch._inductor import config
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # InvalidCxxCompiler, whose module has changed before
        raise InputError("torch.compile needs a C++ compiler: install g++ or clang++") from error
    config.freezing = True
    return torch.compile(model)


def pytorchcv_model(subject: Subject) -> Any:
    """Returns pytorchcv's network of the same name, in evaluation mode, with random weights.

    Raises:
        InputError: pytorchcv has no such network, or the subject is not a classifier given by name.
        ModuleNotFoundError: pytorchcv is not installed.
    """
    if not subject.named or task_info(subject.task).output != "scores":
        raise InputError("pytorchcv only has classifiers, which are given by name")
    import torch
    from pytorchcv import model_provider

    models: Mapping[str, Any] = model_provider._models
    if subject.model not in models:
        raise InputError(f"pytorchcv has no {subject.model}")
    torch.manual_seed(0)
    net = models[subject.model]()
    if (subject.height, subject.width) != (224, 224) and hasattr(net.features, "final_pool"):
        net.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)  # its own pooling has the size of the map at 224 px
    return net.eval()
