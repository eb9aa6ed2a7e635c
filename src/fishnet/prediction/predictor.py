"""From sources to results: one Predictor, whatever engine computes. Importing this imports no torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, NotFiniteError
from fishnet.files.numbers import is_finite
from fishnet.images.decoding import ImageLike, size_of
from fishnet.images.preprocess import LARGEST
from fishnet.prediction.blending import Mosaic
from fishnet.prediction.inputs import KINDS, Input, cut, is_single, open_image, to_input
from fishnet.prediction.options import OVERLAP, PredictOptions
from fishnet.prediction.results import Detections, Result, Segmentation
from fishnet.prediction.results.segmentation import probabilities, resized
from fishnet.prediction.sources import Failure, Source, each_image
from fishnet.prediction.tiling import Tile, merge, tiles
from fishnet.tasks.info import task_info

Engine = Callable[[NDArray[np.float32]], Any]
Embedding = Callable[[str, NDArray[np.float32]], None]

_STEP = 32  # images at once, if they are of _USUAL px
_USUAL = 224 * 224
_USUAL_CLASSES = 32  # with more, less than LARGEST goes through in one piece
_TILE = 1024  # px, of tiles of larger images, where the training's size is not larger still, as far as a row of
_HELD = 1 << 30  # such tiles has so many bytes of probabilities,
_LEAST = 256  # px, and the least in any case
_SCALES = (1.0, 0.75, 1.25)  # of the input, the own size first


class Predictor:
    """A trained model, ready for images. It may be used from several threads.

    :meth:`predict` does all there is to do. A server that gathers images of several requests into one batch takes the
    steps by themselves: :meth:`preprocess`, :meth:`compute`, :meth:`postprocess`.

    Args:
        bundle: what the model is.
        engine: computes the task's raw outputs from (batch, channels, height, width) normalized float32: a sequence
            with one item an image. One thread at a time calls it, unless its attribute ``thread_safe`` is true.

    Attributes:
        max_pixels: of an image; larger ones are refused, see :class:`~fishnet.images.reading.Reading`.
    """

    max_pixels: int | None = None

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle, self.engine = bundle, engine
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = Lock()

    @property
    def batch_size(self) -> int:
        """Images computed at once where nothing else is said: 32, or as many whole ones as have as many pixels; of
        images in their own size, which may be any, one.
        """
        preprocess = self.bundle.preprocess
        if preprocess.fit != "whole":
            return _STEP if preprocess.fit == "crop" else 1
        return _as_many(preprocess.size[0] * preprocess.size[1])

    @property
    def options(self) -> tuple[str, ...]:
        """The names of what :meth:`predict` can be told for this task."""
        return task_info(self.bundle.task).options

    @overload
    def predict(self, images: Source, **options: Any) -> Result: ...

    @overload
    def predict(self, images: Sequence[Source], **options: Any) -> list[Result]: ...

    def predict(self, images: Source | Sequence[Source], **options: Any) -> Result | list[Result]:
        """Predicts one image, or several: :attr:`batch_size` at once, those of one size of input together.

        Args:
            images: a path; an http or https address of an image; an image file's bytes, or such a file open for
                reading; a PIL image; a uint8 array of shape (height, width) or (height, width, 3); a uint8 tensor of
                torch of shape (channels, height, width); for a model with another number of channels than 1 and 3, an
                array of shape (height, width, channels), or a tensor with its channels first, of uint8, uint16 or
                floats; or a sequence of these, such as a batch of tensors.
            **options: of the task; None for its own value. classify: ``k``, how many classes to give (5). detect and
                instances: ``threshold``, the least score, 0 to 1 (the bundle's), ``max_detections`` (all).
                These and segment: ``tile``, px of the image: predict in squares of this side and merge or blend
                (whole), ``overlap`` of these, 0 to 0.9 (0.2). segment: ``tta``, average over three scales and mirrored
                images (False).

        Returns:
            A result, or for a sequence a list of results in the same order.

        Raises:
            InputError: an image that cannot be read, an array of another type or shape, or an option that the task
                does not have or of another range.
            WorkError: outputs that are not finite numbers.
        """
        asked = PredictOptions.of(self.bundle, options)
        if is_single(images):
            return self._predict([cast("Source", images)], asked)[0]
        if not isinstance(images, Iterable):
            raise InputError(f"{type(images).__name__} is no image: give {KINDS}")
        return self._predict(cast("Iterable[Source]", images), asked)

    def preprocess(self, image: Source) -> Input:
        """The first step of a prediction: an image, of any kind that :meth:`predict` takes -> the model's input.

        Raises:
            InputError: an image that cannot be read, an array of another type or shape, or an image so large that
                :meth:`predict` takes it in tiles.
        """
        opened = open_image(image, self.bundle.preprocess, self.max_pixels)
        if self.own_tiling(size_of(opened)):
            raise InputError("this image takes several passes through the network: use predict")
        return to_input(self.bundle.preprocess, opened)

    def compute(self, inputs: Sequence[Input]) -> list[Any]:
        """The second step: inputs, of any sizes and from any images -> the raw output of each.

        Inputs of one size go through the network together, all that there are.

        Raises:
            WorkError: outputs that are not finite numbers.
        """
        outputs = dict(self._outputs(inputs, max(1, len(inputs)), self.engine))
        return [_sure(outputs[i]) for i in range(len(inputs))]

    def postprocess(self, given: Input, output: Any, **options: Any) -> Result:
        """The third step: an input and its raw output -> the result.

        Args:
            given: from :meth:`preprocess`.
            output: from :meth:`compute`.
            **options: as for :meth:`predict`, but for tiles and averages, which take several passes.

        Raises:
            InputError: an option that the task does not have or of another range.
        """
        asked = PredictOptions.of(self.bundle, options)
        if asked.tiling or asked.tta:
            raise InputError("tile and tta take several passes through the network: use predict")
        return self._result(given, output, asked.result)

    def run_engine(self, batch: NDArray[np.float32]) -> Any:
        """(batch, channels, height, width), normalized -> the task's raw outputs, as the engine gives them.

        One thread at a time, where the engine needs it.
        """
        return self._one_at_a_time(self.engine)(batch)

    def _result(self, given: Input, output: Any, options: dict[str, Any]) -> Result:
        info = task_info(self.bundle.task)
        result: Result = info.make_result(output, self.bundle.classes, placement=given.placement, **options)
        return result

    def _predict(self, images: Iterable[Source], asked: PredictOptions) -> list[Result]:
        ready = [
            self._ready(open_image(image, self.bundle.preprocess, self.max_pixels), asked, None) for image in images
        ]
        results = iter(self._run([item for item in ready if isinstance(item, Input)], asked.result, None))
        return [_sure(next(results)) if isinstance(item, Input) else item for item in ready]

    def embed(self, images: Sequence[Source]) -> NDArray[np.float32]:
        """The images' embeddings: what the model knows of each before its last layer, for search and clustering.

        Args:
            images: one or more, as :meth:`predict` takes them.

        Returns:
            (images, dims).

        Raises:
            InputError: as for :meth:`predict`; no image, or a model or an engine that has no embeddings.
        """
        if is_single(images) or not len(images):
            raise InputError("embed takes a list of one image or more")
        inputs = [
            to_input(self.bundle.preprocess, open_image(image, self.bundle.preprocess, self.max_pixels))
            for image in images
        ]
        vectors = {i: _sure(pair)[1] for i, pair in self._outputs(inputs, None, self._embedding_engine())}
        return np.stack([vectors[i] for i in range(len(inputs))])

    def stream(
        self,
        sources: Iterable[str],
        batch_size: int | None = None,
        *,
        embedding: Embedding | None = None,
        **options: Any,
    ) -> Iterator[tuple[str, Result | Failure]]:
        """Predicts many files batch by batch; a file that cannot be read gives a :class:`Failure` in its place.

        Args:
            sources: the files; a video gives its frames, each as a source ``clip.mp4#12``.
            batch_size: images a step, or tiles; by default :attr:`batch_size`.
            embedding: is given each readable image's source and (dims,) embedding, from the same pass, before its
                result comes.
            **options: as for :meth:`predict`.

        Raises:
            InputError: embeddings of a model or an engine that has none, or of tiles or averages; or options as for
                :meth:`predict`.
            ModuleNotFoundError: a video without PyAV.
        """
        asked = PredictOptions.of(self.bundle, options)
        if embedding:
            if asked.tiling or asked.tta:
                raise InputError("embeddings are of whole images, in one pass: leave out tile and tta")
            asked = replace(asked, whole=True)
        return self._stream(sources, batch_size, embedding, asked)

    def _stream(
        self, sources: Iterable[str], step: int | None, embedding: Embedding | None, asked: PredictOptions
    ) -> Iterator[tuple[str, Result | Failure]]:
        waiting: list[tuple[str, Input | Result | Failure]] = []
        for name, image in each_image(sources):
            waiting.append((name, self._try(name, image, asked, step)))
            if not isinstance(waiting[-1][1], Input | Failure) or len(waiting) == (step or self.batch_size):
                yield from self._finish(waiting, step, embedding, asked)
                waiting = []
        yield from self._finish(waiting, step, embedding, asked)

    def _finish(
        self,
        waiting: Sequence[tuple[str, Input | Result | Failure]],
        step: int | None,
        embedding: Embedding | None,
        asked: PredictOptions,
    ) -> Iterator[tuple[str, Result | Failure]]:
        inputs = [item for _, item in waiting if isinstance(item, Input)]
        if embedding is not None and inputs:
            vectors: dict[int, NDArray[np.float32]] = {}
            results = iter(self._run(inputs, asked.result, step, vectors))
            for i, name in enumerate(name for name, item in waiting if isinstance(item, Input)):
                if i in vectors:
                    embedding(name, vectors[i])
        else:
            results = iter(self._run(inputs, asked.result, step))
        for name, item in waiting:
            result = next(results) if isinstance(item, Input) else item
            yield name, Failure(name, f"{name}: {result}") if isinstance(result, NotFiniteError) else result

    def check(self, **options: Any) -> None:
        """Raises InputError where :meth:`predict` would for these options."""
        PredictOptions.of(self.bundle, options)

    def _try(
        self, name: str, image: Source | Failure, asked: PredictOptions, step: int | None
    ) -> Input | Result | Failure:
        if isinstance(image, Failure):
            return image
        try:
            return self._ready(open_image(image, self.bundle.preprocess, self.max_pixels), asked, step)
        except InputError as error:
            return Failure(name, str(error) if isinstance(image, str) else f"{name}: {error}")
        except NotFiniteError as error:
            return Failure(name, f"{name}: {error}")

    def _ready(self, image: ImageLike, asked: PredictOptions, step: int | None) -> Input | Result:
        """What goes through the network together with other images; of one that needs several passes, the result."""
        tiling = asked.tiling or (None if asked.whole else self.own_tiling(size_of(image)))
        if (tiling or asked.tta) and task_info(self.bundle.task).output == "label map":
            return self._blended(image, tiling, asked.tta, step)
        if tiling:
            return self._merged(image, tiling, asked.result, step)
        return to_input(self.bundle.preprocess, image)

    def own_tiling(self, size: tuple[int, int]) -> tuple[int, float] | None:
        """Side and overlap of the tiles that an image of this height and width is predicted in without being asked.

        None but for native images whose label map is too much for one pass.
        """
        preprocess, classes = self.bundle.preprocess, len(self.bundle.classes)
        if preprocess.fit != "native" or task_info(self.bundle.task).output != "label map":
            return None
        if size[0] * size[1] * max(_USUAL_CLASSES, classes) <= LARGEST * _USUAL_CLASSES:
            return None
        held = _HELD // (4 * classes * size[1])  # rows of px whose probabilities take so much
        return min(max(_TILE, *preprocess.size), max(_LEAST, held)), OVERLAP

    def _merged(self, image: ImageLike, tiling: tuple[int, float], options: dict[str, Any], step: int | None) -> Result:
        """The objects of an image's tiles."""
        size = size_of(image)
        every = {name: value for name, value in options.items() if name != "max_detections"}
        parts: list[tuple[Tile, Detections]] = []
        for some in self._steps(tiles(*size, *tiling), step):
            found = self._run([to_input(self.bundle.preprocess, cut(image, place)) for place in some], every, step)
            parts += [(place, part) for place, part in zip(some, found, strict=True) if isinstance(part, Detections)]
        whole = merge(parts, size)
        return whole.take(np.arange(len(whole))[: options.get("max_detections")])

    def _blended(self, image: ImageLike, tiling: tuple[int, float] | None, tta: bool, step: int | None) -> Segmentation:
        """The label map of an image's tiles, or of the averages of a whole image."""
        size, classes = size_of(image), self.bundle.classes
        if tiling is None:
            return Segmentation.from_probabilities(self._likely([image], tta, step)[0], classes, size)
        mosaic = Mosaic(size, len(classes))
        for some in self._steps(tiles(*size, *tiling), step):
            parts = self._likely([cut(image, place) for place in some], tta, step)
            for place, part in zip(some, parts, strict=True):
                mosaic.add(place, part)
        return Segmentation(mosaic.labels(), classes)

    def _steps(self, places: Sequence[Tile], step: int | None) -> Iterator[Sequence[Tile]]:
        top, left, bottom, right = places[0]
        count = step or self.count(bottom - top, right - left)
        return (places[start : start + count] for start in range(0, len(places), count))

    def count(self, height: int, width: int) -> int:
        """How many inputs of this size, px, are computed at once."""
        return _as_many(height * width) if self.bundle.preprocess.fit == "native" else self.batch_size

    def _likely(self, images: Sequence[ImageLike], tta: bool, step: int | None) -> list[NDArray[np.float32]]:
        """(classes, height, width) probabilities of each image, of its part of the input; with ``tta`` the mean over
        scales of the input and mirrored images, each brought to the size that the input has by itself."""
        ways = [(scale, mirrored) for scale in _SCALES for mirrored in (False, True)] if tta else [(1.0, False)]
        sums: dict[int, NDArray[np.float32]] = {}
        for scale, mirrored in ways:
            inputs = [to_input(self.bundle.preprocess, image, scale, mirrored) for image in images]
            for i, output in self._outputs(inputs, step, self.engine):
                place, logits = inputs[i].placement, _sure(output)
                assert place is not None
                del output
                likely = probabilities(logits, place.inner)[..., :: -1 if mirrored else 1]
                del logits  # before the next are computed
                if i not in sums:
                    sums[i] = likely
                    continue
                height, width = sums[i].shape[1:]
                for plane, more in zip(sums[i], likely, strict=True):
                    np.add(plane, resized(more, (height, width), slice(0, height)), out=plane)
        return [np.divide(sums[i], len(ways), out=sums[i]) for i in range(len(images))]

    def _run(
        self,
        inputs: Sequence[Input],
        options: dict[str, Any],
        step: int | None,
        vectors: dict[int, NDArray[np.float32]] | None = None,
    ) -> list[Result | NotFiniteError]:
        """One result an input, or why there is none; their embeddings go into ``vectors``, where that is given."""
        results: dict[int, Result | NotFiniteError] = {}
        engine = self.engine if vectors is None else self._embedding_engine()
        for i, output in self._outputs(inputs, step, engine):
            if isinstance(output, NotFiniteError):
                results[i] = output
                continue
            if vectors is not None:
                output, vectors[i] = output  # noqa: PLW2901
            results[i] = self._result(inputs[i], output, options)
            del output  # before the next are computed
        return [results[i] for i in range(len(inputs))]

    def _outputs(self, inputs: Sequence[Input], step: int | None, engine: Engine) -> Iterator[tuple[int, Any]]:
        """The raw output of each input, by its number, so that no more are kept than are computed at once; where it is
        not finite, an error in its place.

        Only inputs of one size go together, and none is padded to another's.
        """
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, given in enumerate(inputs):
            alike.setdefault(given.pixels.shape, []).append(i)
        for shape, indices in alike.items():
            count = step or self.count(shape[1], shape[2])
            for start in range(0, len(indices), count):
                some = indices[start : start + count]
                batch = self.bundle.preprocess.normalize(np.stack([inputs[i].pixels for i in some]))
                yield from zip(some, _finite(self._one_at_a_time(engine), batch), strict=True)

    def _one_at_a_time(self, engine: Engine) -> Engine:
        """The engine, called by one thread at a time where it has to be."""
        if getattr(self.engine, "thread_safe", False):
            return engine

        def call(batch: NDArray[np.float32]) -> Any:
            with self._lock:
                return engine(batch)

        return call

    def _embedding_engine(self) -> Engine:
        """An engine that gives raw outputs and embeddings in pairs."""
        embed = getattr(self.engine, "embed", None)
        if embed is None:
            raise InputError("this engine gives no embeddings: use the bundle that training wrote")
        return lambda batch: list(zip(*embed(batch), strict=True))


def _finite(engine: Engine, batch: NDArray[np.float32]) -> Iterator[Any]:
    """An engine's outputs, one an input; those that are not finite are errors."""
    try:
        outputs = engine(batch)
    except NotFiniteError as error:
        if len(batch) == 1:
            yield error
            return
        for i in range(len(batch)):
            yield from _finite(engine, batch[i : i + 1])
        return
    for output in outputs:
        parts = output if isinstance(output, tuple) else (output,)
        yield output if all(map(is_finite, parts)) else NotFiniteError()


def _sure(output: Any) -> Any:
    """An output or a result. Raises the NotFiniteError that is in its place."""
    if isinstance(output, NotFiniteError):
        raise output
    return output


def _as_many(pixels: int) -> int:
    """How many inputs of so many px are computed at once."""
    return max(1, min(_STEP, round(_STEP * _USUAL / pixels)))
