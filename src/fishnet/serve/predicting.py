"""Predicts for requests: within the limits, together with other requests, and only as long as the client waits."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fishnet.errors import InputError, WorkError
from fishnet.images.decoding import ImageLike, size_of
from fishnet.prediction.batching import unwrap
from fishnet.prediction.inputs import Input, load_image, prepare_input
from fishnet.prediction.options import PredictOptions
from fishnet.prediction.passes import pass_count
from fishnet.prediction.pipeline import readers
from fishnet.prediction.results import Result
from fishnet.serve.bodies import Upload
from fishnet.serve.metrics import Metrics
from fishnet.serve.models import ServedModel
from fishnet.serve.problems import ProblemError, problem_of
from fishnet.serve.results import to_json
from fishnet.serve.settings import Limits


@dataclass(frozen=True)
class Job:
    """What is predicted for a request.

    Attributes:
        model: the model.
        options: of the prediction, checked.
        maps: see :func:`fishnet.serve.results.to_json`.
    """

    model: ServedModel
    options: dict[str, Any]
    maps: bool = True

    @classmethod
    def of(cls, model: ServedModel, options: dict[str, Any], maps: bool = True) -> "Job":
        """Checks the options.

        Raises:
            ProblemError: an option that the model does not have, or that is out of range.
        """
        try:
            PredictOptions.of(model.predictor.bundle, options)
        except InputError as error:
            raise ProblemError(422, "bad_option", str(error)) from None
        return cls(model, options, maps)


class Predicting:
    """Predicts for requests.

    Args:
        limits: what is accepted.
        metrics: those of the service.

    Attributes:
        queued: number of images that wait or are computed.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._threads = ThreadPoolExecutor(readers(), "images")
        self.queued = 0

    async def predict(self, job: Job, uploads: Sequence[Upload]) -> list[bytes | ProblemError]:
        """The result of each image as JSON, or why there is none.

        Raises:
            ProblemError: the queue is full, or the time is over.
        """
        with self._places(len(uploads)):
            try:
                async with asyncio.timeout(self._limits.timeout):
                    return await asyncio.gather(*(self._one(job, upload) for upload in uploads))
            except TimeoutError:
                self._metrics.images.labels(job.model.name, "timeout").inc(len(uploads))
                raise ProblemError(
                    503, "timeout", f"no result within {self._limits.timeout:g} s: try again later", retry_after=1
                ) from None

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        """Places in the queue for some images.

        Raises:
            ProblemError: there are not as many.
        """
        if self.queued + count > self._limits.queue:
            if count > self._limits.queue:
                raise ProblemError(413, "too_many_images", f"at most {self._limits.queue} images: send fewer")
            raise ProblemError(
                429, "queue_full", f"{self.queued} images wait or are computed: try again later", retry_after=1
            )
        self._add(count)
        try:
            yield
        finally:
            self._add(-count)

    def _add(self, count: int) -> None:
        self.queued += count
        self._metrics.queued.inc(count)

    async def _one(self, job: Job, upload: Upload) -> bytes | ProblemError:
        try:
            text = await self._result(job, upload)
        except (InputError, WorkError) as error:
            problem = problem_of(error, self._limits.max_pixels)
        except ProblemError as error:
            problem = error
        else:
            self._metrics.images.labels(job.model.name, "ok").inc()
            return text
        self._metrics.images.labels(job.model.name, problem.code).inc()
        return problem

    async def _result(self, job: Job, upload: Upload) -> bytes:
        prepared = await self._in_thread(job, "decode", self._prepare, job, upload)
        if isinstance(prepared, Input):
            output = unwrap(await asyncio.wrap_future(job.model.submit(prepared)))
            text: bytes = await self._in_thread(job, "postprocess", _finished, job, prepared, output)
            return text
        # Nothing can stop several passes once they run. The image keeps a place until they end, though its request
        # may not.
        running = job.model.submit_alone(lambda: _several_passes(job, prepared))
        self._add(1)
        loop = asyncio.get_running_loop()
        running.add_done_callback(lambda _: loop.call_soon_threadsafe(self._add, -1))
        return await asyncio.wrap_future(running)

    async def _in_thread(self, job: Job, stage: str, function: Any, *args: Any) -> Any:
        start = time.monotonic()
        value = await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        self._metrics.stage_seconds.labels(job.model.name, stage).observe(time.monotonic() - start)
        return value

    def _prepare(self, job: Job, upload: Upload) -> Input | ImageLike:
        """The model's input, or the image if it goes through the network several times."""
        predictor = job.model.predictor
        image = load_image(upload.content, predictor.bundle.preprocess, self._limits.max_pixels)
        options = PredictOptions.of(predictor.bundle, job.options)
        passes = pass_count(predictor.bundle, size_of(image), options)
        if passes > self._limits.max_passes:
            raise ProblemError(
                422, "too_many_passes",
                f"this image takes {passes:,} passes through the network, of at most {self._limits.max_passes}: choose "
                "larger tiles, or send a smaller image",
            )  # fmt: skip
        return image if passes > 1 or options.tiling else prepare_input(predictor.bundle.preprocess, image)


def _finished(job: Job, prepared: Input, output: Any) -> bytes:
    return _encoded(job, job.model.predictor.postprocess(prepared, output, **job.options))


def _several_passes(job: Job, image: ImageLike) -> bytes:
    return _encoded(job, job.model.predictor.predict(image, **job.options))


def _encoded(job: Job, result: Result) -> bytes:
    return json.dumps(to_json(result, job.maps), ensure_ascii=False, allow_nan=False).encode()
