"""Images of more than 8 bits: one range for a set, no-data left out, and what a check says of a near-black set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fishnet.data.classification.folder import ImageFolder
from fishnet.data.plausibility_depth import plausibility
from fishnet.errors import InputError
from fishnet.images.decoding import read_image
from fishnet.images.depth import percentiles, stretched
from fishnet.images.preprocess import Preprocess
from fishnet.images.reading import Reading
from fishnet.images.value_range import measure, set_range


def save(path: Path, values: np.ndarray, no_data: str | None = None) -> None:
    """A grey file, perhaps with GDAL's tag of no-data."""
    path.parent.mkdir(exist_ok=True, parents=True)
    if path.suffix == ".npy":
        np.save(path, values)
        return
    info = TiffImagePlugin.ImageFileDirectory_v2()
    if no_data is not None:
        info.tagtype[42113], info[42113] = 2, no_data
    Image.fromarray(values).save(path, **({"tiffinfo": info} if path.suffix == ".tif" else {}))


def folder(
    root: Path, kind: str, suffix: str = ".tif", corner: float | None = None, tag: str | None = None
) -> ImageFolder:
    """Two classes of two images each: a ramp whose range is the kind's."""
    low, high, dtype = {
        "12 bits": (0, 4095, "uint16"), "16 bits": (0, 65_535, "uint16"), "0 to 1": (0, 1, "float32"),
        "signed": (-1024, 3071, "int16"), "metres": (100, 300, "float32"), "bytes": (0, 255, "uint8"),
    }[kind]  # fmt: skip
    for i in range(4):
        ramp = np.linspace(low, high, 6000).reshape(60, 100)
        ramp = ramp.round() if dtype != "float32" else ramp
        if corner is not None:
            ramp[:20, :20] = corner
        save(root / "ab"[i % 2] / f"{i}{suffix}", ramp.astype(dtype), tag)
    return ImageFolder(root, 1)


@pytest.mark.parametrize(
    ("kind", "suffix", "low", "high", "dark"),
    [("12 bits", ".png", 0, 4095, True), ("12 bits", ".tif", 0, 4095, True), ("12 bits", ".npy", 0, 4095, True),
     ("0 to 1", ".tif", 0, 1, True), ("signed", ".tif", -1024, 3071, True), ("16 bits", ".png", 0, 65_535, False),
     ("metres", ".tif", 100, 300, False)],
)  # fmt: skip
def test_the_range_of_a_set(kind: str, suffix: str, low: float, high: float, dark: bool, tmp_path: Path) -> None:
    images = folder(tmp_path, kind, suffix)
    measured = measure(images)
    assert (measured.deep, measured.plain, measured.near_black) == (4, 0, dark)
    slack = 0.003 * (
        high - low
    )  # percentiles leave out 0.1 % at either end, and of each image some values are looked at
    assert measured.low == pytest.approx(low, abs=slack)
    assert measured.high == pytest.approx(high, abs=slack)
    assert measured == measure(images), "the same sample each time"
    codes = [finding.code for finding in plausibility({"train": images})]
    assert codes == (["image-near-black"] if dark else [])
    span = set_range(images)
    assert span == (measured.low, measured.high)
    images.reading = Reading("stretch", span)
    assert plausibility({"train": images}) == []
    levels = np.unique(np.asarray(images.read(0)[0]))
    assert len(levels) > 250, "of 256; 12 bits cut off to 8 have 16"


def test_a_finding_says_what_to_do(tmp_path: Path) -> None:
    (finding,) = plausibility({"train": folder(tmp_path, "12 bits", ".png")})
    assert (finding.severity, finding.split, finding.count) == ("warning", "train", 4)
    assert "--sixteen-bit stretch" in finding.message
    assert "--sixteen-bit stretch" in finding.action


def test_8_bits_have_no_range(tmp_path: Path) -> None:
    images = folder(tmp_path, "bytes", ".png")
    assert (set_range(images), measure(images).plain) == (None, 4)
    assert plausibility({"train": images}) == []


def test_mixed_depth_is_said(tmp_path: Path) -> None:
    folder(tmp_path, "12 bits", ".png")
    save(tmp_path / "a" / "plain.png", np.full((9, 9), 7, np.uint8))
    images = ImageFolder(tmp_path, 1)
    images.reading = Reading("stretch", (0, 4095))
    assert [finding.code for finding in plausibility({"train": images})] == ["image-mixed-depth"]


