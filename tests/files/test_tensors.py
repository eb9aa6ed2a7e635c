"""Headers of safetensors files: what the library reads, and nothing that contradicts itself."""

import hashlib
import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from fishnet.errors import InputError
from fishnet.files.tensors import TensorFile

SOUND = {"weight": np.zeros((2, 3), np.float32), "count": np.zeros((), np.int64), "none": np.zeros((0, 4), np.float16)}


def test_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(SOUND, {"made by": "a test"}))
    header = TensorFile.read(path).header
    assert {name: (row.dtype, row.shape) for name, row in header.items()} == {
        "weight": ("F32", (2, 3)), "count": ("I64", ()), "none": ("F16", (0, 4)),
    }  # fmt: skip
    assert [header[name].is_float for name in ("weight", "count", "none")] == [True, False, True]


def rewritten(change: Callable[[dict[str, Any]], object]) -> bytes:
    content = save(SOUND)
    length = int.from_bytes(content[:8], "little")
    rows = json.loads(content[8 : 8 + length])
    change(rows)
    header = json.dumps(rows).encode()
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}rest",
        save(SOUND)[:-1],
        save(SOUND) + b"x",
        rewritten(lambda rows: rows["weight"].update(shape=[3, 3])),
        rewritten(lambda rows: rows["weight"].update(shape=[-2, -3])),
        rewritten(lambda rows: rows["weight"].update(shape=[2.0, 3.0])),
        rewritten(lambda rows: rows["weight"].update(shape=[10**400])),
        rewritten(lambda rows: rows["weight"].update(dtype="F99")),
        rewritten(lambda rows: rows["weight"].update(dtype=["F32"])),
        rewritten(lambda rows: rows["weight"].update(data_offsets=[0])),
        rewritten(lambda rows: rows["weight"].update(data_offsets=[24, 0])),
        rewritten(lambda rows: rows["weight"].pop("shape")),
        rewritten(lambda rows: rows.update(weight=None)),
        rewritten(lambda rows: rows.update(again=rows["weight"])),
    ],
)
def test_what_contradicts_itself(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        _ = TensorFile.read(path).header
    assert str(caught.value).startswith(f"{path}: not a ")
    assert "\n" not in str(caught.value)


def test_the_content_is_that_of_the_time_of_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(SOUND))
    file = TensorFile.read(path)
    path.write_bytes(b"something else")
    assert file.sha256 == hashlib.sha256(save(SOUND)).hexdigest()
    assert file.header.keys() == SOUND.keys()


@pytest.mark.parametrize("start", [b"", save(SOUND)])
def test_a_large_file_with_another_header_is_not_read(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(1 << 35)  # takes no room on the disk
    with pytest.raises(InputError, match=r"a\.safetensors: not a (readable|complete) safetensors file"):
        TensorFile.read(path)


def test_a_file_beyond_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Large(io.BytesIO):
        def fileno(self) -> int:
            return number

        def read(self, size: int | None = -1, /) -> bytes:
            if size == -1:
                raise MemoryError
            return super().read(size)

    path = tmp_path / "a.safetensors"
    path.write_bytes(save(SOUND))
    with path.open("rb") as opened:
        number = opened.fileno()
        monkeypatch.setattr("fishnet.files.tensors.open_regular", lambda *_: Large(save(SOUND)))
        with pytest.raises(InputError, match=r"a\.safetensors: \d+ bytes do not fit into memory"):
            TensorFile.read(path)


def test_a_file_beyond_all_bounds_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(InputError, match=r"a\.safetensors: 1,099,511,627,776 bytes are too many for a weights file"):
        TensorFile.read(path)
