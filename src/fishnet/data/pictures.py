"""Reading pictures: files to upright 8-bit PIL images, with one clear line for those that cannot be read."""

import io
import os
import warnings
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from fishnet.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
Mode = Literal["RGB", "L"]


def mode_of(channels: int) -> Mode:
    """The picture mode for a number of input channels.

    Raises:
        InputError: for anything but 1 (grey) and 3 (RGB).
    """
    if channels not in (1, 3):
        raise InputError(f"{channels} input channels: pictures give 1 (grey) or 3 (RGB)")
    return "L" if channels == 1 else "RGB"


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Converts any PIL image to 8-bit grey (1 channel) or RGB (3).

    Orientation stored as EXIF is applied. Transparent pixels (RGBA, LA, palette, a PNG's transparent colour) are laid
    on white. 16- and 32-bit integer grey keeps its upper 8 bits of 16; float grey is taken as 0 to 255.
    """
    mode = mode_of(channels)
    image = ImageOps.exif_transpose(image)
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value / 256).convert("L")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert(mode)


def read_file(path: str | Path) -> bytes:
    """A picture file's content.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    path = Path(path)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a picture") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: broken picture ({error})") from None


def read_picture(path: str | Path, channels: int = 3) -> Image.Image:
    """A picture file, fully decoded, as an upright 8-bit PIL image. Errors as in the functions it is made of."""
    return decode_picture(read_file(path), channels, str(path))


def decode_picture(encoded: bytes, channels: int = 3, source: str = "picture") -> Image.Image:
    """A picture file's content as an upright 8-bit PIL image.

    Args:
        encoded: the file's bytes.
        channels: 3 for RGB, 1 for grey.
        source: where it comes from, for messages.

    Raises:
        InputError: not a picture, truncated, or unreasonably large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF and the like, when the pixels are good
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded)) as image:
                image.load()
                return to_channels(image, channels)
    except UnidentifiedImageError:
        raise InputError(f"{source}: not a picture that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{source}: refused, too many pixels ({error})") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{source}: broken picture ({error})") from None


def find_pictures(folder: Path) -> list[Path]:
    """All picture files below a folder, by their endings, sorted; hidden files and folders are left out.

    Links to folders are followed, each folder once.
    """
    found: list[Path] = []
    seen: set[str] = set()
    for place, below, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        below[:] = [] if real in seen else [name for name in below if not name.startswith(".")]
        if real not in seen:
            found += [Path(place, name) for name in files if not name.startswith(".")]
        seen.add(real)
    return sorted(path for path in found if path.suffix.lower() in EXTENSIONS and path.is_file())