@pytest.mark.parametrize(("kind", "corner"), [("signed", -9999.0), ("metres", -9999.0), ("metres", -3.4028235e38)])
def test_no_data_that_nothing_declares_is_refused(kind: str, corner: float, tmp_path: Path) -> None:
    images = folder(tmp_path, kind, corner=corner)
    with pytest.raises(InputError, match=r"0\.tif: holds -\S+ in many pixels, which looks like no-data .*gdal_edit"):
        set_range(images)
    assert "image-no-data" in [finding.code for finding in plausibility({"train": images})]


@pytest.mark.parametrize(
    ("kind", "corner", "tag"),
    [("signed", -9999.0, "-9999"), ("metres", -9999.0, "-9999"), ("metres", np.nan, "nan"),
     ("metres", -3.4028235e38, "-3.4028235e+38"), ("metres", -9999.0, "-9999.0")],
)  # fmt: skip
def test_declared_no_data_does_not_count(kind: str, corner: float, tag: str, tmp_path: Path) -> None:
    images = folder(tmp_path, kind, corner=corner, tag=tag)
    low, high = {"signed": (-1024, 3071), "metres": (100, 300)}[kind]
    measured = measure(images)
    assert measured.stand_in is None
    assert measured.no_data == pytest.approx(400 / 6000, abs=0.01)
    span = set_range(images)
    assert span is not None
    assert span[0] >= low
    assert span[1] == pytest.approx(high, abs=0.003 * (high - low))
    for reading in (Reading("stretch", span), Reading("stretch-each")):
        pixels = np.asarray(read_image(images.source(0), 1, reading))
        assert (pixels[:20, :20] == 0).all()
        assert pixels[-1, -1] == 255
        assert 60 < pixels[30, 50] < 180, "the middle of the ramp is grey, not white"
    shifted = np.asarray(read_image(images.source(0), 1))
    assert (shifted[:20, :20] == 0).all()


def test_one_range_keeps_brightness_between_images(tmp_path: Path) -> None:
    save(tmp_path / "a" / "dim.png", np.full((20, 20), 1000, np.uint16))
    save(tmp_path / "b" / "bright.png", np.full((20, 20), 3000, np.uint16))
    images = ImageFolder(tmp_path, 1)
    images.reading = Reading("stretch", set_range(images))
    assert [np.asarray(images.read(i)[0]).max() for i in range(2)] == [0, 255]
    images.reading = Reading("stretch-each")
    assert [np.asarray(images.read(i)[0]).max() for i in range(2)] == [0, 0], "each by itself has no range"


def test_large_arrays_are_sampled_and_stretched_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (400, 512)).astype(np.uint16)
    at_once = stretched(values)
    monkeypatch.setattr("fishnet.images.depth.STRIP", 20_000)
    low, high = percentiles(values)
    assert (low, high) == (pytest.approx(4, abs=8), pytest.approx(4091, abs=8))  # 0.1 % of 4096 grey levels
    assert np.abs(stretched(values).astype(int) - at_once).max() <= 1
    assert np.abs(stretched(values, Reading("stretch", (0, 4095))) - values * (255 / 4095)).max() <= 0.51


class TestInTheBundle:
    """The range travels with the preprocessing."""

    def test_old_bundles_stay_as_they_are(self) -> None:
        old = {"size": [32, 32], "sixteen_bit": "stretch"}
        preprocess = Preprocess.from_dict(old)
        assert preprocess.reading == Reading("stretch", None, min_side=55), "1.5 times 32 px, by the crop of 0.875"
        assert "value_range" not in preprocess.to_dict()

    def test_a_range_is_kept(self) -> None:
        preprocess = Preprocess(sixteen_bit="stretch", value_range=(-1024.0, 3071.0))
        assert Preprocess.from_dict(preprocess.to_dict() | {"value_range": [-1024.0, 3071.0]}) == preprocess

    @pytest.mark.parametrize("wrong", [(1.0,), (2, 1), (float("nan"), 1), ("a", "b"), 7])
    def test_ranges_that_are_none(self, wrong: Any) -> None:
        with pytest.raises(InputError, match="value_range"):
            Preprocess(value_range=wrong)
