"""Finds the image files in a folder, and counts all other files there. Torch-free."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fishnet.errors import InputError
from fishnet.files.reading import is_regular, open_regular
from fishnet.files.walking import inside, is_system, walk
from fishnet.images.decoding import EXTENSIONS

SHOWN = 5  # extensions named in a message
BESIDE = (
    ".txt", ".xml", ".json", ".csv", ".yaml", ".yml", ".names", ".data", ".cache", ".md", ".mat", ".html",
    ".tfw", ".pgw", ".jgw", ".prj", ".ovr", ".zip", ".tar", ".gz",
)  # fmt: skip
"""Extensions of files that usually lie beside annotated images."""
_HEAD = 16  # bytes that identify an image file
_MAGIC = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\x93NUMPY",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip


@dataclass
class Scan:
    """The files in a folder and below it.

    Attributes:
        images: the image files, sorted.
        skipped: numbers of other files by extension in lower case, such as ``.txt``. Hidden and system files are not
            counted.
        links: linked folders that were not followed because they lead outside the dataset.
    """

    images: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    links: list[Path] = field(default_factory=list)


def scan(folder: Path, within: Path | None = None) -> Scan:
    """Finds images by the extensions of the files; files without an extension are recognized by their first bytes.

    Args:
        folder: the folder.
        within: the dataset's root. Links to folders inside it are followed, others are not. Default: the folder.

    Raises:
        InputError: a folder that cannot be read; see also :func:`~fishnet.files.walking.walk`.
    """
    result = Scan()
    pending, seen = [folder], set[str]()
    while pending:
        place = pending.pop()
        links: list[Path] = []
        for path in walk(place, skipped=links):
            kind = _kind(path)
            if kind is None:
                result.images.append(path)
            else:
                result.skipped[kind] += 1
        for link in links:
            target = os.path.realpath(link)
            if within is None or not inside(within, link) or inside(link, folder):
                result.links.append(link)
            elif target not in seen:
                seen.add(target)
                pending.append(link)
    result.images.sort()
    return result


def find_images(folder: Path, skipped: Counter[str] | None = None) -> list[Path]:
    """All image files below a folder, sorted; see :func:`scan`.

    Args:
        folder: the folder.
        skipped: if given, counts the other files by their extensions.

    Raises:
        InputError: see :func:`scan`.
    """
    result = scan(folder)
    if skipped is not None:
        skipped.update(result.skipped)
    return result.images


def beside(images: Iterable[Path]) -> Counter[str]:
    """Counts the unexpected files beside images: neither images nor of a kind that annotations have.

    Args:
        images: the images of annotated data, where annotations name the files that are used.
    """
    skipped = Counter[str]()
    for folder in sorted({path.parent for path in images}):
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if not is_system(entry.name)]
                extensions = [os.path.splitext(name)[1].lower() for name in names]  # noqa: PTH122
        except OSError:
            continue
        skipped.update(
            extension
            for extension in extensions
            if extension and extension not in EXTENSIONS and extension not in BESIDE
        )
    return skipped


def _kind(path: Path) -> str | None:
    """The kind that a skipped file is counted as; None for images."""
    extension = path.suffix.lower()
    if extension and extension not in EXTENSIONS:
        return extension
    if not is_regular(path):
        return "broken link" if path.is_symlink() and not os.path.exists(path) else "special file"  # noqa: PTH110 (of loops)
    return None if extension or _begins_as_image(path) else "no extension"


def _begins_as_image(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return is_image(file.read(_HEAD))
    except (InputError, OSError):
        return False


def is_image(head: bytes) -> bool:
    """Whether a file's first 16 bytes are those of a supported image format."""
    if head.startswith(_MAGIC):
        return True
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4)  # reserved in a BMP's header
    if head[:1] == b"P":
        return head[1:2] in b"123456" and head[2:3].isspace()  # PGM and PPM
    return (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or (
        head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    )


def skipped_line(skipped: Counter[str]) -> str:
    """A message such as ``skipped 12 files: 9 .heic, 3 .txt``; empty if nothing was skipped."""
    if not skipped:
        return ""
    total = sum(skipped.values())
    kinds = [f"{count:,} {extension}" for extension, count in skipped.most_common(SHOWN)]
    rest = total - sum(count for _, count in skipped.most_common(SHOWN))
    return f"skipped {total:,} file{'s' * (total != 1)}: {', '.join([*kinds, *([f'{rest:,} others'] if rest else [])])}"
