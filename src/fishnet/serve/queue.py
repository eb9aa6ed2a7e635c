"""Bounds the images that are queued or in progress."""

from fishnet.serve.metrics import Metrics
from fishnet.serve.problems import ProblemError


class Queue:
    """Counts the images that are queued or in progress.

    Args:
        limit: maximum number of images.
        metrics: those of the service.

    Attributes:
        count: number of images.
    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self.count, self._limit, self._metrics = 0, limit, metrics

    def enter(self, count: int) -> None:
        """Adds images.

        Raises:
            ProblemError: there is no room for them.
        """
        if count > self._limit:
            raise ProblemError(413, "too_many_images", f"at most {self._limit} images: send fewer")
        if self.count + count > self._limit:
            raise ProblemError(
                429, "queue_full", f"{self.count} images are queued or in progress: try again later", retry_after=1
            )
        self._add(count)

    def leave(self) -> None:
        """Removes an image."""
        self._add(-1)

    def _add(self, count: int) -> None:
        self.count += count
        self._metrics.queued.inc(count)
