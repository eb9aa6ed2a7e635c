"""From sources to results: one Predictor, whatever engine computes. Importing this imports no torch."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle import Bundle, is_bundle
from fishnet.data.pictures import EXTENSIONS, find_pictures, read_picture
from fishnet.errors import InputError
from fishnet.results import RESULTS, Result

Engine = Callable[[NDArray[np.float32]], Any]
Picture = str | Path | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read.

    Attributes:
        source: where it was.
        reason: one line.
    """

    source: str
    reason: str


class Predictor:
    """A trained model, ready for pictures.

    Args:
        bundle: what the model is.
        engine: computes the task's raw outputs from (batch, channels, height, width) normalised float32.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine

    @overload
    def predict(self, pictures: Picture, **options: Any) -> Result: ...

    @overload
    def predict(self, pictures: Sequence[Picture], **options: Any) -> list[Result]: ...

    def predict(self, pictures: Picture | Sequence[Picture], **options: Any) -> Result | list[Result]:
        """Predicts one picture, or several in one batch.

        Args:
            pictures: a path, a PIL image, or a uint8 array of shape (height, width) or (height, width, 3); or a
                sequence of these.
            **options: of the task; classify: ``k``, how many classes to give.

        Returns:
            A result, or for a sequence a list of results in the same order.

        Raises:
            InputError: a picture that cannot be read, or an array of another type or shape.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            return self._batch([self._pixels(pictures)], **options)[0]
        if not isinstance(pictures, Iterable):
            raise InputError(f"{type(pictures).__name__} is no picture: give a path, a PIL image or a uint8 array")
        pixels = [self._pixels(picture) for picture in pictures]
        return self._batch(pixels, **options) if pixels else []

    def stream(
        self, sources: Iterable[str], batch_size: int = 32, **options: Any
    ) -> Iterator[tuple[str, Result | Failure]]:
        """Predicts many files batch by batch; a file that cannot be read gives a :class:`Failure` in its place."""
        waiting: list[str] = []
        for source in sources:
            waiting.append(source)
            if len(waiting) == batch_size:
                yield from self._chunk(waiting, options)
                waiting = []
        if waiting:
            yield from self._chunk(waiting, options)

    def _chunk(self, sources: list[str], options: dict[str, Any]) -> Iterator[tuple[str, Result | Failure]]:
        inputs: list[NDArray[np.uint8] | Failure] = []
        for source in sources:
            try:
                inputs.append(self._pixels(source))
            except InputError as error:
                inputs.append(Failure(source, str(error)))
        good = [pixels for pixels in inputs if not isinstance(pixels, Failure)]
        results = iter(self._batch(good, **options) if good else [])
        for source, pixels in zip(sources, inputs, strict=True):
            yield source, pixels if isinstance(pixels, Failure) else next(results)

    def _pixels(self, picture: Picture) -> NDArray[np.uint8]:
        """The model's input, not yet normalised; the picture is let go, so that many fit in memory."""
        image = self._open(picture)
        try:
            return self.bundle.preprocess.pixels(image)
        except OSError as error:  # an image that was opened but not yet decoded
            raise InputError(f"broken picture ({error})") from error

    def _open(self, picture: Picture) -> Image.Image:
        if isinstance(picture, str | Path):
            return read_picture(picture, self.bundle.preprocess.channels)
        if isinstance(picture, Image.Image):
            return picture
        if not isinstance(picture, np.ndarray):
            raise InputError(f"{type(picture).__name__} is no picture: give a path, a PIL image or a uint8 array")
        grey_or_rgb = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
        if picture.dtype != np.uint8 or not grey_or_rgb or not picture.size:
            raise InputError(
                f"an array of {picture.dtype} and shape {picture.shape} is no picture: give uint8 (0..255) of shape "
                "(height, width) or (height, width, 3), or a list of these"
            )
        return Image.fromarray(picture)

    def _batch(self, pixels: Sequence[NDArray[np.uint8]], **options: Any) -> list[Result]:
        outputs = self.engine(self.bundle.preprocess.normalise(np.stack(pixels)))
        result = RESULTS[self.bundle.task]
        return [result(row, self.bundle.classes, **options) for row in outputs]


def load(source: str | Path, device: str = "auto") -> Predictor:
    """Loads a bundle for prediction.

    Args:
        source: the bundle's folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        InputError: no bundle there, or a missing, damaged or altered file.
    """
    path = Path(source)
    if not is_bundle(path) and path.is_file():
        raise InputError(f"{path}: is a file, not a bundle: give the folder that training wrote")
    from fishnet.tasks.engine import TorchEngine

    engine = TorchEngine.load(path, device)
    return Predictor(engine.bundle, engine)


def find_sources(sources: Sequence[str]) -> list[str]:
    """Picture files named by the user: files, folders (searched below), glob patterns, or ``-`` for a list on stdin.

    Files that are named themselves are taken whatever their ending, so that a bad one is reported and not dropped.

    Raises:
        InputError: a folder or pattern without a picture.
    """
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if not source:
            raise InputError("an empty name: give files, folders or patterns")
        if source == "-":
            found += [line.strip() for line in sys.stdin if line.strip()]
        elif path.is_dir():
            pictures = find_pictures(path)
            if not pictures:
                raise InputError(f"{source}: no pictures in this folder ({' '.join(EXTENSIONS)})")
            found += map(str, pictures)
        elif not path.exists() and glob.has_magic(source):
            matches = sorted(m for m in glob.glob(source, recursive=True) if Path(m).is_file())  # noqa: PTH207 (absolute patterns)
            if not matches:
                raise InputError(f"{source}: no file matches")
            found += matches
        else:
            found.append(source)
    return found
