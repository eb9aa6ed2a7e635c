"""From sources to results: one Predictor, whatever engine computes. Importing this imports no torch."""

import glob
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from numbers import Integral, Real
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fishnet.bundle import Bundle, is_bundle
from fishnet.data.depth import stretched
from fishnet.data.pictures import EXTENSIONS, Picture, find_pictures, read_picture, to_input
from fishnet.errors import InputError
from fishnet.hub import local
from fishnet.preprocess import Placement
from fishnet.results import RESULTS, Detections, Result
from fishnet.tiling import Tile, merge, tiles
from fishnet.video import VIDEOS, frame_name, frames, is_video

Engine = Callable[[NDArray[np.float32]], Any]
Source = str | Path | Picture

_REGION = ("threshold", "most", "tile", "overlap")
OPTIONS = {
    "classify": ("k",),
    "detect": _REGION,
    "instances": _REGION,
    "segment": ("tile", "overlap", "tta"),
}
_STEP = 32  # pictures at once, if they are of _USUAL px
_USUAL = 224 * 224
_OVERLAP = 0.2
_RANGES: dict[str, tuple[Any, float, float]] = {
    "k": (Integral, 1, inf),
    "threshold": (Real, 0, 1),
    "most": (Integral, 1, inf),
    "tile": (Integral, 32, inf),
    "overlap": (Real, 0, 0.9),
}


@dataclass(frozen=True)
class Failure:
    """A picture that could not be read.

    Attributes:
        source: where it was.
        reason: one line.
    """

    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class _Input:
    """A picture on its way into the network.

    Attributes:
        pixels: (channels, height, width), not yet normalised.
        placement: how the picture lies in it; None where it was cropped.
    """

    pixels: NDArray[Any]
    placement: Placement | None


