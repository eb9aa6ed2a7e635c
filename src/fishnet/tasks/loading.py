"""A trained model from its folder or file, ready for images. Importing this imports no torch."""

from pathlib import Path
from typing import Any

from fishnet.bundle.bundle import is_bundle, look_at
from fishnet.bundle.hub import local
from fishnet.errors import InputError
from fishnet.prediction.predictor import Predictor
from fishnet.runtime.exported import SUFFIXES, format_of, is_exported, refuse_untrusted


def load(source: str | Path, device: str = "auto", *, trust: bool = False) -> Predictor:
    """Loads a bundle or an exported file for prediction. A file needs no torch, except a ``.pt2``.

    Args:
        source: the bundle's folder, or ``hf-hub:user/name``, see :func:`fishnet.bundle.hub.local`; or a file that
            ``fishnet export`` wrote: ``.onnx``, ``.xml`` (OpenVINO, its .bin beside it) or ``.pt2``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``. A file is run on the processor, an ``.onnx`` on ``cuda`` if that
            is asked for.
        trust: whether a ``.pt2`` may be opened. That can run any code which its author put into it; no other kind of
            model needs it.

    Raises:
        InputError: a ``.pt2`` without trust, nothing there, a missing, damaged or altered file, a device that is not
            there, or what runs the file is not installed.
        WorkError: the hub could not be reached.
    """
    path = local(source)
    if not is_bundle(path) and not path.is_dir():
        if is_exported(path):
            return _exported(path, device, trust)
        if path.is_file():
            endings = ", ".join(SUFFIXES.values())
            raise InputError(
                f"{path}: is a file, not a bundle: give the folder that training wrote, or an exported file ({endings})"
            )
    look_at(path)
    from fishnet.tasks.engine import TorchEngine

    engine = TorchEngine.load(path, device)
    return Predictor(engine.bundle, engine)


def _exported(path: Path, device: str, trust: bool) -> Predictor:
    engine: Any
    if format_of(path) == "pt2":
        if not trust:
            refuse_untrusted(path)
        from fishnet.runtime.pt2 import open_pt2

        engine = open_pt2(path, device=device, trust=trust)
    else:
        from fishnet.runtime.engines import open_engine

        engine = open_engine(path, device=device)
    return Predictor(engine.bundle, engine)
