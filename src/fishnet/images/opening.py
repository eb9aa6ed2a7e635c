"""Opens image files. All image files are opened here, so that formats and sizes are checked before decoding.

Pillow reads more than forty formats. Some of them start other programs (EPS starts Ghostscript), and many are hardly
ever tested. Only the formats of :data:`FORMATS` are read, whatever a file's name.
"""

import io
import mmap
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from fishnet.errors import InputError
from fishnet.images.reading import MAX_PIXELS
from fishnet.images.tiff import check_layout, directories, is_tiff

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
MEMORY = 1_000_000_000
"""Maximum bytes for decoding one image, unless the user sets a maximum number of pixels."""

_MAX_SCANS = 256  # of a JPEG file: a progressive photo has about 10, and each takes as long as the whole image
# Bytes per px:
_CONVERTED = 4  # of the RGB image that other modes are converted to
_DECODED = {"1": 1, "L": 1, "P": 1, "I": 9, "F": 9}  # of the decoded image by mode, with the 8-bit copy of numbers
_SHORT, _OTHER = 5, 4  # of a decoded image in mode I;16, and in all other modes
_LIBRARIES = {"WEBP": 16, "AVIF": 16, "JPEG2000": 20}  # at the peak, as measured: these keep several copies
_MAX_BYTES = 24  # of any image
_PILLOW_LIMIT = threading.Lock()  # held while Pillow's limit of pixels is changed

