"""What is timed: one pass of a model by an engine. Everything here happens in the process of that engine."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fishnet.analysis.benchmark.plan import EXPORTED, Subject
from fishnet.errors import InputError
from fishnet.tasks.info import task_info

Step = Callable[[], Any]
PEAKS = ("sgemm-numpy", "sgemm-torch")
SIDE = 2048  # of the square matrices that the machine's peak is measured by
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def environment(threads: int) -> dict[str, str]:
    """A process's environment in which libraries compute with so many threads."""
    return {**os.environ, **dict.fromkeys(THREADS, str(threads))}


def step_of(engine: str, it: Subject | None, threads: int, file: str | None) -> Step:
    """One pass, to be called again and again.

    Args:
        engine: of :data:`~fishnet.analysis.benchmark.plan.ENGINES`, or one of :data:`PEAKS`.
        it: the model; None for the machine's peak.
        threads: to compute with.
        file: the exported model, for the engines of exported files.

    Raises:
        InputError: an engine that cannot run this model here.
        ModuleNotFoundError: an engine whose package is not installed.
    """
    if engine == PEAKS[0]:
        left = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
        right, result = left.T.copy(), np.empty_like(left)
        return lambda: np.matmul(left, right, out=result)
    if engine in EXPORTED:
        assert it is not None
        assert file is not None
        return _exported(it, threads, file)
    import torch

    torch.set_num_threads(threads)
    if engine == PEAKS[1]:
        matrix = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        other, product = matrix.T.contiguous(), torch.empty_like(matrix)
        return lambda: torch.matmul(matrix, other, out=product)
    assert it is not None
    return _torch(engine, it)


def _exported(it: Subject, threads: int, file: str) -> Step:
    from fishnet.runtime.engines import open_engine

    engine, images = open_engine(file, threads=threads), it.images()
    return lambda: engine(images)


def _torch(engine: str, it: Subject) -> Step:
    import torch

    layout = torch.contiguous_format if engine in ("eager", "pytorchcv") else torch.channels_last
    model = _module(engine, it).to(memory_format=layout)
    images = torch.from_numpy(it.images()).contiguous(memory_format=layout)
    mode = torch.no_grad if engine == "compile" else torch.inference_mode  # the compiler keeps weights in no_grad alone

    def step() -> None:
        with mode():
            model(images)

    return step


def _module(engine: str, it: Subject) -> Any:
    if engine == "pytorchcv":
        return theirs(it)
    _, model = it.build()
    if engine in ("folded", "packed"):
        import torch

        from fishnet.exporting.folding import folded
        from fishnet.exporting.packing import packed

        make = folded if engine == "folded" else packed
        return make(model, torch.from_numpy(it.images()))
    return compiled(model) if engine == "compile" else model


def compiled(model: Any) -> Any:
    """The model by torch.compile, its weights frozen in.

    Raises:
        InputError: there is no C++ compiler.
    """
    import torch
    from torch._inductor import config
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # InvalidCxxCompiler, which has moved before
        raise InputError("torch.compile needs a C++ compiler: install g++ or clang++") from error
    config.freezing = True
    return torch.compile(model)


def theirs(it: Subject) -> Any:
    """pytorchcv's network of the same name, in evaluation mode, with random weights.

    Raises:
        InputError: it has none of that name, or this is no classifier.
        ModuleNotFoundError: it is not installed.
    """
    if task_info(it.task).output != "scores" or not it.named:
        raise InputError("pytorchcv has whole classifiers by their names only")
    import torch
    from pytorchcv import model_provider

    models: Mapping[str, Any] = model_provider._models
    if it.model not in models:
        raise InputError(f"pytorchcv has no {it.model}")
    torch.manual_seed(0)
    net = models[it.model]()
    if (it.height, it.width) != (224, 224) and hasattr(net.features, "final_pool"):
        net.features.final_pool = torch.nn.AdaptiveAvgPool2d(1)  # its own is of the size of a 224 px image's map
    return net.eval()
