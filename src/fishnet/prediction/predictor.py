"""The Predictor, which predicts on images with any engine. Importing this module imports no torch."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from fishnet.bundle.bundle import Bundle
from fishnet.errors import InputError, NotFiniteError
from fishnet.images.decoding import ImageLike, size_of
from fishnet.prediction.batching import BatchRunner, Engine, unwrap
from fishnet.prediction.heads import by_head, check_heads, combine, make_result
from fishnet.prediction.inputs import KINDS, Input, is_single, load_image, prepare_input
from fishnet.prediction.options import PredictOptions, option_names
from fishnet.prediction.passes import MultiPass, default_tiling
from fishnet.prediction.pipeline import mapped, readers
from fishnet.prediction.results import Result
from fishnet.prediction.sources import Failure, Source, iter_images

Embedding = Callable[[str, NDArray[np.float32]], None]
"""Receives a source and its image's (dims,) embedding."""


class Predictor:
    """A trained model that predicts on images. Thread-safe.

    The result of a model with one head is that head's. With several heads, which share one pass through the network, it
    is a :class:`~fishnet.prediction.results.Scene` of their results by head.

    :meth:`predict` does everything at once. A server that gathers the images of several requests into one batch calls
    the steps instead: :meth:`preprocess`, :meth:`compute`, :meth:`postprocess`.

    Args:
        bundle: the model's config.
        engine: computes the task's raw outputs, a sequence with one item per image, from (batch, channels, height,
            width) normalized float32; for several heads a dict of these by head, see
            :data:`~fishnet.prediction.batching.Engine`. Only one thread at a time calls it, unless its attribute
            ``thread_safe`` is true.

    Attributes:
        max_pixels: maximum number of pixels of an image, see :class:`~fishnet.images.reading.Reading`.
        runner: runs the engine in batches.

    Raises:
        InputError: a head that predicts in px of the image, and preprocessing that crops images.
    """

    max_pixels: int | None = None

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        check_heads(bundle)
        self.bundle = bundle
        self.runner = BatchRunner(bundle, engine)

    @property
    def engine(self) -> Engine:
        """Computes raw outputs; see the class."""
        return self.runner.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self.runner.engine = engine

    @property
    def precision(self) -> str:
        """What the engine computes in: its attribute ``precision``, if it has one, else ``fp32``."""
        return str(getattr(self.engine, "precision", "fp32"))

    @property
    def batch_size(self) -> int:
        """The default batch size: 32; fewer for whole images above 224 x 224 px; 1 for images in their own size."""
        return self.runner.batch_size

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that :meth:`predict` takes: those of the task, or of the tasks of all heads."""
        return option_names(self.bundle)

    @overload
    def predict(self, images: Source, **options: Any) -> Result: ...

    @overload
    def predict(self, images: Sequence[Source], **options: Any) -> list[Result]: ...

    def predict(self, images: Source | Sequence[Source], **options: Any) -> Result | list[Result]:
        """Predicts on one image or several. Images whose inputs have the same size share batches of :attr:`batch_size`.

        Args:
            images: a path; an http or https address of an image; an image file's bytes, or such a file open for
                reading; a PIL image; a uint8 array of shape (height, width) or (height, width, 3); a uint8 tensor of
                torch of shape (channels, height, width); for a model with another number of channels than 1 and 3, an
                array of shape (height, width, channels), or a tensor with its channels first, of uint8, uint16 or
                floats; or a sequence of these, such as a batch of tensors.
            **options: the task's options, with their defaults in parentheses; None for the default. classify: ``k``,
                the number of classes to return (5). detect and instances: ``threshold``, the lowest score, 0 to 1 (the
                bundle's), and ``max_detections`` (all). detect, instances and segment: ``tile``, to predict in square
                tiles of this side, px of the image, and merge the results (no tiles), and ``overlap`` of the tiles, 0
                to 0.9 (0.2). segment: ``tta``, to average over three scales and mirrored images (False). With several
                heads an option applies to all heads that have it; classifiers always see the whole image. Panoptic
                models: ``panoptic_score``, ``panoptic_overlap`` and ``stuff_area``, the thresholds of merging (the
                bundle's, see :class:`~fishnet.bundle.panoptic.PanopticConfig`).

        Returns:
            A result, or for a sequence a list of results in the same order.

        Raises:
            InputError: an image that cannot be read, an array of another type or shape, or an option that the task
                does not have or that is out of range.
            WorkError: outputs that are not finite numbers.
        """
        parsed = PredictOptions.of(self.bundle, options)
        if is_single(images):
            return self._predict([cast("Source", images)], parsed)[0]
        if not isinstance(images, Iterable):
            raise InputError(f"{type(images).__name__} is not an image: give {KINDS}")
        return self._predict(cast("Iterable[Source]", images), parsed)

    def preprocess(self, image: Source) -> Input:
        """The first step of a prediction: turns an image, of any kind that :meth:`predict` takes, into model input.

        Raises:
            InputError: an image that cannot be read, an array of another type or shape, or an image so large that
                :meth:`predict` splits it into tiles.
        """
        opened = load_image(image, self.bundle.preprocess, self.max_pixels)
        if default_tiling(self.bundle, size_of(opened)):
            raise InputError("this image must be predicted in several passes: call predict")
        return prepare_input(self.bundle.preprocess, opened)

    def compute(self, inputs: Sequence[Input]) -> list[Any]:
        """The second step: computes the raw output of each input. Inputs may have any sizes and come from any images.

        All inputs of the same size go through the network together.

        Raises:
            WorkError: outputs that are not finite numbers.
        """
        outputs = dict(self.runner.checked_outputs(_pixels(inputs), max(1, len(inputs))))
        return [unwrap(outputs[i]) for i in range(len(inputs))]

    def postprocess(self, prepared: Input, output: Any, **options: Any) -> Result:
        """The third step: turns an input and its raw output into the result.

        Args:
            prepared: from :meth:`preprocess`.
            output: from :meth:`compute`.
            **options: as for :meth:`predict`, except tiles and averages, which take several passes.

        Raises:
            InputError: an option that the task does not have or that is out of range.
        """
        parsed = PredictOptions.of(self.bundle, options)
        if parsed.tiling or parsed.tta:
            raise InputError("tile and tta need several passes: call predict")
        return self._result(prepared, output, parsed)

    def embed(self, images: Sequence[Source]) -> NDArray[np.float32]:
        """Computes the images' embeddings, the features before the model's last layer, for search and clustering.

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
            prepare_input(self.bundle.preprocess, load_image(image, self.bundle.preprocess, self.max_pixels))
            for image in images
        ]
        pairs = self.runner.checked_outputs(_pixels(inputs), engine=self.runner.embedding_engine())
        vectors = {i: unwrap(pair)[1] for i, pair in pairs}
        return np.stack([vectors[i] for i in range(len(inputs))])

    def stream(
        self,
        sources: Iterable[str],
        batch_size: int | None = None,
        *,
        embedding: Embedding | None = None,
        **options: Any,
    ) -> Iterator[tuple[str, Result | Failure]]:
        """Predicts on many files, batch by batch. Yields a :class:`Failure` for a file that cannot be read.

        Threads read the images of the next batch while one is computed; of large images one at a time.

        Args:
            sources: the files; iterated in another thread. Each frame of a video is yielded as its own source, such as
                ``clip.mp4#12``.
            batch_size: images, or tiles, per batch; by default :attr:`batch_size`.
            embedding: receives each readable image's source and (dims,) embedding, from the same pass, before the
                result is yielded.
            **options: as for :meth:`predict`.

        Raises:
            InputError: embeddings that the model or the engine does not have, or together with tiles or averages; or
                options as for :meth:`predict`.
            ModuleNotFoundError: a video without PyAV.
        """
        parsed = PredictOptions.of(self.bundle, options)
        if embedding:
            if parsed.tiling or parsed.tta:
                raise InputError("embeddings are computed in one pass: leave out tile and tta")
            parsed = replace(parsed, single_pass=True)
        return self._stream(iter_images(sources), batch_size, embedding, parsed)

    def stream_images(
        self, images: Iterable[tuple[str, Source]], batch_size: int | None = None, **options: Any
    ) -> Iterator[tuple[str, Result | Failure]]:
        """As :meth:`stream`, for images of any kind that :meth:`predict` takes, each with a name."""
        return self._stream(images, batch_size, None, PredictOptions.of(self.bundle, options))

    def check_options(self, **options: Any) -> None:
        """Raises InputError where :meth:`predict` would for these options."""
        PredictOptions.of(self.bundle, options)

    def _predict(self, images: Iterable[Source], options: PredictOptions) -> list[Result]:
        items = [
            self._prepare(load_image(image, self.bundle.preprocess, self.max_pixels), options, None) for image in images
        ]
        inputs = [item for item in items if isinstance(item, Input)]
        results = iter(self._run(inputs, options, None))
        return [unwrap(next(results)) if isinstance(item, Input) else item for item in items]

    def _stream(
        self,
        named: Iterable[tuple[str, Source | Failure]],
        batch_size: int | None,
        embedding: Embedding | None,
        options: PredictOptions,
    ) -> Iterator[tuple[str, Result | Failure]]:
        size = batch_size or self.batch_size
        # images that go through the network in several passes, or in their own size, may be huge: one after the other
        is_small = not (options.tiling or options.tta or self.bundle.preprocess.fit == "native")
        readahead = (readers(), size) if is_small else (1, 1)
        large = Lock()

        def read(named: tuple[str, Source | Failure]) -> tuple[str, ImageLike | Input | Failure]:
            return named[0], self._try_read(*named, options, large)

        waiting: list[tuple[str, Input | Result | Failure]] = []
        for name, image in mapped(read, named, *readahead):
            item: Input | Result | Failure
            if isinstance(image, Input | Failure):
                item = image
            else:
                item = self._try_several_passes(name, image, options, batch_size)
            waiting.append((name, item))
            if not isinstance(item, Input | Failure) or len(waiting) == size:
                yield from self._finish(waiting, batch_size, embedding, options)
                waiting = []
        yield from self._finish(waiting, batch_size, embedding, options)

    def _finish(
        self,
        waiting: Sequence[tuple[str, Input | Result | Failure]],
        batch_size: int | None,
        embedding: Embedding | None,
        options: PredictOptions,
    ) -> Iterator[tuple[str, Result | Failure]]:
        """Computes the inputs among some items and yields all items' results in order."""
        names = [name for name, item in waiting if isinstance(item, Input)]
        inputs = [item for _, item in waiting if isinstance(item, Input)]
        vectors: dict[int, NDArray[np.float32]] | None = {} if embedding is not None and inputs else None
        results = iter(self._run(inputs, options, batch_size, vectors))
        if embedding is not None:
            for i in sorted(vectors or ()):
                embedding(names[i], vectors[i])  # type: ignore[index]
        for name, item in waiting:
            result = next(results) if isinstance(item, Input) else item
            yield name, Failure(name, f"{name}: {result}") if isinstance(result, NotFiniteError) else result

    def _try_read(
        self, name: str, image: Source | Failure, options: PredictOptions, large: Lock
    ) -> ImageLike | Input | Failure:
        """An input for a batch; an image that needs several passes; or why it cannot be read."""
        if isinstance(image, Failure):
            return image
        try:
            opened = load_image(image, self.bundle.preprocess, self.max_pixels, large)
            return opened if self._needs_passes(opened, options) else prepare_input(self.bundle.preprocess, opened)
        except InputError as error:
            return Failure(name, str(error) if isinstance(image, str) else f"{name}: {error}")

    def _try_several_passes(
        self, name: str, image: ImageLike, options: PredictOptions, batch_size: int | None
    ) -> Result | Failure:
        try:
            return self._several_passes(image, options, batch_size)
        except (InputError, NotFiniteError) as error:
            return Failure(name, f"{name}: {error}")

    def _needs_passes(self, image: ImageLike, options: PredictOptions) -> bool:
        """Whether an image needs several passes."""
        automatic = not options.single_pass and default_tiling(self.bundle, size_of(image)) is not None
        return bool(options.tiling or options.tta or automatic)

    def _prepare(self, image: ImageLike, options: PredictOptions, batch_size: int | None) -> Input | Result:
        """Turns an image into an input for a batch. If it needs several passes, computes its result instead."""
        if self._needs_passes(image, options):
            return self._several_passes(image, options, batch_size)
        return prepare_input(self.bundle.preprocess, image)

    def _several_passes(self, image: ImageLike, options: PredictOptions, batch_size: int | None) -> Result:
        tiling = options.tiling or (None if options.single_pass else default_tiling(self.bundle, size_of(image)))
        results = MultiPass(self.bundle, self.runner).predict(image, options, tiling, batch_size)
        return combine(results, options)

    def _run(
        self,
        inputs: Sequence[Input],
        options: PredictOptions,
        batch_size: int | None,
        vectors: dict[int, NDArray[np.float32]] | None = None,
    ) -> list[Result | NotFiniteError]:
        """Returns a result or an error for each input. Fills ``vectors``, if given, with the embeddings."""
        results: dict[int, Result | NotFiniteError] = {}
        engine = None if vectors is None else self.runner.embedding_engine()
        for i, output in self.runner.checked_outputs(_pixels(inputs), batch_size, engine):
            if isinstance(output, NotFiniteError):
                results[i] = output
                continue
            if vectors is not None:
                output, vectors[i] = output  # noqa: PLW2901
            results[i] = self._result(inputs[i], output, options)
            del output  # before the next batch is computed
        return [results[i] for i in range(len(inputs))]

    def _result(self, prepared: Input, output: Any, options: PredictOptions) -> Result:
        results = {
            name: make_result(self.bundle, name, raw, prepared.placement, options.result_options[name])
            for name, raw in by_head(self.bundle, output).items()
        }
        return combine(results, options)


def _pixels(inputs: Iterable[Input]) -> list[NDArray[Any]]:
    return [item.pixels for item in inputs]
