"""The georeference of TIFF files: read from an image, written with its mask. GeoTIFF 1.1 (OGC 19-008r4)."""

import mmap
from pathlib import Path

from PIL import Image, TiffImagePlugin

from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.images.tiff import Directory, directories, is_tiff

TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""Pixel scale, tie points, transformation, keys with their doubles and texts, and RPC coefficients. GDAL's metadata
(42112) and no-data value (42113) describe the image's own numbers and are not copied."""

_PLACING = (33550, 34264, 50844)  # a georeferenced file has one of these
_ORIENTATION = 274


def georeference(path: str | Path) -> Directory | None:
    """The tags that georeference an image; None for files without any, and for files that are not TIFF.

    Args:
        path: the file.

    Raises:
        InputError: no such file; or a georeferenced file with an orientation tag that turns it: its tags would not fit
            the mask of the upright image.
    """
    with open_regular(path, "image") as file:
        if not is_tiff(file.read(4)):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                page = next(iter(directories(content)), Directory())
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
    if not any(tag in page for tag in _PLACING):
        return None
    if page.number(_ORIENTATION, 1) != 1:
        raise InputError(f"{path}: is turned by its orientation tag, so that its georeference does not fit the mask")
    return Directory({tag: page[tag] for tag in TAGS if tag in page})


def save_georeferenced(image: Image.Image, path: Path, tags: Directory) -> None:
    """Writes a TIFF file, deflated, with an image's georeference.

    Args:
        image: has the same size as the image that the tags belong to.
        path: the file.
        tags: from :func:`georeference`.
    """
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, entry in tags.items():
        info.tagtype[tag] = entry.kind
        info[tag] = entry.data.rstrip(b"\0").decode("latin-1") if entry.kind == 2 else tuple(entry.values.tolist())
    image.save(path, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=info)
