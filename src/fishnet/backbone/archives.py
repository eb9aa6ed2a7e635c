"""Reading untrusted checkpoint files: tensors only, and no more memory than the file's size justifies.

torch's ``weights_only`` runs no code from a file, but it does not bound memory: an archive may unpack to a thousand
times its size, a pickle may allocate more bytes than the file has, and a tensor with strides of 0 may claim more values
than fit into memory.
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
# An archive may unpack to 64 MiB, or to 20 times its size if that is more. Weights compress by about a tenth.
_MIN_UNPACKED, _MAX_RATIO = 64 * MIB, 20
_MAX_HASHED = 16 * GIB
_FILLER = b"\nbytearray\n"  # torch lets a pickle create this type at any length, and no other


def read_checkpoint(path: str | Path) -> State:
    """The tensors of a checkpoint file, without wrappers' prefixes, in the file's own layout and order.

    Reads .safetensors, any file of torch.save (.pth, .pt, .tar, .ckpt ...), and a zip of one such file. In a dict of
    dicts, averaged weights (``state_dict_ema``, ``model_ema``, ``ema``) are preferred over plain ones (``state_dict``,
    ``model_state_dict``, ``model``); so are the averaged weights of this project's own checkpoints.

    Raises:
        InputError: no such file, not a checkpoint, no tensors, a pickle that needs more than tensors, or a file that
            claims more than it can hold.
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


def non_finite_tensors(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors with values that are NaN or infinite."""
    return [name for name, value in state.items() if not value.is_meta and not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point() or not value.numel():
        return True
    low, high = torch.aminmax(value if value.element_size() > 1 else value.float())  # no copy; NaN makes both NaN
    return bool(low.isfinite()) and bool(high.isfinite())


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Checks that all values are finite.

    Raises:
        InputError: some are not; the message names the tensors.
    """
    if names := non_finite_tensors(state):
        examples = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise InputError(f"{len(names)} tensors hold values that are not finite numbers ({examples}): broken weights")


def check_name_hash(path: str | Path) -> None:
    """Checks a file named NAME-<first 8 digits of its SHA-1 or SHA-256>.pth (or .pth.zip, with the hash of its member).

    Names without a hash pass, and so do eight decimal digits, which may be a date.

    Raises:
        InputError: the content has another hash (a broken or altered download).
    """
    path = Path(path)
    match = re.search(r"-(?!\d{8}\.)([0-9a-f]{8})\.pth(\.zip)?$", path.name)
    if match is None:
        return
    content = read_bytes(path, _MAX_HASHED, "checkpoint")
    try:
        if match[2]:
            with zipfile.ZipFile(BytesIO(content)) as archive:
                _check_members(archive, len(content))
                content = archive.read(archive.namelist()[0])
    except Exception as error:  # damaged zip files raise many types of errors
        raise InputError(f"{path}: not a readable zip file ({first_line(error)}): download it again") from error
    hashes = [hashlib.new(name, content, usedforsecurity=False).hexdigest()[:8] for name in ("sha1", "sha256")]
    if match[1] not in hashes:
        raise InputError(f"{path}: SHA-1 begins with {hashes[0]}, not {match[1]}: delete it and download it again")


def load_tensors(file: TensorFile) -> State:
    """The tensors of a safetensors file under the file's own names.

    Raises:
        InputError: not safetensors, or a header that does not describe the file's own bytes.
    """
    from safetensors.torch import load

    _ = file.header  # raises an error if the header is invalid
    try:
        return load(file.content)
    except Exception as error:  # safetensors' own error has no useful base class
        raise InputError(f"{file.path}: not a readable safetensors file ({first_line(error)})") from error


def load_pickle(path: Path) -> Any:
    """Loads a file of torch.save, or a zip of one such file: plain values and tensors on the CPU.

    Raises:
        InputError: no regular file, not readable, a pickle that needs more than tensors, or one that claims more than
            its file can hold.
    """
    # Harmless types that come with state dicts: training options, and metrics as numpy scalars (best_prec1).
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}
    names: list[Any] = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with open_regular(path, "checkpoint") as file:
        try:
            source = _single_member(file) or file
            max_bytes = _check_pickles(source)
            source.seek(0)
            with (
                warnings.catch_warnings(),
                torch.serialization.safe_globals([argparse.Namespace, np.dtype, *dtypes, *names]),
            ):
                warnings.simplefilter("ignore")  # about pickles that torch did not write: the error below is enough
                content = torch.load(source, map_location="cpu", weights_only=True)
            _check_tensors(content, max_bytes)
        except Exception as error:  # torch raises errors of nearly every type for a file that is no checkpoint
            raise InputError(f"{path}: {_reason(error)}") from error
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, InputError):
        return str(error)
    if needed := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"refused: its pickle needs more than tensors ({needed[1]}) and could run any code; if you trust it, save "
            "only its state_dict"
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
    """Refuses an archive of ``size`` bytes whose members claim to unpack to far more."""
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > max(_MIN_UNPACKED, _MAX_RATIO * size):
        raise InputError(f"refused: {size:,} bytes unpack to {unpacked:,}: weights do not compress that much")


def _check_pickles(file: BinaryIO) -> int:
    """The largest possible size of a file's tensors, in bytes. Refuses a pickle that creates bytes of any length."""
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
    """A file's content in overlapping chunks, so that none cuts a short word."""
    overlap = b""
    while chunk := file.read(16 * MIB):
        yield overlap + chunk
        overlap = chunk[-len(_FILLER) :]


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _check_tensors(content: Any, max_bytes: int) -> None:
    """Refuses tensors that claim more values than their file has, and tensors without values."""
    seen: set[int] = set()
    storages: dict[int, int] = {}
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            if item.layout is not torch.strided or item.is_meta or item.is_quantized:
                raise InputError("holds a sparse, quantised or meta tensor: save plain tensors")
            storage = item.untyped_storage()
            if item.numel() * item.element_size() > storage.nbytes():
                raise InputError(f"refused: a tensor claims {item.numel():,} values in {storage.nbytes():,} bytes")
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, Mapping | list | tuple | set) and id(item) not in seen:
            seen.add(id(item))
            stack += item.values() if isinstance(item, Mapping) else item
    if sum(storages.values()) > max_bytes:
        raise InputError(f"refused: its tensors claim {sum(storages.values()):,} bytes, but the file has {max_bytes:,}")
