"""Image files that are bad, odd, or made to take memory and time, met by ``fishnet predict``."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from tests.hostile.case import Case
from tests.hostile.tiny import tiny

Content = Callable[[], bytes]


def _predicted(name: str, content: Content, folder: Path, *flags: str, **preprocess: Any) -> list[str]:
    """The arguments that predict a file of this name and content."""
    (folder / name).write_bytes(content())
    return ["predict", tiny(folder, **preprocess), str(folder / name), *flags]


def _case(name: str, file: str, content: Content, code: int, *words: str, **preprocess: Any) -> Case:
    return Case(name, partial(_predicted, file, content, **preprocess), code, words)


# files


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """An image as a file's content."""
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(width: int = 40, height: int = 30, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A small image without a pattern."""
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array).convert(mode)


def png(
    width: int, height: int, *chunks: tuple[bytes, bytes], bits: int = 8, kind: int = 2, pixels: bytes = b""
) -> bytes:
    """A PNG file of any chunks, whatever they say."""
    every = [
        (b"IHDR", struct.pack(">2I5B", width, height, bits, kind, 0, 0, 0)),
        *chunks,
        (b"IDAT", pixels),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in every
    )
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(tags: dict[int, tuple[int, tuple[int, ...]]], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of any tags (field type 3 or 4, values); 273 is filled in where it is empty."""
    size = {3: 2, 4: 4}
    head = 8 + 2 + 12 * len(tags) + 4
    extra = sum(size[kind] * len(values) for kind, values in tags.values() if size[kind] * len(values) > 4)
    place, body, more = head, struct.pack("<H", len(tags)), b""
    for tag, (kind, values) in sorted(tags.items()):
        numbers = values or (head + extra,)
        packed = struct.pack(f"<{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        if len(packed) > 4:
            body += struct.pack("<HHII", tag, kind, len(numbers), place)
            more, place = more + packed, place + len(packed)
        else:
            body += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + body + bytes(4) + more + pixels


def overlapping(strips: int, channels: int = 3, rows: int = 64, width: int = 4096) -> bytes:
    """A TIFF whose strips are all the same bytes of the file."""
    size = rows * width * channels
    head = 8 + 2 + 12 * 10 + 4 + 2 * channels + 8 * strips
    return tiff(
        {
            256: (4, (width,)), 257: (4, (rows * strips,)), 258: (3, (8,) * channels), 259: (3, (1,)),
            262: (3, (2 if channels == 3 else 1,)), 273: (4, (head,) * strips), 277: (3, (channels,)),
            278: (4, (rows,)), 279: (4, (size,) * strips), 284: (3, (1,)),
        },
        bytes(size),
    )  # fmt: skip


def giant_tile() -> bytes:
    """A TIFF of 16 x 16 px in one tile of 30,000 x 30,000 px."""
    return tiff(
        {
            256: (4, (16,)), 257: (4, (16,)), 258: (3, (8,)), 259: (3, (8,)), 262: (3, (1,)), 277: (3, (1,)),
            322: (4, (30_000,)), 323: (4, (30_000,)), 324: (4, (180,)), 325: (4, (20,)),
        },
        zlib.compress(bytes(900)),
    )  # fmt: skip


def tag_bomb(tags: int = 2000, size: int = 100_000) -> bytes:
    """A TIFF of 16 x 16 px with many more tags, all of the same bytes of the file."""
    names = {1000 + i: (1, size, 8) for i in range(tags)}
    names |= {256: (4, 1, 16), 257: (4, 1, 16), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
    names |= {277: (3, 1, 1), 278: (4, 1, 16), 279: (4, 1, 256)}
    entries = b"".join(struct.pack("<HHII", tag, *names[tag]) for tag in sorted(names))
    return b"II*\0" + struct.pack("<I", 8 + size) + bytes(size) + struct.pack("<H", len(names)) + entries + bytes(4)


def short_tiff() -> bytes:
    """An uncompressed TIFF of 10,000 x 10,000 px with one byte of pixels."""
    return tiff(
        {
            256: (4, (10_000,)), 257: (4, (10_000,)), 258: (3, (8,)), 259: (3, (1,)), 262: (3, (1,)), 273: (4, ()),
            277: (3, (1,)), 278: (4, (10_000,)), 279: (4, (1,)),
        },
        b"\0",
    )  # fmt: skip


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    content = saved(noise(64, 64), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + content[-2:]


def floats(values: np.ndarray, no_data: str | None = None) -> bytes:
    """A grey TIFF, perhaps with GDAL's tag of no-data."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    if no_data is not None:
        info.tagtype[42113], info[42113] = 2, no_data
    return saved(Image.fromarray(values), "TIFF", tiffinfo=info)


def field(low: float, high: float) -> np.ndarray:
    """A ramp of floats, (48, 64)."""
    return np.linspace(low, high, 48 * 64, dtype=np.float32).reshape(48, 64)


def gapped(value: float) -> np.ndarray:
    """A ramp with a corner of another value."""
    values = field(200, 300)
    values[:10, :10] = value
    return values


def npy(array: np.ndarray) -> bytes:
    """An array as a file's content."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=array.dtype == object)
    return stream.getvalue()


def huge_npy() -> bytes:
    """A .npy file whose header says 10^12 numbers."""
    return npy(np.zeros((4, 4, 3), np.uint8)).replace(b"(4, 4, 3), ", b"(1000000, 1000000, 3), ".ljust(11))


def text_bomb(kind: bytes) -> bytes:
    """A PNG with 200 MB of text in some 200 KB."""
    packed = zlib.compress(bytes(200 << 20), 9)
    head = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind]
    pixels = zlib.compress(bytes(31 * 10))
    return png(10, 10, (kind, head + packed), pixels=pixels)


def animation() -> bytes:
    """A GIF of 300 frames, of which the first counts."""
    frames = [Image.new("L", (300, 300), i % 256) for i in range(300)]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def apng() -> bytes:
    """An animated PNG; its first frame is red."""
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "green", "blue")]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


def _special(make: Callable[[Path], None], folder: Path) -> list[str]:
    make(folder / "a.jpg")
    return ["predict", tiny(folder), str(folder / "a.jpg")]


def _at(place: str, folder: Path) -> list[str]:
    return ["predict", tiny(folder), place]


def _raised(folder: Path) -> list[str]:
    content = saved(Image.new("L", (200, 100), 7), "PNG")
    return _predicted("a.png", lambda: content, folder, "--max-pixels", "19999")


def _allowed(folder: Path) -> list[str]:
    content = saved(Image.new("L", (200, 100), 7), "PNG")
    return _predicted("a.png", lambda: content, folder, "--max-pixels", "20000")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n100 100 scale\nshowpage\n%%EOF\n"
PSD = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30, 40, 8, 3) + bytes(12) + b"\0\0" + bytes(3 * 1200)
FITS = b"".join(
    card.ljust(80).encode()
    for card in (
        "SIMPLE  =                    T",
        "BITPIX  =                    8",
        "NAXIS   =                    0",
        "END",
    )
).ljust(2880)
BMP_HUGE = (
    b"BM"
    + struct.pack("<IHHI", 54, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 1, 1, 0, 0)
)
WEBP_BOMB = b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0/\xf3\xf3\xfc\x0c\x07P\x8a*\xd4\xa3\xff\x81\x88\xe8\x7f\0\0"
GIF_HUGE = b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
REFUSED = "not an image that can be read: it is"
MANY = {"mean": (0.5,) * 5, "std": (0.5,) * 5}
STRETCH = {"sixteen_bit": "stretch-each"}

