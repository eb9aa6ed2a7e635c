"""What all routes share: models, metrics, limits, and whether the service is ready."""

import asyncio

from fishnet.serve.metrics import Metrics
from fishnet.serve.models import Models
from fishnet.serve.predicting import Predicting
from fishnet.serve.problems import ProblemError
from fishnet.serve.queue import Queue
from fishnet.serve.settings import Settings


class Service:
    """A running service.

    Args:
        settings: its models and limits.

    Attributes:
        settings, limits: as given.
        models, metrics, predicting: its parts.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.limits = settings, settings.limits
        self.metrics = Metrics()
        queue = Queue(self.limits.queue, self.metrics)
        self.models = Models(settings, self.metrics, queue)
        self.predicting = Predicting(self.limits, self.metrics, queue)
        self._is_ready = False
        self._reload_requested = asyncio.Event()

    def check_ready(self) -> None:
        """Raises ProblemError while models load, and while the service stops."""
        if not (self._is_ready and self.models.are_alive):
            raise ProblemError(503, "not_ready", "the service is starting or shutting down: try again later", 1)

    async def start(self) -> None:
        """Loads the models."""
        await asyncio.to_thread(self.models.load)
        self._is_ready = True

    async def stop(self) -> None:
        """Ends all threads, after what still waits has been computed."""
        self._is_ready = False
        await asyncio.to_thread(self.models.close, self.limits.drain)
        self.predicting.close()

    def request_reload(self) -> None:
        """Lets :meth:`reload_when_requested` load the models again, once for any number of requests."""
        self._reload_requested.set()

    async def reload_when_requested(self) -> None:
        """Loads the models again each time that is requested, until it is cancelled."""
        while True:
            await self._reload_requested.wait()
            self._reload_requested.clear()
            await asyncio.to_thread(self.models.reload)

    async def watch(self) -> None:
        """Loads models again when their files change, until it is cancelled."""
        while True:
            await asyncio.sleep(self.settings.reload_seconds)
            await asyncio.to_thread(self.models.reload, changed_only=True)
