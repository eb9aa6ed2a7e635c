"""The georeference of TIFF files: read from an image, written with its mask. GeoTIFF 1.1 (OGC 19-008r4). Torch-free."""

import mmap
from pathlib import Path

from PIL import Image, TiffImagePlugin

from fishnet.errors import InputError
from fishnet.files.reading import open_regular
from fishnet.images.tiff import Directory, directories, is_tiff

TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""Pixel scale, tie points, transformation, keys with their doubles and texts, and RPC coefficients. GDAL's metadata
(42112) and no-data value (42113) describe the image's own numbers and are left out."""

_PLACING = (33550, 34264, 50844)  # one of these is there where a file is georeferenced
_ORIENTATION = 274


def georeference(path: str | Path) -> Directory | None:
    """The tags that say where an image lies; None for files without any, and for what is no TIFF file.

    Args:
        path: of a file.

    Raises:
        InputError: no such file; or a georeferenced file whose orientation tag turns it, so that the tags would not fit
            what is predicted of the upright image.
    """
    with open_regular(path, "image") as file:
        if not is_tiff(file.read(4)):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            page = next(iter(directories(content)), Directory())
    if not any(tag in page for tag in _PLACING):
        return None
    if page.number(_ORIENTATION, 1) != 1:
        raise InputError(f"{path}: is turned by its orientation tag, so that its georeference does not fit the mask")
    return Directory({tag: page[tag] for tag in TAGS if tag in page})


def save_georeferenced(image: Image.Image, path: Path, tags: Directory) -> None:
    """Writes a TIFF file, deflated, with an image's georeference.

    Args:
        image: of the size of the image that the tags belong to.
        path: of the file.
        tags: as :func:`georeference` gives them.
    """
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, entry in tags.items():
        info.tagtype[tag] = entry.kind
        info[tag] = entry.data.rstrip(b"\0").decode("latin-1") if entry.kind == 2 else tuple(entry.values.tolist())
    image.save(path, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=info)
