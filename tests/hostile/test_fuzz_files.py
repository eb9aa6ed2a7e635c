"""Changed bytes in images, checkpoints, bundles and exported files: nothing but one of our errors may come of them.

``FISHNET_FUZZ=20000 pytest tests/hostile/test_fuzz_files.py`` tries so many changes of each, other ones each time.
"""

import contextlib
import io
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image

from fishnet.backbone.archives import read_checkpoint
from fishnet.bundle.bundle import read_bundle
from fishnet.data.decode import decode_tensor
from fishnet.data.maskfiles import open_mask
from fishnet.errors import InputError, WorkError
from fishnet.images.decoding import decode_image
from fishnet.images.opening import FORMATS
from fishnet.images.reading import Reading
from fishnet.runtime.engines import read_exported
from tests.hostile.test_fuzz_detection import EDITS, EXAMPLES, Edit, changed
from tests.hostile.tiny import tiny

FUZZ = settings(
    max_examples=EXAMPLES or 12,
    deadline=None,
    derandomize=not EXAMPLES,
    database=None,
    suppress_health_check=list(HealthCheck),
)
BUNDLES = Path(__file__).parent.parent / "bundles"
PIXELS = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)


def encoded(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


def deep(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 16).save(file, kind)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.dstack([PIXELS, PIXELS[..., :2]]).astype(np.float32))
    return file.getvalue()


def bands(**options: Any) -> bytes:
    """A TIFF of five samples a pixel, which tifffile decodes."""
    import tifffile

    file = io.BytesIO()
    values = np.dstack([PIXELS, PIXELS[..., :2]]).astype(np.uint16) * 7
    tifffile.imwrite(file, values, photometric="minisblack", planarconfig="contig", **options)
    return file.getvalue()


IMAGES = {
    **{kind: encoded(kind) for kind in FORMATS},
    "TIFF-deflate": encoded("TIFF", compression="tiff_adobe_deflate"),
    "PNG-16": deep("PNG"),
    "TIFF-16": deep("TIFF"),
    "NPY": array(),
    "GIF-many": encoded("GIF", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])]),
}

if find_spec("tifffile"):
    IMAGES["TIFF-5"] = bands()
    IMAGES["TIFF-5-lzw"] = bands(compression="lzw", predictor=True)
    IMAGES["TIFF-5-tiles"] = bands(compression="zlib", tile=(16, 16))


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "mask.png"

    @FUZZ
    @given(EDITS)
    def run(edits: list[Edit]) -> None:
        content = changed(IMAGES[kind], edits)
        for channels, reading in ((3, Reading()), (1, Reading("stretch-each")), (5, Reading())):
            with contextlib.suppress(InputError):
                decode_image(content, channels, "a", reading=reading)
        with contextlib.suppress(InputError):
            decode_tensor(content, 3, "a")
        place.write_bytes(content)
        with contextlib.suppress(InputError):
            open_mask(place).read()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()


def checkpoint(folder: Path, *, zipped: bool) -> Path:
    path = folder / "a.pth"
    state = {"state_dict": {"a.weight": torch.ones(3, 4), "b": torch.arange(5)}, "epoch": 3}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    return path


def safetensors(folder: Path) -> Path:
    return Path(shutil.copy(BUNDLES / "schema-1" / "model.safetensors", folder / "a.safetensors"))


@pytest.mark.parametrize(
    "make",
    [lambda folder: checkpoint(folder, zipped=True), lambda folder: checkpoint(folder, zipped=False), safetensors],
    ids=["zip", "legacy", "safetensors"],
)
def test_checkpoints(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path)
    content = path.read_bytes()

    @FUZZ
    @given(EDITS)
    def run(edits: list[Edit]) -> None:
        path.write_bytes(changed(content, edits))
        with contextlib.suppress(InputError):
            read_checkpoint(path)

    run()


@pytest.mark.parametrize("schema", [1, 2, 3])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_bundles(schema: int, file: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BUNDLES / f"schema-{schema}", tmp_path / "bundle"))
    content = (folder / file).read_bytes()

    @FUZZ
    @given(EDITS)
    def run(edits: list[Edit]) -> None:
        (folder / file).write_bytes(changed(content, edits))
        with contextlib.suppress(InputError):
            read_bundle(folder)

    run()


def test_exported_files(tmp_path: Path) -> None:
    path = Path(tiny(tmp_path))
    content = path.read_bytes()

    @FUZZ
    @given(EDITS)
    def run(edits: list[Edit]) -> None:
        path.write_bytes(changed(content, edits))
        with contextlib.suppress(InputError, WorkError):
            read_exported(path)

    run()
