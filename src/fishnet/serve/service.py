"""What all routes share: models, metrics, limits, and whether the service is ready."""

import asyncio

from fishnet.serve.metrics import Metrics
from fishnet.serve.models import Models
from fishnet.serve.predicting import Predicting
from fishnet.serve.problems import ProblemError
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
        self.models = Models(settings, self.metrics)
        self.predicting = Predicting(self.limits, self.metrics)
        self._is_ready = False

    def check_ready(self) -> None:
        """Raises ProblemError while models load, and while the service stops."""
        if not self._is_ready:
            raise ProblemError(503, "not_ready", "the service starts or stops: try again later", retry_after=1)

    async def start(self) -> None:
        """Loads the models."""
        await asyncio.to_thread(self.models.load)
        self._is_ready = True

    async def stop(self) -> None:
        """Ends all threads, after what still waits has been computed."""
        self._is_ready = False
        await asyncio.to_thread(self.models.close, self.limits.drain)
        self.predicting.close()

    async def watch(self) -> None:
        """Loads models again when their files change, until it is cancelled."""
        while True:
            await asyncio.sleep(self.settings.reload_seconds)
            await asyncio.to_thread(self.models.reload, changed_only=True)
