"""TIFF directories, honest and dishonest layouts, no-data, and bands that Pillow does not read."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fishnet.errors import InputError
from fishnet.images.decoding import decode_image
from fishnet.images.geo import georeference
from fishnet.images.opening import open_image
from fishnet.images.reading import Reading
from fishnet.images.tiff import check_layout, directories, no_data_of
from tests.hostile.images import floats, giant_tile, overlapping, saved, short_tiff, tag_bomb

tifffile = pytest.importorskip("tifffile")


def written(array: np.ndarray, **options: Any) -> bytes:
    """An array as a TIFF by tifffile."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def bands(count: int, dtype: str = "uint16", height: int = 70, width: int = 90) -> np.ndarray:
    """Noise of so many bands."""
    values = np.random.default_rng(count).integers(0, 250, (height, width, count))
    return values.astype(dtype)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [True, False])
def test_directories(byteorder: str, bigtiff: bool) -> None:
    extra = [(33550, 12, 3, (0.1, 1 / 3, 0.0), True), (42113, 2, 6, "-9999", True)]
    content = written(bands(3, "uint8"), byteorder=byteorder, bigtiff=bigtiff, photometric="rgb", extratags=extra)
    (page,) = directories(content)
    assert (page.number(256, 0), page.number(257, 0), page.number(277, 0)) == (90, 70, 3)
    assert page[33550].values.tolist() == [0.1, 1 / 3, 0.0]
    assert no_data_of(content) == -9999
    for end in range(0, 200, 7):
        directories(content[:end])


def test_pages_in_a_circle_end() -> None:
    content = bytearray(
        saved(Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))] * 3)
    )
    pages = directories(bytes(content), 9)
    assert len(pages) == 4
    first = int.from_bytes(content[4:8], "little")
    count = int.from_bytes(content[first : first + 2], "little")
    content[first + 2 + 12 * count :][:4] = b""
    content[first + 2 + 12 * count : first + 6 + 12 * count] = content[4:8]
    assert len(directories(bytes(content), 9)) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [(overlapping(9), "strips overlap"), (giant_tile(), "tiles of 30,000 x 30,000 px for 16 x 16"),
     (short_tiff(), "truncated"), (tag_bomb(), "tags hold more bytes"), (tag_bomb(5000, 9), "page of 5,009 tags")],
)  # fmt: skip
def test_dishonest_layouts(content: bytes, words: str) -> None:
    for channels in (1, 3, 5):
        with pytest.raises(InputError, match=words):
            decode_image(content, channels)


def test_tags_are_bounded_in_open_files_too(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tag_bomb())
    with path.open("rb") as file, pytest.raises(InputError, match="tags hold more bytes"):
        open_image(file)
    with pytest.raises(InputError, match=r"a\.tif: refused"):
        georeference(path)


@pytest.mark.parametrize(
    "options", [{}, {"tile": (32, 32)}, {"rowsperstrip": 8}, {"tile": (32, 32), "compression": "zlib"}]
)
def test_honest_layouts(options: dict[str, Any]) -> None:
    check_layout(written(bands(3, "uint8"), photometric="rgb", **options))


@pytest.mark.parametrize("text", ["-9999", "nan", "0", " -3.4e+38 ", "none", ""])
def test_no_data_tag(text: str) -> None:
    expected = {"none": None, "": None}.get(text, text)
    value = no_data_of(floats(np.zeros((4, 4), np.float32), text or "\0"))
    assert value is None if expected is None else repr(value) == repr(float(expected))
    assert no_data_of(saved(Image.new("L", (4, 4)), "PNG")) is None


