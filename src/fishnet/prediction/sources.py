"""What is named on a command line, as files and images. Torch-free."""

import glob
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fishnet.errors import InputError
from fishnet.images.decoding import EXTENSIONS, ImageLike
from fishnet.images.remote import is_address
from fishnet.images.scanning import find_images
from fishnet.images.video import VIDEOS, frame_name, frames, is_video


class Tensor(Protocol):
    """A tensor of torch, which is not imported here."""

    def detach(self) -> Any:
        """The tensor without its history."""


Source = str | Path | ImageLike | bytes | BinaryIO | Tensor
"""One image: see :meth:`fishnet.prediction.predictor.Predictor.predict`."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be read.

    Attributes:
        source: where it was.
        reason: one line.
    """

    source: str
    reason: str


def find_sources(sources: Sequence[str]) -> list[str]:
    """Files named by the user, images and videos: files, folders (searched below), glob patterns,
    ``-`` for a list on standard input; or addresses of images on the web.

    Files that are named themselves are taken whatever their ending, so that a bad one is reported and not dropped.

    Raises:
        InputError: a folder or pattern without an image.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if not source:
            raise InputError("an empty name: give files, folders or patterns")
        if is_address(source):
            if not source.lower().startswith(("http://", "https://")):
                raise InputError(f"{source}: only addresses of http and https are read")
            found.append(source)
        elif source == "-":
            found += [line.strip() for line in sys.stdin if line.strip()]
        elif path.is_dir():
            inside = sorted([*find_images(path), *_find_videos(path)])
            if not inside:
                raise InputError(f"{source}: no images in this folder ({' '.join((*EXTENSIONS, *VIDEOS))})")
            found += map(str, inside)
        elif not path.exists() and glob.has_magic(source):
            matches = sorted(m for m in glob.glob(source, recursive=True) if Path(m).is_file())  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise InputError(f"{source}: no file matches")
            found += matches
        else:
            found.append(source)
    return found


def _find_videos(folder: Path) -> list[Path]:
    """Videos below a folder; hidden ones are left out, and links to folders not followed."""
    files = (file for file in folder.rglob("*") if is_video(file) and file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def each_image(sources: Iterable[str]) -> Iterator[tuple[str, Source | Failure]]:
    """Each source, of videos each frame, with its name; a video that cannot be read gives a :class:`Failure`."""
    for source in sources:
        if is_address(source) or not is_video(source):
            yield source, source
            continue
        try:
            for number, image in enumerate(frames(source)):
                yield frame_name(source, number), image
        except InputError as error:
            yield source, Failure(source, str(error))
