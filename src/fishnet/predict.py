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
from fishnet.data.pictures import EXTENSIONS, Picture, find_pictures, read_picture
from fishnet.errors import InputError
from fishnet.hub import local
from fishnet.results import RESULTS, Result

Engine = Callable[[NDArray[np.float32]], Any]
Source = str | Path | Picture


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
    def predict(self, pictures: Source, **options: Any) -> Result: ...

    @overload
    def predict(self, pictures: Sequence[Source], **options: Any) -> list[Result]: ...

    def predict(self, pictures: Source | Sequence[Source], **options: Any) -> Result | list[Result]:
        """Predicts one picture, or several in one batch.

        Args:
            pictures: a path, a PIL image, or a uint8 array of shape (height, width) or (height, width, 3); for a model
                with another number of channels than 1 and 3, an array of shape (height, width, channels) of uint8,
                uint16 or floats; or a sequence of these.
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

    def embed(self, pictures: Sequence[Source]) -> NDArray[np.float32]:
        """The pictures' embeddings: what the model knows of each before its last layer, for search and clustering.

        Args:
            pictures: one or more, as :meth:`predict` takes them; they go through in one batch.

        Returns:
            (pictures, dims).

        Raises:
            InputError: as for :meth:`predict`; no picture, or a model or an engine that has no embeddings.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray) or not len(pictures):
            raise InputError("embed takes a list of one picture or more")
        return self._embed(self._stack([self._pixels(picture) for picture in pictures]))[1]

    def stream(
        self,
        sources: Iterable[str],
        batch_size: int = 32,
        *,
        embedding: Callable[[str, NDArray[np.float32]], None] | None = None,
        **options: Any,
    ) -> Iterator[tuple[str, Result | Failure]]:
        """Predicts many files batch by batch; a file that cannot be read gives a :class:`Failure` in its place.

        Args:
            sources: the files.
            batch_size: pictures a step.
            embedding: is given each readable file's source and (dims,) embedding, from the same pass, before its
                result comes.
            **options: as for :meth:`predict`.

        Raises:
            InputError: embeddings of a model or an engine that has none.
        """
        waiting: list[str] = []
        for source in sources:
            waiting.append(source)
            if len(waiting) == batch_size:
                yield from self._chunk(waiting, embedding, options)
                waiting = []
        if waiting:
            yield from self._chunk(waiting, embedding, options)

    def _chunk(
        self,
        sources: list[str],
        embedding: Callable[[str, NDArray[np.float32]], None] | None,
        options: dict[str, Any],
    ) -> Iterator[tuple[str, Result | Failure]]:
        inputs: list[NDArray[Any] | Failure] = []
        for source in sources:
            try:
                inputs.append(self._pixels(source))
            except InputError as error:
                inputs.append(Failure(source, str(error)))
        good = [pixels for pixels in inputs if not isinstance(pixels, Failure)]
        if embedding is not None and good:
            outputs, embeddings = self._embed(self._stack(good))
            readable = (s for s, pixels in zip(sources, inputs, strict=True) if not isinstance(pixels, Failure))
            for source, vector in zip(readable, embeddings, strict=True):
                embedding(source, vector)
            results = iter(self._results(outputs, options))
        else:
            results = iter(self._batch(good, **options) if good else [])
        for source, pixels in zip(sources, inputs, strict=True):
            yield source, pixels if isinstance(pixels, Failure) else next(results)

    def _pixels(self, picture: Source) -> NDArray[Any]:
        """The model's input, not yet normalised; the picture is let go, so that many fit in memory."""
        image = self._open(picture)
        try:
            return self.bundle.preprocess.pixels(image)
        except OSError as error:  # an image that was opened but not yet decoded
            raise InputError(f"broken picture ({error})") from error

    def _open(self, picture: Source) -> Picture:
        channels = self.bundle.preprocess.channels
        if isinstance(picture, str | Path):
            return read_picture(picture, channels)
        if isinstance(picture, Image.Image):
            return picture
        if not isinstance(picture, np.ndarray):
            raise InputError(f"{type(picture).__name__} is no picture: give a path, a PIL image or a uint8 array")
        if channels not in (1, 3):
            return picture  # what it must be like, the preprocessing knows
        grey_or_rgb = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
        if picture.dtype != np.uint8 or not grey_or_rgb or not picture.size:
            raise InputError(
                f"an array of {picture.dtype} and shape {picture.shape} is no picture: give uint8 (0..255) of shape "
                "(height, width) or (height, width, 3), or a list of these"
            )
        return Image.fromarray(picture)

    def _batch(self, pixels: Sequence[NDArray[Any]], **options: Any) -> list[Result]:
        return self._results(self.engine(self._stack(pixels)), options)

    def _stack(self, pixels: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        return self.bundle.preprocess.normalise(np.stack(pixels))

    def _embed(self, batch: NDArray[np.float32]) -> tuple[Any, NDArray[np.float32]]:
        embed = getattr(self.engine, "embed", None)
        if embed is None:
            raise InputError("this engine gives no embeddings: use the bundle that training wrote")
        both: tuple[Any, NDArray[np.float32]] = embed(batch)
        return both

    def _results(self, outputs: Any, options: dict[str, Any]) -> list[Result]:
        result = RESULTS[self.bundle.task]
        return [result(row, self.bundle.classes, **options) for row in outputs]


def load(source: str | Path, device: str = "auto") -> Predictor:
    """Loads a bundle for prediction.

    Args:
        source: the bundle's folder, or ``hf-hub:user/name``; see :func:`fishnet.hub.local`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        InputError: no bundle there, or a missing, damaged or altered file.
        WorkError: the hub could not be reached.
    """
    path = local(source)
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
