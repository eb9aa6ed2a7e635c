"""Every kind of image file becomes an upright 8-bit image, or one clear line."""

import io
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fishnet.bundle.classes import Classes
from fishnet.data.base import EncodedDataset, Subset
from fishnet.data.decode import decode_tensor
from fishnet.data.detection.base import DetectionDataset
from fishnet.data.detection.objects import Objects
from fishnet.errors import InputError
from fishnet.images.decoding import EXTENSIONS, decode_image, mode_of, read_image, to_channels
from fishnet.images.depth import stretched
from fishnet.images.reading import Reading
from fishnet.images.scanning import find_images

# Four colours, no two of equal brightness, in an arrangement without any symmetry.
UPRIGHT = np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[250, 250, 250], [0, 0, 0], [90, 90, 90]]], np.uint8)

# How the pixels of an upright image are stored under each EXIF orientation (CIPA DC-008, tag 274).
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("channels", [3, 1])
def test_orientation(orientation: int, channels: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation])).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png", channels)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.fromarray(UPRIGHT).convert(mode_of(channels))))
    assert to_channels(image, channels).tobytes() == image.tobytes(), "it is turned once only"


def one_pixel(path: Path, channels: int = 3) -> object:
    """The value of all of an image's pixels, which are alike."""
    array = np.asarray(read_image(path, channels))
    first = array[0, 0]
    assert (array == first).all()
    return first.tolist()


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png")
    assert one_pixel(tmp_path / "a.png") == [10, 200, 30]


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_a_transparent_colour(suffix: str, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / f"a.{suffix}", transparency=0)
    array = np.asarray(read_image(tmp_path / f"a.{suffix}"))
    assert array.tolist() == [[[255, 255, 255], [10, 200, 30]]], "transparent is white"


@pytest.mark.parametrize(
    ("mode", "value", "rgb"),
    [
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),  # a fifth black over white
        ("LA", (40, 0), [255, 255, 255]),
        ("LA", (40, 255), [40, 40, 40]),
        ("1", 1, [255, 255, 255]),
        ("1", 0, [0, 0, 0]),
        ("L", 77, [77, 77, 77]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
    ],
)
def test_modes(mode: str, value: object, rgb: list[int], tmp_path: Path) -> None:
    Image.new(mode, (3, 2), value).save(tmp_path / "a.png")  # type: ignore[arg-type]
    assert one_pixel(tmp_path / "a.png") == rgb
    if len(set(rgb)) == 1:
        assert one_pixel(tmp_path / "a.png", 1) == rgb[0]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("kind", "value"), [("RGB", (10, 20, 30)), ("L", 10)])
def test_the_transparent_colour_of_a_png(kind: str, value: object, channels: int, tmp_path: Path) -> None:
    Image.new(kind, (3, 2), value).save(tmp_path / "a.png", transparency=value)  # type: ignore[arg-type]
    assert one_pixel(tmp_path / "a.png", channels) == ([255] * 3 if channels == 3 else 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_its_upper_half(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255, 256, 32768, 65535]], np.uint16)).save(tmp_path / f"a.{suffix}")
    for channels in (3, 1):
        array = np.asarray(read_image(tmp_path / f"a.{suffix}", channels))
        assert array.reshape(5, -1)[:, 0].tolist() == [0, 0, 1, 128, 255]


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    # 3: JPEG's own rounding
    np.testing.assert_allclose(one_pixel(tmp_path / "a.jpg"), [255, 0, 0], atol=3)  # type: ignore[arg-type]
    assert one_pixel(tmp_path / "a.jpg", 1) == pytest.approx(76, abs=3)  # the luma of pure red


