"""Masks and classes files of any bytes: nothing but InputError comes out.

By hand for ten minutes: ``FISHNET_FUZZ=100000 python -m pytest tests/data/segmentation/test_fuzz.py``.
"""

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fishnet.bundle.classes import Classes
from fishnet.data.maskfiles import open_mask
from fishnet.data.segmentation.masks import MaskDecoder
from fishnet.data.segmentation.names import FILES, Legend, read_legend
from fishnet.data.segmentation.survey import MaskReader, survey
from fishnet.errors import InputError

COUNT = int(os.environ.get("FISHNET_FUZZ", "60"))
fuzz = settings(
    max_examples=COUNT, deadline=None, derandomize=COUNT <= 60, suppress_health_check=list(HealthCheck), database=None
)
LEGEND = Legend("classes.txt", Classes.of("ab"), (0, 7), colours=(0, 0xFF0000))


def encoded(kind: str) -> bytes:
    """A small mask in a format."""
    values = (np.arange(48).reshape(6, 8) % 3).astype(np.uint8)
    file = io.BytesIO()
    if kind == "NPY":
        np.save(file, values)
    else:
        Image.fromarray(values).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM", "WEBP", "JPEG", "NPY")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A mask of some format with bytes changed, cut off or added."""
    content = bytearray(encoded(draw(st.sampled_from(FORMATS))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)):
        content[at] = value
    end = draw(st.integers(0, len(content)))
    return bytes(content if draw(st.booleans()) else content[:end]) + draw(st.binary(max_size=8))


@fuzz
@given(content=st.one_of(damaged(), st.binary(max_size=300)), options=st.fixed_dictionaries({
    "colours": st.booleans(), "palette": st.booleans(), "threshold": st.sampled_from([0, 1, 128])
}))  # fmt: skip
def test_masks(content: bytes, options: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask.png"
        path.write_bytes(content)
        try:
            mask = open_mask(path, **options)
            labels, unnamed = MaskDecoder(LEGEND, [0, 1]).labels(mask)
            survey([path], MaskReader(**options))
        except InputError as error:
            _check_line(error, path)
        else:
            assert labels.shape == mask.size
            assert sum(unnamed.values()) <= labels.size


def _check_line(error: InputError, path: Path) -> None:
    line = str(error)
    assert str(path) in line or "class names are not unique" in line
    assert "\n" not in line
    assert len(line) < 2000


WORDS = st.sampled_from(
    [
        *'01a,;:\t #[]{}"\x00\u0663\u00b2',
        "255",
        "-1",
        "road",
        "name",
        "r",
        "g",
        "b",
        "id",
        "9" * 500,
        "\x1b[31m",
        "__ignore__",
    ]
)
LINES = st.lists(st.lists(WORDS, max_size=6).map("".join), max_size=6).map("\n".join)


@fuzz
@given(name=st.sampled_from(FILES), content=st.one_of(LINES.map(str.encode), st.binary(max_size=200)))
def test_classes_files(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            legend = read_legend(path)
        except InputError as error:
            _check_line(error, path)
        else:
            assert len(legend.classes) == len(legend.values)
