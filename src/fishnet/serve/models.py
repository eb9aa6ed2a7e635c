"""The models of a service: loaded, described, and replaced when their files change."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np

from fishnet.bundle.hub import bundle_path, is_remote
from fishnet.errors import InputError, WorkError
from fishnet.files.values import shown
from fishnet.prediction.inputs import Input
from fishnet.prediction.predictor import Predictor
from fishnet.serve.batcher import MicroBatcher
from fishnet.serve.metrics import Metrics
from fishnet.serve.problems import ProblemError
from fishnet.serve.queue import Queue
from fishnet.serve.settings import Limits, Settings
from fishnet.tasks.loading import load

LOG = logging.getLogger("uvicorn.error")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

Signature = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of a model's files."""


def named_sources(models: Iterable[str]) -> dict[str, str]:
    """Reads models, each ``SOURCE`` or ``NAME=SOURCE``. Without a name it is that of the folder, or of the file.

    Raises:
        InputError: no model, two of one name, or a
            name with characters other than letters, digits, ``.``, ``_`` and ``-``.
    """
    sources: dict[str, str] = {}
    for model in models:
        name, equals, source = model.partition("=")
        if not equals or "/" in name:
            source = model
            name = default_name(model)
        if not name or not set(name) <= _NAME:
            raise InputError(
                f"{shown(name)}: not a name for a model: use letters, digits, '.', '_' and '-': NAME=SOURCE"
            )
        if name in sources:
            raise InputError(f"{name}: two models of this name: give them others, with NAME=SOURCE")
        sources[name] = source
    if not sources:
        raise InputError("nothing to serve: name a bundle or an exported file")
    return sources


def default_name(source: str) -> str:
    """The name of a model that was given none: that of its folder, file or repository."""
    if is_remote(source):
        return source.partition("@")[0].rpartition("/")[2]
    path = bundle_path(source)
    return path.stem if path.is_file() else path.resolve().name


class ServedModel:
    """A model that is ready to predict.

    Args:
        name: under which it is served.
        predictor: the model.
        limits: what is accepted.
        metrics: those of the service.
        queue: of the images of all models.

    Attributes:
        name, predictor: as given.
        max_batch: maximum number of images that are computed together.
        users: number of requests that use it.
        is_retired: whether another model has taken its place.
    """

    def __init__(self, name: str, predictor: Predictor, limits: Limits, metrics: Metrics, queue: Queue) -> None:
        self.name, self.predictor = name, predictor
        predictor.max_pixels = limits.max_pixels
        self.max_batch = limits.max_batch or predictor.batch_size
        self._batcher = MicroBatcher(
            self._compute, self.max_batch, limits.max_wait_ms / 1e3, lambda *batch: metrics.add_batch(name, *batch),
            lambda: queue.count,
        )  # fmt: skip
        self._large = ThreadPoolExecutor(1, "several-passes")
        self.users, self.is_retired = 0, False

    @property
    def is_alive(self) -> bool:
        """Whether its thread computes."""
        return self._batcher.is_alive

    def submit(self, prepared: Input) -> "Future[Any]":
        """Starts to compute the raw output of an input, together with others."""
        return self._batcher.submit(prepared)

    def submit_alone(self, predict: Callable[[], Any]) -> "Future[Any]":
        """Starts a prediction in several passes. One runs at a time."""
        return self._large.submit(predict)

    def warm_up(self) -> None:
        """Computes an empty image, so that the first request does not wait for what the engine prepares."""
        preprocess = self.predictor.bundle.preprocess
        side = min(preprocess.size)
        shape = (side, side) if preprocess.channels == 1 else (side, side, preprocess.channels)
        self.predictor.predict(np.zeros(shape, np.uint8))

    def close(self, timeout: float | None = None) -> None:
        """Computes what waits, and ends the threads."""
        self._batcher.close(timeout)
        self._large.shutdown(wait=False, cancel_futures=True)

    def describe(self) -> dict[str, Any]:
        """What clients need to know about the model."""
        bundle = self.predictor.bundle
        return {
            "name": self.name,
            "backbone": bundle.backbone,
            "heads": {
                head: {
                    "task": config.task,
                    "classes": [
                        {"id": id_, "name": name}
                        for id_, name in zip(config.classes.ids, config.classes.names, strict=True)
                    ],
                    "thresholds": config.thresholds,
                    "multi_label": config.multi_label,
                }
                for head, config in bundle.heads.items()
            },
            "panoptic": bundle.panoptic is not None,
            "options": list(self.predictor.options),
            "input": {"channels": bundle.preprocess.channels, "size": list(bundle.preprocess.size)},
            "precision": self.predictor.precision,
            "max_batch": self.max_batch,
            "metrics": bundle.metrics,
            "sha256": bundle.sha256,
        }

    def _compute(self, inputs: Sequence[Input]) -> list[Any]:
        pixels = [each.pixels for each in inputs]
        outputs = dict(self.predictor.runner.checked_outputs(pixels, len(pixels)))
        return [outputs[i] for i in range(len(pixels))]


