"""Finds the files and images that a user names. Torch-free."""

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
    """A torch tensor; torch is not imported here."""

    def detach(self) -> Any:
        """The tensor without its gradient history."""


Source = str | Path | ImageLike | bytes | BinaryIO | Tensor
"""One image: see :meth:`fishnet.prediction.predictor.Predictor.predict`."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be read.

    Attributes:
        source: the image's file or address.
        reason: one line.
    """

    source: str
    reason: str


def find_sources(sources: Sequence[str]) -> list[str]:
    """Finds the images and videos that a user names.

    Args:
        sources: files; folders, with everything below them; glob patterns; ``-`` for a list on standard input; or
            addresses of images on the web. A file named here is read whatever its extension, so that an error about it
            is reported.

    Raises:
        InputError: a folder or pattern without an image.
    """
    files: list[str] = []
    for source in sources:
        path = Path(source)
        if not source:
            raise InputError("an empty name: give files, folders or patterns")
        if is_address(source):
            if not source.lower().startswith(("http://", "https://")):
                raise InputError(f"{source}: only http and https addresses are supported")
            files.append(source)
        elif source == "-":
            files += [line.strip() for line in sys.stdin if line.strip()]
        elif path.is_dir():
            contents = sorted([*find_images(path), *_find_videos(path)])
            if not contents:
                raise InputError(f"{source}: no images in this folder ({' '.join((*EXTENSIONS, *VIDEOS))})")
            files += map(str, contents)
        elif not path.exists() and glob.has_magic(source):
            matches = sorted(m for m in glob.glob(source, recursive=True) if Path(m).is_file())  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise InputError(f"{source}: no file matches")
            files += matches
        else:
            files.append(source)
    return files


def _find_videos(folder: Path) -> list[Path]:
    """Videos below a folder. Hidden ones are left out; links to folders are not followed."""
    files = (file for file in folder.rglob("*") if is_video(file) and file.is_file())
    return [file for file in files if not any(name.startswith(".") for name in file.relative_to(folder).parts)]


def iter_images(sources: Iterable[str]) -> Iterator[tuple[str, Source | Failure]]:
    """Yields the name and the image of each source, and for a video those of each frame.

    A video that cannot be read yields a :class:`Failure`.
    """
    for source in sources:
        if is_address(source) or not is_video(source):
            yield source, source
            continue
        try:
            for number, image in enumerate(frames(source)):
                yield frame_name(source, number), image
        except InputError as error:
            yield source, Failure(source, str(error))
