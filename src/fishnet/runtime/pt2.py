"""The engine for programs of torch.export (.pt2). It needs torch, but not timm and torchvision.

``torch.export.load`` runs code of the file: it unpickles weights, constants and sample inputs without limits
(``weights_only=False``) and evaluates shape expressions with sympy, that is, with Python's ``eval``. So it is only
called for files that the user trusts.
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
from fishnet.runtime.engines import Run, RuntimeEngine, check_file, parse_description
from fishnet.runtime.exported import KEY, Exported, refuse_untrusted
from fishnet.runtime.precision import check_fixed_precision

_MAX_DESCRIPTION = 64 * MIB


def open_pt2(path: str | Path, *, device: str = "auto", trust: bool = False, precision: str = "auto") -> RuntimeEngine:
    """The engine for a .pt2 file.

    Args:
        path: the file.
        device: ``auto`` or ``cpu``.
        trust: whether the file may run code, see the module.
        precision: ``auto`` or ``fp32``.

    Raises:
        InputError: no such file, a file that is not trusted, a damaged file, a file that fishnet did not export, or
            another device or precision.
    """
    path = Path(path)
    check_fixed_precision(precision, "torch.export")
    if device not in ("auto", "cpu"):
        raise InputError(f"device {device!r}: .pt2 files run on the CPU: choose auto or cpu, or load the bundle")
    check_file(path)
    if not trust:
        refuse_untrusted(path)
    texts = {KEY: ""}
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.export.load(str(path), extra_files=texts)
        module = _module(program)
    except Exception as error:  # the archive's reader raises errors of many kinds
        raise InputError(f"{path}: is not a program of torch.export, or is damaged ({first_line(error)})") from error
    exported = parse_description(path, _text(texts[KEY]))

    def prepare(names: tuple[str, ...]) -> Run:
        @torch.inference_mode()
        def run(batch: NDArray[np.float32]) -> list[NDArray[Any]]:
            outputs = module(torch.from_numpy(batch))
            values = outputs if isinstance(outputs, tuple | list) else (outputs,)
            if len(values) != len(exported.outputs):
                return [value.numpy() for value in values]  # the engine refuses them
            by_name = dict(zip(exported.outputs, values, strict=True))
            return [by_name[name].numpy() for name in names]

        return run

    return RuntimeEngine(exported, prepare, str(path))


def read_pt2(path: str | Path) -> Exported:
    """The description of a .pt2 file, read without loading the program.

    Raises:
        InputError: as for :func:`open_pt2`.
    """
    path = Path(path)
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            suffixes = (f"/extra/{KEY}", f"extra_files/{KEY}")
            members = [member for member in archive.infolist() if member.filename.endswith(suffixes)]
            if members and members[0].file_size > _MAX_DESCRIPTION:
                raise InputError(f"{path}: refused: its description is {members[0].file_size:,} bytes long")
            text = archive.read(members[0]).decode("utf-8") if members else None
    except InputError:
        raise
    except Exception as error:  # zip files break in many ways
        raise InputError(f"{path}: is not a program of torch.export, or is damaged ({first_line(error)})") from error
    return parse_description(path, text)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _module(program: Any) -> Any:
    """The module of a program, without torch's guards of sizes if this torch has them.

    Some guards hold only for the traced image (a coarsest map of more than one px), though the program's results do not
    depend on it. The sizes that the program takes are checked before each run, see
    :func:`~fishnet.runtime.engines.check_size`.
    """
    has_guards = "check_guards" in inspect.signature(program.module).parameters  # since torch 2.9
    return program.module(check_guards=False) if has_guards else program.module()
