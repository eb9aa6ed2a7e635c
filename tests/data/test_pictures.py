"""Every kind of picture file becomes an upright 8-bit picture, or one clear line."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fishnet.data.pictures import EXTENSIONS, find_pictures, mode_of, read_picture, to_channels
from fishnet.errors import InputError

# Four colours, no two of equal brightness, in an arrangement without any symmetry.
UPRIGHT = np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[250, 250, 250], [0, 0, 0], [90, 90, 90]]], np.uint8)

# How the pixels of an upright picture are stored under each EXIF orientation (CIPA DC-008, tag 274).
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
    image = read_picture(tmp_path / "a.png", channels)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.fromarray(UPRIGHT).convert(mode_of(channels))))
    assert to_channels(image, channels).tobytes() == image.tobytes(), "it is turned once only"


def one_pixel(path: Path, channels: int = 3) -> object:
    """The value of all of a picture's pixels, which are alike."""
    array = np.asarray(read_picture(path, channels))
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
    array = np.asarray(read_picture(tmp_path / f"a.{suffix}"))
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
        array = np.asarray(read_picture(tmp_path / f"a.{suffix}", channels))
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
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.asarray(read_picture(tmp_path / "a.png")).tolist() == [[[0, 0, 1], [128, 255, 100]]]


def test_float(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1.6, 127.5, 254.9, 300, -5]], np.float32)).save(tmp_path / "a.tif")
    array = np.asarray(read_picture(tmp_path / "a.tif", 1)).astype(int)
    assert np.abs(array - [[0, 1.6, 127.5, 254.9, 255, 0]]).max() <= 1, "0 to 255, beyond is cut off"


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
        read_picture(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "gif", "ppm"])
def test_truncated(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])
    assert refusal(tmp_path / f"a.{suffix}").startswith(("broken picture (", "not a picture"))


@pytest.mark.parametrize("content", [b"", b"this is text", b"\xff\xd8\xff garbage", b"\x89PNG\r\n\x1a\n"])
def test_no_picture(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert refusal(tmp_path / "a.png") == "not a picture that can be read"


def test_nothing_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.png") == "no such file"
    assert refusal(tmp_path) == "is a folder, not a picture"


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
                read_picture(tmp_path / "a.png")
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in line for line in refused)
    assert capfd.readouterr() == ("", ""), "nor do the libraries below Pillow write anything themselves"


def test_what_pillow_only_warns_of_is_no_concern_of_the_user(tmp_path: Path) -> None:
    damaged = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09garbage"
    Image.new("RGB", (8, 8), "white").save(tmp_path / "a.jpg", exif=damaged)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
        assert said, "Pillow warns of this file"
        said.clear()
        assert one_pixel(tmp_path / "a.jpg") == [255, 255, 255]
        assert not said


@pytest.mark.parametrize("side", [12, 40])  # a little too many pixels (a warning of Pillow's), and far too many
def test_a_bomb_is_refused(side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 121)
    assert refusal(tmp_path / "a.png").startswith("refused, too many pixels")


def test_pixels_beyond_all_reason(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = struct.pack(">2I", 30_000, 30_000)  # the header's width and height, and its checksum
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    assert refusal(tmp_path / "a.png").startswith("refused, too many pixels")


def test_find_pictures(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpg", "sub/c.JPEG", "sub/deeper/d.webp", "10.png", "9.png"]
    others = [".hidden.png", ".cache/e.png", "sub/.thumbs/f.jpg", "notes.txt", "g.png.txt", "sub/h"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    assert found == ["10.png", "9.png", "a.jpg", "b.PNG", "sub/c.JPEG", "sub/deeper/d.webp"]


def test_a_hidden_folder_that_is_named_itself_is_searched(tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "a.png").touch()
    assert len(find_pictures(tmp_path / ".data")) == 1


def test_mode_of() -> None:
    assert (mode_of(1), mode_of(3)) == ("L", "RGB")
    with pytest.raises(InputError, match="4 input channels"):
        mode_of(4)