class TestBandsThatPillowDoesNotRead:
    """By tifffile: compressed and tiled pages of many bands."""

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    @pytest.mark.parametrize("count", [2, 4, 5, 12])
    @pytest.mark.parametrize(
        "options",
        [{"compression": "lzw"}, {"compression": "zlib", "predictor": True}, {"tile": (32, 48)},
         {"compression": "zstd"}, {"compression": "zlib", "tile": (32, 32), "planarconfig": "separate"}],
    )  # fmt: skip
    def test_many(self, dtype: str, count: int, options: dict[str, Any]) -> None:
        array = bands(count, dtype)
        separate = options.get("planarconfig") == "separate"
        stored = np.moveaxis(array, -1, 0) if separate else array
        content = written(stored, photometric="minisblack", **{"planarconfig": "contig", **options})
        decoded = np.asarray(decode_image(content, count))
        np.testing.assert_array_equal(decoded, array / np.float32(256) if dtype == "uint16" else array)

    @pytest.mark.parametrize("compression", [None, "lzw"])
    def test_three_bands_of_floats(self, compression: str | None) -> None:
        array = bands(3, "float32") / np.float32(250)
        content = written(array, photometric="rgb", compression=compression)
        decoded = np.asarray(decode_image(content, 3, reading=Reading("stretch", (0.0, 1.0))))
        assert np.abs(decoded.astype(float) - array * 255).max() <= 0.51  # rounding
        with pytest.raises(InputError, match=r"float32.*sixteen_bit stretch"):
            decode_image(content, 3)

    @pytest.mark.parametrize("package", ["tifffile", "imagecodecs"])
    @pytest.mark.parametrize("channels", [5, 3])
    def test_missing_packages_are_named(self, channels: int, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
        content = written(bands(channels), photometric="minisblack", planarconfig="contig")
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InputError, match=rf"a\.tif: .* {package} is missing: pip install 'fishnet-vision\[data\]'"):
            decode_image(content, channels, "a.tif")
        pages = written(np.moveaxis(bands(channels), -1, 0), photometric="minisblack")
        assert np.asarray(decode_image(pages, channels)).size, "pages of grey need neither"

    @pytest.mark.parametrize("count", [2, 3])
    def test_pages_of_many_samples(self, count: int) -> None:
        stack = np.stack([bands(3), bands(3) + 1, bands(3) + 2])[:count]
        for photometric in ("rgb", "minisblack"):
            content = written(stack, photometric=photometric, planarconfig="contig")
            decoded = decode_image(content, 3 * count)
            np.testing.assert_array_equal(decoded, np.concatenate(list(stack), -1) / np.float32(256))
        with pytest.raises(InputError, match=f"holds {3 * count} channels, but the model takes 5"):
            decode_image(content, 5)

    @pytest.mark.parametrize("compression", [None, "lzw"])
    def test_premultiplied_alpha_stays_as_it_is(self, compression: str | None) -> None:
        array = bands(4, "uint8")
        content = written(array, photometric="rgb", extrasamples=["assocalpha"], compression=compression)
        np.testing.assert_array_equal(decode_image(content, 4), array)

    @pytest.mark.parametrize("channels", [5, 3])
    def test_encoded_images_inside_are_refused(self, channels: int) -> None:
        """LERC, JPEG and others state a size of their own: of a page of 16 x 16 px one decoded to 30,000 x 30,000."""
        content = written(bands(5), photometric="minisblack", planarconfig="contig", compression="lerc")
        with pytest.raises(InputError, match="is a TIFF of compression 34887: save it with one of none, LZW, deflate"):
            decode_image(content, channels)

    def test_turned_pages_are_refused(self) -> None:
        options = {"photometric": "minisblack", "planarconfig": "contig", "extratags": [(274, 3, 1, 6, True)]}
        with pytest.raises(InputError, match="orientation tag that turns it"):
            decode_image(written(bands(5), **options), 5)

    def test_broken(self) -> None:
        content = written(bands(5), photometric="minisblack", compression="lzw", planarconfig="contig")
        for end in range(100, len(content), len(content) // 7):
            with pytest.raises(InputError):
                decode_image(content[:end], 5)

    def test_declared_sizes_are_bounded(self) -> None:
        content = written(
            bands(5, "float32", 16, 16), photometric="minisblack", compression="zlib", planarconfig="contig"
        )
        at = (
            content.index(b"\0\1\3\0\1\0\0\0\x10\0")
            if b"\0\1\3\0\1\0\0\0\x10\0" in content
            else content.index(b"\0\1\4\0")
        )
        big = bytearray(content)
        for tag in (0, 12):
            big[at + tag + 2 : at + tag + 4], big[at + tag + 8 : at + tag + 12] = (
                b"\4\0",
                (12_000).to_bytes(4, "little"),
            )
        with pytest.raises(InputError, match="GB to decode"):
            decode_image(bytes(big), 5)


@pytest.mark.parametrize("stand_in", [-9999.0, np.nan])
def test_no_data_of_many_bands_is_the_smallest_other_value(stand_in: float, tmp_path: Path) -> None:
    array = bands(4, "float32")
    array[:9, :9] = stand_in
    text = "nan" if np.isnan(stand_in) else "-9999"
    content = written(
        array, photometric="minisblack", planarconfig="contig", extratags=[(42113, 2, len(text) + 1, text, True)]
    )
    decoded = np.asarray(decode_image(content, 4))
    assert decoded.min() >= 0
    for band in range(4):
        assert (decoded[:9, :9, band] == decoded[9:, :, band].min()).all() or decoded[:9, :9, band].max() <= 1
    np.testing.assert_array_equal(decoded[9:], array[9:])


def test_pillow_tags_are_read_alike() -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info.tagtype[33922], info[33922] = 12, (0.0, 0.0, 0.0, 440720.1234567891, 3751320.0000000005, 0.0)
    (page,) = directories(saved(Image.new("L", (3, 3)), "TIFF", tiffinfo=info))
    assert tuple(page[33922].values.tolist()) == info[33922]
