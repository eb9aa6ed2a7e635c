"""Loads a trained model from its folder or file. Importing this imports no torch."""

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fishnet.bundle.bundle import Bundle, is_bundle, read_with_weights
from fishnet.bundle.hub import bundle_path
from fishnet.errors import InputError
from fishnet.prediction.batching import Engine
from fishnet.prediction.heads import ChosenHeads, check_heads, select_heads
from fishnet.prediction.predictor import Predictor
from fishnet.runtime.exported import SUFFIXES, format_of, is_exported, refuse_untrusted
from fishnet.runtime.precision import check_precision


@contextmanager
def quick_imports() -> Iterator[None]:
    """Pauses Python's collector of reference cycles, which takes a quarter of the time of importing torch and timm.

    Where torch is already imported it does nothing.
    """
    if "torch" in sys.modules:
        yield
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():  # both together: all that was imported is old, and not looked through at once
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def load(
    source: str | Path,
    device: str = "auto",
    *,
    trust: bool = False,
    only: Sequence[str] | None = None,
    precision: str = "auto",
) -> Predictor:
    """Loads a bundle or an exported file for prediction. A file needs no torch, except a ``.pt2``.

    Args:
        source: the bundle's folder; ``hf-hub:user/name``, see :func:`fishnet.bundle.hub.local_path`; the name of a
            network with weights in this package (``fishnet_nano``); or a file that ``fishnet export`` wrote: ``.onnx``,
            ``.xml`` (OpenVINO, its .bin beside it) or ``.pt2``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``. An exported file runs on the CPU; an ``.onnx`` can run
            on ``cuda`` too.
        trust: whether a ``.pt2`` may be opened. Opening one can run any code that its author put into it. No other kind
            of model needs this.
        only: names of the heads to compute; by default all. A model of which one head is wanted predicts that head's
            result.
        precision: that the model computes in: ``auto`` is ``fp32``, or ``bf16`` for a file that was exported with it.
            ``bf16`` (bundles and OpenVINO files) is faster on a CPU with AMX; ``fp16`` is for bundles on a GPU. Weights
            and results stay float32. Where the machine has no bf16, fp32 is used: ``Predictor.precision`` says what is.

    Raises:
        InputError: no such model; a missing, damaged or altered file; a ``.pt2`` without trust; a device that is not
            available; a head that the model does not have; a precision that the model or the device does not have; or
            a library that runs the file is not installed.
        WorkError: the hub cannot be reached.
    """
    check_precision(precision)
    path = bundle_path(source)
    if not is_bundle(path) and not path.is_dir():
        if is_exported(path):
            return _exported(path, device, trust, only, precision)
        if path.is_file():
            suffixes = ", ".join(SUFFIXES.values())
            raise InputError(
                f"{path}: is a file, not a bundle: give the folder that training wrote or an exported file ({suffixes})"
            )
    bundle, weights = read_with_weights(path)  # before torch is imported, which takes seconds
    wanted = select_heads(bundle, only)
    check_heads(wanted)
    with quick_imports():
        from fishnet.tasks.engine import TorchEngine, pick_device, pick_precision
        from fishnet.tasks.store import model_of

    device = pick_device(device)
    computes = pick_precision(precision, device)
    engine = TorchEngine(bundle, model_of(bundle, weights), device, computes)
    return _predictor(bundle, wanted, engine)


def _exported(path: Path, device: str, trust: bool, only: Sequence[str] | None, precision: str) -> Predictor:
    engine: Any
    if format_of(path) == "pt2":
        if not trust:
            refuse_untrusted(path)
        from fishnet.runtime.pt2 import open_pt2

        engine = open_pt2(path, device=device, trust=trust, precision=precision)
    else:
        from fishnet.runtime.engines import open_engine

        engine = open_engine(path, device=device, precision=precision)
    return _predictor(engine.bundle, select_heads(engine.bundle, only), engine)


def _predictor(bundle: Bundle, wanted: Bundle, engine: Engine) -> Predictor:
    """A predictor of the wanted heads of a model."""
    is_part = wanted.heads.keys() != bundle.heads.keys()
    return Predictor(wanted, ChosenHeads(engine, tuple(wanted.heads)) if is_part else engine)