CASES: list[Case] = [
    # formats that are not opened, whatever they are called
    _case("eps-named-jpg", "a.jpg", lambda: EPS, 1, "a.jpg", REFUSED, "PostScript"),
    _case("eps-with-preview", "a.png", lambda: b"\xc5\xd0\xd3\xc6" + bytes(28) + EPS, 1, "PostScript"),
    _case("photoshop-named-png", "a.png", lambda: PSD, 1, "a.png", REFUSED, "Photoshop"),
    _case("fits-named-tif", "a.tif", lambda: FITS, 1, "a.tif", REFUSED, "FITS"),
    _case("pdf-named-jpg", "a.jpg", lambda: b"%PDF-1.7\n" + bytes(99), 1, "PDF"),
    _case("heic-named-jpg", "a.jpg", lambda: bytes(3) + b"\x18ftypheic" + bytes(99), 1, "HEIC"),
    _case("dicom-named-png", "a.png", lambda: bytes(128) + b"DICM" + bytes(99), 1, "DICOM"),
    _case("svg-named-png", "a.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", 1, "SVG"),
    _case("icon-named-png", "a.png", lambda: saved(noise(16, 16), "ICO"), 1, "ICO"),
    _case("pcx", "a.bmp", lambda: saved(noise(), "PCX"), 1, "PCX"),
    _case("web-page-named-jpg", "a.jpg", lambda: b"<!DOCTYPE html><html>404</html>", 1, "web page"),
    _case("git-lfs-pointer", "a.jpg", lambda: LFS, 1, "git lfs pull"),
    _case("zip-named-jpg", "a.jpg", lambda: b"PK\x03\x04" + bytes(99), 1, "ZIP"),
    _case("empty", "a.jpg", lambda: b"", 1, "a.jpg", "the file is empty"),
    _case("text", "a.jpg", lambda: b"no image at all", 1, "a.jpg", "not an image that can be read"),
    _case("escape-in-the-name", "a\x1b[31m.jpg", lambda: b"no image at all", 1, "\\x1b[31m", "not an image"),
    # small files, much memory or time
    _case("tiff-overlapping-strips", "a.tif", lambda: overlapping(600), 1, "a.tif", "strips overlap"),
    _case("tiff-overlapping-strips-of-a-stack", "a.tif", lambda: overlapping(600, 5), 1, "strips overlap", **MANY),
    _case("tiff-giant-tile", "a.tif", giant_tile, 1, "tiles of 30,000 x 30,000 px"),
    _case("tiff-tags-of-the-same-bytes", "a.tif", tag_bomb, 1, "a.tif", "tags hold more bytes than the file"),
    _case("tiff-of-5000-tags", "a.tif", partial(tag_bomb, 5000, 100), 1, "a.tif", "a TIFF page of 5,009 tags"),
    _case("tiff-shorter-than-it-says", "a.tif", short_tiff, 1, "a.tif", "truncated"),
    _case("png-13300-px-rgba", "a.png", lambda: png(13_300, 13_300, kind=6), 1, "1.4 GB", "max_pixels 176890000"),
    _case("png-30000-px", "a.png", lambda: png(30_000, 30_000), 1, "too many pixels", "max_pixels to 900000000"),
    _case("png-text-bomb-zTXt", "a.png", lambda: text_bomb(b"zTXt"), 1, "a.png", "broken image", "large"),
    _case("png-text-bomb-iTXt", "a.png", lambda: text_bomb(b"iTXt"), 1, "a.png", "broken image", "large"),
    _case("png-profile-bomb", "a.png", lambda: text_bomb(b"iCCP"), 1, "a.png", "broken image", "large"),
    _case("webp-38-bytes", "a.webp", lambda: WEBP_BOMB, 1, "a.webp", "GB to decode"),
    _case("gif-65535-px", "a.gif", lambda: GIF_HUGE, 1, "too many pixels"),
    _case("bmp-60000-px", "a.bmp", lambda: BMP_HUGE, 1, "too many pixels"),
    _case("ppm-60000-px", "a.ppm", lambda: b"P6 60000 60000 255\n", 1, "too many pixels"),
    _case("jpeg-2000-scans", "a.jpg", lambda: scans(2000), 1, "scans"),
    _case("npy-of-10^12", "a.npy", huge_npy, 1, "a.npy", "broken array"),
    _case("npy-of-objects", "a.npy", lambda: npy(np.array([{}], object)), 1, "Python objects"),
    _case("gif-animation", "a.gif", animation, 0),
    _case("png-animation", "a.apng", apng, 0),
    Case("limit-of-pixels", _raised, 1, ("too many pixels", "at most 19,999", "max_pixels to 20000")),
    Case("limit-of-pixels-raised", _allowed, 0),
    # what is no file
    Case("fifo", partial(_special, os.mkfifo), 1, ("a.jpg", "named pipe")),
    Case("dev-zero", partial(_at, "/dev/zero"), 1, ("/dev/zero", "device")),
    Case("linked-to-dev-zero", partial(_special, lambda path: path.symlink_to("/dev/zero")), 1, ("a.jpg", "device")),
    Case("address-of-a-file", partial(_at, "file:///etc/hostname"), 2, ("only http and https addresses",)),
    Case("address-of-ftp", partial(_at, "ftp://127.0.0.1/a.jpg"), 2, ("only http and https addresses",)),
    Case("address-that-is-none", partial(_at, "http://[::1/a.jpg"), 1, ("http://[::1/a.jpg", "not a valid address")),
    Case("address-of-nobody", partial(_at, "http://127.0.0.1:1/a.jpg"), 1, ("127.0.0.1:1", "cannot be read")),
    Case("folder-of-the-system", partial(_at, "/proc/self"), 2, ("/proc/self", "system")),
    # depth
    _case("float-nan", "a.tif", lambda: floats(gapped(np.nan)), 1, "not finite", "no-data", **STRETCH),
    _case("float-nan-declared", "a.tif", lambda: floats(gapped(np.nan), "nan"), 0, **STRETCH),
    _case("float-infinite", "a.tif", lambda: floats(gapped(np.inf)), 1, "not finite"),
    _case("float-nothing-but-no-data", "a.tif", lambda: floats(field(7, 7), "7"), 1, "nothing but no-data", **STRETCH),
    _case("npy-of-floats", "a.npy", lambda: npy(field(0, 1)), 1, "float32", "sixteen_bit stretch"),
    _case("another-number-of-channels", "a.png", lambda: saved(noise(), "PNG"), 1, "holds 3 channels", **MANY),
    # odd ones that are read
    _case("jpeg-2000-of-a-jpg", "a.jpg", lambda: saved(noise(), "JPEG2000"), 0),
    _case("avif", "a.avif", lambda: saved(noise(), "AVIF"), 0),
    _case("jfif", "a.jfif", lambda: saved(noise(), "JPEG"), 0),
    _case("cmyk", "a.jpg", lambda: saved(noise(mode="CMYK"), "JPEG"), 0),
    _case("long-exif", "a.png", lambda: saved(noise(), "PNG", pnginfo=_long_text()), 0),
    _case("one-px", "a.png", lambda: saved(noise(1, 1), "PNG"), 0),
    _case("one-row", "a.png", lambda: saved(noise(30_000, 1), "PNG"), 0),
]  # fmt: skip


def _long_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 500_000, zip=True)
    return info
