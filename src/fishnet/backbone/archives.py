"""Checkpoint files, read without trust: tensors only, bounded by what the file itself can hold.

torch's ``weights_only`` runs no code of a file. It does not bound memory: an archive may unpack to a thousand times its
size, a pickle may ask for bytes that no file has, and a tensor of strides 0 may claim more values than memory holds.
"""

import argparse
import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from fishnet.backbone.layouts import WRAPPERS, State, strip_prefixes, unwrap_state
from fishnet.errors import InputError, first_line
from fishnet.files.reading import GIB, MIB, open_regular, read_bytes
from fishnet.files.tensors import TensorFile

AVERAGED = "ema.module."  # the averaged weights in this project's own training checkpoints
_SMALL, _RATIO = 64 * MIB, 20  # what any archive may unpack to; weights themselves shrink by a tenth
_HASHED = 16 * GIB
_FILLER = b"\nbytearray\n"  # the one type that torch lets a pickle make of any length


def read_checkpoint(path: str | Path) -> State:
    """The tensors of a checkpoint file, without wrappers' prefixes, in the file's own layout and order.

    Takes .safetensors, anything torch.save wrote (.pth, .pt, .tar, .ckpt ...), and a zip of one such file. Where the
    file is a dict of dicts, the averaged weights (``state_dict_ema``, ``model_ema``, ``ema``) come before the plain
    ones (``state_dict``, ``model_state_dict``, ``model``); so do the averaged ones of this project's own checkpoints.

    Raises:
        InputError: no such file, not a checkpoint, no tensors inside, a pickle that needs more than tensors, or a file
            that claims more than it can hold.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder: name the checkpoint file (a bundle's is model.safetensors)")
    if not path.exists():
        raise InputError(f"{path}: no such checkpoint file")
    is_safe = path.suffix.lower() == ".safetensors"
    return _state_of(load_tensors(TensorFile.read(path)) if is_safe else load_pickle(path), path)


def read_state(file: TensorFile) -> State:
    """The tensors of a safetensors file, named as by :func:`read_checkpoint`.

    Raises:
        InputError: as :func:`load_tensors`, or no tensors inside.
    """
    return _state_of(load_tensors(file), file.path)


def _state_of(content: Any, path: Path) -> State:
    """The state dict in a checkpoint's content, without wrappers and their prefixes."""
    content = unwrap_state(content)
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path}: holds no state dict (looked for tensors and for {', '.join(WRAPPERS)})")
    averaged = {key: value for key, value in tensors.items() if key.startswith(AVERAGED)}
    return strip_prefixes({key.removeprefix(AVERAGED): value for key, value in (averaged or tensors).items()})


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with values that are NaN or infinite."""
    return [name for name, value in state.items() if not value.is_meta and not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    low, high = torch.aminmax(value if value.element_size() > 1 else value.float())  # no copy; NaN goes through both
    return bool(low.isfinite()) and bool(high.isfinite())


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Refuses values that are no numbers.

    Raises:
        InputError: naming the tensors.
    """
    if wrong := not_finite(state):
        some = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        raise InputError(f"{len(wrong)} tensors hold values that are not finite numbers ({some}): broken weights")


def check_name_hash(path: str | Path) -> None:
    """Checks a file called NAME-<first 8 digits of its SHA-1 or SHA-256>.pth (or .pth.zip with that file inside).

    Other names carry no hash and pass; so does one of eight decimal digits, which may be a date.

    Raises:
        InputError: the content is not what the name promises (a broken or altered download).
    """
    path = Path(path)
    promised = re.search(r"-(?!\d{8}\.)([0-9a-f]{8})\.pth(\.zip)?$", path.name)
    if promised is None:
        return
    content = read_bytes(path, _HASHED, "checkpoint")
    try:
        if promised[2]:
            with zipfile.ZipFile(BytesIO(content)) as archive:
                _check_members(archive, len(content))
                content = archive.read(archive.namelist()[0])
    except Exception as error:  # zip files break in many ways
        raise InputError(f"{path}: not a readable zip file ({first_line(error)}): download it again") from error
    found = [hashlib.new(name, content, usedforsecurity=False).hexdigest()[:8] for name in ("sha1", "sha256")]
    if promised[1] not in found:
        raise InputError(f"{path}: SHA-1 begins with {found[0]}, not {promised[1]}: delete the file, download it again")


