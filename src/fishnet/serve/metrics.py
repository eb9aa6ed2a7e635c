"""What the service counts and times, in Prometheus' text format."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)  # fmt: skip
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROC_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable: the directory in which workers share their metrics."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LEAST = 8  # bytes of a file of metrics: its own length
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The metrics of a service."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        if MULTIPROC_DIR not in os.environ:
            ProcessCollector(registry=self._registry)
        self.requests = Counter(
            "fishnet_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "fishnet_request_seconds", "Seconds until the response.", ["route"], buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self.running = Gauge(
            "fishnet_running_requests", "Requests that have no response yet.", registry=self._registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.queued = Gauge(
            "fishnet_queued_images", "Images that are queued or in progress.", registry=self._registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.images = Counter(
            "fishnet_images", "Images by model and outcome: the code of the error, or ok.", ["model", "outcome"],
            registry=self._registry,
        )  # fmt: skip
        self.stage_seconds = Histogram(
            "fishnet_stage_seconds", "Seconds of an image in decode, wait and postprocess, and of a batch in compute.",
            ["model", "stage"], buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.batch_images = Histogram(
            "fishnet_batch_images", "Images computed together.", ["model"], buckets=_BATCHES, registry=self._registry
        )
        self.reloads = Counter(
            "fishnet_reloads", "Reloads by model and outcome.", ["model", "outcome"], registry=self._registry
        )

    def add_batch(self, model: str, images: int, seconds: float, waited: Sequence[float]) -> None:
        """Counts a batch; see :data:`fishnet.serve.batcher.Observe`."""
        self.batch_images.labels(model).observe(images)
        self.stage_seconds.labels(model, "compute").observe(seconds)
        for each in waited:
            self.stage_seconds.labels(model, "wait").observe(each)

    def add_reload(self, model: str, outcome: str) -> None:
        """Counts a reload: ``done`` or ``failed``."""
        self.reloads.labels(model, outcome).inc()

    def text(self) -> bytes:
        """All metrics; those of all workers, if there are several."""
        if MULTIPROC_DIR not in os.environ:
            return generate_latest(self._registry)
        _forget_dead_workers(Path(os.environ[MULTIPROC_DIR]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _forget_dead_workers(folder: Path) -> None:
    """Removes what workers that have ended say of the present, and files that a killed one left empty.

    What they have counted stays.
    """
    for file in folder.glob("*.db"):
        pid = file.stem.rpartition("_")[2]
        if not pid.isdecimal() or Path(f"/proc/{pid}").exists():
            continue
        with suppress(OSError):  # another worker may do the same
            mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]
            if file.stat().st_size < _LEAST:
                file.unlink()