def test_cmyk_of_a_tiff(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert one_pixel(tmp_path / "a.tif") == [255, 0, 0]


def test_adobes_inverted_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (179, 0, 0, 255)).save(tmp_path / "a.jpg", quality=100)
    data = (tmp_path / "a.jpg").read_bytes()
    marker = data.index(b"Adobe")
    assert data[marker + 11] == 0, "the last byte of the marker: 0 CMYK, 2 its first three as luma and chroma"
    assert one_pixel(tmp_path / "a.jpg") == [0, 0, 0], "all black ink"
    # Stored is 255 - ink: 76, 85, 255. As luma and chroma that is red, 255 - (0, 255, 255): 255 - the ink of cyan.
    Image.new("CMYK", (16, 16), (179, 170, 0, 0)).save(tmp_path / "b.jpg", quality=100)
    data = bytearray((tmp_path / "b.jpg").read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    (tmp_path / "b.jpg").write_bytes(data)
    np.testing.assert_allclose(one_pixel(tmp_path / "b.jpg"), [0, 255, 255], atol=3)  # type: ignore[arg-type]


def test_16_bit_colour(tmp_path: Path) -> None:
    header = struct.pack(">2I5B", 2, 1, 16, 2, 0, 0, 0)  # Pillow writes no such PNG, other programs do
    values = struct.pack(">x6H", 0, 255, 256, 32768, 65535, 25_700)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(values)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    assert np.asarray(read_image(tmp_path / "a.png")).tolist() == [[[0, 0, 1], [128, 255, 100]]]


def test_float(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1.6, 127.5, 254.9, 300, -5]], np.float32)).save(tmp_path / "a.tif")
    array = np.asarray(read_image(tmp_path / "a.tif", 1)).astype(int)
    assert np.abs(array - [[0, 1.6, 127.5, 254.9, 255, 0]]).max() <= 1, "0 to 255, beyond is cut off"


# more than 8 bits, stretched from each image's own range


def camera(top: int, kind: str = "uint16", low: int = 0) -> np.ndarray:
    """A ramp over a narrow part of a wide range of numbers, as of a microscope; (40, 50)."""
    ramp = np.linspace(low, top, 2000).reshape(40, 50)
    return (ramp if "float" in kind else ramp.round()).astype(kind)


RAMP = np.linspace(0, 255, 2000).reshape(40, 50)


@pytest.mark.parametrize(("top", "low"), [(235, 0), (4095, 0), (4095, 3000), (65_535, 0)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_stretched(suffix: str, channels: int, top: int, low: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(camera(top, low=low)).save(path)
    decoded = np.asarray(read_image(path, channels, reading=Reading("stretch"))).reshape(40, 50, -1)
    assert (decoded == decoded[..., :1]).all()
    assert (decoded.dtype, decoded.min(), decoded.max()) == (np.uint8, 0, 255)
    # the percentiles cut off 0.1 % at either end: 0.25 of 255 at the ends; each value is off by up to one step of the
    # file's whole numbers, and by half of one of 8 bits
    assert np.abs(decoded[..., 0] - RAMP).max() <= 0.26 + 255 / (top - low) + 0.5
    tensor = decode_tensor(path.read_bytes(), channels, reading=Reading("stretch"))
    np.testing.assert_array_equal(tensor.permute(1, 2, 0).numpy(), decoded)


@pytest.mark.parametrize("kind", ["int32", "float32"])
def test_wider_grey_stretched(kind: str, tmp_path: Path) -> None:
    Image.fromarray(camera(900, kind, -100)).save(tmp_path / "a.tif")
    decoded = np.asarray(read_image(tmp_path / "a.tif", 1, reading=Reading("stretch")))
    assert np.abs(decoded - RAMP).max() <= 0.26 + 255 / 1000 + 0.5
    if kind == "float32":
        Image.fromarray(camera(1000, kind) / 1000).save(tmp_path / "a.tif")
        decoded = np.asarray(read_image(tmp_path / "a.tif", 1, reading=Reading("stretch")))
        assert np.abs(decoded - RAMP).max() <= 0.26 + 0.5, "floats of 0 to 1 have a range, too"
        Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match="holds values that are not finite"):
            read_image(tmp_path / "a.tif", 1, reading=Reading("stretch"))


@pytest.mark.parametrize("kind", ["uint16", "int16", "int32", "float32", "float64"])
def test_an_array_stretched(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", camera(900, kind))
    decoded = np.asarray(read_image(tmp_path / "a.npy", 1, reading=Reading("stretch")))
    assert np.abs(decoded - RAMP).max() <= 0.26 + 255 / 900 + 0.5
    if kind != "uint16":
        with pytest.raises(InputError, match=f"holds {kind}: for 1 or 3 channels save uint8"):
            read_image(tmp_path / "a.npy", 1)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """(height, width, 3 or 4) uint16 as a PNG, which Pillow does not write, in which every row is filtered ("up")."""
    height, width, bands = values.shape
    rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), np.diff(rows, axis=0, prepend=np.uint8(0))], 1)
    header = struct.pack(">2I5B", width, height, 16, 2 if bands == 3 else 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff_of_16_bits(values: np.ndarray, order: str, orientation: int = 1, deflate: bool = False) -> bytes:
    """(height, width, 3) uint16 as a TIFF of either byte order, which Pillow does not write."""
    height, width, _ = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 0), (259, 3, 1, 8 if deflate else 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 0)]
    tags += [(274, 3, 1, orientation), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels))]
    after = 8 + 2 + 12 * len(tags) + 4
    body = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        place = {258: after, 273: after + 6}.get(tag, value)
        packed = struct.pack(f"{order}HH", place, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", place)
        body += struct.pack(f"{order}HHI", tag, kind, count) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + body + bytes(4) + struct.pack(f"{order}3H", 16, 16, 16) + pixels


@pytest.mark.parametrize("form", ["png", "png with alpha", "tif <", "tif >", "deflated tif <", "deflated tif >"])
def test_16_bit_colour_stretched(form: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(100, 3000, (12, 9, 3)).astype(np.uint16)
    if form.startswith("png"):
        opaque = np.full((12, 9, 1), 65_535, np.uint16)
        encoded = png_of_16_bits(np.concatenate([values, opaque], -1) if "alpha" in form else values)
    else:
        encoded = tiff_of_16_bits(values, form[-1], deflate="deflated" in form)
    (tmp_path / "a").write_bytes(encoded)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a", reading=Reading("stretch"))), stretched(values))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a")), values >> 8)