def load_tensors(file: TensorFile) -> State:
    """The tensors of a safetensors file under the file's own names.

    Raises:
        InputError: not safetensors, or a header that does not describe the file's own bytes.
    """
    from safetensors.torch import load

    _ = file.header  # raises
    try:
        return load(file.content)
    except Exception as error:  # safetensors' own kind has no useful base
        raise InputError(f"{file.path}: not a readable safetensors file ({first_line(error)})") from error


def load_pickle(path: Path) -> Any:
    """What torch.save wrote, or a zip of one such file: plain values and tensors on the CPU.

    Raises:
        InputError: no regular file, not readable, a pickle that needs more than tensors, or one that claims more than
            its file can hold.
    """
    # Harmless companions of state dicts: training options, and figures as numpy scalars (best_prec1).
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    names: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with open_regular(path, "checkpoint") as file:
        try:
            source = _single_member(file) or file
            held = _check_pickles(source)
            source.seek(0)
            with (
                warnings.catch_warnings(),
                torch.serialization.safe_globals([argparse.Namespace, np.dtype, *dtypes, *names]),
            ):
                warnings.simplefilter("ignore")  # of pickles that torch did not write: what follows says enough
                content = torch.load(source, map_location="cpu", weights_only=True)
            _check_tensors(content, held)
        except Exception as error:  # torch's readers raise nearly every kind for a file that is no checkpoint
            raise InputError(f"{path}: {_reason(error)}") from error
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if needed := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"refused: its pickle needs more than tensors ({needed[1]}) and could run any code; where you trust it, "
            "save its state_dict alone"
        )
    inner = re.search(r"Unpickler error: *(\S[^\n]*)", str(error))
    return f"not a readable checkpoint ({inner[1] if inner else first_line(error)})"


def _single_member(file: BinaryIO) -> BytesIO | None:
    """The file inside a zip of one file; None for anything else."""
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        _check_members(archive, _size(file))
        if len(archive.namelist()) != 1:
            return None
        return BytesIO(archive.read(archive.namelist()[0]))


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses an archive of ``size`` bytes whose members say that they unpack to far more."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_SMALL, _RATIO * size):
        raise InputError(f"refused: {size:,} bytes that unpack to {unpacked:,}: no weights shrink like that")


def _check_pickles(file: BinaryIO) -> int:
    """Bytes that a file's tensors can have in all. Refuses a pickle that makes bytes of any length."""
    if not zipfile.is_zipfile(file):
        size = _size(file)
        file.seek(0)
        if any(_FILLER in chunk for chunk in _chunks(file)):
            raise InputError("refused: its pickle needs more than tensors (bytearray)")
        return size
    with zipfile.ZipFile(file) as archive:
        _check_members(archive, _size(file))
        for member in archive.infolist():
            if member.filename.endswith(".pkl") and _FILLER in archive.read(member):
                raise InputError("refused: its pickle needs more than tensors (bytearray)")
        return sum(member.file_size for member in archive.infolist())


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """A file's content in pieces that overlap, so that no short word lies across two."""
    rest = b""
    while chunk := file.read(16 * MIB):
        yield rest + chunk
        rest = chunk[-len(_FILLER) :]


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _check_tensors(content: Any, held: int) -> None:
    """Refuses tensors that claim more values than their file holds, and such that have no values."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            if item.layout is not torch.strided or item.is_meta or item.is_quantized:
                raise InputError("holds a tensor without plain values (sparse, quantised or meta)")
            storage = item.untyped_storage()
            if item.numel() * item.element_size() > storage.nbytes():
                raise InputError(f"refused: a tensor claims {item.numel():,} values and has {storage.nbytes():,} bytes")
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, Mapping | list | tuple | set) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, Mapping) else item
    if sum(storages.values()) > held:
        raise InputError(f"refused: its tensors claim {sum(storages.values()):,} bytes, the file has {held:,}")