class Models:
    """The models of a service by name. Thread-safe.

    Args:
        settings: those of the service.
        metrics: those of the service.
        queue: of the images of all models.
    """

    def __init__(self, settings: Settings, metrics: Metrics, queue: Queue) -> None:
        self._settings, self._metrics, self._queue = settings, metrics, queue
        self._reloading, self._lock = Lock(), Lock()
        self._models: dict[str, ServedModel] = {}
        self._signatures: dict[str, Signature] = {}

    def load(self) -> None:
        """Loads all models, unless they are loaded.

        Raises:
            InputError, WorkError: see :func:`fishnet.tasks.loading.load`.
        """
        for name in self._settings.models:
            if name not in self._models:
                self._models[name] = self._load(name)

    def __getitem__(self, name: str) -> ServedModel:
        """A model by name; the first one for an empty name.

        Raises:
            ProblemError: there is none of this name.
        """
        models: Mapping[str, ServedModel] = self._models
        if not name:
            return next(iter(models.values()))
        if name not in models:
            raise ProblemError(404, "no_such_model", f"no model {shown(name)}: this service has {', '.join(models)}")
        return models[name]

    @contextmanager
    def use(self, name: str) -> Iterator[ServedModel]:
        """A model by name, which stays usable in the context even if another one takes its place.

        Raises:
            ProblemError: there is none of this name.
        """
        with self._lock:
            model = self[name]
            model.users += 1
        try:
            yield model
        finally:
            with self._lock:
                model.users -= 1
                is_over = model.is_retired and not model.users
            if is_over:
                model.close(0)

    @property
    def are_alive(self) -> bool:
        """Whether all models compute."""
        return all(model.is_alive for model in self._models.values())

    @property
    def names(self) -> list[str]:
        """The names of all models, the default one first."""
        return list(self._models)

    def reload(self, *, changed_only: bool = False) -> None:
        """Loads models again, and replaces those that are served. Running requests keep the old ones.

        A model that cannot be loaded stays as it is; the reason is logged and counted.

        Args:
            changed_only: only models whose files have changed since they were loaded, and not within the last second.
        """
        with self._reloading:
            for name, source in self._settings.models.items():
                if changed_only and not self._has_changed(name, source):
                    continue
                try:
                    model = self._load(name)
                except Exception as error:  # of any library that loads or runs the model
                    is_expected = isinstance(error, InputError | WorkError)
                    LOG.error(
                        "%s: not reloaded, the old model stays: %s",
                        name,
                        error,
                        exc_info=None if is_expected else error,
                    )
                    self._metrics.add_reload(name, "failed")
                    continue
                self._replace(name, model)
                LOG.info("%s: reloaded from %s", name, source)
                self._metrics.add_reload(name, "done")

    def _replace(self, name: str, model: ServedModel) -> None:
        with self._lock:
            old, self._models[name] = self._models[name], model
            old.is_retired = True
            is_over = not old.users
        if is_over:
            old.close(0)

    def close(self, timeout: float) -> None:
        """Ends the models' threads."""
        for model in self._models.values():
            model.close(timeout)

    def _load(self, name: str) -> ServedModel:
        source, settings = self._settings.models[name], self._settings
        self._signatures[name] = signature(source)  # before: a change while it is read is seen later
        predictor = load(source, settings.device, trust=settings.trust, precision=settings.precision)
        model = ServedModel(name, predictor, settings.limits, self._metrics, self._queue)
        try:
            model.warm_up()
        except BaseException:
            model.close(0)
            raise
        return model

    def _has_changed(self, name: str, source: str) -> bool:
        now = signature(source)
        is_settled = all(time.time_ns() - changed > 1e9 for _, _, changed in now)
        return bool(now) and is_settled and now != self._signatures[name]


def signature(source: str) -> Signature:
    """Identifies the content of a model's files, without reading them; empty for what is not a local file."""
    if is_remote(source):
        return ()
    path = bundle_path(source)
    files = [path.with_suffix(".bin"), path] if path.is_file() else [path / "config.json", path / "model.safetensors"]
    signatures = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        signatures.append((file.name, status.st_size, status.st_mtime_ns))
    return tuple(signatures)
