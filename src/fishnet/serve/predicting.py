"""Predicts for requests: within the limits, together with other requests, and only as long as the client waits."""

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fishnet.errors import InputError, WorkError
from fishnet.images.decoding import size_of
from fishnet.prediction.batching import unwrap
from fishnet.prediction.inputs import Input, load_image, prepare_input
from fishnet.prediction.options import PredictOptions
from fishnet.prediction.passes import pass_count
from fishnet.prediction.pipeline import readers
from fishnet.prediction.results import Result
from fishnet.serve.bodies import Upload
from fishnet.serve.metrics import Metrics
from fishnet.serve.models import ServedModel
from fishnet.serve.problems import ProblemError, internal_error, problem_of
from fishnet.serve.queue import Queue
from fishnet.serve.results import to_json
from fishnet.serve.settings import Limits

LOG = logging.getLogger("uvicorn.error")


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

    @property
    def has_several_passes(self) -> bool:
        """Whether the options take each image through the network several times, or in tiles."""
        return bool(self.options.get("tile") or self.options.get("tta"))

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
        queue: of the images that are queued or in progress.

    Attributes:
        queue: as given.
    """

    def __init__(self, limits: Limits, metrics: Metrics, queue: Queue) -> None:
        self._limits, self._metrics, self.queue = limits, metrics, queue
        self._threads = ThreadPoolExecutor(readers(), "images")

    async def predict(self, job: Job, uploads: Sequence[Upload]) -> list[bytes | ProblemError]:
        """The result of each image as JSON, or why there is none.

        Raises:
            ProblemError: the queue is full.
        """
        self.queue.enter(len(uploads))
        deadline = asyncio.get_running_loop().time() + self._limits.timeout
        return await asyncio.gather(*(self._one(job, upload, deadline) for upload in uploads))

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _one(self, job: Job, upload: Upload, deadline: float) -> bytes | ProblemError:
        """The result of an image, which leaves the queue once nothing computes it any more."""
        alone: list[Future[bytes]] = []
        try:
            async with asyncio.timeout_at(deadline):
                text = await self._result(job, upload, alone)
        except TimeoutError:
            problem = ProblemError(503, "timeout", f"no result within {self._limits.timeout:g} s: try again later", 1)
        except (InputError, WorkError) as error:
            problem = problem_of(error, self._limits.max_pixels)
        except ProblemError as error:
            problem = error
        except Exception as error:
            LOG.exception("an error in a prediction")
            problem = internal_error(error)
        else:
            self._metrics.images.labels(job.model.name, "ok").inc()
            return text
        finally:
            self._leave_after(alone)
        self._metrics.images.labels(job.model.name, problem.code).inc()
        return problem

    def _leave_after(self, running: Sequence["Future[bytes]"]) -> None:
        """Removes an image from the queue, when a computation that nothing can stop has ended."""
        if not running or running[0].done():
            self.queue.leave()
            return
        loop = asyncio.get_running_loop()

        def leave(_: "Future[bytes]") -> None:
            with suppress(RuntimeError):  # the service has ended meanwhile
                loop.call_soon_threadsafe(self.queue.leave)

        running[0].add_done_callback(leave)

    async def _result(self, job: Job, upload: Upload, alone: list["Future[bytes]"]) -> bytes:
        prepared = None if job.has_several_passes else await self._in_thread(job, "decode", self._prepare, job, upload)
        if prepared is not None:
            output = unwrap(await asyncio.wrap_future(job.model.submit(prepared)))
            text: bytes = await self._in_thread(job, "postprocess", _finished, job, prepared, output)
            return text
        # Waits as a file, and is decoded when its turn comes: decoded images are large.
        alone.append(job.model.submit_alone(lambda: self._several_passes(job, upload)))
        return await asyncio.wrap_future(alone[0])

    async def _in_thread(self, job: Job, stage: str, function: Any, *args: Any) -> Any:
        start = time.monotonic()
        value = await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        self._metrics.stage_seconds.labels(job.model.name, stage).observe(time.monotonic() - start)
        return value

    def _prepare(self, job: Job, upload: Upload) -> Input | None:
        """The model's input; None for an image that is so large that it goes through the network several times."""
        bundle = job.model.predictor.bundle
        image = load_image(upload.content, bundle.preprocess, self._limits.max_pixels)
        options = PredictOptions.of(bundle, job.options)
        return prepare_input(bundle.preprocess, image) if pass_count(bundle, size_of(image), options) == 1 else None

    def _several_passes(self, job: Job, upload: Upload) -> bytes:
        """The result of an image that goes through the network several times.

        Raises:
            ProblemError: too many times.
        """
        predictor = job.model.predictor
        image = load_image(upload.content, predictor.bundle.preprocess, self._limits.max_pixels)
        passes = pass_count(predictor.bundle, size_of(image), PredictOptions.of(predictor.bundle, job.options))
        if passes > self._limits.max_passes:
            raise ProblemError(
                422, "too_many_passes",
                f"this image takes {passes:,} passes through the network, of at most {self._limits.max_passes}: choose "
                "larger tiles, or send a smaller image",
            )  # fmt: skip
        return _encoded(job, predictor.predict(image, **job.options))


def _finished(job: Job, prepared: Input, output: Any) -> bytes:
    return _encoded(job, job.model.predictor.postprocess(prepared, output, **job.options))


def _encoded(job: Job, result: Result) -> bytes:
    return json.dumps(to_json(result, job.maps), ensure_ascii=False, allow_nan=False).encode()
