"""The header of a safetensors file: types and shapes of its tensors, read without the tensors.

Format: https://huggingface.co/docs/safetensors, "Format". The header is JSON that says where in the file each tensor
lies; here every byte must belong to one tensor, as safetensors itself demands.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from fishnet.errors import InputError
from fishnet.files.documents import parse_json
from fishnet.files.reading import MIB, open_regular

_HEADER = 100 * MIB  # safetensors' own limit
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """What a file's header says of one tensor.

    Attributes:
        dtype: as safetensors names it: ``F32``, ``I64`` ...
        shape: of the tensor.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether its values are floating-point numbers."""
        return self.dtype.startswith(("F", "BF"))


def read_header(path: str | Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file by name.

    Raises:
        InputError: no regular file, not safetensors, or a header that does not describe the file's own bytes.
    """
    with open_regular(path, "weights file") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER):
            raise InputError(f"{path}: not a readable safetensors file (no header, or cut off)")
        content = file.read(length)
    rows = parse_json(content, f"{path}: not a readable safetensors file")
    if not isinstance(rows, dict):
        raise InputError(f"{path}: not a readable safetensors file (its header is no object)")
    rows.pop("__metadata__", None)
    spans = [_span(path, name, row) for name, row in rows.items()]
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            raise InputError(f"{path}: not a readable safetensors file (its tensors overlap or leave gaps)")
        end = stop
    if end != size - 8 - length:
        raise InputError(
            f"{path}: not a whole safetensors file: its header describes {end:,} bytes of tensors, the file has "
            f"{size - 8 - length:,}"
        )
    return {name: TensorHeader(row["dtype"], tuple(row["shape"])) for name, row in rows.items()}


def _span(path: str | Path, name: str, row: Any) -> tuple[int, int]:
    """Where a tensor's bytes begin and end. Raises InputError for a row that contradicts itself."""
    where = f"{path}: not a readable safetensors file (tensor {name[:80]!r}"
    if not isinstance(row, dict) or not isinstance(row.get("dtype"), str) or row["dtype"] not in _BYTES:
        raise InputError(f"{where} has no known type)")
    shape, offsets = row.get("shape"), row.get("data_offsets")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise InputError(f"{where} has no shape or no place)")
    if offsets[1] - offsets[0] != _BYTES[row["dtype"]] * math.prod(shape):
        raise InputError(f"{where}: its shape {tuple(shape[:8])} does not fill its {offsets[1] - offsets[0]:,} bytes)")
    return offsets[0], offsets[1]


def _counts(values: Any) -> TypeGuard[list[int]]:
    """Whether this is a short list of whole numbers from 0."""
    return (
        isinstance(values, list)
        and len(values) <= 64
        and all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 for value in values)
    )
