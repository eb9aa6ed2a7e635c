"""The engine for programs of torch.export (.pt2): with torch, without timm and torchvision.

``torch.export.load`` runs what a file holds: it unpickles weights, constants and sample inputs without limits
(``weights_only=False``) and evaluates shape expressions by sympy, which is Python's ``eval``. So it is called only for
files that the user trusts.
"""

import inspect
import io
import warnings
import zipfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fishnet.errors import InputError, first_line
from fishnet.files.reading import MIB
from fishnet.runtime.engines import RuntimeEngine, check_file, said_by
from fishnet.runtime.exported import KEY, Exported, refuse_untrusted

_TEXT = 64 * MIB  # bytes of what a file says of itself


def open_pt2(path: str | Path, *, device: str = "auto", trust: bool = False) -> RuntimeEngine:
    """The engine for a .pt2 file.

    Args:
        path: of the file.
        device: ``auto`` or ``cpu``.
        trust: whether the file may run code; see the module.

    Raises:
        InputError: a file that is not trusted, none at all, a damaged one or one that was not exported here, or another
            device.
    """
    path = Path(path)
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: .pt2 files are run on the processor: choose auto or cpu, or the bundle")
    check_file(path)
    if not trust:
        refuse_untrusted(path)
    texts = {KEY: ""}
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.export.load(str(path), extra_files=texts)
        module = _module(program)
    except Exception as error:  # whatever it is that the archive's reader raises
        raise InputError(f"{path}: no program of torch.export, or a damaged one ({first_line(error)})") from error
    exported = said_by(path, _text(texts[KEY]))

    @torch.inference_mode()
    def run(batch: NDArray[np.float32]) -> list[NDArray[Any]]:
        found = module(torch.from_numpy(batch))
        return [values.numpy() for values in (found if isinstance(found, tuple | list) else (found,))]

    return RuntimeEngine(exported, run, str(path))


def read_pt2(path: str | Path) -> Exported:
    """What a .pt2 file says of itself, from the file's text alone: without torch's loading of the program.

    Raises:
        InputError: as for :func:`open_pt2`.
    """
    path = Path(path)
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            named = [
                one for one in archive.infolist() if one.filename.endswith((f"/extra/{KEY}", f"extra_files/{KEY}"))
            ]
            if named and named[0].file_size > _TEXT:
                raise InputError(f"{path}: what it says of itself is {named[0].file_size:,} bytes long: refused")
            text = archive.read(named[0]).decode("utf-8") if named else None
    except InputError:
        raise
    except Exception as error:  # zip files break in many ways
        raise InputError(f"{path}: no program of torch.export, or a damaged one ({first_line(error)})") from error
    return said_by(path, text)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _module(program: Any) -> Any:
    """What runs a program. Without torch's guards of sizes, where it has these: some hold for the followed image
    alone (a coarsest map of more than one px), though the program's results do not depend on it; the sizes that it
    does take are checked before it is run, see :func:`~fishnet.runtime.engines.check_size`.
    """
    knows = "check_guards" in inspect.signature(program.module).parameters  # torch 2.9
    return program.module(check_guards=False) if knows else program.module()
