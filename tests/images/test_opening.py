"""Image files are opened in one place, by a list of formats, within bounds."""

import ast
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fishnet
from fishnet.data.files import upright_size
from fishnet.errors import InputError
from fishnet.images import opening
from fishnet.images.decoding import EXTENSIONS, decode_image, read_image
from fishnet.images.opening import FORMATS, UnknownImageError, open_image, turned_by_exif
from fishnet.images.reading import MAX_PIXELS, Reading
from tests.hostile.images import EPS, FITS, PSD, noise, saved, scans


def test_nothing_else_opens_images() -> None:
    calls = {}
    for file in sorted(Path(fishnet.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if named in ("Image.open", "PIL.Image.open", "imread", "cv2.imread", "imageio.imread"):
                calls.setdefault(file.name, []).append(named)
    assert calls == {"opening.py": ["Image.open"]}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("as_bytes", [True, False])
def test_formats_that_are_read(form: str, as_bytes: bool) -> None:
    content = saved(noise(mode="P" if form == "GIF" else "RGB"), form)
    with open_image(content if as_bytes else io.BytesIO(content)) as image:
        assert (image.format, image.size) == (form, (40, 30))


@pytest.mark.parametrize(
    ("content", "named"),
    [(EPS, "PostScript"), (PSD, "Photoshop"), (FITS, "FITS"), (saved(noise(16, 16), "ICO"), "ICO"),
     (saved(noise(), "PCX"), "PCX"), (saved(noise(), "TGA"), "not an image"), (saved(noise(), "DDS"), "DDS"),
     (saved(noise(), "SGI"), "SGI"), (saved(noise(16, 16), "ICNS"), "ICNS"), (b"", "empty")],
)  # fmt: skip
def test_formats_that_are_not(content: bytes, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("another program was started"))
    with pytest.raises(UnknownImageError, match=named):
        open_image(content).load()


@pytest.mark.parametrize("suffix", [".jpe", ".jfif", ".avif", ".jp2", ".j2k", ".tif", ".pnm"])
def test_endings_that_users_have(suffix: str, tmp_path: Path) -> None:
    assert suffix in EXTENSIONS
    path = tmp_path / f"a{suffix}"
    form = {".jpe": "JPEG", ".jfif": "JPEG", ".avif": "AVIF", ".tif": "TIFF", ".pnm": "PPM"}.get(suffix, "JPEG2000")
    path.write_bytes(saved(Image.new("RGB", (32, 24), (200, 100, 50)), form))
    mean = np.asarray(read_image(path)).reshape(-1, 3).mean(0)
    np.testing.assert_allclose(mean, (200, 100, 50), atol=4)  # what the lossy ones change


class TestBounds:
    """What is refused before it is decoded."""

    @pytest.mark.parametrize(
        ("form", "mode", "side", "need"),
        [("PNG", "RGBA", 12_000, "1.2 GB"), ("PNG", "I;16", 12_000, "1.3 GB"), ("PNG", "RGB", 13_300, None),
         ("PNG", "L", 13_300, None), ("JPEG", "CMYK", 12_000, "1.2 GB"), ("TIFF", "F", 9_000, "1.1 GB")],
    )  # fmt: skip
    def test_memory(self, form: str, mode: str, side: int, need: str | None) -> None:
        image = Image.new(mode, (8, 8))
        with Image.open(io.BytesIO(saved(image, form))) as opened:
            opened._size = (side, side)
            if need is None:
                opening._check_size(opened, None)
                return
            with pytest.raises(
                InputError, match=f"{side:,} x {side:,} px of {form} {mode} take {need} to decode: set max_pixels"
            ):
                opening._check_size(opened, None)
            opening._check_size(opened, side * side)
            with pytest.raises(InputError, match="too many pixels"):
                opening._check_size(opened, side * side - 1)

    def test_the_users_own_limit_may_be_higher(self) -> None:
        with Image.open(io.BytesIO(saved(noise(), "JPEG"))) as opened:
            opened._size = (20_000, 20_000)
            with pytest.raises(InputError, match=f"at most {MAX_PIXELS:,}"):
                opening._check_size(opened, None)
            opening._check_size(opened, 400_000_000)

    def test_a_whole_limit_leaves_pillows_alone_also_in_threads(self) -> None:
        content, limits = saved(noise(), "PNG"), set[int | None]()

        def work() -> None:
            for _ in range(50):
                open_image(content, 10**9).close()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        limits.add(Image.MAX_IMAGE_PIXELS)
        assert limits == {89_478_485}

    def test_scans(self) -> None:
        assert decode_image(scans(20), 3).size == (64, 64)
        with pytest.raises(InputError, match="JPEG of more than 256 scans"):
            decode_image(scans(300), 3)


def turned(form: str, orientation: int) -> bytes:
    """An image of 30 x 20 px with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return saved(noise(30, 20), form, exif=exif)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_by_exif(form: str, orientation: int, tmp_path: Path) -> None:
    content = turned(form, orientation)
    assert turned_by_exif(content) == (orientation != 1)
    (tmp_path / "a").write_bytes(content)
    image = decode_image(content, 3)
    assert image.size == ((20, 30) if orientation >= 5 else (30, 20))
    assert upright_size(tmp_path / "a", 3) == (image.height, image.width)


def test_damaged_exif_turns_nothing() -> None:
    content = saved(noise(30, 20), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09garbage")
    assert not turned_by_exif(content)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "L", "1", "I;16", "F", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_strips_give_what_the_whole_gives(mode: str, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.random.default_rng(1).integers(0, 65_536, (53, 40))
    deep = {"I;16": np.uint16, "F": np.float32, "I": np.int32}.get(mode)
    if deep is not None:
        content = saved(Image.fromarray((grey / (256 if mode == "F" else 1)).astype(deep)), "TIFF")
    else:
        image = noise(40, 53, "RGBA" if mode in ("RGBA", "LA") else "RGB").convert(mode)
        if "A" in mode:
            image.putalpha(Image.fromarray((grey // 256).astype(np.uint8)))
        content = saved(image, "TIFF" if mode == "CMYK" else "PNG", **({"transparency": 3} if mode == "P" else {}))
    for policy in ("shift", "stretch"):
        at_once = decode_image(content, channels, reading=Reading(policy))
        with monkeypatch.context() as patch:
            patch.setattr("fishnet.images.decoding.STRIP", 300)
            patch.setattr(
                "fishnet.images.depth.strips", lambda array: (slice(i, i + 7) for i in range(0, len(array), 7))
            )
            strips = decode_image(content, channels, reading=Reading(policy))
        np.testing.assert_array_equal(np.asarray(strips), np.asarray(at_once))


def test_an_image_of_the_user_is_never_changed() -> None:
    image = noise(40, 30, "RGBA")
    before = image.tobytes()
    from fishnet.images.decoding import to_channels

    assert to_channels(image, 3).mode == "RGB"
    assert (image.mode, image.tobytes()) == ("RGBA", before)