def test_16_bit_colour_stretched_is_upright(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(100, 3000, (4, 3, 3)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff_of_16_bits(values, "<", orientation=6))
    upright = np.rot90(stretched(values), -1)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.tif", reading=Reading("stretch"))), upright)


def test_16_bit_colour_with_alpha_lies_on_white(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 4), np.uint16)
    values[0] = 700, 700, 700, 65_535
    (tmp_path / "a.png").write_bytes(png_of_16_bits(values))
    decoded = np.asarray(read_image(tmp_path / "a.png", reading=Reading("stretch")))
    assert decoded[:, 0, 0].tolist() == [255, 255], "the brightest; and nothing, on white"


def test_one_value_has_no_range() -> None:
    assert stretched(np.full((3, 3), 500, np.uint16)).tolist() == [[0] * 3] * 3
    assert stretched(np.full((3, 3), 0.5)).tolist() == [[0] * 3] * 3
    assert stretched(np.array([[7, 8]], np.uint16)).tolist() == [[0, 255]]
    two = np.array([0] * 9_999 + [65_535], np.uint16)
    assert stretched(two)[-1] == 255, "a hot pixel alone makes no range"
    assert stretched(np.array([0] * 9_000 + [60] * 999 + [65_535], np.uint16))[[0, 9_500, -1]].tolist() == [0, 255, 255]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_8_bits_are_never_stretched(mode: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(90, 130, (20, 20, 3), dtype=np.uint8)
    suffix = "tif" if mode == "CMYK" else "png"
    Image.fromarray(noise).convert(mode).save(tmp_path / f"a.{suffix}")
    for channels in (1, 3):
        plain, decoded = (
            read_image(tmp_path / f"a.{suffix}", channels, reading=Reading(p)) for p in ("shift", "stretch")
        )
        assert plain.tobytes() == decoded.tobytes()  # type: ignore[union-attr]


def test_an_open_image_is_stretched_as_a_file_is(tmp_path: Path) -> None:
    Image.fromarray(camera(300)).save(tmp_path / "a.tif")
    from_file = read_image(tmp_path / "a.tif", 1, reading=Reading("stretch"))
    for opened in (Image.open(tmp_path / "a.tif"), camera(300)[..., None]):
        assert to_channels(opened, 1, Reading("stretch")).tobytes() == from_file.tobytes()
        assert to_channels(opened, 1).tobytes() != from_file.tobytes()
    assert to_channels(from_file, 1, Reading("stretch")).tobytes() == from_file.tobytes(), "once only"


class OneFile(EncodedDataset):
    classes, channels, labels = Classes.of(["a"]), 1, [0, 0]

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return 2

    def source(self, index: int) -> str:
        return str(self.path)

    def encoded(self, index: int) -> bytes:
        return self.path.read_bytes()


class OneRegion(DetectionDataset):
    classes, channels, with_masks, entries = Classes.of(["a"]), 1, False, [0, 0]
    source, encoded = OneFile.source, OneFile.encoded

    def __init__(self, path: Path) -> None:
        self.path = path

    def objects(self, index: int) -> Objects:
        return Objects.of([], [])

    def location(self, index: int, number: int) -> str:
        return self.source(index)


@pytest.mark.parametrize("kind", [OneFile, OneRegion])
def test_a_set_reads_as_it_is_told_and_so_do_its_parts(kind: type[OneFile] | type[OneRegion], tmp_path: Path) -> None:
    Image.fromarray(camera(235)).save(tmp_path / "a.tif")
    images = kind(tmp_path / "a.tif")
    assert np.asarray(images.read(0)[0]).max() == images.read_tensor(0)[0].max() == 0, "as published models were"
    images.reading = Reading("stretch")
    subset = Subset(images, [1]) if isinstance(images, OneFile) else images.subset([1])
    for dataset in (images, subset):
        assert dataset.reading == Reading("stretch")
        assert np.asarray(dataset.read(0)[0]).max() == dataset.read_tensor(0)[0].max() == 255
    if isinstance(subset, Subset):
        subset.reading = Reading("shift")
        assert images.reading == Reading("shift")


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for suffix in ("gif", "webp"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {})
        )
        assert one_pixel(path) == [255, 0, 0]