# How files of other kinds begin, and at which byte; the first match is named.
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"%!PS", "PostScript (EPS)"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop file (PSD)"),
    (0, b"SIMPLE  =", "a FITS file"),
    (128, b"DICM", "a DICOM file"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftypcrx", "a camera's raw file"),
    (4, b"ftyp", "a video"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\x00\x00\x01\x00", "an icon (ICO)"),
    (0, b"\x00\x00\x02\x00\x01", "a cursor (CUR)"),
    (0, b"icns", "an icon (ICNS)"),
    (0, b"gimp xcf", "a GIMP file (XCF)"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"qoif", "QOI"),
    (0, b"DDS ", "a DirectDraw surface (DDS)"),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile (WMF)"),
    (0, b"\x01\xda", "an SGI image"),
    (0, b"/* XPM */", "an X pixmap (XPM)"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"GRIB", "a GRIB file"),
    (0, b"BUFR", "a BUFR file"),
    (0, b"CDF", "a NetCDF file"),
    (0, b"II\xbc\x01", "JPEG XR"),
    (0, b"\x0a\x05\x01", "a PCX file"),
    (0, b"BLP", "a BLP texture"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of the file (run: git lfs pull)"),
    (0, b"<!DOCTYPE html", "a web page"),
    (0, b"<!doctype html", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML (perhaps SVG)"),
    (0, b"{", "JSON"),
)


class UnknownImageError(InputError):
    """A file that is not an image, or of a format that is not supported."""


class TooLargeError(InputError):
    """An image of more pixels than the limit, or that takes too much memory to decode."""


def open_image(
    content: bytes | BinaryIO, max_pixels: int | None = None, formats: tuple[str, ...] = FORMATS
) -> ImageFile:
    """Opens an image file of one of :data:`FORMATS`, recognized by its content. Its pixels are not decoded yet.

    Args:
        content: the file's bytes, or the file, open for reading.
        max_pixels: maximum number of pixels of the image; see :class:`~fishnet.images.reading.Reading`.
        formats: the accepted formats, some or all of :data:`FORMATS`.

    Raises:
        UnknownImageError: not an image, or of a format that is not supported; the message names it.
        TooLargeError: too many px, or more than :data:`MEMORY` to decode.
        InputError: a layout that would fill memory.
        Errors of Pillow for a broken file.
    """
    head = content[:256] if isinstance(content, bytes) else _head(content)
    if isinstance(content, bytes):
        _check_content(content)
    elif is_tiff(head):
        _check_tags(content)
    try:
        image = _opened(io.BytesIO(content) if isinstance(content, bytes) else content, formats)
    except UnidentifiedImageError:
        raise UnknownImageError(_unknown_line(head)) from None
    try:
        _check_size(image, max_pixels)
    except InputError:
        image.close()
        raise
    return image


def _opened(file: BinaryIO, formats: tuple[str, ...]) -> ImageFile:
    """Opens with Pillow, whose own limit of pixels holds for the whole process; it is lifted during this call only."""
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def load(image: Image.Image) -> None:
    """Decodes an image, even above Pillow's limit of pixels, which some formats check again when they decode."""
    with _PILLOW_LIMIT:  # the limit is lifted while another thread opens an image
        limit = Image.MAX_IMAGE_PIXELS
    if limit is None or image.width * image.height <= limit:
        image.load()
        return
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image.load()
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 (upright) where none is stored or it cannot be read.

    Pillow applies a TIFF file's orientation when it decodes the pixels; it is 1 afterwards.
    """
    return _orientation(image.getexif)


def upright_size(image: ImageFile) -> tuple[int, int]:
    """Height and width of an opened image after turning it upright, px. Only a PNG is decoded for this."""
    sideways = orientation(image) in _SIDEWAYS and image.format != "TIFF"  # a TIFF's size is upright in Pillow
    return (image.width, image.height) if sideways else (image.height, image.width)


def _orientation(exif: Callable[[], Image.Exif]) -> int:
    """The orientation in the EXIF data that a function returns."""
    try:
        value = exif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises nearly every kind of error; the pixels may still be good
        return 1
    return value if value in range(1, 9) else 1


_SIDEWAYS = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, turn: int) -> Image.Image:
    """Turns an image by an EXIF orientation, 1 to 8 (CIPA DC-008, tag 274). For 1 it returns the image itself."""
    if turn not in _TURNS:
        return image
    turned = image.transpose(_TURNS[turn])
    # without EXIF, so that it is turned only once
    turned.info = {key: value for key, value in turned.info.items() if key == "transparency"}
    return turned


def turned_by_exif(content: bytes | BinaryIO) -> bool:
    """Whether an image file's EXIF orientation is not upright.

    Raises:
        InputError: see :func:`open_image`.
    """
    with open_image(content) as image:
        return orientation(image) != 1


def check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    """Raises TooLargeError for an image of more than ``max_pixels``, see :class:`~fishnet.images.reading.Reading`."""
    if too_many(width * height, max_pixels):
        raise TooLargeError(
            f"refused, too many pixels ({width:,} x {height:,}, at most {max_pixels or MAX_PIXELS:,}): "
            f"raise max_pixels to {width * height} if you trust the file"
        )


def check_values(count: int, max_pixels: int | None) -> None:
    """Refuses a stack of so many values that they take too much memory, unless the user has set a limit of pixels.

    Raises:
        TooLargeError: more than :data:`MEMORY`, for the file's own numbers and twice as float32.
    """
    if max_pixels is None and count * 9 > MEMORY:
        raise TooLargeError(
            f"refused, {count:,} values take {count * 9 / 1e9:.1f} GB to decode: "
            f"set max_pixels {count} if you trust the file"
        )


def _check_size(image: ImageFile, max_pixels: int | None) -> None:
    """Raises TooLargeError for too many px, or too much memory."""
    check_pixels(*image.size, max_pixels)
    if image.width * image.height * _MAX_BYTES > MEMORY:
        check_memory(image, _bytes_per_pixel(image), max_pixels)


def check_memory(image: ImageFile, bytes_per_pixel: int, max_pixels: int | None) -> None:
    """Refuses an image that takes too much memory, unless the user has set a limit of pixels.

    Args:
        image: opened.
        bytes_per_pixel: the most that decoding takes.
        max_pixels: see :class:`~fishnet.images.reading.Reading`.

    Raises:
        TooLargeError: more than :data:`MEMORY`.
    """
    (width, height), need = image.size, image.width * image.height * bytes_per_pixel
    if max_pixels is None and need > MEMORY:
        raise TooLargeError(
            f"refused, {width:,} x {height:,} px of {image.format} {image.mode} take {need / 1e9:.1f} GB to decode: "
            f"set max_pixels {width * height} if you trust the file"
        )


def _bytes_per_pixel(image: ImageFile) -> int:
    """The most that decoding and converting an opened image takes."""
    stored = _SHORT if image.mode.startswith("I;16") else _DECODED.get(image.mode, _OTHER)
    # a PNG's own getexif would decode all pixels
    turned = _orientation(partial(Image.Image.getexif, image)) != 1
    unconverted = image.mode == "RGB" and "transparency" not in image.info and not turned
    return max(stored, _LIBRARIES.get(image.format or "", 0)) + (0 if unconverted else _CONVERTED)


def too_many(pixels: int, max_pixels: int | None) -> bool:
    """Whether an image of so many px is refused."""
    return pixels > (MAX_PIXELS if max_pixels is None else max_pixels)


def _check_content(content: bytes) -> None:
    """Raises InputError for a file whose layout would take far more time or memory than its image."""
    if content.startswith(b"\xff\xd8\xff") and too_many_scans(content):
        raise InputError(
            f"refused, a JPEG of more than {_MAX_SCANS} scans, which take too long to decode: save it again"
        )
    if is_tiff(content):
        check_layout(content)


def _check_tags(tiff: BinaryIO) -> None:
    """Raises InputError for a TIFF file whose tags would fill memory as Pillow opens it; objects in memory pass."""
    try:
        number = tiff.fileno()
    except OSError:
        return
    with mmap.mmap(number, 0, access=mmap.ACCESS_READ) as content:
        directories(content)


def too_many_scans(jpeg: bytes) -> bool:
    """Whether a JPEG file has more scans than any photo: each costs as much time as the whole image."""
    return jpeg.count(b"\xff\xda") > _MAX_SCANS  # never inside the coded data, where 0 follows 0xff


def _head(file: BinaryIO) -> bytes:
    """A file's first bytes, without moving its position."""
    head = file.read(256)
    file.seek(0)
    return head


def _unknown_line(head: bytes) -> str:
    """The message for a file that is not an image of a supported format."""
    if not head:
        return "not an image that can be read: the file is empty"
    kind: Any = next((name for at, begin, name in _FOREIGN if head.startswith(begin, at)), None)
    if kind is None:
        return "not an image that can be read"
    return f"not an image that can be read: it is {kind}, which is not supported: save it as PNG, TIFF or JPEG"