class Predictor:
    """A trained model, ready for pictures.

    Args:
        bundle: what the model is.
        engine: computes the task's raw outputs from (batch, channels, height, width) normalised float32: a sequence
            with one item a picture.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine

    @property
    def batch_size(self) -> int:
        """Pictures computed at once where nothing else is said: 32, or as many whole ones as have as many pixels."""
        preprocess = self.bundle.preprocess
        if preprocess.fit == "crop":
            return _STEP
        return max(1, min(_STEP, round(_STEP * _USUAL / (preprocess.size[0] * preprocess.size[1]))))

    @property
    def options(self) -> tuple[str, ...]:
        """The names of what :meth:`predict` can be told for this task."""
        return OPTIONS[self.bundle.task]

    @overload
    def predict(self, pictures: Source, **options: Any) -> Result: ...

    @overload
    def predict(self, pictures: Sequence[Source], **options: Any) -> list[Result]: ...

    def predict(self, pictures: Source | Sequence[Source], **options: Any) -> Result | list[Result]:
        """Predicts one picture, or several: :attr:`batch_size` at once, those of one size of input together.

        Args:
            pictures: a path, a PIL image, or a uint8 array of shape (height, width) or (height, width, 3); for a model
                with another number of channels than 1 and 3, an array of shape (height, width, channels) of uint8,
                uint16 or floats; or a sequence of these.
            **options: of the task; None for its own value. classify: ``k``, how many classes to give (5). detect and
                instances: ``threshold``, the least score, 0 to 1 (the bundle's), ``most``, the most objects (all),
                ``tile``, px of the picture: predict in squares of this side and merge (whole), ``overlap`` of these,
                0 to 0.9 (0.2).

        Returns:
            A result, or for a sequence a list of results in the same order.

        Raises:
            InputError: a picture that cannot be read, an array of another type or shape, or an option that the task
                does not have or of another range.
        """
        given, tiling = self._options(options)
        if isinstance(pictures, str | Path | Image.Image | np.ndarray):
            return self._predict([pictures], given, tiling)[0]
        if not isinstance(pictures, Iterable):
            raise InputError(f"{type(pictures).__name__} is no picture: give a path, a PIL image or a uint8 array")
        return self._predict(pictures, given, tiling)

    def _predict(
        self, pictures: Iterable[Source], options: dict[str, Any], tiling: tuple[int, float] | None
    ) -> list[Result]:
        if tiling is None:
            return self._run([self._input(self._open(picture)) for picture in pictures], options, self.batch_size)
        return [self._tiled(self._open(picture), tiling, options, self.batch_size) for picture in pictures]

    def embed(self, pictures: Sequence[Source]) -> NDArray[np.float32]:
        """The pictures' embeddings: what the model knows of each before its last layer, for search and clustering.

        Args:
            pictures: one or more, as :meth:`predict` takes them.

        Returns:
            (pictures, dims).

        Raises:
            InputError: as for :meth:`predict`; no picture, or a model or an engine that has no embeddings.
        """
        if isinstance(pictures, str | Path | Image.Image | np.ndarray) or not len(pictures):
            raise InputError("embed takes a list of one picture or more")
        inputs = [self._input(self._open(picture)) for picture in pictures]
        return np.stack([vector for _, vector in self._compute(inputs, self.batch_size, self._embedding_engine())])

    def stream(
        self,
        sources: Iterable[str],
        batch_size: int | None = None,
        *,
        embedding: Callable[[str, NDArray[np.float32]], None] | None = None,
        **options: Any,
    ) -> Iterator[tuple[str, Result | Failure]]:
        """Predicts many files batch by batch; a file that cannot be read gives a :class:`Failure` in its place.

        Args:
            sources: the files; a video gives its frames, each as a source ``clip.mp4#12``.
            batch_size: pictures a step, or tiles; by default :attr:`batch_size`.
            embedding: is given each readable picture's source and (dims,) embedding, from the same pass, before its
                result comes.
            **options: as for :meth:`predict`.

        Raises:
            InputError: embeddings of a model or an engine that has none, or of tiles; or options as for
                :meth:`predict`.
            ModuleNotFoundError: a video without PyAV.
        """
        given, tiling = self._options(options)
        if tiling and embedding:
            raise InputError("embeddings are of whole pictures: leave out tile")
        return self._stream(sources, batch_size or self.batch_size, embedding, given, tiling)

    def _stream(
        self,
        sources: Iterable[str],
        step: int,
        embedding: Callable[[str, NDArray[np.float32]], None] | None,
        options: dict[str, Any],
        tiling: tuple[int, float] | None,
    ) -> Iterator[tuple[str, Result | Failure]]:
        waiting: list[tuple[str, _Input | Result | Failure]] = []
        for name, picture in _pictures(sources):
            opened = self._try_open(name, picture)
            if isinstance(opened, Failure):
                waiting.append((name, opened))
            else:
                waiting.append((name, self._tiled(opened, tiling, options, step) if tiling else self._input(opened)))
            if tiling or len(waiting) == step:
                yield from self._finish(waiting, step, embedding, options)
                waiting = []
        yield from self._finish(waiting, step, embedding, options)

    def _finish(
        self,
        waiting: Sequence[tuple[str, _Input | Result | Failure]],
        step: int,
        embedding: Callable[[str, NDArray[np.float32]], None] | None,
        options: dict[str, Any],
    ) -> Iterator[tuple[str, Result | Failure]]:
        inputs = [item for _, item in waiting if isinstance(item, _Input)]
        if embedding is not None and inputs:
            both = self._compute(inputs, step, self._embedding_engine())
            readable = (name for name, item in waiting if isinstance(item, _Input))
            for name, (_, vector) in zip(readable, both, strict=True):
                embedding(name, vector)
            results = iter(self._results([output for output, _ in both], inputs, options))
        else:
            results = iter(self._run(inputs, options, step))
        for name, item in waiting:
            yield name, next(results) if isinstance(item, _Input) else item

    def check(self, **options: Any) -> None:
        """Raises InputError where :meth:`predict` would for these options."""
        self._options(options)

    def _options(self, options: dict[str, Any]) -> tuple[dict[str, Any], tuple[int, float] | None]:
        """The options of the task's result, and the tiles' size and overlap, where there are to be any."""
        task, known = self.bundle.task, self.options
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name not in known:
                raise InputError(f"{name}: no option of {task}, which has {', '.join(known)}")
            kind, least, most = _RANGES[name]
            if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
                what = "a whole number" if kind is Integral else "a number"
                raise InputError(
                    f"{name}={value!r}: must be {what}, {least} " + (f"to {most}" if most < inf else "or more")
                )
        if "overlap" in given and "tile" not in given:
            raise InputError("overlap is of tiles: give tile too, their side in px of the picture")
        tile, overlap = given.pop("tile", None), given.pop("overlap", _OVERLAP)
        if "threshold" in known and "score" in self.bundle.thresholds:
            given.setdefault("threshold", self.bundle.thresholds["score"])
        return given, None if tile is None else (tile, overlap)

    def _open(self, picture: Source) -> Picture:
        """An upright picture of the model's channels, in its own size."""
        channels, sixteen_bit = self.bundle.preprocess.channels, self.bundle.preprocess.sixteen_bit
        if isinstance(picture, str | Path):
            return read_picture(picture, channels, sixteen_bit=sixteen_bit)
        if not isinstance(picture, Image.Image | np.ndarray):
            raise InputError(f"{type(picture).__name__} is no picture: give a path, a PIL image or a uint8 array")
        if isinstance(picture, np.ndarray) and channels in (1, 3):
            picture = self._from_array(picture)
        try:
            return to_input(picture, channels, sixteen_bit)
        except OSError as error:  # an image that was opened but not yet decoded
            raise InputError(f"broken picture ({error})") from error

    def _from_array(self, array: NDArray[Any]) -> Image.Image:
        if self.bundle.preprocess.sixteen_bit == "stretch" and array.dtype != np.uint8 and array.size:
            array = stretched(array)
        grey_or_rgb = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
        if array.dtype != np.uint8 or not grey_or_rgb or not array.size:
            raise InputError(
                f"an array of {array.dtype} and shape {array.shape} is no picture: give uint8 (0..255) of shape "
                "(height, width) or (height, width, 3), or a list of these"
            )
        return Image.fromarray(array)

    def _try_open(self, name: str, picture: Source | Failure) -> Picture | Failure:
        if isinstance(picture, Failure):
            return picture
        try:
            return self._open(picture)
        except InputError as error:
            return Failure(name, str(error) if isinstance(picture, str) else f"{name}: {error}")

    def _input(self, picture: Picture) -> _Input:
        """The model's input; the picture is let go, so that many fit in memory."""
        preprocess = self.bundle.preprocess
        placement = None if preprocess.fit == "crop" else preprocess.place(*_size(picture))
        return _Input(preprocess.pixels(picture), placement)

    def _tiled(self, picture: Picture, tiling: tuple[int, float], options: dict[str, Any], step: int) -> Result:
        size = _size(picture)
        every = {name: value for name, value in options.items() if name != "most"}
        places = tiles(*size, *tiling)
        parts: list[tuple[Tile, Detections]] = []
        for start in range(0, len(places), step):
            some = places[start : start + step]
            found = self._run([self._input(_cut(picture, place)) for place in some], every, step)
            parts += [(place, part) for place, part in zip(some, found, strict=True) if isinstance(part, Detections)]
        whole = merge(parts, size)
        return whole.take(np.arange(len(whole))[: options.get("most")])

    def _run(self, inputs: Sequence[_Input], options: dict[str, Any], step: int) -> list[Result]:
        return self._results(self._compute(inputs, step, self.engine), inputs, options)

    def _results(self, outputs: Sequence[Any], inputs: Sequence[_Input], options: dict[str, Any]) -> list[Result]:
        make = RESULTS[self.bundle.task]
        return [
            make(output, self.bundle.classes, placement=given.placement, **options)
            for output, given in zip(outputs, inputs, strict=True)
        ]

    def _compute(self, inputs: Sequence[_Input], step: int, engine: Engine) -> list[Any]:
        """One raw output an input, in order. Only inputs of one size go together, and none is padded to another's."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, given in enumerate(inputs):
            alike.setdefault(given.pixels.shape, []).append(i)
        outputs: list[Any] = [None] * len(inputs)
        for indices in alike.values():
            for start in range(0, len(indices), step):
                some = indices[start : start + step]
                batch = self.bundle.preprocess.normalise(np.stack([inputs[i].pixels for i in some]))
                for i, output in zip(some, engine(batch), strict=True):
                    outputs[i] = output
        return outputs

    def _embedding_engine(self) -> Engine:
        """An engine that gives raw outputs and embeddings in pairs."""
        embed = getattr(self.engine, "embed", None)
        if embed is None:
            raise InputError("this engine gives no embeddings: use the bundle that training wrote")
        return lambda batch: zip(*embed(batch), strict=True)


def _pictures(sources: Iterable[str]) -> Iterator[tuple[str, Source | Failure]]:
    """Each source, of videos each frame, with its name."""
    for source in sources:
        if not is_video(source):
            yield source, source
            continue
        try:
            for number, image in enumerate(frames(source)):
                yield frame_name(source, number), image
        except InputError as error:
            yield source, Failure(source, str(error))


def _size(picture: Picture) -> tuple[int, int]:
    """Height and width."""
    if isinstance(picture, Image.Image):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def _cut(picture: Picture, place: Tile) -> Picture:
    top, left, bottom, right = place
    if isinstance(picture, Image.Image):
        return picture.crop((left, top, right, bottom))
    return picture[top:bottom, left:right]


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
    """Files named by the user, pictures and videos: files, folders (searched below), glob patterns, or ``-`` for a list
    on standard input.

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
            inside = sorted([*find_pictures(path), *_find_videos(path)])
            if not inside:
                raise InputError(f"{source}: no pictures in this folder ({' '.join((*EXTENSIONS, *VIDEOS))})")
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