@pytest.mark.parametrize("suffix", EXTENSIONS)
def test_every_ending_can_be_read(suffix: str, tmp_path: Path) -> None:
    if suffix == ".npy":
        np.save(tmp_path / "a.npy", np.full((4, 6, 3), 255, np.uint8))
    else:
        Image.new("L" if suffix == ".pgm" else "RGB", (6, 4), "white").save(tmp_path / f"a{suffix}")
    assert one_pixel(tmp_path / f"a{suffix}") == [255, 255, 255]


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "gif", "ppm"])
def test_truncated(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(content[: len(content) // 2])
    assert refusal(tmp_path / f"a.{suffix}").startswith(("broken image (", "not an image"))


@pytest.mark.parametrize("content", [b"", b"this is text", b"\xff\xd8\xff garbage", b"\x89PNG\r\n\x1a\n"])
def test_no_image(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert refusal(tmp_path / "a.png").startswith("not an image that can be read")


def test_nothing_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.png") == "no such file"
    assert refusal(tmp_path) == "is a folder, not an image"


def test_damaged_bytes_are_refused_or_read_and_never_crash(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[274] = 6
    refused = []
    for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF"):
        stream = io.BytesIO()
        image.save(stream, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}))
        for _ in range(60):
            data = np.frombuffer(stream.getvalue(), np.uint8).copy()
            data[rng.integers(0, min(len(data), 200), 4)] = rng.integers(0, 256, 4)
            (tmp_path / "a.png").write_bytes(data.tobytes())
            try:
                read_image(tmp_path / "a.png")
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in line for line in refused)
    assert capfd.readouterr() == ("", ""), "nor do the libraries below Pillow write anything themselves"


def test_what_pillow_only_warns_of_is_no_concern_of_the_user(tmp_path: Path) -> None:
    damaged = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09garbage"
    Image.new("RGB", (8, 8), "white").save(tmp_path / "a.jpg", exif=damaged)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
        assert raised, "Pillow warns of this file"
        raised.clear()
        assert one_pixel(tmp_path / "a.jpg") == [255, 255, 255]
        assert not raised


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_the_limit_of_pixels_is_the_readers_own(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for side in (15, 16):
        Image.new("L", (side, side)).save(tmp_path / f"{side}.{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 7)  # Pillow's, for whatever else a program opens
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / f"15.{suffix}", reading=Reading(max_pixels=225)).size == (15, 15)
    with pytest.raises(InputError, match=r"refused, too many pixels \(16 x 16, at most 225\): raise max_pixels to 256"):
        read_image(tmp_path / f"16.{suffix}", reading=Reading(max_pixels=225))
    assert Image.MAX_IMAGE_PIXELS == 7


def test_pixels_beyond_all_reason(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">2I", 30_000, 30_000)  # the header's width and height, and its checksum
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    assert refusal(tmp_path / "a.png").startswith("refused, too many pixels")


def test_find_images(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "sub/c.JPEG", "sub/deeper/d.webp", "10.png", "9.png"]
    others = [".hidden.png", ".cache/e.png", "sub/.thumbs/f.jpg", "notes.txt", "g.png.txt", "sub/h"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    paths = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert paths == ["10.png", "9.png", "a.jpg", "b.PNG", "sub/c.JPEG", "sub/deeper/d.webp"]


def test_a_hidden_folder_that_is_named_itself_is_searched(tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "a.png").touch()
    assert len(find_images(tmp_path / ".data")) == 1


def test_mode_of() -> None:
    assert (mode_of(1), mode_of(3)) == ("L", "RGB")
    with pytest.raises(InputError, match="4 input channels"):
        mode_of(4)


def test_threads_that_decode_leave_warnings_as_they_were() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(stream, "PNG")
    content = stream.getvalue()
    before = list(warnings.filters)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert len(list(pool.map(decode_image, [content] * 400))) == 400
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before
