"""Safetensors files, read once: types and shapes of their tensors from the header, without making tensors.

Format: https://huggingface.co/docs/safetensors, "Format". The header is JSON that gives each tensor's place in the
file. Every byte must belong to exactly one tensor, as the safetensors library demands too.
"""

import hashlib
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeGuard

from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import GIB, MIB, open_regular

_MAX_FILE = 64 * GIB
_MAX_HEADER = 100 * MIB  # the safetensors library's own limit
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """One tensor's row in a header.

    Attributes:
        dtype: its safetensors name: ``F32``, ``I64`` ...
        shape: the tensor's shape.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.dtype.startswith(("F", "BF"))


@dataclass(frozen=True, eq=False, repr=False)
class TensorFile:
    """The content of a safetensors file in memory.

    The hash, the header and the tensors all come from these bytes, so what is checked is what is loaded, even if the
    file changes meanwhile.

    Attributes:
        path: the file, for messages.
        content: all bytes.
    """

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Reads a file from start to end. Its header is checked first, so that no other file is read in full.

        Raises:
            InputError: no regular file, one that cannot be read, or one of more than 64 GiB or than the memory holds;
                not safetensors, or a header that does not describe the file's own bytes.
        """
        with open_regular(path, "weights file") as file:
            try:
                size = os.fstat(file.fileno()).st_size
                if size > _MAX_FILE:
                    raise InputError(f"{path}: {size:,} bytes are too many for a weights file (at most {_MAX_FILE:,})")
                head = file.read(8)
                head += file.read(min(int.from_bytes(head, "little"), _MAX_HEADER))
                _parse_header(Path(path), head, size)
                file.seek(0)
                return cls(Path(path), file.read())
            except MemoryError:
                raise InputError(f"{path}: {size:,} bytes do not fit into memory") from None
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def header(self) -> dict[str, TensorHeader]:
        """The tensors' types and shapes by name.

        Raises:
            InputError: not safetensors, or a header that does not describe the file's own bytes.
        """
        return _parse_header(self.path, self.content, len(self.content))


def hash_file(path: str | Path) -> str:
    """SHA-256 of a weights file, in hexadecimal, without holding the file in memory."""
    with open_regular(path, "weights file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto


def _parse_header(path: Path, head: bytes, size: int) -> dict[str, TensorHeader]:
    """Types and shapes by name from a file's first bytes. Raises InputError, see :attr:`TensorFile.header`."""
    length = int.from_bytes(head[:8], "little")
    if size < 8 or length > min(size - 8, _MAX_HEADER):
        raise InputError(f"{path}: not a readable safetensors file (no header, or cut off)")
    rows = parse_json(head[8 : 8 + length], f"{path}: not a readable safetensors file")
    if not isinstance(rows, dict):
        raise InputError(f"{path}: not a readable safetensors file (its header is not an object)")
    rows.pop("__metadata__", None)
    end = 0
    for start, stop in sorted(_span(path, name, row) for name, row in rows.items()):
        if start != end:
            raise InputError(f"{path}: not a readable safetensors file (its tensors overlap or leave gaps)")
        end = stop
    if end != size - 8 - length:
        raise InputError(
            f"{path}: not a complete safetensors file: its header describes {end:,} bytes of tensors, but the file has "
            f"{size - 8 - length:,}"
        )
    return {name: TensorHeader(row["dtype"], tuple(row["shape"])) for name, row in rows.items()}


def _span(path: Path, name: str, row: Any) -> tuple[int, int]:
    """Start and end of a tensor's bytes. Raises InputError for a row that contradicts itself."""
    where = f"{path}: not a readable safetensors file (tensor {name[:80]!r}"
    if not isinstance(row, dict) or not isinstance(row.get("dtype"), str) or row["dtype"] not in _BYTES:
        raise InputError(f"{where} has no known type)")
    shape, offsets = row.get("shape"), row.get("data_offsets")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise InputError(f"{where} has no valid shape or data_offsets)")
    if offsets[1] - offsets[0] != _BYTES[row["dtype"]] * math.prod(shape):
        raise InputError(f"{where}: its shape {tuple(shape[:8])} does not fill its {offsets[1] - offsets[0]:,} bytes)")
    return offsets[0], offsets[1]


def _counts(values: Any) -> TypeGuard[list[int]]:
    """Whether this is a short list of whole numbers, each 0 or more."""
    return (
        isinstance(values, list)
        and len(values) <= 64
        and all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 for value in values)
    )
